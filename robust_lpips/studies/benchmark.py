"""Speed beside the released packages: the same work, in the same run, turn and turn about."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from robust_lpips.backbones import BackboneConfig
from robust_lpips.metric import RobustLPIPS
from robust_lpips.studies.pool import machine
from robust_lpips.tables import to_markdown, write_csv, write_text
from robust_lpips.training import RankingObjective, Recipe, fit
from robust_lpips.weights import release

IMAGE_SIZE = 64
BATCH = 50
# The first steps of a round are slower: memory is taken, kernels are chosen.
_WARM_UP = 2


@dataclass(frozen=True)
class Case:
    """The same work done twice: each callable does ``steps`` steps and gives each one's seconds.

    Attributes:
        name: as printed.
        ours: through this package.
        peer: through the released one.
        per_step: how many units, of which ``unit`` is the name, a step works off.
    """

    name: str
    ours: Callable[[int], list[float]]
    peer: Callable[[int], list[float]]
    per_step: int
    unit: str


def training_cases(device: str) -> Iterator[Case]:
    """Training with the ranking loss: plain and shift-tolerant AlexNet, everything learning.

    Against a plain loop over ``stlpips_pytorch.stlpips.LPIPS``: one call for each of the two
    distances, so four passes through the trunk, the same head, loss, dropout and optimizer.
    """
    configs = {
        "vanilla": BackboneConfig(),
        "shift_tolerant": release("alexnet-shift-tolerant").config,
    }
    triplets = _triplets(BATCH)
    for variant, config in configs.items():

        def ours(steps: int, config: BackboneConfig = config) -> list[float]:
            metric = RobustLPIPS(config, weights=None, linear=True).to(device)
            ends = [time.perf_counter()]
            recipe = Recipe(epochs=1, decay_epochs=0, batch_size=BATCH)
            fit(metric, triplets * steps, recipe, on_step=lambda _: ends.append(_now(device)))
            return np.diff(ends).tolist()

        def peer(steps: int, variant: str = variant) -> list[float]:
            return list(_peer_training(variant, triplets, steps, device))

        yield Case(f"AlexNet, {variant.replace('_', '-')}", ours, peer, BATCH, "triplet")


SUITES: dict[str, Callable[[str], Iterable[Case]]] = {"training": training_cases}


def run(suite: str, device: str, steps: int, rounds: int) -> pd.DataFrame:
    """Measure a suite: ``rounds`` times, ``steps`` steps of each case and side after another.

    Returns:
        A row a case: ``case, unit, ours, released`` in units a second, medians over all steps,
        and ``ratio, ratio_low, ratio_high``: the median over rounds of ours over the released
        package's, and the extremes.
    """
    rows = []
    for case in SUITES[suite](device):
        seconds = np.array(
            [
                [np.median(side(_WARM_UP + steps)[_WARM_UP:]) for side in (case.ours, case.peer)]
                for _ in range(rounds)
            ]
        )
        ratios = seconds[:, 1] / seconds[:, 0]
        ours, released = case.per_step / np.median(seconds, axis=0)
        rows.append(
            {
                "case": case.name,
                "unit": case.unit,
                "ours": ours,
                "released": released,
                "ratio": np.median(ratios),
                "ratio_low": ratios.min(),
                "ratio_high": ratios.max(),
            }
        )
    return pd.DataFrame(rows)


def write_report(table: pd.DataFrame, suite: str, output: Path, device: str, command: str) -> str:
    """Write ``benchmark.csv`` and ``benchmark.md`` into ``output``; return the page."""
    shown = table.assign(
        ratio=[
            f"{row.ratio:.2f} [{row.ratio_low:.2f}, {row.ratio_high:.2f}]"
            for row in table.itertuples()
        ]
    ).drop(columns=["ratio_low", "ratio_high"])
    page = "\n\n".join(
        [
            f"# Benchmark: {suite}",
            f"Units a second, {IMAGE_SIZE}x{IMAGE_SIZE} px, batches of {BATCH}, float32; the ratio "
            "is ours over the released package's, the median over rounds with the extremes. "
            f"Made by `{command}` on {machine(device)}.",
            to_markdown(shown, {"ours": ".1f", "released": ".1f"}),
        ]
    )
    output.mkdir(parents=True, exist_ok=True)
    write_csv(table, output / "benchmark.csv")
    write_text(output / "benchmark.md", page + "\n")
    return page


def _triplets(n: int) -> list[dict[str, Tensor | float]]:
    """Noise: what a step takes does not depend on what is on the images."""
    generator = torch.Generator().manual_seed(0)
    shape = (n, 3, 3, IMAGE_SIZE, IMAGE_SIZE)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return [
        {"ref": ref, "p0": p0, "p1": p1, "judge": float(index % 2)}
        for index, (ref, p0, p1) in enumerate(images)
    ]


def _peer_training(
    variant: str, triplets: list[dict[str, Tensor | float]], steps: int, device: str
) -> Iterator[float]:
    """Seconds of each step of the plain loop over the released package."""
    stlpips = _import_released()
    net = stlpips.LPIPS(
        net="alex",
        variant=variant,
        pretrained=False,
        pnet_tune=True,
        eval_mode=False,
        verbose=False,
    )
    net.to(device).train()
    objective = RankingObjective().to(device)
    parameters = [*net.parameters(), *objective.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-4, betas=(0.5, 0.999))
    for _ in range(steps):
        start = _now(device)
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
        yield _now(device) - start


def _import_released() -> ModuleType:
    try:
        from stlpips_pytorch import stlpips
    except ModuleNotFoundError as error:
        # It does not declare all that it imports.
        raise ModuleNotFoundError(
            f"stlpips_pytorch needs the package {error.name}: "
            'pip install "robust-lpips[test]" brings it'
        ) from error
    return stlpips


def _clamp_1x1(net: nn.Module) -> None:
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
                module.weight.clamp_(min=0.0)


def _now(device: str) -> float:
    """The time when everything that was asked of ``device`` is done."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
