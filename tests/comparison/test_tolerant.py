"""Best matches of features, against a search in loops."""

import pytest
import torch
from torch.testing import assert_close

from robust_lpips import BackboneConfig, RobustLPIPS
from robust_lpips.comparison.tolerant import TolerantLPIPS


@pytest.fixture(scope="module")
def metric():
    torch.manual_seed(0)
    return RobustLPIPS(BackboneConfig(), weights=None)


def by_loops(f0, f1, window):
    """Squared distances to the best match in the window, of one pair (C, H, W)."""
    height, width = f0.shape[1:]
    total = 0.0
    for y in range(height):
        for x in range(width):
            total += min(
                (f0[:, y, x] - f1[:, clamp(y + dy, height), clamp(x + dx, width)]).square().sum()
                for dy in range(-window, window + 1)
                for dx in range(-window, window + 1)
            )
    return total / (height * width)


def clamp(i, n):
    return min(max(i, 0), n - 1)


@pytest.mark.parametrize("radius", [3, 5])
def test_is_the_search_in_both_directions(metric, image_pair, radius):
    pair = image_pair("photographs", 1, 64, 64)
    features = [metric.features(image) for image in pair]
    expected = 0.0
    for f0, f1, stride in zip(*features, (4, 8, 16, 16, 16), strict=True):
        window = -(-radius // stride)
        ways = by_loops(f0[0], f1[0], window), by_loops(f1[0], f0[0], window)
        expected += sum(ways) / 2
    assert_close(TolerantLPIPS(metric, radius)(*pair), expected[None], rtol=1e-4, atol=0)


def test_is_symmetric_and_no_more_than_the_metric(released, image_pair):
    metric = released()
    first, second = image_pair("photographs", 3, 64, 64)
    tolerant = TolerantLPIPS(metric)
    assert_close(tolerant(first, second), tolerant(second, first))
    assert (tolerant(first, second) < metric(first, second)).all()
    assert not tolerant(first, first).any()


def test_gradients_are_finite(released, image_pair):
    first, second = image_pair("photographs", 1, 64, 64)
    second.requires_grad_()
    TolerantLPIPS(released())(first, second).sum().backward()
    assert second.grad.isfinite().all()
    assert second.grad.any()


def test_checks_images_as_the_metric_does(released, image_pair):
    first, second = image_pair("photographs", 3, 64, 64)
    tolerant = TolerantLPIPS(released())
    with pytest.raises(ValueError, match="images must have the same shape"):
        tolerant(first, second[:1])
    with pytest.raises(ValueError, match="img1 must have values in"):
        tolerant(first, second * 100)


def test_autocast_leaves_distances_in_full_precision(released, image_pair):
    pair = image_pair("photographs", 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        assert TolerantLPIPS(released())(*pair).dtype == torch.float32


@pytest.mark.parametrize("size", [64, 66, 97])
def test_windows_go_by_the_strides_of_the_network(released, size):
    metric = released("vgg16-shift-tolerant")
    features = metric.features(torch.zeros(1, 3, size, size))
    assert list(TolerantLPIPS(metric)._strides(features)) == [1, 2, 4, 8, 16]


@pytest.mark.parametrize("radius", [0, 2.5, True])
def test_refuses_other_radii(metric, radius):
    with pytest.raises(ValueError, match="radius must be a whole number from 1; got"):
        TolerantLPIPS(metric, radius)
