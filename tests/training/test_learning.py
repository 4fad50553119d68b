"""That training learns: on the sample set, each mode against its own starting point."""

import pandas as pd
import pytest

from robust_lpips import BackboneConfig, RobustLPIPS
from robust_lpips.data import sample_dataset
from robust_lpips.data.sample import JUDGE
from robust_lpips.evaluation import measure, paired_difference
from robust_lpips.training import LAST, Recipe, fit, with_teacher
from robust_lpips.training.initialization import initialize

pytestmark = pytest.mark.slow

SIZE = 48
# Of a random trunk the channels of a layer are much alike: what 1x1 weights can gain is little,
# and takes three hundred triplets and a rate far above the papers'. Conv-1 at stride 2 leaves
# maps of these small patches on which layers differ more.
CONFIG = BackboneConfig(conv1_stride=2)
LIN = Recipe("judge", 10, 0, learning_rate=3e-2, batch_size=10, dropout=0.0, mode="lin")
SCRATCH = Recipe("teacher", 4, 1, learning_rate=1e-3, batch_size=10, dropout=0.0)
# A fresh ranking head pulls a distilled network about at first; the teacher goes on where it was.
TUNE = Recipe("teacher", 2, 0, learning_rate=2e-4, batch_size=10, dropout=0.0, mode="tune")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Training triplets, with the judge's distances, and validation triplets; read once."""
    root = tmp_path_factory.mktemp("sample")
    train = sample_dataset(root, "train", n=300, image_size=SIZE)
    val = sample_dataset(root, "val", n=400, image_size=SIZE)
    return list(with_teacher(train, JUDGE, root / "teacher.csv.gz")), list(val)


@pytest.fixture(scope="module")
def scratch(data, tmp_path_factory):
    """Checkpoint trained from random weights, and its distances before and after."""
    output = tmp_path_factory.mktemp("scratch")
    before, after = trained(start("random"), SCRATCH, data, output)
    return output / LAST, before, after


def start(init) -> RobustLPIPS:
    metric = RobustLPIPS(CONFIG, weights=None, linear=True)
    initialize(metric, init, seed=0)
    return metric


def trained(metric, recipe, data, output=None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Distances on the validation triplets before and after."""
    train, val = data
    before = measure(metric, val, progress=False)
    fit(metric, train, recipe, validation=val, output=output)
    return before, measure(metric, val, progress=False)


def gain(before, after) -> pd.Series:
    """Of agreement, in percentage points, with its 95 % interval."""
    found = paired_difference(after, before).set_index("quantity").loc["two_afc"]
    print(found.to_dict())
    return found


def test_lin_gains_agreement(data):
    found = gain(*trained(start("random"), LIN, data))
    assert found["low"] > 0


def test_scratch_gains_agreement(scratch):
    _, before, after = scratch
    assert gain(before, after)["low"] > 0


def test_tune_loses_none(data, scratch):
    checkpoint, _, after_scratch = scratch
    before, after = trained(start(checkpoint), TUNE, data)
    pd.testing.assert_frame_equal(before, after_scratch, rtol=1e-5)
    assert gain(before, after)["high"] >= 0
