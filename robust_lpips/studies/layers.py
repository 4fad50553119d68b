"""Rank flips by layer: r_rf of each tap alone, and its share of the distance.

A tap that no subsampling precedes shifts with the image, whatever stands behind it; a network whose
distance consists largely of such taps gains little from filters against aliasing. This study tells
how much of a network's r_rf is of that kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from robust_lpips._files import atomic_path
from robust_lpips.comparison import load_metric
from robust_lpips.evaluation.per_layer import measure_layers
from robust_lpips.evaluation.sensitivity import layer_table
from robust_lpips.metric import RobustLPIPS
from robust_lpips.published.rows import TABLES, table_rows
from robust_lpips.studies import base
from robust_lpips.studies.base.study import single_part
from robust_lpips.tables import to_markdown
from robust_lpips.tasks.machine import loading_workers
from robust_lpips.weights import names

FILE = "layers.npz"


@dataclass(frozen=True)
class LayerSettings(base.TripletSettings):
    """Settings of the study of layers.

    Raises:
        ValueError: if a value is out of range, or networks are unknown or repeated.
        FileNotFoundError: if there is no such checkpoint.
    """

    networks: tuple[str, ...] = base.option(
        ("vgg16", "vgg16-blurpool-pad1", "vgg16-blurpool-pad2", "vgg16-shift-tolerant"),
        "rows of the table, untrained; released metrics; or checkpoints, as LABEL=PATH",
        claimed=False,
        metavar="NAME",
    )
    table: str = base.option("backbones", "table of the rows", choices=tuple(TABLES), claimed=False)

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


class LayerTask(base.MetricTask):
    """Distances of each layer of one network, in :data:`FILE`."""

    def measure(self, metric: RobustLPIPS, tick: base.Tick) -> dict[str, np.ndarray]:
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


def tasks(study: base.Study[LayerSettings], plan: base.Plan[LayerSettings]) -> list[LayerTask]:
    """A task for every network."""
    settings, load = plan.settings, plan.settings.load
    given = (plan.device, single_part, settings)
    return [LayerTask(*given, label, load=load) for label in settings.checkpoints]


def tables(results: base.Results[LayerSettings]) -> dict[str, pd.DataFrame]:
    """``layers``: ``network``, and :func:`layer_table` of each."""
    rows = {}
    for task in results.of(LayerTask):
        with np.load(results.output / task.folder / FILE, allow_pickle=False) as arrays:
            rows[task.metric] = layer_table(**arrays)
    return {"layers": base.stacked(rows, ["network"])}


def page(results: base.Results[LayerSettings], tables: base.Tables) -> list[str]:
    """Every tap of every network."""
    table = tables["layers"].rename(columns=base.quantity_label)
    formats = {name: ".0f" if name == "share" else ".1f" for name in table.columns[2:]}
    values = {"conditions": base.run_conditions(results), "table": to_markdown(table, formats)}
    return base.filled("layers", **values)


def records(results: base.Results[LayerSettings], tables: base.Tables) -> Iterator[base.Record]:
    """Share and r_rf at 1 px of every tap of each network."""
    n = len(results.source.dataset)
    for network, rows in tables["layers"].groupby("network", sort=False):
        values = rows.set_index("tap")[["rrf_1", "share"]].stack().items()
        scores = {f"{tap}, {name}": (value, np.nan, np.nan) for (tap, name), value in values}
        yield base.Record(network, n, scores, results.weights[network])


STUDY = base.Study(
    "layer-flips",
    *(LayerSettings, tables, page, lambda results, tables: {}, records),
    tasks=tasks,
    page_name="layers",
)
