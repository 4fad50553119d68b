"""Rank flips by layer: r_rf of each tap alone, and its share of the distance.

A tap that no subsampling precedes shifts with the image, whatever stands behind it; a network whose
distance consists largely of such taps gains little from filters against aliasing. This study tells
how much of a network's r_rf is of that kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from robust_lpips._files import atomic_path
from robust_lpips.comparison import load_metric
from robust_lpips.evaluation import rank_flip_rate
from robust_lpips.evaluation.per_layer import measure_layers
from robust_lpips.metric import RobustLPIPS
from robust_lpips.published.rows import TABLES, table_rows
from robust_lpips.studies.base import (
    MetricTask,
    Plan,
    Record,
    Results,
    Study,
    Tables,
    Tick,
    TripletSettings,
    conditions,
    option,
    quantity_label,
)
from robust_lpips.studies.base.machine import loading_workers
from robust_lpips.studies.base.study import single_part
from robust_lpips.tables import to_markdown
from robust_lpips.weights import names

FILE = "layers.npz"
REST, ALL = "all but the first", "all"
NETWORKS = ("vgg16", "vgg16-blurpool-pad1", "vgg16-blurpool-pad2", "vgg16-shift-tolerant")


@dataclass(frozen=True)
class LayerSettings(TripletSettings):
    """Settings of the study of layers.

    Raises:
        ValueError: if a value is out of range, or networks are unknown or repeated.
        FileNotFoundError: if there is no such checkpoint.
    """

    networks: tuple[str, ...] = option(
        NETWORKS,
        "rows of the table, untrained; released metrics; or checkpoints, as LABEL=PATH",
        claimed=False,
        metavar="NAME",
    )
    table: str = option("backbones", "table of the rows", choices=tuple(TABLES), claimed=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        known = [*(row.name for row in table_rows(self.table)), *names()]
        for label, path in self.checkpoints.items():
            if path is None and label not in known:
                allowed = f"LABEL=PATH or one of {', '.join(known)}"
                raise ValueError(f"networks must be {allowed}; got {label!r}")
            if path is not None and not path.is_file():
                raise FileNotFoundError(f"networks: no checkpoint {path} of {label}")
        if len(self.checkpoints) < len(self.networks) or not self.networks:
            raise ValueError(f"networks must be different; got {', '.join(self.networks)}")

    @property
    def checkpoints(self) -> dict[str, Path | None]:
        """Files of the networks by label; None: a row or a released metric."""
        pairs = [name.partition("=") for name in self.networks]
        return {label: Path(path).expanduser() if path else None for label, _, path in pairs}

    def load(self, label: str, device: str, seed: int) -> RobustLPIPS:
        """The network of that label; ``seed`` is that of a row's random weights.

        Raises:
            MetricUnavailable: if released weights are not here.
        """
        rows = {row.name: row.config for row in table_rows(self.table)}
        if path := self.checkpoints[label]:
            return RobustLPIPS(weights=path).to(device)
        if label not in rows:
            return load_metric(label, device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return RobustLPIPS(rows[label], weights=None).to(device)


class LayerTask(MetricTask):
    """Distances of each layer of one network, in :data:`FILE`."""

    def measure(self, metric: RobustLPIPS, tick: Tick) -> dict[str, np.ndarray]:
        """``distances`` of :func:`measure_layers`, and the names of ``taps``."""
        distances = measure_layers(
            metric,
            self.data.dataset,
            self.settings.max_shift,
            device=self.device,
            num_workers=loading_workers(self.device),
            progress=lambda items: tick(items / len(self.data.dataset)),
        )
        return {"taps": np.array(list(metric.backbone.taps)), "distances": distances}

    def write(self, measured: dict[str, np.ndarray], folder: Path) -> None:
        """Write what :meth:`measure` returned."""
        with atomic_path(folder / FILE) as temporary:
            np.savez(temporary, **measured)


def tasks(study: Study[LayerSettings], plan: Plan[LayerSettings]) -> list[LayerTask]:
    """A task for every network."""
    given = plan.settings
    return [
        LayerTask(plan.device, single_part, given, label, load=given.load)
        for label in given.checkpoints
    ]


def layer_table(taps: Sequence[str], distances: np.ndarray) -> pd.DataFrame:
    """One row per tap, one for all but the first, and one for all together.

    Args:
        taps: L names.
        distances: (S + 1, 2, N, L), see :func:`~robust_lpips.evaluation.per_layer.measure_layers`.

    Returns:
        ``tap``; ``share``, the tap's part of the mean unshifted distance, in percent; and
        ``rrf_1`` .. ``rrf_S``, percent of triplets that the tap's own distance ranks differently
        at that shift. Means over all triplets, not over subsets.
    """
    sums = [distances[..., first:].sum(axis=-1, keepdims=True) for first in (1, 0)]
    distances = np.concatenate([distances, *sums], axis=-1)
    unshifted = distances[0].mean(axis=(0, 1))  # over p0 and p1, and over triplets
    table = pd.DataFrame({"tap": [*taps, REST, ALL], "share": 100 * unshifted / unshifted[-1]})
    for shift in range(1, len(distances)):
        pairs = [(*distances[0, ..., i], *distances[shift, ..., i]) for i in table.index]
        table[f"rrf_{shift}"] = [100 * rank_flip_rate(*pair) for pair in pairs]
    return table


def tables(results: Results[LayerSettings]) -> dict[str, pd.DataFrame]:
    """``layers``: ``network``, and :func:`layer_table` of each."""
    rows = {}
    for task in results.of(LayerTask):
        with np.load(results.output / task.folder / FILE, allow_pickle=False) as arrays:
            rows[task.metric] = layer_table(**arrays)
    return {"layers": pd.concat(rows, names=["network"]).reset_index("network")}


def page(results: Results[LayerSettings], tables: Tables) -> list[str]:
    """Every tap of every network."""
    settings, table = results.settings, tables["layers"].rename(columns=quantity_label)
    n = len(results.source.dataset)
    given = conditions(results.source, n, max_shift=settings.max_shift, seed=settings.seed)
    formats = {name: ".0f" if name == "share" else ".1f" for name in table.columns[2:]}
    return [
        "# Rank flips by layer",
        f"{given}. share: the tap's part of the mean distance; r_rf n: triplets that the tap alone "
        "ranks differently when shifted by n pixels; both in percent, means over triplets. Nothing "
        "here needs people's judgments.",
        to_markdown(table, formats),
    ]


def records(results: Results[LayerSettings], tables: Tables) -> Iterator[Record]:
    """Share and r_rf at 1 px of every tap of each network."""
    n = len(results.source.dataset)
    for network, rows in tables["layers"].groupby("network", sort=False):
        values = rows.set_index("tap")[["rrf_1", "share"]].stack()
        scores = {
            f"{tap}, {name}": (value, np.nan, np.nan) for (tap, name), value in values.items()
        }
        yield Record(network, n, scores, results.weights[network])


STUDY = Study(
    name="layer-flips",
    settings=LayerSettings,
    tasks=tasks,
    tables=tables,
    page=page,
    figures=lambda results, tables: {},
    records=records,
    page_name="layers",
)
