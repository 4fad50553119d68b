"""A small training, also as a program of its own: to be killed, and to be started several times.

python toy.py '{"output": "runs/x", "batch_size": 2}'
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

import robust_lpips
from robust_lpips import BackboneConfig, RobustLPIPS
from robust_lpips.training import Recipe, fit, launch


def quantized(images: Tensor) -> Tensor:
    """Images in [-1, 1] as uint8, values outside of it clipped."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def untrained(config: BackboneConfig | None = None, seed: int = 0) -> RobustLPIPS:
    """A metric with random weights, to be trained."""
    torch.manual_seed(seed)
    return RobustLPIPS(config or BackboneConfig(), weights=None, linear=True)


def items(n: int, size: int, seed: int = 0) -> list[dict]:
    """Noise, and the same with more noise added, in a layout that training and scoring take."""
    generator = torch.Generator().manual_seed(seed)
    ref, *noise = torch.rand(3, n, 3, size, size, generator=generator) * 2 - 1
    amount = torch.rand(2, n, 1, 1, 1, generator=generator)
    p0, p1 = (ref + a * b for a, b in zip(amount, noise, strict=True))
    return [
        {
            "ref": quantized(ref[i]),
            "p0": quantized(p0[i]),
            "p1": quantized(p1[i]),
            "judge": float(amount[1, i] < amount[0, i]),
            "subset": "traditional",
            "sample": f"{i:06d}",
        }
        for i in range(n)
    ]


def program(*launcher: str, **arguments) -> tuple[list[str], dict[str, str]]:
    """Command and environment of :func:`train` as a program, in ``python`` with ``launcher``."""
    command = [sys.executable, *launcher, __file__, json.dumps(arguments, default=str)]
    root = str(Path(robust_lpips.__file__).parents[1])
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    return command, os.environ | {"PYTHONPATH": path}


def train(
    output: str | Path,
    *,
    arch: str = "alexnet",
    n: int = 10,
    size: int = 48,
    checkpoint_every: int = 200,
    hang_after: int | None = None,
    **recipe,
) -> list[float]:
    """Train from scratch; the loss of each step.

    After ``hang_after`` steps each process prints its number and waits to be killed.
    """
    losses = []

    def on_step(loss: float) -> None:
        losses.append(loss)
        if len(losses) == hang_after:
            print(os.getpid(), flush=True)
            time.sleep(600)

    fabric = launch("cpu")
    fit(
        untrained(BackboneConfig(arch)),
        items(n, size),
        Recipe(**recipe),
        validation=items(6, size, seed=1),
        output=Path(output),
        provenance={"arch": arch},
        checkpoint_every=checkpoint_every,
        fabric=fabric,
        on_step=on_step,
    )
    return losses


if __name__ == "__main__":
    train(**json.loads(sys.argv[1]))
