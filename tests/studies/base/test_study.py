"""Studies as data; and every study of the package is one that a script runs."""

import argparse
import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import pytest

from robust_lpips import studies
from robust_lpips.cli import add_options
from robust_lpips.comparison import entry, registry
from robust_lpips.studies.base.runner import finish
from robust_lpips.studies.base.study import Plan, Study, metric_tasks, single_part
from tests.studies.base.tiny import STUDY, TinySettings

EXPERIMENTS = Path(__file__).parents[3] / "experiments"
# Names under which a module holds its studies: one, or a mapping by the value of an option.
HOLDERS = ("STUDY", "STUDIES", "SUITES")


def names_of(tree: ast.Module) -> Iterator[str]:
    """Names that a module assigns at its top level."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        yield from (target.id for target in targets if isinstance(target, ast.Name))


def holders() -> Iterator[tuple[str, str]]:
    """Modules with studies, and the names under which they hold them."""
    for found in pkgutil.walk_packages(studies.__path__, f"{studies.__name__}."):
        path = Path(found.module_finder.path, found.name.rpartition(".")[2])
        path = path / "__init__.py" if found.ispkg else path.with_suffix(".py")
        text = path.read_text(encoding="utf-8")
        if re.search(r"robust_lpips\.studies(\.base import| import base)\b", text):
            assigned = set(names_of(ast.parse(text)))
            yield from ((found.name, name) for name in HOLDERS if name in assigned)


def studies_in(module: str, name: str) -> list[Study]:
    held = getattr(importlib.import_module(module), name)
    return [held] if isinstance(held, Study) else list(held.values())


every = pytest.mark.parametrize(("module", "name"), list(holders()))


def test_studies_are_found():
    assert ("robust_lpips.studies.jnd", "STUDY") in set(holders())


@every
def test_study_has_a_script(module, name):
    imports = {
        (node.module, alias.name)
        for path in EXPERIMENTS.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    package, _, last = module.rpartition(".")
    assert {(module, name), (package, name), (package, last)} & imports


@every
def test_options_have_help(module, name):
    for study in studies_in(module, name):
        for each in fields(study.settings):
            assert each.metadata.get("help"), f"{study.name}: {each.name}"
        parser = argparse.ArgumentParser()
        add_options(parser, [study])
        assert parser.format_help()


@every
def test_default_metrics_can_be_had(module, name):
    """None is unknown, repeated, or one that can only refuse."""
    for study in studies_in(module, name):
        assert len(set(study.metrics)) == len(study.metrics)
        for metric in study.metrics:
            refuses = getattr(entry(metric).factory, "func", None) is registry._unavailable
            assert not refuses, f"{study.name}: {metric}"


@every
def test_names_are_of_folders(module, name):
    found = studies_in(module, name)
    assert len({study.name for study in found}) == len(found)
    assert all(study.name.replace("-", "").replace("_", "").isalnum() for study in found)


def test_a_task_per_metric_and_part():
    study = replace(STUDY, parts=lambda settings: dict.fromkeys(("near", "far")))
    tasks = metric_tasks(study, Plan(TinySettings(), ("l2", "ssim"), "cuda:1"))
    assert [task.name for task in tasks] == ["l2, near", "l2, far", "ssim, near", "ssim, far"]
    assert len({task.folder for task in tasks}) == 4
    assert {task.device for task in tasks} == {"cuda:1"}


def test_folder_of_results():
    settings = TinySettings(max_shift=2)
    assert STUDY.output_folder(settings) == Path("runs/tiny")
    named = replace(STUDY, folder=lambda settings: f"tiny-{settings.max_shift}")
    assert named.output_folder(settings) == Path("runs/tiny-2")


def test_results_know_what_made_them(work):
    results = finish(STUDY, work.plan("l2", ".first"), work.root / "run")
    assert results.weights["l2"] is None
    assert len(results.weights[work.name("first")]) == 64
    assert "torch" in results.machines
    assert results.settings == results.plan.settings
    assert results.distances() is results.distances()
    assert results.distances("another") == {}


def test_single_part_is_the_source(work):
    settings = work.plan("l2", max_shift=2).settings
    ((name, part),) = single_part(settings).items()
    assert (name, part.views.max_shift, len(part.dataset)) == ("", 2, 5)
