"""Suite precision: what differs between ways to compute is found and counted."""

import pandas as pd
import pytest

from robust_lpips import BackboneConfig, RobustLPIPS
from robust_lpips.studies.benchmark import precision
from robust_lpips.studies.benchmark.precision import Mode, PrecisionSettings, modes, row


@pytest.fixture(scope="module")
def result():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "RobustLPIPS", untrained)
        patch.setattr(precision, "compiler_problem", lambda device: "no compiler here")
        yield precision.measure(PrecisionSettings(n=6), "cpu")


def untrained(name):
    return RobustLPIPS(BackboneConfig(), weights=None)


def test_one_row_per_mode_and_reasons_for_the_others(result):
    assert result.table["mode"].tolist() == ["float32", "float32, merged", "bfloat16, merged"]
    assert result.unavailable == {"compiled": "no compiler here"}


def test_lower_precision_is_further_from_plain_layers(result):
    plain, merged, half = result.table["difference"]
    assert plain == 0
    assert 0 <= merged < 1e-5 < half < 0.1


def test_scores_and_differences():
    views = ["full", "shift-0", "shift-1", "shift-2", "shift-3"]
    plain = pd.DataFrame({"subset": "s", "sample": "a", "view": views, "judge": 1.0})
    plain = plain.assign(d0=[0.2, 0.2, 0.2, 0.2, 0.2], d1=0.1)
    turned = plain.assign(d0=[0.2, 0.2, 0.09, 0.2, 0.2])
    found = row(Mode(True, "bfloat16", False), turned, plain)
    assert found["difference"] == pytest.approx(0.11 / 0.15)
    assert found["verdicts_differ"] == 1
    assert (found["two_afc"], found["rrf_1"], found["rrf_2"]) == (100.0, 100.0, 0.0)


def test_modes_of_devices():
    assert str(modes("cpu", compiled=True)[-1]) == "bfloat16, merged, compiled"
    assert not any(mode.precision in ("float16", "tf32") for mode in modes("cpu", compiled=True))
    assert {mode.precision for mode in modes("cuda", compiled=False)} == {
        "float32",
        "tf32",
        "bfloat16",
        "float16",
    }
