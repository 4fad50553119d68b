"""Baseline metrics of independent pixels."""

from __future__ import annotations

from torch import Tensor

# For images in [0, 1]: bounds the score of identical images, at -100 dB.
LEAST_MSE = 1e-10


def l1(img0: Tensor, img1: Tensor) -> Tensor:
    """Mean absolute difference of each pair of images: (N, C, H, W) twice to (N,).

    On images in [-1, 1] it lies in [0, 2].
    """
    return (img0 - img1).abs().mean(dim=(1, 2, 3))


def l2(img0: Tensor, img1: Tensor) -> Tensor:
    """Mean squared difference of each pair of images: (N, C, H, W) twice to (N,).

    On images in [-1, 1] it lies in [0, 4], four times the mean squared error of images in [0, 1].
    """
    return (img0 - img1).square().mean(dim=(1, 2, 3))


def psnr(img0: Tensor, img1: Tensor) -> Tensor:
    """Negative peak signal-to-noise ratio in dB: (N, C, H, W) in [-1, 1] twice to (N,).

    The peak is the range of values. The mean squared error, of images in [0, 1], is at least
    1e-10, so that identical images are at -100 dB instead of minus infinity.
    """
    return 10.0 * (l2(img0, img1) / 4.0).clamp(min=LEAST_MSE).log10()
