"""Suite ``training``: steps with the ranking loss, against a plain loop over a released package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from robust_lpips.backbones import BackboneConfig
from robust_lpips.backbones.cost import multiply_accumulates
from robust_lpips.comparison import peers
from robust_lpips.evaluation.capability import peaks
from robust_lpips.evaluation.timing import WARM_UP, compare, in_turns, now, seconds_of
from robust_lpips.metric import RobustLPIPS
from robust_lpips.studies.base import Settings, option
from robust_lpips.studies.benchmark.suite import BATCH, IMAGE_SIZE, Measured, suite
from robust_lpips.training import RankingObjective, Recipe, fit
from robust_lpips.weights import release

# By the released package's names.
CONFIGS = {
    "vanilla": BackboneConfig(),
    "shift_tolerant": release("alexnet-shift-tolerant").config,
}


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
            side: partial(_median, train, variant, settings.steps, device)
            for side, train in {"ours": ours, "released": released}.items()
        }
        seconds = in_turns(sides, settings.rounds, name)
        rates = compare(seconds["ours"], seconds["released"], BATCH)
        of_triplet = 3 * multiply_accumulates(config, IMAGE_SIZE, backward=True)
        rows.append({"case": name, "unit": "triplet", **rates, **fastest.shares(rates, of_triplet)})
    return Measured(pd.DataFrame(rows), peaks=fastest)


def ours(variant: str, steps: int, device: str) -> list[float]:
    """Seconds of each step of :func:`robust_lpips.training.fit`."""
    metric = RobustLPIPS(CONFIGS[variant], weights=None, linear=True).to(device)
    triplets, ends = _triplets(BATCH), [now(device)]
    recipe = Recipe(epochs=1, decay_epochs=0, batch_size=BATCH)
    fit(metric, triplets * steps, recipe, on_step=lambda _: ends.append(now(device)))
    return np.diff(ends).tolist()


def released(variant: str, steps: int, device: str) -> list[float]:
    """Seconds of each step of a plain loop over the released package."""
    net = peers.stlpips("alex", variant=variant, pretrained=False, pnet_tune=True, eval_mode=False)
    objective = RankingObjective().to(device)
    loop = peers.training_steps(net.to(device).train(), objective, [_triplets(BATCH)] * steps)
    return [seconds_of(partial(next, loop), device) for _ in range(steps)]


def _median(train: Callable[..., list[float]], variant: str, steps: int, device: str) -> float:
    return float(np.median(train(variant, WARM_UP + steps, device)[WARM_UP:]))


def _triplets(n: int) -> list[dict[str, Tensor | float]]:
    """Noise: the time of a step does not depend on what the images show."""
    generator = torch.Generator().manual_seed(0)
    shape = (n, 3, 3, IMAGE_SIZE, IMAGE_SIZE)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return [
        {"ref": ref, "p0": p0, "p1": p1, "judge": float(index % 2)}
        for index, (ref, p0, p1) in enumerate(images)
    ]


SUITE = suite("training", TrainingSettings, measure, "noise")
