"""Metrics computed by the packages of their authors."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robust_lpips.comparison.structure import unit_pair

Metric = Callable[[Tensor, Tensor], Tensor]

# Quality that ColorVideoVDP gives to identical images, its highest.
_BEST_JOD = 10.0
_DISPLAY = "standard_4k"


def cvvdp(device: torch.device) -> Metric:
    """ColorVideoVDP: loss of quality in just-objectionable differences, 10 minus the JOD score.

    Mantiuk, Hanji, Ashraf, Asano and Chapiro, ACM Trans. Graphics 43(4), 2024. Images are taken as
    sRGB on the package's display ``standard_4k``, and pairs are compared one by one. Not symmetric:
    the first image is the reference.
    """
    import pycvvdp

    predictor = pycvvdp.cvvdp(display_name=_DISPLAY, device=device, quiet=True)

    def metric(img0: Tensor, img1: Tensor) -> Tensor:
        first, second = unit_pair(img0, img1, least=16)
        pairs = zip(first.split(1), second.split(1), strict=True)
        qualities = [predictor.predict(b, a, dim_order="BCHW")[0].reshape(1) for a, b in pairs]
        return _BEST_JOD - torch.cat(qualities)

    return metric


def pim(name: str, seed: int) -> Metric:
    """PIM as released by its authors, on TensorFlow, which chooses the device.

    Bhardwaj, Fischer, Balle and Chinen, NeurIPS 2020: ``pim-1`` is a squared Euclidean distance;
    ``pim-5`` is estimated from random samples, which are drawn from ``seed`` again for every pair.
    Pairs are compared one by one, and TensorFlow's global seed is set. The result is on the images'
    device.
    """
    import tensorflow as tf
    from perceptual_quality import pim as package

    model = package.load_trained(name)

    def distance(pair: tuple[Tensor, Tensor]) -> float:
        tf.random.set_seed(seed)
        arrays = [image.movedim(1, -1).detach().cpu().numpy() for image in pair]
        return float(model(tuple(map(tf.constant, arrays))).numpy().reshape(()))

    def metric(img0: Tensor, img1: Tensor) -> Tensor:
        first, second = unit_pair(img0, img1)
        pairs = zip(first.split(1), second.split(1), strict=True)
        return torch.tensor([distance(pair) for pair in pairs], device=img0.device)

    return metric
