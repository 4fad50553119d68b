from robust_lpips.backbones import BackboneConfig
from robust_lpips.studies.base.machine import (
    available_cores,
    cores_per_task,
    multiply_accumulates,
    parameters,
)


def test_multiply_accumulates_of_plain_alexnet():
    # Height x width x kernel area x channels in and out, layer by layer, at 64x64.
    expected = (
        15**2 * 11**2 * 3 * 64
        + 7**2 * 5**2 * 64 * 192
        + 3**2 * 9 * (192 * 384 + 384 * 256 + 256 * 256)
    )
    assert multiply_accumulates(BackboneConfig(), 64) == expected


def test_parameters_of_plain_alexnet():
    # Kernel area x channels in and out, and biases; one 1x1 weight per channel of each tap.
    channels = (64, 192, 384, 256, 256)
    weights = 11**2 * 3 * 64 + 5**2 * 64 * 192 + 9 * (192 * 384 + 384 * 256 + 256 * 256)
    assert parameters(BackboneConfig()) == weights + 2 * sum(channels)


def test_tasks_share_the_cores():
    assert cores_per_task(1) == available_cores()
    assert cores_per_task(10 * available_cores()) == 1
