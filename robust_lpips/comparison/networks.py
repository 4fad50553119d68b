"""Metrics of deep features: ours and those of piq."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

from robust_lpips import weights
from robust_lpips.backbones import BackboneConfig
from robust_lpips.comparison.elpips import ELPIPS
from robust_lpips.comparison.jittered import Jittered
from robust_lpips.comparison.structure import reflected, unit_pair
from robust_lpips.comparison.tolerant import TolerantLPIPS
from robust_lpips.metric import RobustLPIPS
from robust_lpips.registered import Registered

Metric = Callable[[Tensor, Tensor], Tensor]

# PieAPP compares patches of this side.
_PIEAPP_SIDE = 64


def released(name: str) -> RobustLPIPS:
    """The released metric of that name."""
    return RobustLPIPS(name)


def registered(name: str, penalty: Literal["human"] | None) -> Registered:
    """The released metric of that name at the estimated alignment."""
    return Registered(RobustLPIPS(name), penalty=penalty)


def tolerant(name: str) -> TolerantLPIPS:
    """The released metric of that name with best matches of features."""
    return TolerantLPIPS(RobustLPIPS(name))


def jittered(name: str, seed: int) -> Jittered:
    """The released metric of that name over joint translations; the seed is of these."""
    return Jittered(RobustLPIPS(name), seed=seed)


def untrained(arch: str, seed: int) -> RobustLPIPS:
    """Random weights, features unweighted: twice the cosine distance, summed over layers."""
    with _seeded(seed):
        return RobustLPIPS(BackboneConfig(arch=arch), weights=None)


def cosine(arch: str) -> RobustLPIPS:
    """ImageNet weights of torchvision, features unweighted: twice the cosine distance."""
    config = BackboneConfig(arch=arch)
    trunk = weights.imagenet_trunk(config)
    metric = untrained(arch, seed=0)
    weights.load_trunk(metric.backbone, trunk)
    return metric


def elpips(seed: int) -> ELPIPS:
    """E-LPIPS over the released shift-tolerant AlexNet; the seed is of its transformations."""
    return ELPIPS(RobustLPIPS("alexnet-shift-tolerant"), seed=seed)


def dists(device: torch.device) -> Metric:
    """DISTS of piq; about 0 for identical images.

    Ding, Ma, Wang and Simoncelli, IEEE Trans. Pattern Analysis and Machine Intelligence 44(5),
    2022. Images with a shorter side above 256 are scaled down to that, as the authors do.
    """
    import piq

    distance = piq.DISTS(reduction="none").to(device).eval()

    def metric(img0: Tensor, img1: Tensor) -> Tensor:
        first, second = unit_pair(img0, img1, least=16)
        return distance(second, first).reshape(-1)

    return metric


def pieapp(stride: int, device: torch.device) -> Metric:
    """PieAPP of piq: the error of patches of 64x64 pixels, ``stride`` pixels apart.

    Prashnani, Cai, Mostofi and Sen, CVPR 2018; its sparse sampling has a stride of 27, its dense
    one of 6. Not symmetric: the first image is the reference. Narrower images are reflected at
    their right and lower edges to 64 pixels; at least 33x33. Pairs are taken one by one, because
    all patches of a call are in memory at once.
    """
    import piq

    distance = piq.PieAPP(reduction="none", stride=stride).to(device).eval()

    def metric(img0: Tensor, img1: Tensor) -> Tensor:
        first, second = unit_pair(img0, img1, least=_PIEAPP_SIDE // 2 + 1)
        height, width = (max(side, _PIEAPP_SIDE) for side in first.shape[-2:])
        pairs = zip(
            reflected(first, height, width).split(1),
            reflected(second, height, width).split(1),
            strict=True,
        )
        return torch.cat([distance(b, a).reshape(-1) for a, b in pairs])

    return metric


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """The random state of the CPU seeded, and put back as it was."""
    with torch.random.fork_rng(devices=[]):
        # Weights are drawn on the CPU; torch.manual_seed would reseed every GPU as well.
        torch.default_generator.manual_seed(seed)
        yield
