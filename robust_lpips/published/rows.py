"""Rows of the ablation tables as data: configurations with their published numbers."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import resources

from robust_lpips.backbones import BackboneConfig

# Transcribed from Ghildyal and Liu, ECCV 2022 (arXiv 2207.13686), which gives no numbers of "skip".
TABLES = {
    "alexnet": "ablation_alexnet.csv",
    "blur-placement": "ablation_blur_placement.csv",
    "backbones": "ablation_backbones.csv",
    "skip": "ablation_skip.csv",
}
PUBLISHED_QUANTITIES = ("two_afc", "rrf_1", "rrf_2", "rrf_3")


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        name: as printed.
        config: the backbone.
        published: 2AFC and r_rf on BAPPS val that the paper reports, in percent; may be empty.
        baselines: names of the rows that it is compared with.
        note: what in the row is our reading of the page, or differs from the released code.
    """

    name: str
    config: BackboneConfig
    published: Mapping[str, float]
    baselines: tuple[str, ...]
    note: str


def table_rows(table: str) -> list[Row]:
    """The rows of a table, in the paper's order.

    Raises:
        ValueError: no such table.
    """
    if table not in TABLES:
        raise ValueError(f"table must be one of {', '.join(TABLES)}; got {table!r}")
    text = (resources.files(__package__) / TABLES[table]).read_text("utf-8")
    return [_row(record) for record in csv.DictReader(text.splitlines())]


def _row(record: dict[str, str]) -> Row:
    options = {
        field.name: _parse(record[field.name])
        for field in fields(BackboneConfig)
        if field.name in record
    }
    return Row(
        name=record["row"],
        config=BackboneConfig(**options),
        published={name: float(record[name]) for name in PUBLISHED_QUANTITIES if name in record},
        baselines=tuple(record["baseline"].split()),
        note=record["note"],
    )


def _parse(text: str) -> str | int | bool:
    if text in ("true", "false"):
        return text == "true"
    return int(text) if text.isdigit() else text
