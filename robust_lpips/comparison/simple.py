"""Metrics of pixels: the baselines that need no network."""

from __future__ import annotations

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import Tensor


def l2(img0: Tensor, img1: Tensor) -> Tensor:
    """Mean squared difference of each pair of images: (N, C, H, W) twice to (N,).

    On images in [-1, 1] it lies in [0, 4], four times the mean squared error of images in [0, 1].
    """
    return (img0 - img1).square().mean(dim=(1, 2, 3))


def ssim(img0: Tensor, img1: Tensor) -> Tensor:
    """One minus the structural similarity of each pair of images: (N, C, H, W) twice to (N,).

    Images are in [-1, 1] and at least 11x11. The windows are those of Wang et al. (IEEE Trans.
    Image Processing 13(4), 2004): 11x11, Gaussian with a standard deviation of 1.5, without the
    sample correction; the index is averaged over the channels. Computed on the CPU by
    scikit-image, in float64 and without gradients; the result is on the images' device.
    """
    pairs = zip(_as_arrays(img0), _as_arrays(img1), strict=True)
    values = [
        structural_similarity(
            a,
            b,
            data_range=1.0,
            channel_axis=0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for a, b in pairs
    ]
    return 1.0 - torch.tensor(values, dtype=torch.float64, device=img0.device)


def _as_arrays(images: Tensor) -> np.ndarray:
    """Images as float64 in [0, 1], because SSIM compares means, which depend on where 0 is."""
    return (images.detach().double().cpu().numpy() + 1.0) / 2.0
