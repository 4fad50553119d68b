"""Designs beyond the paper: what each gains on the network that it starts from, and what it costs.

Nothing is trained. Beside r_rf (Ghildyal and Liu, ECCV 2022) and accuracy stand what tolerance can
cost: verdicts that change where nothing is shifted, a local warp that is no longer seen, and time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate
from tqdm.auto import tqdm

from robust_lpips import distortions
from robust_lpips.comparison import Metric, load_metrics
from robust_lpips.data.fingerprint import fingerprint
from robust_lpips.data.sample import JUDGE
from robust_lpips.evaluation import (
    FULL,
    ShiftViews,
    max_shift_of,
    measure,
    paired_difference,
    photograph,
    read_distances,
    summarize,
    view_name,
    write_distances,
)
from robust_lpips.evaluation.bootstrap import (
    bootstrap_weights,
    cluster_codes,
    generator,
    interval,
)
from robust_lpips.plots import plot_pareto
from robust_lpips.studies.benchmark.timing import WARM_UP, seconds_of, turn_about
from robust_lpips.studies.beyond_rows import Row, chosen
from robust_lpips.studies.folder import claim, read_json, write_json
from robust_lpips.studies.measured import portable
from robust_lpips.studies.pool import machine
from robust_lpips.studies.report import ACCURACY_LABELS, JUDGE_NOTES
from robust_lpips.studies.triplets import check_max_shift, evenly_spaced, triplets
from robust_lpips.tables import to_markdown, with_interval, write_csv, write_text

DEFAULT_N = 300
# Of the warp and of the noise that it is compared with.
SEVERITY = 0.25
_DISTORTIONS = {"p0": "cubic_warp", "p1": "gaussian_white_noise"}

_BATCH, _ROUNDS = 50, 5
_N_BOOT = 1000
_WARP = "warp"
# What is measured along other directions: its one shift, and what tables call r_rf there.
_DIRECTIONS = {
    "vertical": (ShiftViews(1, (0, 1)), "rrf_1", "rrf_1_vertical"),
    "diagonal": (ShiftViews(1, (1, 1)), "rrf_1", "rrf_1_diagonal"),
    "half-pixel": (ShiftViews(1, step=0.5), "rrf_0.5", "rrf_0.5"),
}
_ENDS = ("value", "low", "high")
_COLUMNS = ["quantity", *_ENDS, "n"]

Tables = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Settings:
    """What is measured on, whatever the row.

    Attributes:
        data_root: folder of BAPPS; None: the sample set.
        n: validation triplets for accuracy and horizontal shifts; of BAPPS evenly spaced ones.
        n_more: how many of these for everything else, evenly spaced.
        image_size: side of the patches in pixels.
        max_shift: the largest horizontal shift in pixels; it decides the crop.
        seed: of random weights, of warps and noise, and of the intervals.
    """

    data_root: str | None = None
    n: int = DEFAULT_N
    n_more: int = 100
    image_size: int = 64
    max_shift: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        check_max_shift(self.max_shift, self.image_size)

    def dataset(self) -> Dataset:
        """The ``n`` triplets; the sample set is built where it is not there yet."""
        return triplets(self.data_root, "val", self.n, self.image_size)

    @property
    def kind(self) -> str:
        """``"sample"`` or ``"bapps"``."""
        return "sample" if self.data_root is None else "bapps"


class WarpedAndNoisy(Dataset):
    """The references of a dataset beside themselves: warped a little as p0, noisy as p1.

    Args:
        dataset: of triplets.
        seed: of warps and noise.
    """

    def __init__(self, dataset: Dataset, seed: int = 0) -> None:
        self.dataset = dataset
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.dataset[index]
        image = item["ref"].permute(1, 2, 0).numpy()
        for i, (part, name) in enumerate(_DISTORTIONS.items()):
            rng = np.random.default_rng([self.seed, index, i])
            pixels = distortions.apply(name, image, SEVERITY, rng)
            item = item | {part: torch.from_numpy(pixels).permute(2, 0, 1).contiguous()}
        return item


def run(
    settings: Settings,
    output: str | Path,
    rows: Sequence[str] | None = None,
    *,
    device: torch.device | str = "cpu",
    command: str | None = None,
) -> str:
    """Measure what is not yet measured, write tables and plot, and return the page.

    Into ``output`` go ``settings.json``, ``rows/<row>/`` with the distances of each part and the
    time, which are read and not measured again where they are there already, ``summary.csv``
    (``row, quantity, value, low, high, n``), ``summary.md`` and ``pareto.png``.

    Args:
        settings: what is measured on.
        output: a folder, new or of an earlier run under the same settings.
        rows: names of :data:`~robust_lpips.studies.beyond_rows.ROWS`; their bases come with them.
            None: all.
        device: where to compute.
        command: what made the tables, to be printed with them.

    Raises:
        ValueError: unknown rows, ``output`` is of other settings, or not one row can be measured.
    """
    wanted = chosen(rows)
    output = Path(output)
    dataset = settings.dataset()
    claim(output, asdict(settings))
    kept = {row.name: _Kept(output / "rows" / row.name, fingerprint(dataset)) for row in wanted}
    left_out = _measure(settings, dataset, kept, wanted, device)
    measured = [row for row in wanted if row.name not in left_out]
    if not measured:
        raise ValueError(f"no row can be measured: {'; '.join(dict.fromkeys(left_out.values()))}")
    summary = _summary(measured, kept, settings)
    write_csv(summary, output / "summary.csv")
    conditions = _conditions(summary, settings)
    plot_pareto(
        _points(summary, measured),
        output / "pareto.png",
        f"Designs beyond the paper\n{conditions}\n"
        "In the labels: time of a pair, in units of the unchanged network's",
        f"{_accuracy(settings)} (%)",
    )
    machines = dict.fromkeys(kept[row.name].time()["machine"] for row in measured)
    page = _page(summary, measured, left_out, settings, conditions, "; ".join(machines), command)
    write_text(output / "summary.md", page)
    return page


def row_scores(own: Tables, base: Tables | None = None, seed: int = 0) -> pd.DataFrame:
    """What one row's distances come to, and how that differs from its base.

    Args:
        own: by part (``horizontal``, ``vertical``, ``diagonal``, ``half-pixel``, ``warp``) the
            table of :func:`~robust_lpips.evaluation.measure`.
        base: those of the row that it is compared with.
        seed: of the intervals.

    Returns:
        ``quantity, value, low, high, n`` with 95 % intervals. In percent: ``two_afc``, ``rrf_1``
        ... ``rrf_S``, ``rrf_1_vertical``, ``rrf_1_diagonal``, ``rrf_0.5``, and with a base
        ``verdicts_kept``, the share of triplets ranked as it ranks them, unshifted. With a base in
        percentage points: each but the last with ``_difference``. ``warp_over_noise``: the median
        over patches of d(ref, warped) / d(ref, noisy).
    """
    shifts = [f"rrf_{n}" for n in range(1, max_shift_of(own["horizontal"]) + 1)]
    names = {"horizontal": {name: name for name in ("two_afc", *shifts)}}
    names |= {part: {column: name} for part, (_, column, name) in _DIRECTIONS.items()}
    found = []
    for part, columns in names.items():
        scores = summarize(own[part], _N_BOOT, seed).iloc[-1]
        for column, quantity in columns.items():
            found.append((quantity, *_ends(scores, column), scores["n"]))
        if base is not None:
            differences = paired_difference(own[part], base[part], _N_BOOT, seed)
            differences = differences.set_index("quantity")[["difference", "low", "high"]]
            for column, quantity in columns.items():
                found.append((f"{quantity}_difference", *differences.loc[column], scores["n"]))
    if base is not None:
        found.append(
            ("verdicts_kept", *_verdicts_kept(own["horizontal"], base["horizontal"], seed))
        )
    found.append(("warp_over_noise", *_warp_over_noise(own[_WARP], seed)))
    return pd.DataFrame(found, columns=_COLUMNS).astype({"n": int})


@dataclass(frozen=True)
class _Kept:
    """What is kept of one row: the distances of each part, with what they are of, and the time.

    Attributes:
        folder: of the row.
        data: fingerprint of the triplets.
    """

    folder: Path
    data: str

    def has(self, part: str) -> bool:
        table, record = self._paths(part)
        return table.is_file() and record.is_file() and read_json(record)["data"] == self.data

    def keep(self, part: str, distances: pd.DataFrame) -> None:
        table, record = self._paths(part)
        write_distances(distances, table)
        write_json(record, {"data": self.data})

    def distances(self, part: str) -> pd.DataFrame:
        return read_distances(self._paths(part)[0])

    @property
    def timed(self) -> bool:
        return self._time.is_file()

    def keep_time(self, ratio: float, device: torch.device | str) -> None:
        write_json(self._time, {"ratio": ratio, "machine": machine(str(device))})

    def time(self) -> dict[str, Any]:
        return read_json(self._time)

    @property
    def _time(self) -> Path:
        return self.folder / "time.json"

    def _paths(self, part: str) -> tuple[Path, Path]:
        return self.folder / f"{part}.csv.gz", self.folder / f"{part}.json"


def _measure(
    settings: Settings,
    dataset: Dataset,
    kept: Mapping[str, _Kept],
    rows: Sequence[Row],
    device: torch.device | str,
) -> dict[str, str]:
    """Measure what is missing; by name why rows are left out."""
    parts = _parts(settings, dataset)
    todo = {row.name: [part for part in parts if not kept[row.name].has(part)] for row in rows}
    unfinished = {name for name, missing in todo.items() if missing or not kept[name].timed}
    bases = dict.fromkeys(row.base for row in rows if row.name in unfinished)
    networks, reasons = load_metrics(list(bases), device, settings.seed) if bases else ({}, {})
    left_out = {
        row.name: portable(reasons[row.base])
        for row in rows
        # One that is finished is of no use without its base.
        if row.base in reasons and {row.name, row.base} & unfinished
    }
    rows = [row for row in rows if row.name in unfinished - set(left_out)]
    total = sum(len(parts[part].dataset) for row in rows for part in todo[row.name])
    with tqdm(total=total, unit="triplet", disable=not rows) as progress:
        for row in rows:
            progress.set_description(row.name)
            base, own = networks[row.base], kept[row.name]
            metric = row.design.factory(base).to(device)
            for part in todo[row.name]:
                own.keep(part, parts[part].measure(metric, device, progress))
            if not own.timed:
                ratio = 1.0 if row.is_base else _relative_time(metric, base, dataset, device)
                own.keep_time(ratio, device)
    return left_out


@dataclass(frozen=True)
class _Part:
    """One measurement of a row: on which triplets, and at which shifts."""

    dataset: Dataset
    views: ShiftViews

    def measure(self, metric: Metric, device: torch.device | str, progress: tqdm) -> pd.DataFrame:
        return measure(
            metric,
            self.dataset,
            self.views.max_shift,
            direction=self.views.direction,
            step=self.views.step,
            batch_size=_BATCH,
            device=device,
            progress=progress.update,
        )


def _parts(settings: Settings, dataset: Dataset) -> dict[str, _Part]:
    """Every measurement of a row, by name."""
    fewer = evenly_spaced(dataset, settings.n_more)
    return (
        {"horizontal": _Part(dataset, ShiftViews(settings.max_shift))}
        | {part: _Part(fewer, views) for part, (views, *_) in _DIRECTIONS.items()}
        | {_WARP: _Part(WarpedAndNoisy(fewer, settings.seed), ShiftViews(0))}
    )


@torch.inference_mode()
def _relative_time(
    metric: Metric, base: Metric, dataset: Dataset, device: torch.device | str
) -> float:
    """How many times as long as ``base`` a batch takes: the median over calls that take turns."""
    # A dataset may be smaller than a batch.
    indices = islice(chain.from_iterable(repeat(range(len(dataset)))), _BATCH)
    batch = default_collate([dataset[i] for i in indices])
    pair: list[Tensor] = [batch[name].to(device).float() / 127.5 - 1 for name in ("ref", "p0")]
    sides = {"base": partial(base, *pair), "row": partial(metric, *pair)}
    for _ in range(WARM_UP):
        for call in sides.values():
            call()
    turns = {name: partial(seconds_of, call, str(device)) for name, call in sides.items()}
    seconds = turn_about(turns, _ROUNDS, "time")
    return float(np.median(seconds["row"] / seconds["base"]))


def _summary(rows: Sequence[Row], kept: Mapping[str, _Kept], settings: Settings) -> pd.DataFrame:
    """What all rows come to, one below the other."""
    parts = ("horizontal", *_DIRECTIONS, _WARP)
    tables = {row.name: {part: kept[row.name].distances(part) for part in parts} for row in rows}
    found = []
    for row in rows:
        base = None if row.is_base else tables[row.base]
        scores = row_scores(tables[row.name], base, settings.seed)
        nan = math.nan
        costs = [
            ("evaluations", row.design.evaluations, nan, nan, 1),
            ("relative_time", kept[row.name].time()["ratio"], nan, nan, _ROUNDS),
        ]
        found.append(pd.concat([scores, pd.DataFrame(costs, columns=_COLUMNS)]))
        found[-1].insert(0, "row", row.name)
    return pd.concat(found, ignore_index=True)


def _verdicts_kept(
    own: pd.DataFrame, base: pd.DataFrame, seed: int
) -> tuple[float, float, float, int]:
    """The share of triplets, in percent, that both rank alike unshifted; its interval; how many."""
    # What a shift is to r_rf, the other metric is here.
    own, base = (table[table["view"] == FULL] for table in (own, base))
    views = [base, base.assign(view=view_name(0)), own.assign(view=view_name(1))]
    scores = summarize(pd.concat(views), _N_BOOT, seed).iloc[-1]
    value, low, high = _ends(scores, "rrf_1")
    return 100 - value, 100 - high, 100 - low, scores["n"]


def _warp_over_noise(table: pd.DataFrame, seed: int) -> tuple[float, float, float, int]:
    """The median of d0 / d1, its interval, and of how many patches."""
    ratios = (table["d0"] / table["d1"]).to_numpy()
    codes = cluster_codes(list(table["sample"]), photograph)
    low = high = math.nan
    if codes.max() > 0:
        weights = chain.from_iterable(bootstrap_weights(codes, _N_BOOT, generator(seed, _WARP)))
        low, high = interval(np.array([np.median(np.repeat(ratios, each)) for each in weights]))
    return float(np.median(ratios)), float(low), float(high), len(ratios)


def _ends(scores: pd.Series, column: str) -> tuple[float, float, float]:
    return scores[column], scores[f"{column}_low"], scores[f"{column}_high"]


def _points(summary: pd.DataFrame, rows: Sequence[Row]) -> pd.DataFrame:
    """A point a row, for the plot."""
    values = summary.set_index(["row", "quantity"])
    points = []
    for row in rows:
        point = {"network": row.title, "design": row.design.title, "base": row.is_base}
        for name in ("rrf_1", "two_afc"):
            ends = values.loc[(row.name, name), list(_ENDS)]
            point |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
        points.append(point | {"time": values.loc[(row.name, "relative_time"), "value"]})
    return pd.DataFrame(points)


def _page(
    summary: pd.DataFrame,
    rows: Sequence[Row],
    left_out: Mapping[str, str],
    settings: Settings,
    conditions: str,
    machines: str,
    command: str | None,
) -> str:
    made = f" Made by `{command}`." if command else ""
    designs = dict.fromkeys(row.design for row in rows)
    parts = [
        "# Designs beyond the paper",
        f"Measured on {conditions}, on {machines}. {JUDGE_NOTES[settings.kind]} In brackets 95 % "
        f"bootstrap intervals{_clusters(settings)}.{made}",
        "\n".join(f"- {design.title}: {design.meaning}" for design in designs),
        *_untrained_note(rows),
        "## Accuracy, horizontal shifts and cost",
        f"Accuracy: {_accuracy(settings)}, in percent, of the uncropped patches; difference to the "
        "unchanged network: paired over the same triplets, in percentage points; verdicts kept: "
        "share of triplets that are ranked as the unchanged network ranks them, unshifted, in "
        f"percent; r_rf n: share whose ranking a shift of n pixels flips, in percent, of windows "
        f"of {settings.image_size}x{settings.image_size - settings.max_shift} pixels; evaluations: "
        "images that go through the network for one pair, by construction; time of a pair: in "
        "units of the unchanged network's, measured here, the median of "
        f"{_ROUNDS} calls that took turns, {_BATCH} unshifted pairs of {settings.image_size} px "
        "at a time.",
        *_judge_note(rows, settings),
        to_markdown(_first_table(summary, rows, settings), {"time of a pair": ".2f"}),
        "## Other shifts, and warps",
        f"r_rf of evenly spaced triplets, {_count(summary, 'rrf_0.5')} of them, at a largest shift "
        "of 1 pixel, so that windows are larger than above; shifts by half a pixel are bicubic, "
        "which itself blurs. Warp / noise: the median over their references of d(ref, warped) / "
        f"d(ref, noisy), where the warp moves 5 by 5 points of the patch by {_warp(settings)} px, "
        "each its own way (`cubic_warp`), and the noise is visible (`gaussian_white_noise`), both "
        f"at severity {SEVERITY:g}. Where it falls far below the unchanged network's, the design "
        "no longer sees small local changes.",
        to_markdown(_second_table(summary, rows)),
    ]
    if left_out:
        parts += ["## Left out", _reasons(left_out)]
    return "\n\n".join(parts) + "\n"


def _reasons(left_out: Mapping[str, str]) -> str:
    """A line a reason, with the rows that it leaves out."""
    names: dict[str, list[str]] = {}
    for name, reason in left_out.items():
        names.setdefault(reason, []).append(name)
    return "\n".join(f"- {', '.join(rows)}: {reason}" for reason, rows in names.items())


def _first_table(summary: pd.DataFrame, rows: Sequence[Row], settings: Settings) -> pd.DataFrame:
    cells = _Cells(summary, rows)
    table = cells.names()
    table[f"{_accuracy(settings)} (%)"] = cells.of("two_afc")
    table["difference"] = cells.of("two_afc_difference")
    table["verdicts kept"] = cells.of("verdicts_kept")
    for n in range(1, settings.max_shift + 1):
        table[f"r_rf {n}"] = cells.of(f"rrf_{n}")
    table["r_rf 1, difference"] = cells.of("rrf_1_difference")
    table["evaluations"] = [row.design.evaluations for row in rows]
    table["time of a pair"] = cells.values("relative_time")
    return table


def _second_table(summary: pd.DataFrame, rows: Sequence[Row]) -> pd.DataFrame:
    cells = _Cells(summary, rows)
    table = cells.names()
    table["r_rf 1, vertical"] = cells.of("rrf_1_vertical")
    table["r_rf 1, diagonal"] = cells.of("rrf_1_diagonal")
    table["r_rf 0.5"] = cells.of("rrf_0.5")
    table["warp / noise"] = cells.of("warp_over_noise", digits=3)
    return table


class _Cells:
    """Columns of the page from the tidy table, in the order of ``rows``."""

    def __init__(self, summary: pd.DataFrame, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.wide = summary.pivot(index="row", columns="quantity", values=list(_ENDS))

    def names(self) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "network": [row.title for row in self.rows],
                "design": [row.design.title for row in self.rows],
            }
        )

    def values(self, quantity: str) -> list[float]:
        return [value for value, *_ in self._ends(quantity)]

    def of(self, quantity: str, digits: int = 1) -> list[str]:
        """Numbers with their intervals; dashes where a row has none."""
        return [with_interval(*ends, digits=digits) for ends in self._ends(quantity)]

    def _ends(self, quantity: str) -> np.ndarray:
        """Value and bounds of each row: (R, 3)."""
        columns = pd.MultiIndex.from_product([_ENDS, [quantity]])
        return self.wide.reindex(index=[row.name for row in self.rows], columns=columns).to_numpy()


def _conditions(summary: pd.DataFrame, settings: Settings) -> str:
    """What the numbers are of, in one line."""
    name = {"sample": "sample set", "bapps": "BAPPS"}[settings.kind]
    size = settings.image_size
    return (
        f"{name} val, {_count(summary, 'two_afc')} triplets of {size}x{size} px, "
        f"largest shift {settings.max_shift} px, seed {settings.seed}"
    )


def _count(summary: pd.DataFrame, quantity: str) -> int:
    return summary.loc[summary["quantity"] == quantity, "n"].iloc[0]


def _accuracy(settings: Settings) -> str:
    label = ACCURACY_LABELS[settings.kind]
    return f"{label}, not with people" if settings.kind == "sample" else label


def _clusters(settings: Settings) -> str:
    return " clustered by photograph" if settings.kind == "sample" else ""


def _warp(settings: Settings) -> str:
    # At severity 1 it is a twentieth of the side.
    return f"{SEVERITY * settings.image_size / 20:g}"


def _untrained_note(rows: Sequence[Row]) -> Iterator[str]:
    if any("untrained" in row.base for row in rows):
        yield (
            "The untrained AlexNet has random weights: it shows what a design does where nothing "
            "was learnt."
        )


def _judge_note(rows: Sequence[Row], settings: Settings) -> Iterator[str]:
    """Whose agreement says nothing."""
    if settings.kind == "sample" and any(row.base == JUDGE for row in rows):
        yield (
            f"{JUDGE} is the judge itself: unchanged its agreement is 100 % by construction, and "
            "its designs can only lose."
        )
