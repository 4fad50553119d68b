"""The machine that computes: its cores, its name in words, and what a network costs on it."""

from __future__ import annotations

import functools
import os

import torch
from torch.utils.flop_counter import FlopCounterMode

from robust_lpips.backbones import BackboneConfig, build_backbone


def available_cores() -> int:
    """Number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cores_per_task(jobs: int) -> int:
    """Number of cores of this machine that each of ``jobs`` tasks at a time has to itself."""
    return max(1, available_cores() // jobs)


def is_first_process() -> bool:
    """True in the only process of a run, and in the first of those that ``torchrun`` started."""
    return int(os.environ.get("RANK", "0")) == 0


def machine(device: str) -> str:
    """The device that computes and the version of torch, in words."""
    if torch.device(device).type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{available_cores()} CPU cores ({capability}), torch {torch.__version__}"


def loading_workers(device: str) -> int:
    """Number of processes that load images: a GPU waits for them, a CPU has none to spare."""
    return 0 if torch.device(device).type == "cpu" else 8


@functools.cache
def multiply_accumulates(
    config: BackboneConfig, height: int, width: int | None = None, *, backward: bool = False
) -> int:
    """Multiply-accumulates of one image through the backbone, blurs included.

    Args:
        config: the backbone.
        height: height of the image in pixels.
        width: width of the image in pixels; None: as its height.
        backward: count those of the gradients of the weights, too.
    """
    with torch.device("meta"), torch.enable_grad():
        backbone = build_backbone(config).eval()
        images = torch.zeros(1, 3, height, height if width is None else width)
        with FlopCounterMode(display=False) as counter:
            features = backbone(images)
            if backward:
                sum(feature.sum() for feature in features).backward()
    return counter.get_total_flops() // 2


def parameters(config: BackboneConfig) -> int:
    """Number of weights of the trunk and of the 1x1 layers."""
    with torch.device("meta"):
        backbone = build_backbone(config)
    return sum(p.numel() for p in backbone.parameters()) + sum(backbone.taps.values())
