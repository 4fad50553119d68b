"""Costs: closed forms of plain AlexNet, and bounds of gradients."""

from robust_lpips import BackboneConfig
from robust_lpips.backbones.cost import multiply_accumulates, parameters
from robust_lpips.weights import release

# Kernel area x channels in and out, layer by layer, and the positions of each map at 64x64.
KERNELS = (11**2 * 3 * 64, 5**2 * 64 * 192, 9 * 192 * 384, 9 * 384 * 256, 9 * 256 * 256)
POSITIONS = (15**2, 7**2, 3**2, 3**2, 3**2)
CHANNELS = (64, 192, 384, 256, 256)


def test_multiply_accumulates_of_plain_alexnet():
    expected = sum(k * n for k, n in zip(KERNELS, POSITIONS, strict=True))
    assert multiply_accumulates(BackboneConfig(), 64) == expected


def test_parameters_of_plain_alexnet():
    # Biases, and one weight per channel of the 1x1 layers.
    assert parameters(BackboneConfig()) == sum(KERNELS) + 2 * sum(CHANNELS)


def test_multiply_accumulates_of_gradients():
    config = release("alexnet-shift-tolerant").config
    forward = multiply_accumulates(config, 64)
    # Backward computes gradients of features and of weights, but none of the images.
    assert 2 * forward < multiply_accumulates(config, 64, backward=True) < 3 * forward


def test_height_and_width():
    config = BackboneConfig()
    square = multiply_accumulates(config, 64)
    assert multiply_accumulates(config, 64, 48) < square == multiply_accumulates(config, 64, 64)
