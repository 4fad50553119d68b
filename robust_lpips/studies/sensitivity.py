"""Shift sensitivity: what metrics charge for a pure shift, and how often a shift turns a ranking.

Two questions, both without people's judgments. How far apart does a metric find an image and the
same image n pixels to the side? And how often does it rank two distorted patches otherwise once
they are shifted by n pixels (r_rf, Ghildyal and Liu, ECCV 2022)?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from robust_lpips.comparison import check_names, load_metric
from robust_lpips.data import TwoAFCDataset, sample_dataset
from robust_lpips.evaluation import (
    FULL,
    measure,
    parse_view,
    read_distances,
    summarize,
    view_name,
    write_distances,
)
from robust_lpips.plots import plot_shift_curves
from robust_lpips.studies.folder import claim
from robust_lpips.studies.measured import file_stem
from robust_lpips.studies.triplets import check_max_shift, decoded_once
from robust_lpips.tables import to_markdown, with_interval, write_csv, write_text

DEFAULT_METRICS = (
    "alexnet-shift-tolerant",
    "vgg16-shift-tolerant",
    "alexnet-untrained",
    "l2",
    "ssim",
)
# Triplets of the sample set: the default metrics take three minutes of two free CPU cores.
DEFAULT_N = 100


@dataclass(frozen=True)
class Settings:
    """What is measured on, whatever the metric.

    Attributes:
        data_root: folder of BAPPS; None: the sample set.
        split: ``"val"`` or another one.
        n: triplets of the sample set; of BAPPS every one is taken.
        image_size: side of the patches in pixels.
        max_shift: the largest shift S in pixels; it decides the crop.
        seed: of the sample set, of random weights and of the intervals.
    """

    data_root: str | None = None
    split: str = "val"
    n: int = DEFAULT_N
    image_size: int = 64
    max_shift: int = 9
    seed: int = 0

    def __post_init__(self) -> None:
        check_max_shift(self.max_shift, self.image_size)

    def dataset(self) -> Dataset:
        """The triplets; the sample set is built where it is not there yet."""
        if self.data_root is None:
            dataset = sample_dataset(None, self.split, self.n, self.image_size, self.seed)
        else:
            dataset = TwoAFCDataset(self.data_root, self.split, image_size=self.image_size)
        return decoded_once(dataset)

    @property
    def dataset_name(self) -> str:
        """As tables name it."""
        return f"{'sample set' if self.data_root is None else 'BAPPS'} {self.split}"

    @property
    def window(self) -> str:
        """Size of what is compared: height x width."""
        return f"{self.image_size}x{self.image_size - self.max_shift}"


class _SameImages(Dataset):
    """The references of a dataset as their own p0 and p1, so that only the shift is left."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.dataset[index]
        return item | {"p0": item["ref"], "p1": item["ref"]}


def run(
    settings: Settings,
    output: str | Path,
    metrics: Sequence[str] = DEFAULT_METRICS,
    *,
    device: torch.device | str = "cpu",
    command: str | None = None,
) -> pd.DataFrame:
    """Measure what is not yet measured, and write table and plot.

    Into ``output`` go ``distances-<metric>.csv.gz`` and ``same-image-distances-<metric>.csv.gz``,
    which are read and not measured again where they are there already, ``settings.json``, and
    ``shift_sensitivity`` as ``.csv`` (:func:`curves`), ``.md`` and ``.png``.

    Args:
        settings: what is measured on.
        output: a folder, new or of an earlier run under the same settings.
        metrics: as :func:`robust_lpips.comparison.load_metric` takes them.
        device: where to compute.
        command: what made the tables, to be printed with them.

    Returns:
        :func:`curves` of all ``metrics``, one after the other.

    Raises:
        ValueError: no metrics, repeated or unknown ones, or ``output`` is of other settings.
    """
    check_names(metrics)
    output = Path(output)
    claim(output, asdict(settings))
    table = pd.concat(
        [
            curves(shifted, same, metric, settings)
            for metric, (shifted, same) in _distances(settings, output, metrics, device).items()
        ],
        ignore_index=True,
    )
    write_csv(table, output / "shift_sensitivity.csv")
    write_text(output / "shift_sensitivity.md", report(table, settings, command))
    plot_shift_curves(
        table,
        output / "shift_sensitivity.png",
        f"What shifts do to metrics\n{_subtitle(table, settings)}; windows of {settings.window} px",
    )
    return table


def curves(
    distances: pd.DataFrame, same_image: pd.DataFrame, metric: str, settings: Settings
) -> pd.DataFrame:
    """What one metric does at each shift, from its distances.

    Args:
        distances: the table of :func:`~robust_lpips.evaluation.measure` on triplets.
        same_image: the same with the reference as p0 and p1.
        metric: its name.
        settings: what was measured on.

    Returns:
        A row a shift, 0 .. S pixels: ``metric, dataset, image_size, max_shift, n`` (triplets),
        ``shift``; ``distance``, the mean between an image and itself shifted, in the metric's own
        unit; ``relative_distance``, the same over the mean distance to the distorted patches,
        unshifted and in the same window; ``rrf, rrf_low, rrf_high`` in percent, NaN at shift 0.
        All are means over subsets.
    """
    # p0 and p1 are both the reference, so d0 is d1.
    distance = _by_shift(same_image.assign(distance=same_image["d0"]))
    charged = distances.assign(distance=(distances["d0"] + distances["d1"]) / 2)
    scale = _by_shift(charged[charged["view"] == view_name(0)]).loc[0]
    scores = summarize(distances, seed=settings.seed).iloc[-1]
    table = pd.DataFrame(
        {
            "metric": metric,
            "dataset": settings.dataset_name,
            "image_size": settings.image_size,
            "max_shift": settings.max_shift,
            "n": int(scores["n"]),
            "shift": distance.index,
            "distance": distance.to_numpy(),
            "relative_distance": distance.to_numpy() / scale,
        }
    )
    for end in ("", "_low", "_high"):
        table[f"rrf{end}"] = [scores.get(f"rrf_{n}{end}") for n in table["shift"]]
    return table.astype(dict.fromkeys(("rrf", "rrf_low", "rrf_high"), float))


def report(table: pd.DataFrame, settings: Settings, command: str | None = None) -> str:
    """The Markdown page of :func:`curves`: both quantities, a column a metric."""
    cells = table.assign(
        rrf=[with_interval(*row) for row in table[["rrf", "rrf_low", "rrf_high"]].to_numpy()]
    )
    relative, rrf = (
        cells.pivot(index="shift", columns="metric", values=value)[list(cells["metric"].unique())]
        .loc[1:]
        .rename_axis(index="shift (px)", columns=None)
        .reset_index()
        for value in ("relative_distance", "rrf")
    )
    parts = [
        "# Shift sensitivity",
        _subtitle(table, settings) + ".",
        f"The largest shift, {settings.max_shift} px, decides the crop: at every shift windows of "
        f"{settings.window} pixels are compared, and numbers of another largest shift differ. "
        "Nothing here needs people's judgments.",
        "## Distance between an image and itself, shifted",
        "In units of the metric's own mean distance between the reference and the distorted "
        "patches, unshifted: at 1 the shift alone costs as much as a distortion does.",
        to_markdown(relative, dict.fromkeys(relative.columns[1:], ".3f")),
        "## Rank flips r_rf (%)",
        "Share of triplets that the metric ranks otherwise when the distorted patches are shifted, "
        f"with 95 % bootstrap intervals{_clusters(settings)}.",
        to_markdown(rrf),
    ]
    if command is not None:
        parts += ["## Made by", f"```\n{command}\n```"]
    return "\n\n".join(parts) + "\n"


def _distances(
    settings: Settings, output: Path, metrics: Sequence[str], device: torch.device | str
) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """By metric its distances on the triplets and on the references alone, measured or read."""
    files = {
        metric: [output / f"{kind}distances-{stem}.csv.gz" for kind in ("", "same-image-")]
        for metric, stem in zip(metrics, map(file_stem, metrics), strict=True)
    }
    # The code of a user's own metric may have changed since.
    todo = [m for m, paths in files.items() if ":" in m or not all(map(Path.is_file, paths))]
    if todo:
        dataset = settings.dataset()
        parts = [dataset, _SameImages(dataset)]
        with tqdm(total=len(todo) * sum(map(len, parts)), unit="triplet") as progress:
            for name in todo:
                progress.set_description(name)
                metric = load_metric(name, device, settings.seed)
                for part, path in zip(parts, files[name], strict=True):
                    distances = measure(
                        metric,
                        part,
                        settings.max_shift,
                        device=device,
                        progress=progress.update,
                    )
                    write_distances(distances, path)
    return {metric: tuple(map(read_distances, paths)) for metric, paths in files.items()}


def _by_shift(table: pd.DataFrame) -> pd.Series:
    """The mean over subsets of each one's mean ``distance``, by shift in pixels, ascending."""
    shifted = table[table["view"] != FULL]
    shifts = shifted["view"].map(parse_view).astype(int).rename("shift")
    by_subset = shifted.groupby([shifts, "subset"])["distance"].mean()
    return by_subset.groupby("shift").mean()


def _subtitle(table: pd.DataFrame, settings: Settings) -> str:
    """What the numbers are of, in one line."""
    size = settings.image_size
    return (
        f"{settings.dataset_name}, {table['n'].iloc[0]} triplets of {size}x{size} px, "
        f"seed {settings.seed}, largest shift {settings.max_shift} px"
    )


def _clusters(settings: Settings) -> str:
    """How samples are drawn: patches of one photograph of the sample set are not independent."""
    return " clustered by photograph" if settings.data_root is None else ""
