"""Suite ``training``: steps with the ranking loss, beside a plain loop over ``stlpips_pytorch``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from robust_lpips.backbones import BackboneConfig
from robust_lpips.metric import RobustLPIPS
from robust_lpips.studies.benchmark import peers
from robust_lpips.studies.benchmark.rates import network_operations, peaks
from robust_lpips.studies.benchmark.suite import Result, Settings
from robust_lpips.studies.benchmark.timing import WARM_UP, compare, now, turn_about
from robust_lpips.tables import with_interval
from robust_lpips.training import RankingObjective, Recipe, fit
from robust_lpips.weights import release

IMAGE_SIZE = 64
BATCH = 50
# As the released package calls them.
CONFIGS = {
    "vanilla": BackboneConfig(),
    "shift_tolerant": release("alexnet-shift-tolerant").config,
}

_TEXT = """Triplets a second, {size}x{size} px, batches of {batch}, float32: AlexNet from random \
weights, everything learning, against a plain loop over `stlpips_pytorch.stlpips.LPIPS` with one \
call for each of the two distances, so four passes through the trunk; head, loss and dropout are \
the same, and Adam, of which ours takes torch's fused form. `ratio`: ours over the released \
package's, the median over {rounds} rounds of {steps} steps, in which both take turns; in brackets \
the extremes.

`ours (%)`, `released (%)`: share of the matrix multiply's rate, counted by the multiply-adds of \
the plain network, forward and backward, of the three images of a triplet: what the task needs, so \
that the fourth pass of the released package does not count. Fast convolutions do fewer."""

# Does so many steps and gives each one's seconds.
Steps = Callable[[int], list[float]]


def measure(settings: Settings) -> Result:
    """A row a network, plain and shift-tolerant AlexNet."""
    fastest = peaks(settings.device)
    rows = []
    for variant in CONFIGS:
        name = f"AlexNet, {variant.replace('_', '-')}"
        sides = {
            side: partial(_median, steps, settings.steps)
            for side, steps in both_sides(variant, settings.device).items()
        }
        seconds = turn_about(sides, settings.rounds, name)
        row = {"case": name, "unit": "triplet"}
        row |= compare(seconds["ours"], seconds["released"], BATCH)
        operations = 3 * network_operations(CONFIGS[variant], IMAGE_SIZE, IMAGE_SIZE, backward=True)
        for side in sides:
            row[f"{side}_share"] = fastest.share(row[side] * operations)
        rows.append(row)
    table = pd.DataFrame(rows)
    text = _TEXT.format(size=IMAGE_SIZE, batch=BATCH, rounds=settings.rounds, steps=settings.steps)
    return Result(table, _shown(table), text, _FORMATS, peaks=fastest)


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
    """Noise: what a step takes does not depend on what is on the images."""
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
        loss.item()  # ours looks at every loss, too
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        _clamp_1x1(net)
        yield now(device) - start


def _clamp_1x1(net: nn.Module) -> None:
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
                module.weight.clamp_(min=0.0)


_FORMATS = {"ours": ".1f", "released": ".1f", "ours (%)": ".0f", "released (%)": ".0f"}


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    ratios = table[["ratio", "ratio_low", "ratio_high"]].to_numpy()
    return pd.DataFrame(
        {
            "case": table["case"],
            "ours": table["ours"],
            "released": table["released"],
            "ratio": [with_interval(*values, digits=2) for values in ratios],
            "ours (%)": table["ours_share"],
            "released (%)": table["released_share"],
        }
    )
