"""Records: scores of each evaluation, one JSON line each, and the leaderboard made of them."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from robust_lpips._version import __version__
from robust_lpips.tables import to_markdown, with_interval

RECORDS_FILE = "records.jsonl"
_PACKAGES = ("torch", "torchvision", "numpy", "pandas", "scipy", "scikit-image", "piq", "plenoptic")
_IDENTITY = ("benchmark", "metric", "weights", "dataset", "judged_by", "n", "settings")


class Record(NamedTuple):
    """Scores that one evaluation gave.

    Attributes:
        metric: name of what was evaluated.
        n: number of samples.
        scores: by name a value and the bounds of its 95 % interval, NaN where there are none.
        weights: SHA-256 of the weights; None where there are none.
        settings: what decides the numbers besides the settings of the run.
        dataset: name of the data set, where it is not that of the run's source.
        judged_by: whose verdicts the scores are against, likewise.
    """

    metric: str
    n: int
    scores: Mapping[str, tuple[float, float, float]]
    weights: str | None = None
    settings: Mapping[str, Any] = {}
    dataset: str | None = None
    judged_by: str | None = None


def with_bounds(
    row: Mapping[str, Any], names: Iterable[str]
) -> dict[str, tuple[float, float, float]]:
    """Scores of a row: each column ``name``, with ``name_low`` and ``name_high`` if it has them."""
    bounds = ("low", "high")
    return {
        name: (row[name], *(row.get(f"{name}_{bound}", math.nan) for bound in bounds))
        for name in names
    }


def append(
    output: Path,
    records: Iterable[Record],
    *,
    dataset: str,
    judged_by: str,
    settings: Mapping[str, Any],
    **of_run: Any,
) -> None:
    """Add records to ``records.jsonl`` in ``output``, one JSON line each.

    Args:
        output: folder of the run.
        records: scores of the run.
        dataset: name of the data set.
        judged_by: whose verdicts the scores are against, in words.
        settings: settings of the run.
        of_run: what else lines hold: ``benchmark``, the name of the study; ``command``, the
            command line; ``commits`` of the code that measured.
    """
    of_run |= {
        "versions": _versions(),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    lines = []
    for record in records:
        line = of_run | {
            "metric": record.metric,
            "weights": record.weights,
            "dataset": record.dataset or dataset,
            "judged_by": record.judged_by or judged_by,
            "n": int(record.n),
            "settings": {**settings, **record.settings},
            # JSON has no NaN.
            "scores": {
                name: [None if math.isnan(value) else float(value) for value in score]
                for name, score in record.scores.items()
            },
        }
        lines.append(json.dumps(line, allow_nan=False) + "\n")
    if not lines:
        return
    output.mkdir(parents=True, exist_ok=True)
    # One write in append mode: two runs that end at once do not mix their lines.
    with (output / RECORDS_FILE).open("a", encoding="utf-8", newline="\n") as file:
        file.write("".join(lines))


def read(folder: Path) -> list[dict[str, Any]]:
    """Every record under ``folder``, by file and line.

    Raises:
        ValueError: if a line is no record; the message names file and line.
    """
    records = []
    for path in sorted(folder.rglob(RECORDS_FILE)):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                record = json.loads(line)
                record["benchmark"], record["metric"], record["scores"], record["time"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}, line {number}: expected a record ({error})") from error
            records.append(record)
    return records


def leaderboard(records: Iterable[Mapping[str, Any]]) -> str:
    """Markdown page of the newest record of each evaluation, one table per benchmark and dataset.

    Scores that a record lacks are dashes. Metrics are sorted by the first score, the best first.
    """
    newest: dict[str, Mapping[str, Any]] = {}
    for record in sorted(records, key=lambda record: record["time"]):
        newest[json.dumps([record.get(name) for name in _IDENTITY], sort_keys=True)] = record
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for record in newest.values():
        settings = ", ".join(f"{k} {v}" for k, v in record["settings"].items() if v is not None)
        key = (*(record[name] for name in ("benchmark", "dataset", "judged_by", "n")), settings)
        groups.setdefault(key, []).append(record)
    parts = [
        "# Leaderboard",
        "Rendered from the records of the runs in this folder; measured, with 95 % intervals in "
        "brackets. Made by `python experiments/render_leaderboard.py`.",
    ]
    for (benchmark, dataset, judged_by, n, settings), rows in sorted(groups.items()):
        parts += [
            f"## {benchmark}: {dataset}",
            f"{n} samples; {settings}. {judged_by}",
            to_markdown(_table(rows)),
        ]
    return "\n\n".join(parts) + "\n"


def _table(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per record, the best first score first."""
    names = dict.fromkeys(name for record in records for name in record["scores"])
    table = pd.DataFrame({"metric": [record["metric"] for record in records]})
    order = table.index
    for name in names:
        found = [record["scores"].get(name, [None] * 3) for record in records]
        scores = pd.DataFrame(found, columns=["value", "low", "high"], dtype=float)
        if len(table.columns) == 1:
            order = scores["value"].sort_values(ascending=False, kind="stable").index
        # Percent to two digits, shares and correlations to three.
        digits = 3 if scores["value"].abs().max() <= 1 else 2
        table[name.replace("_", " ")] = [
            with_interval(*score, digits=digits) for score in scores.itertuples(index=False)
        ]
    table["weights"] = [(record["weights"] or "")[:8] or None for record in records]
    return table.loc[order]


def _versions() -> dict[str, str]:
    """Versions of the packages that numbers may depend on, where they are installed."""
    found = {"robust-lpips": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
