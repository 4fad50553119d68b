"""A metric over joint translations."""

import pytest
import torch
from torch.testing import assert_close

from robust_lpips.comparison.jittered import Jittered
from robust_lpips.registration import translate


def l2(first, second):
    return (first - second).square().mean(dim=(1, 2, 3))


def test_is_the_mean_over_its_translations(image_pair):
    first, second = image_pair("photographs", 2, 40, 48)
    jittered = Jittered(l2, samples=3, amplitude=0.5, seed=1)
    assert jittered.offsets.shape == (3, 2)
    assert jittered.offsets.abs().max() <= 0.5
    moved = [
        l2(*(translate(image, offset.repeat(2, 1)) for image in (first, second)))
        for offset in jittered.offsets
    ]
    assert_close(jittered(first, second), sum(moved) / 3)


def test_is_the_same_in_every_call_and_for_every_batch(image_pair):
    first, second = image_pair("photographs", 3, 40, 48)
    jittered = Jittered(l2)
    whole = jittered(first, second)
    assert torch.equal(whole, Jittered(l2)(first, second))
    assert_close(whole[:1], jittered(first[:1], second[:1]))
    assert not torch.equal(whole, Jittered(l2, seed=1)(first, second))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "samples must be 1 or more; got 0"),
        ({"amplitude": 0.0}, "amplitude must be positive; got 0.0"),
    ],
)
def test_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        Jittered(l2, **options)
