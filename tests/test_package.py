"""Cost of importing, exported names, and directions of imports."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import robust_lpips

ROOT = Path(robust_lpips.__file__).parent

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


SOURCES = sorted(ROOT.rglob("*.py"))


class TestImports:
    """The directions of imports inside the package are contracts in pyproject.toml."""

    def test_contracts(self):
        pytest.importorskip("importlinter", reason="import-linter is in the extra 'dev'")
        result = subprocess.run(
            [sys.executable, "-c", "from importlinter import cli; cli.lint_imports_command()"],
            cwd=ROOT.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout

    def test_scoring_loads_nothing_that_measures_or_trains(self):
        """A table of distances is scored without a network, and so are tables of others."""
        loaded = modules_after("import robust_lpips.evaluation")
        assert "evaluation" in loaded
        assert not loaded & {"training", "comparison", "studies", "metric", "backbones", "weights"}

    def test_data_sets_load_no_metric(self):
        assert not modules_after("import robust_lpips.data") & {"metric", "backbones", "weights"}

    def test_the_package_does_not_import_what_is_built_on_it(self):
        pattern = re.compile(r"^\s*(from|import) (experiments|tests)\b", re.MULTILINE)
        assert not [path for path in SOURCES if pattern.search(path.read_text())]


def modules_after(statement):
    """First-level modules of the package that a fresh interpreter has loaded afterwards."""
    script = f"import sys; {statement}; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT.parent, capture_output=True, text=True, check=True
    )
    names = (name.split(".") for name in result.stdout.split())
    return {parts[1] for parts in names if parts[0] == "robust_lpips" and len(parts) > 1}
