"""Docstrings begin with a noun phrase or an imperative verb."""

import ast
from pathlib import Path

import pytest

import robust_lpips

PACKAGE = Path(robust_lpips.__file__).parent
AVOIDED = {"What", "Of", "Whether", "As"}
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
    assert not found
