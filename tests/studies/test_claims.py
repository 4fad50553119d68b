"""What the project claims of the released metrics, on the sample set at its default size."""

import pytest

from robust_lpips.comparison import load_metric
from robust_lpips.data import sample_dataset
from robust_lpips.evaluation import measure, summarize


@pytest.mark.slow
def test_released_metric_flips_a_third_as_often_as_an_untrained_plain_network():
    dataset = sample_dataset(split="val", n=600, image_size=64)
    released, untrained = (
        summarize(measure(load_metric(name), dataset, max_shift=3, batch_size=16)).iloc[-1]
        for name in ("alexnet-shift-tolerant", "alexnet-untrained")
    )
    assert released["rrf_1"] < untrained["rrf_1"] / 3
    assert released["two_afc"] > untrained["two_afc_high"]
