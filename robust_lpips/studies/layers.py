"""Which layers flip: r_rf of each tap alone, and what the tap adds to the distance.

A tap that no subsampling precedes answers to a shift by the shift itself, whatever stands behind
it; a network whose distance consists largely of such taps gains little from filters against
aliasing. This tells how much of a network's r_rf is of that kind.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from robust_lpips.evaluation import rank_flip_rate
from robust_lpips.evaluation.shifts import ShiftViews
from robust_lpips.metric import RobustLPIPS
from robust_lpips.studies.folder import claim
from robust_lpips.studies.rows import table_rows
from robust_lpips.studies.triplets import triplets
from robust_lpips.tables import to_markdown, write_csv, write_text
from robust_lpips.weights import names

REST, ALL = "all but the first", "all"
_BATCH = 16


@dataclass(frozen=True)
class Settings:
    """What is measured on.

    Attributes:
        data_root: folder of BAPPS; None: the sample set.
        val_triplets: how many; None: all of BAPPS.
        image_size: side of the patches in pixels.
        max_shift: largest shift in pixels, which decides the crop.
        seed: of random weights.
    """

    data_root: str | None = None
    val_triplets: int | None = 240
    image_size: int = 64
    max_shift: int = 3
    seed: int = 0

    def dataset(self) -> Dataset:
        """The validation triplets."""
        return triplets(self.data_root, "val", self.val_triplets, self.image_size)


def load_network(name: str, table: str, seed: int) -> RobustLPIPS:
    """A released metric, an untrained row of ``table``, or LABEL=PATH of a checkpoint.

    Raises:
        ValueError: none of these; the message lists the names.
    """
    rows = {row.name: row.config for row in table_rows(table)}
    if name in rows:
        torch.manual_seed(seed)
        return RobustLPIPS(rows[name], weights=None)
    if name in names():
        return RobustLPIPS(name)
    label, _, path = name.partition("=")
    if path:
        return RobustLPIPS(weights=path)
    raise ValueError(
        f"network must be LABEL=PATH or one of {', '.join([*rows, *names()])}; got {label!r}"
    )


def layer_table(name: str, metric: RobustLPIPS, dataset: Dataset, max_shift: int) -> pd.DataFrame:
    """A row a tap, then one for all but the first and one for all of them together.

    Returns:
        ``network, tap``; ``share``, the tap's part of the mean unshifted distance, in percent; and
        ``rrf_1`` ... ``rrf_S``, percent of triplets that the tap's own distance ranks otherwise at
        that shift. Means over all triplets, not over subsets.
    """
    distances = _layer_distances(metric, dataset, max_shift)
    sums = [distances[..., first:].sum(axis=-1, keepdims=True) for first in (1, 0)]
    distances = np.concatenate([distances, *sums], axis=-1)
    unshifted = distances[0].mean(axis=(0, 1))  # over p0 and p1, and over triplets
    rows = []
    for i, tap in enumerate([*metric.backbone.taps, REST, ALL]):
        rows.append({"network": name, "tap": tap, "share": 100 * unshifted[i] / unshifted[-1]})
        for shift in range(1, max_shift + 1):
            pairs = (*distances[0, ..., i], *distances[shift, ..., i])
            rows[-1][f"rrf_{shift}"] = 100 * rank_flip_rate(*pairs)
    return pd.DataFrame(rows)


def run(
    settings: Settings, networks: dict[str, RobustLPIPS], output: Path, *, device: str, command: str
) -> str:
    """Measure every network, write ``layers.csv`` and ``layers.md``, and return the page.

    Raises:
        ValueError: ``output`` holds results of other settings.
    """
    claim(output, asdict(settings) | {"networks": list(networks)})
    dataset = settings.dataset()
    table = pd.concat(
        [
            layer_table(name, metric.to(device), dataset, settings.max_shift)
            for name, metric in networks.items()
        ],
        ignore_index=True,
    )
    write_csv(table, output / "layers.csv")
    data = "sample set" if settings.data_root is None else "BAPPS"
    shifts = [name for name in table if name.startswith("rrf_")]
    page = "\n\n".join(
        [
            "# Rank flips by layer",
            f"{data} val, {len(dataset)} triplets of {settings.image_size}x{settings.image_size} "
            f"px, largest shift {settings.max_shift} px, seed {settings.seed}. share: the tap's "
            "part of the mean distance; r_rf n: triplets that the tap alone ranks otherwise when "
            "shifted by n pixels; both in percent. Nothing here needs people's judgments. "
            f"Made by `{command}`.",
            to_markdown(
                table.rename(columns={name: name.replace("rrf_", "r_rf ") for name in shifts}),
                {"share": ".0f"} | {name.replace("rrf_", "r_rf "): ".1f" for name in shifts},
            ),
        ]
    )
    write_text(output / "layers.md", page + "\n")
    return page


@torch.inference_mode()
def _layer_distances(metric: RobustLPIPS, dataset: Dataset, max_shift: int) -> np.ndarray:
    """(S + 1, 2, N, L): by shift, of the reference to p0 and p1, by triplet and tap."""
    views = ShiftViews(max_shift)
    loader = DataLoader(dataset, batch_size=_BATCH)
    batches = []
    for batch in tqdm(loader, unit="batch"):
        ref, *distorted = (batch[name].to(metric.shift.device) for name in ("ref", "p0", "p1"))
        reference = metric.features(views.reference(ref))

        def layers(image: torch.Tensor, reference: tuple = reference) -> np.ndarray:
            return metric.layer_distances(reference, metric.features(image)).double().cpu().numpy()

        batches.append([[layers(views.distorted(p, s)) for p in distorted] for s in views.shifts])
    return np.concatenate(batches, axis=2)
