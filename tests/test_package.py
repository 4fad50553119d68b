"""What importing costs, what the package exports, and which way its imports point."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import robust_lpips

ROOT = Path(robust_lpips.__file__).parent

# A module imports from its own layer and from those above it in this list.
LAYERS = (
    {"_cache", "_files", "_settings", "_version", "inputs"},
    {"backbones", "distortions", "weights"},
    {"metric", "fusion", "registered", "registration", "comparison", "data"},
    {"training", "evaluation", "plots", "tables"},
    {"studies"},
    {"cli", "__main__"},
)
HEAVY = {"pandas", "matplotlib", "skimage", "torchvision", "scipy"}
PEERS = {"stlpips_pytorch", "lpips", "antialiased_cnns", "torchsummary", "IPython", "piq"}

STAGES = """
import json, sys

def loaded():
    return sorted({name.partition(".")[0] for name in sys.modules})

import robust_lpips
stages = {"import": loaded()}
from robust_lpips import BackboneConfig, RobustLPIPS
RobustLPIPS()
stages["metric"] = loaded()
import torch
images = torch.zeros(2, 1, 3, 64, 64)
RobustLPIPS(BackboneConfig(), weights=None)(*images, validate=False)
stages["call"] = loaded()
print(json.dumps(stages))
"""


@pytest.fixture(scope="module")
def stages():
    """Top-level modules that a fresh interpreter has loaded, stage by stage."""
    result = subprocess.run(
        [sys.executable, "-W", "error:::robust_lpips", "-c", STAGES],
        cwd=ROOT.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return {stage: set(modules) for stage, modules in json.loads(result.stdout).items()}


class TestImportCost:
    def test_import_is_light(self, stages):
        assert not stages["import"] & (HEAVY | PEERS | {"torch", "numpy"})

    @pytest.mark.parametrize("stage", ["metric", "call"])
    def test_metric_needs_torch_alone(self, stage, stages):
        assert "torch" in stages[stage]
        assert not stages[stage] & (HEAVY - {"scipy"})

    def test_packaged_weights_are_found_without_importing_their_package(self, stages):
        assert not stages["metric"] & PEERS


class TestPublicNames:
    def test_all_are_there_and_listed(self):
        for name in robust_lpips.__all__:
            assert getattr(robust_lpips, name) is not None
            assert name in dir(robust_lpips)
        assert {"RobustLPIPS", "BackboneConfig", "build_backbone"} <= set(robust_lpips.__all__)

    def test_lazy_names_are_the_real_ones(self):
        from robust_lpips.backbones import BackboneConfig
        from robust_lpips.metric import RobustLPIPS

        assert robust_lpips.RobustLPIPS is RobustLPIPS
        assert robust_lpips.BackboneConfig is BackboneConfig

    def test_unknown_attribute(self):
        with pytest.raises(AttributeError, match="'robust_lpips' has no attribute 'LPIPS'"):
            _ = robust_lpips.LPIPS
        assert not hasattr(robust_lpips, "__wrapped__")

    def test_version(self):
        assert re.fullmatch(r"\d+\.\d+\.\d+\S*", robust_lpips.__version__)


def component(path):
    """The first-level module that a file of the package belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def exists(name):
    return (ROOT / name).is_dir() or (ROOT / f"{name}.py").is_file()


def imported(source, package):
    """First-level modules of ours that ``source`` imports, anywhere, functions included.

    ``package`` is the dotted name of the package that relative imports start from. What stands
    under ``if TYPE_CHECKING`` is read by type checkers alone and does not count.
    """
    found = set()
    for node in ast.walk(_WithoutTypes().visit(ast.parse(source))):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.split(".")
                parent = parent[: len(parent) - node.level + 1]
                base = ".".join([*parent, *filter(None, [base])])
            targets = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in targets:
            top, _, rest = target.partition(".")
            name = rest.partition(".")[0]
            if top != "robust_lpips":
                continue
            if name in robust_lpips._HOMES:
                name = robust_lpips._HOMES[name].split(".")[1]
            found.add(name if exists(name) else "_version")
    return found


class _WithoutTypes(ast.NodeTransformer):
    def visit_If(self, node):
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return node.orelse
        return self.generic_visit(node)


def rank(name):
    for index, layer in enumerate(LAYERS):
        if name in layer:
            return index
    raise LookupError(f"robust_lpips.{name} stands in no layer of DESIGN.md: add it to LAYERS")


SOURCES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


class TestLayers:
    @pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
    def test_imports_point_down(self, path):
        package = ".".join(["robust_lpips", *path.relative_to(ROOT).parts[:-1]])
        own = component(path)
        above = {name for name in imported(path.read_text(), package) if rank(name) > rank(own)}
        assert not above

    def test_components_do_not_import_each_other_in_circles(self):
        edges = {}
        for path in SOURCES:
            package = ".".join(["robust_lpips", *path.relative_to(ROOT).parts[:-1]])
            edges.setdefault(component(path), set()).update(imported(path.read_text(), package))
        placed = set()
        while remaining := set(edges) - placed:
            free = {name for name in remaining if edges[name] - {name} <= placed}
            assert free, f"a circle among {sorted(remaining)}"
            placed |= free

    def test_the_package_root_imports_its_version_alone(self):
        """Everything else is imported on first use."""
        assert imported((ROOT / "__init__.py").read_text(), "robust_lpips") == {"_version"}

    def test_the_package_does_not_import_what_is_built_on_it(self):
        pattern = re.compile(r"^\s*(from|import) (experiments|tests)\b", re.MULTILINE)
        assert not [path for path in SOURCES if pattern.search(path.read_text())]

    @pytest.mark.parametrize(
        ("source", "package", "expected"),
        [
            ("from robust_lpips.metric import RobustLPIPS", "robust_lpips", {"metric"}),
            (
                "from robust_lpips import RobustLPIPS, weights",
                "robust_lpips",
                {"metric", "weights"},
            ),
            ("def f():\n    import robust_lpips.data.bapps", "robust_lpips", {"data"}),
            ("from ..data import bapps", "robust_lpips.backbones", {"data"}),
            ("from . import config", "robust_lpips.backbones", {"backbones"}),
            ("if TYPE_CHECKING:\n    from robust_lpips import data", "robust_lpips", set()),
            ("if True:\n    from robust_lpips import data", "robust_lpips", {"data"}),
            ("import torch\nfrom pathlib import Path", "robust_lpips", set()),
        ],
    )
    def test_the_reader_of_imports_sees(self, source, package, expected):
        assert imported(source, package) == expected
