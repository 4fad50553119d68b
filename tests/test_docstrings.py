"""Docstrings begin with a noun phrase or an imperative verb."""

import ast
from pathlib import Path

import pytest

import robust_lpips

PACKAGE = Path(robust_lpips.__file__).parent
AVOIDED = {"What", "Of", "Whether", "As"}
# Files that are still to be rewritten.
TO_DO = {
    "backbones/config.py",
    "backbones/downsampling.py",
    "backbones/keys.py",
    "backbones/resnet.py",
    "backbones/winograd.py",
    "comparison/registry.py",
    "data/download.py",
    "data/fingerprint.py",
    "data/packed.py",
    "data/sample.py",
    "evaluation/foreign.py",
    "evaluation/measure.py",
    "evaluation/precision.py",
    "evaluation/scores.py",
    "evaluation/significance.py",
    "fusion.py",
    "inputs.py",
    "metric.py",
    "plots.py",
    "plotting.py",
    "registered.py",
    "registration.py",
    "studies/__init__.py",
    "studies/benchmark/distance.py",
    "studies/benchmark/memory.py",
    "studies/benchmark/peers.py",
    "studies/benchmark/protocol.py",
    "studies/benchmark/rates.py",
    "studies/benchmark/report.py",
    "studies/benchmark/suite.py",
    "studies/beyond.py",
    "studies/beyond_rows.py",
    "studies/clic.py",
    "studies/comparison.py",
    "studies/iqa.py",
    "studies/layers.py",
    "studies/measured.py",
    "studies/pool.py",
    "studies/registration/__init__.py",
    "studies/registration/descent.py",
    "studies/registration/estimates.py",
    "studies/registration/failures.py",
    "studies/registration/human.py",
    "studies/registration/settings.py",
    "studies/registration/windows.py",
    "studies/report.py",
    "studies/sensitivity.py",
    "studies/shift_examples.py",
    "studies/study.py",
    "studies/tasks.py",
    "studies/triplets.py",
    "studies/user_study.py",
    "training/initialization.py",
    "training/log.py",
    "training/objectives.py",
    "training/session.py",
    "training/trainee.py",
    "weights.py",
}
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def first_words(path: Path) -> list[tuple[int, str]]:
    """Line and first word of every docstring of a file."""
    nodes = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, DOCUMENTED) and (ast.get_docstring(node) or "").split()
    ]
    return [
        (getattr(node, "lineno", 1), ast.get_docstring(node).split()[0].rstrip(",:"))
        for node in nodes
    ]


@pytest.mark.parametrize(
    "name", [path.relative_to(PACKAGE).as_posix() for path in sorted(PACKAGE.rglob("*.py"))]
)
def test_first_words(name):
    words = first_words(PACKAGE / name)
    found = [f"{name}:{line}: {word}" for line, word in words if word in AVOIDED]
    assert not found or name in TO_DO
