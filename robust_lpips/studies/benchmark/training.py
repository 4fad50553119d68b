"""Suite ``training``: steps with the ranking loss, against a plain loop over a released package."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from robust_lpips.backbones import BackboneConfig
from robust_lpips.metric import RobustLPIPS
from robust_lpips.studies.base import Settings, option
from robust_lpips.studies.base.machine import multiply_accumulates
from robust_lpips.studies.base.timing import WARM_UP, compare, in_turns, now
from robust_lpips.studies.benchmark import peers
from robust_lpips.studies.benchmark.capability import peaks
from robust_lpips.studies.benchmark.suite import Measured, suite
from robust_lpips.training import RankingObjective, Recipe, fit
from robust_lpips.weights import release

IMAGE_SIZE = 64
BATCH = 50
# By the released package's names.
CONFIGS = {
    "vanilla": BackboneConfig(),
    "shift_tolerant": release("alexnet-shift-tolerant").config,
}

_TEXT = f"""Triplets per second, {IMAGE_SIZE}x{IMAGE_SIZE} px, batches of {BATCH}, float32: \
AlexNet from random weights, everything learning, against a plain loop over \
`stlpips_pytorch.stlpips.LPIPS` with one call for each of the two distances, so four passes \
through the trunk. Head, loss and dropout are the same, and so is Adam, of which ours takes \
torch's fused form. `ratio`: ours over the released package's, the median over {{rounds}} rounds \
of {{steps}} steps, in which both take turns; in brackets the extremes.

`ours (%)`, `released (%)`: share of the matrix multiply's rate, counted by the multiply-adds of \
the plain network, forward and backward, of the three images of a triplet. That is what the task \
needs, so the fourth pass of the released package does not count. Fast convolutions do fewer."""

# Does so many steps and gives each one's seconds.
Steps = Callable[[int], list[float]]


@dataclass(frozen=True)
class TrainingSettings(Settings):
    """Settings of suite ``training``."""

    steps: int = option(10, "timed steps per round", least=1)
    rounds: int = option(5, "turns of each side", least=1)


def measure(settings: TrainingSettings, device: str) -> Measured:
    """One row per network, plain and shift-tolerant AlexNet."""
    fastest, rows = peaks(device), []
    for variant, config in CONFIGS.items():
        name = f"AlexNet, {variant.replace('_', '-')}"
        sides = {
            side: partial(_median, steps, settings.steps)
            for side, steps in both_sides(variant, device).items()
        }
        seconds = in_turns(sides, settings.rounds, name)
        rates = compare(seconds["ours"], seconds["released"], BATCH)
        of_triplet = 3 * multiply_accumulates(config, IMAGE_SIZE, backward=True)
        shares = fastest.shares(rates, of_triplet)
        rows.append({"case": name, "unit": "triplet", **rates, **shares})
    return Measured(pd.DataFrame(rows), peaks=fastest)


def both_sides(variant: str, device: str) -> dict[str, Steps]:
    """``ours`` and ``released``: training of the network that the latter calls ``variant``."""
    triplets = _triplets(BATCH)

    def ours(steps: int) -> list[float]:
        metric = RobustLPIPS(CONFIGS[variant], weights=None, linear=True).to(device)
        ends = [now(device)]
        recipe = Recipe(epochs=1, decay_epochs=0, batch_size=BATCH)
        fit(metric, triplets * steps, recipe, on_step=lambda _: ends.append(now(device)))
        return np.diff(ends).tolist()

    def released(steps: int) -> list[float]:
        return list(_plain_loop(variant, triplets, steps, device))

    return {"ours": ours, "released": released}


def _median(side: Steps, steps: int) -> float:
    return float(np.median(side(WARM_UP + steps)[WARM_UP:]))


def _triplets(n: int) -> list[dict[str, Tensor | float]]:
    """Noise: the time of a step does not depend on what the images show."""
    generator = torch.Generator().manual_seed(0)
    shape = (n, 3, 3, IMAGE_SIZE, IMAGE_SIZE)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return [
        {"ref": ref, "p0": p0, "p1": p1, "judge": float(index % 2)}
        for index, (ref, p0, p1) in enumerate(images)
    ]


def _plain_loop(
    variant: str, triplets: list[dict[str, Tensor | float]], steps: int, device: str
) -> Iterator[float]:
    """Seconds of each step of the plain loop over the released package."""
    net = peers.stlpips("alex", variant=variant, pretrained=False, pnet_tune=True, eval_mode=False)
    net.to(device).train()
    objective = RankingObjective().to(device)
    parameters = [*net.parameters(), *objective.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-4, betas=(0.5, 0.999))
    for _ in range(steps):
        start = now(device)
        ref, p0, p1 = (
            torch.stack([item[name] for item in triplets]).to(device) / 127.5 - 1.0
            for name in ("ref", "p0", "p1")
        )
        judge = torch.tensor([item["judge"] for item in triplets], device=device)
        d0, d1 = net(ref, p0).flatten(), net(ref, p1).flatten()
        loss = objective(d0, d1, {"judge": judge})
        loss.item()  # ours reads every loss, too
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        _clamp_1x1(net)
        yield now(device) - start


@torch.no_grad()
def _clamp_1x1(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
            module.weight.clamp_(min=0.0)


SUITE = suite("training", TrainingSettings, measure, _TEXT, "noise")
