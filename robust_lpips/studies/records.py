"""Records: what each evaluation gave, a JSON line each, and the leaderboard that they make."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from robust_lpips._version import __version__
from robust_lpips.tables import to_markdown, with_interval

RECORDS_FILE = "records.jsonl"
_PACKAGES = ("torch", "torchvision", "numpy", "pandas", "scipy", "scikit-image", "piq", "pyiqa")
_IDENTITY = ("benchmark", "metric", "weights", "dataset", "judged_by", "n", "settings")


def append(
    output: Path,
    *,
    benchmark: str,
    metric: str,
    dataset: str,
    judged_by: str,
    n: int,
    scores: Mapping[str, tuple[float, float, float]],
    weights: str | None,
    command: str | None,
    **settings: Any,
) -> None:
    """Add one record to ``records.jsonl`` in ``output``.

    Args:
        output: folder of the evaluation's results.
        benchmark: what was run, as ``"2afc"``.
        metric: its name.
        dataset: what on, in words.
        judged_by: whose verdicts the scores are against, in words.
        n: how many samples.
        scores: by name its value and the bounds of its 95 % interval, NaN where there are none.
        weights: SHA-256 of the metric's weights, None where it has none.
        command: what was typed.
        settings: image size, largest shift, seed and whatever else decides the numbers.
    """
    record = {
        "benchmark": benchmark,
        "metric": metric,
        "weights": weights,
        "dataset": dataset,
        "judged_by": judged_by,
        "n": int(n),
        "settings": settings,
        "scores": {name: [_number(value) for value in score] for name, score in scores.items()},
        "versions": _versions(),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command,
    }
    output.mkdir(parents=True, exist_ok=True)
    # One write of one line in append mode: two runs that end at once do not mix theirs.
    with (output / RECORDS_FILE).open("a", encoding="utf-8", newline="\n") as file:
        file.write(json.dumps(record, allow_nan=False) + "\n")


def read(folder: Path) -> list[dict[str, Any]]:
    """Every record under ``folder``, by file and line.

    Raises:
        ValueError: a line that is no record; the message names file and line.
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
    """The Markdown page of the newest record of each evaluation, a table a benchmark and dataset.

    Scores that a record lacks are dashes. Metrics are sorted by the first score, the best first.
    """
    newest: dict[str, Mapping[str, Any]] = {}
    for record in sorted(records, key=lambda record: record["time"]):
        newest[json.dumps([record.get(name) for name in _IDENTITY], sort_keys=True)] = record
    groups: dict[tuple[str, str, str, int, str], list[Mapping[str, Any]]] = {}
    for record in newest.values():
        settings = ", ".join(f"{k} {v}" for k, v in record["settings"].items() if v is not None)
        key = (
            record["benchmark"],
            record["dataset"],
            record["judged_by"],
            record["n"],
            settings,
        )
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


def _table(records: list[Mapping[str, Any]]) -> pd.DataFrame:
    names = list(dict.fromkeys(name for record in records for name in record["scores"]))
    digits = {name: _digits(records, name) for name in names}
    rows = sorted(records, key=lambda record: -_first(record, names[0]))
    return pd.DataFrame(
        {"metric": record["metric"]}
        | {
            name.replace("_", " "): with_interval(
                *map(_float, record["scores"][name]), digits=digits[name]
            )
            if name in record["scores"]
            else None
            for name in names
        }
        | {"weights": (record["weights"] or "")[:8] or None}
        for record in rows
    )


def _digits(records: list[Mapping[str, Any]], name: str) -> int:
    """Percent to two digits, shares and correlations to three."""
    values = [abs(_float(r["scores"][name][0])) for r in records if name in r["scores"]]
    return 3 if max(values) <= 1 else 2


def _first(record: Mapping[str, Any], name: str) -> float:
    value = _float(record["scores"].get(name, [None])[0])
    return -math.inf if math.isnan(value) else value


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else float(value)


def _float(value: float | None) -> float:
    return math.nan if value is None else value


def _versions() -> dict[str, str]:
    found = {name: _version(name) for name in _PACKAGES}
    own = {"robust-lpips": __version__, "python": platform.python_version()}
    return own | {name: number for name, number in found.items() if number}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
