"""Keys of results: which data, weights, settings and source files they belong to."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

_PACKAGE = Path(__file__).parent
# Source files that compute distances, files or folders. What only reads, scores, prints or plots
# them is not among them, so that a change of it invalidates nothing.
COMPUTING = (
    "backbones",
    "comparison",
    "evaluation/measure.py",
    "evaluation/per_layer.py",
    "evaluation/precision.py",
    "evaluation/shifts.py",
    "fusion.py",
    "inputs.py",
    "metric.py",
    "registered.py",
    "registration.py",
)
# Values that a metric may hold as settings, whose text tells them apart.
_PLAIN = (bool, int, float, complex, str, bytes, tuple, list, dict, set, type(None))
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


@functools.cache
def source_digest(root: Path = _PACKAGE, more: tuple[str, ...] = ()) -> str:
    """SHA-256 of the code that computes distances, without its comments and docstrings.

    Args:
        root: folder of the package.
        more: further files and folders in it that results depend on.
    """
    digest = hashlib.sha256()
    for name in (*COMPUTING, *more):
        path = root / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.relative_to(root).as_posix().encode())
            digest.update(_code(file.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()


def weights_digest(metric: object) -> str | None:
    """SHA-256 of all that a metric has learnt or drawn; None where there is nothing.

    Over names and bytes of the tensors of its state dict in order, so that the same weights give
    the same digest on every machine of the same byte order. Of a function or an object that is no
    module: of the modules and tensors in its variables.
    """
    tensors = [
        (name, value)
        for held, each in _held(metric).items()
        for name, value in (
            each.state_dict() if isinstance(each, nn.Module) else {held: each}
        ).items()
        if isinstance(value, torch.Tensor)
    ]
    if not tensors:
        return None
    digest = hashlib.sha256()
    for name, value in tensors:
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def metric_identity(name: str, metric: object) -> dict[str, Any]:
    """Name, weights, settings and, of a metric of the user's own, code of a metric.

    Args:
        name: as :func:`robust_lpips.comparison.load_metric` takes it.
        metric: the loaded metric. Of its settings count what it and its modules
            print, and plain values in its attributes and in the variables of its function.
    """
    held = _held(metric)
    modules = [each for each in held.values() if isinstance(each, nn.Module)]
    plain = {name: value for name, value in held.items() if isinstance(value, _PLAIN)}
    described = _ADDRESS.sub("", "\n".join(map(repr, [metric, *modules, plain])))
    identity = {
        "metric": name,
        "weights": weights_digest(metric),
        "settings": hashlib.sha256(described.encode()).hexdigest(),
    }
    return identity | ({"code": _own_code_digest(name)} if ":" in name else {})


def _held(metric: object) -> dict[str, Any]:
    """The metric where it is a module; else its attributes and the variables of its function."""
    if isinstance(metric, nn.Module):
        return {"": metric}
    held = {"self": getattr(metric, "__self__", None), **getattr(metric, "__dict__", {})}
    if isinstance(metric, functools.partial):
        held |= {str(i): value for i, value in enumerate(metric.args)} | metric.keywords
        metric = metric.func
        held["func"] = metric
    if inspect.isroutine(metric) and hasattr(metric, "__code__"):
        variables = inspect.getclosurevars(metric)
        held |= variables.nonlocals | variables.globals
    return held


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    return hashlib.sha256(path.read_bytes()).hexdigest()


@functools.cache
def commit() -> str | None:
    """Commit of the checkout that this package runs from, ``-dirty`` with changes; None: no git."""
    git = ["git", "-C", str(_PACKAGE.parent)]
    try:
        top = _output([*git, "rev-parse", "--show-toplevel"])
        if Path(top) != _PACKAGE.parent.resolve():
            return None
        dirty = _output([*git, "status", "--porcelain", "--untracked-files=no"])
        return _output([*git, "rev-parse", "HEAD"]) + ("-dirty" if dirty else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _code(text: str) -> str:
    """Source text without comments, docstrings and layout."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        documented = isinstance(
            node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        )
        if documented and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _own_code_digest(name: str) -> str:
    """SHA-256 of the Python files of a factory's package, or of those next to its module.

    Files, not loaded modules: which are loaded depends on what else a process has done.
    """
    module = sys.modules[name.partition(":")[0].partition(".")[0]]
    if hasattr(module, "__path__"):
        files = sorted(file for folder in module.__path__ for file in Path(folder).rglob("*.py"))
    else:
        files = sorted(Path(module.__file__).parent.glob("*.py"))
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()
