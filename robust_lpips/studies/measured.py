"""Distances of several metrics on one dataset: measured once, kept in the run's folder."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from robust_lpips._cache import cache_dir
from robust_lpips.comparison import load_metrics
from robust_lpips.data.fingerprint import fingerprint
from robust_lpips.evaluation import measure, read_distances, write_distances
from robust_lpips.studies.folder import read_json, write_json


@dataclass(frozen=True)
class Measured:
    """What a run measured, by metric.

    Attributes:
        tables: tables of :func:`robust_lpips.evaluation.measure`.
        left_out: why there is none.
        weights: :func:`weights_sha256`; None where the metric has no weights.
    """

    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    weights: dict[str, str | None] = field(default_factory=dict)


def measure_all(
    names: Sequence[str],
    dataset: Dataset,
    folder: Path,
    *,
    device: torch.device | str = "cpu",
    seed: int = 0,
    max_shift: int = 0,
    batch_size: int = 50,
) -> Measured:
    """Measure every metric that is not measured in ``folder`` yet, and read the others.

    A metric of the user's own (``module:factory``) is measured anew in every run, because what
    its code does may have changed; and every metric where files of the dataset have.

    Args:
        names: as :func:`robust_lpips.comparison.load_metric` takes them.
        dataset: as :func:`robust_lpips.evaluation.measure` takes it.
        folder: where tables are kept; of one dataset and seed alone, which the caller sees to.
        device: where to compute.
        seed: of random weights.
        max_shift: largest shift in pixels, for triplets.
        batch_size: items at a time; 1 for images of several sizes.

    Raises:
        ValueError: unknown or repeated names, or not one metric can be measured; the message says
            why.
    """
    data = fingerprint(dataset)
    kept = {name: found for name in names if (found := _kept(folder, name, data))}
    todo = [name for name in names if name not in kept]
    loaded, left_out = load_metrics(todo, device, seed) if todo else ({}, {})
    with tqdm(total=len(loaded) * len(dataset), unit="item", disable=not loaded) as progress:
        for name, metric in loaded.items():
            progress.set_description(name)
            begin = time.perf_counter()
            try:
                table = measure(
                    metric,
                    dataset,
                    max_shift,
                    device=device,
                    batch_size=batch_size,
                    progress=progress.update,
                )
            # What other people's metrics raise, at images too small for them say, is of every kind.
            except Exception as error:
                first, *_ = [*str(error).strip().splitlines(), "no message"]
                left_out[name] = f"{name} failed: {type(error).__name__}: {first}"
                continue
            record = {
                "metric": name,
                "data": data,
                "weights": weights_sha256(metric),
                "seconds": time.perf_counter() - begin,
            }
            _keep(folder, name, table, record)
            kept[name] = table, record
    if not kept:
        raise ValueError(f"no metric can be measured: {'; '.join(left_out.values())}")
    order = [name for name in names if name in kept]
    return Measured(
        {name: kept[name][0] for name in order},
        {name: portable(left_out[name]) for name in names if name in left_out},
        {name: kept[name][1]["weights"] for name in order},
    )


def weights_sha256(metric: object) -> str | None:
    """SHA-256 of all that a module has learnt or drawn; None where there is nothing.

    Over names and bytes of its state dict in order, so that the same weights give the same digest
    on every machine of the same byte order.
    """
    state = metric.state_dict() if isinstance(metric, nn.Module) else {}
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        return None
    digest = hashlib.sha256()
    for name, value in tensors.items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def portable(reason: str) -> str:
    """Without folders of this machine, which mean nothing where the page is read."""
    return reason.replace(str(cache_dir()), "the cache folder").replace(str(Path.home()), "~")


def file_stem(name: str) -> str:
    """A metric's name as part of a file's: ``module:factory`` has a colon, paths have slashes."""
    return re.sub(r"[^\w.-]+", "-", name)


def _paths(folder: Path, name: str) -> tuple[Path, Path]:
    stem = f"distances-{file_stem(name)}"
    return folder / f"{stem}.csv.gz", folder / f"{stem}.json"


def _kept(folder: Path, name: str, data: str) -> tuple[pd.DataFrame, Mapping[str, Any]] | None:
    table, record = _paths(folder, name)
    if ":" in name or not (table.is_file() and record.is_file()):
        return None
    found = read_json(record)
    # Two names may make one file's name.
    if (found.get("metric"), found.get("data")) != (name, data):
        return None
    return read_distances(table), found


def _keep(folder: Path, name: str, distances: pd.DataFrame, record: Mapping[str, Any]) -> None:
    table, path = _paths(folder, name)
    write_distances(distances, table)
    write_json(path, record)
