"""The machine that computes: its cores, and its name in words."""

from __future__ import annotations

import os

import torch


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
