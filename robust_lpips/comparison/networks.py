"""Metrics of deep features: of this package and of piq."""

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
    """Released metric of that name."""
    return RobustLPIPS(name)


def registered(name: str, penalty: Literal["human"] | None) -> Registered:
    """Released metric of that name at the estimated alignment."""
    return Registered(RobustLPIPS(name), penalty=penalty)


def tolerant(name: str) -> TolerantLPIPS:
    """Released metric of that name with best matches of features."""
    return TolerantLPIPS(RobustLPIPS(name))


def jittered(name: str, seed: int) -> Jittered:
    """Released metric of that name, averaged over joint translations drawn from ``seed``."""
    return Jittered(RobustLPIPS(name), seed=seed)


def untrained(arch: str, seed: int) -> RobustLPIPS:
    """Metric with random weights and unweighted features: twice the cosine distance."""
    with _seeded(seed):
        return RobustLPIPS(BackboneConfig(arch=arch), weights=None)


def cosine(arch: str) -> RobustLPIPS:
    """Metric with torchvision's ImageNet weights, unweighted: twice the cosine distance."""
    config = BackboneConfig(arch=arch)
    trunk = weights.imagenet_trunk(config)
    metric = untrained(arch, seed=0)
    weights.load_trunk(metric.backbone, trunk)
    return metric


def elpips(seed: int) -> ELPIPS:
    """E-LPIPS over the released shift-tolerant AlexNet, with transformations from ``seed``."""
    return ELPIPS(RobustLPIPS("alexnet-shift-tolerant"), seed=seed)


def dists(device: torch.device) -> Metric:
    """DISTS of piq; about 0 for identical images.

    Ding, Ma, Wang and Simoncelli, IEEE Trans. Pattern Analysis and Machine Intelligence 44(5),
    2022. Larger images are scaled down to a shorter side of 256, as in the authors' code.
    """
    import piq

    distance = piq.DISTS(reduction="none").to(device).eval()

    def metric(img0: Tensor, img1: Tensor) -> Tensor:
        first, second = unit_pair(img0, img1, least=16)
        return distance(second, first).reshape(-1)

    return metric


def pieapp(stride: int, device: torch.device) -> Metric:
    """PieAPP of piq: the error of patches of 64x64 pixels, ``stride`` pixels apart.

    Prashnani, Cai, Mostofi and Sen, CVPR 2018; their sparse sampling has a stride of 27, the dense
    one of 6. Not symmetric: the first image is the reference. Images below 64 pixels, from 33x33,
    are padded to 64 by reflection at the right and lower edges. Pairs are compared one by one,
    because all patches of a call are in memory at once.
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
    """Seed the random state of the CPU, and restore it afterwards."""
    with torch.random.fork_rng(devices=[]):
        # Weights are drawn on the CPU; torch.manual_seed would reseed every GPU as well.
        torch.default_generator.manual_seed(seed)
        yield
