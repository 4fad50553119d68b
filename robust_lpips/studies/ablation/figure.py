"""The figure of an ablation: accuracy against rank flips, measured and published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from robust_lpips import plotting
from robust_lpips.plotting import BLUE, GREEN, GREY, INK, KEY, RRF, VERMILION, marker
from robust_lpips.studies.ablation.task import STATES

_FAMILIES = {
    "none": (VERMILION, "no anti-aliasing"),
    "blurpool": (BLUE, "BlurPool"),
    "adaptive": (GREEN, "adaptive filter"),
}
# The shape of a marker tells the first of these columns in which rows differ, else the last.
_SHAPES = {
    "arch": {
        "alexnet": ("o", "AlexNet"),
        "vgg16": ("^", "VGG-16"),
        "squeezenet1_1": ("s", "SqueezeNet 1.1"),
        "resnet18": ("D", "ResNet-18"),
    },
    "skip": {
        "none": ("o", "no skip"),
        "strided": ("s", "strided skip"),
        "blurpool": ("^", "blurred skip"),
    },
    "conv1_stride": {
        4: ("o", "conv-1 stride 4"),
        2: ("s", "conv-1 stride 2"),
        1: ("^", "conv-1 stride 1"),
    },
}
_HOLLOW = [state.name for state in STATES if state.training is None]
_FILLED = [state.name for state in STATES if state.training is not None]


def ablation_figure(summary: pd.DataFrame, title: str, accuracy_label: str) -> Figure:
    """Accuracy against r_rf at 1 px for the rows of an ablation, measured and published.

    Panels, from left to right: everything measured, the states of each row (hollow: not trained)
    joined by a line, and references by name; the trained states alone, enlarged; and the paper's
    numbers of these rows, if there are any. Bars are 95 % intervals. Colour tells the
    anti-aliasing; shape the architecture, the skips or the stride of conv-1, whichever differs;
    numbers point into the key of rows.

    Args:
        summary: the table ``summary``; ``state`` is a name of
            :data:`robust_lpips.studies.ablation.task.STATES`, or ``"reference"``.
        title: its first line is the heading; further lines give the conditions.
        accuracy_label: term for ``two_afc`` with its unit.

    Raises:
        ValueError: if the summary has no rows.
    """
    if summary.empty:
        raise ValueError("summary has no rows")
    measured = summary["state"] != "reference"
    column = _shape_column(summary[measured])
    shapes = {value: shape for value, (shape, _) in _SHAPES[column].items()}
    colors = {family: color for family, (color, _) in _FAMILIES.items()}
    summary = summary.assign(
        shape=summary[column].map(shapes).where(measured, "*"),
        color=summary["anti_alias"].map(colors).fillna(GREY).where(measured, INK),
    )
    rows = summary[measured]
    trained = rows[rows["state"].isin(_FILLED)]
    published = _as_points(rows.drop_duplicates("row"))
    numbers = {name: i for i, name in enumerate(rows["row"].unique(), start=1)}
    enlarged = 0 < len(trained) < len(summary)
    panels = 1 + enlarged + (not published.empty)
    # A narrow figure has its keys in more lines.
    wide = panels > 2
    width = 1.2 + 4.0 * max(panels, 2)
    lines = -(-len(numbers) // plotting.key_columns(numbers, width)) + (not wide)
    with plotting.figure((width, 5.4 + 0.19 * lines), title) as fig:
        overview, *others = plotting.panels(
            fig, panels, left=0.75, right=0.15, top=1.05, height=3.45, gap=0.75
        )
        for _, states in rows.groupby("row", sort=False):
            color = states["color"].iloc[0]
            overview.plot(
                states["rrf_1"], states["two_afc"], color=color, alpha=0.35, lw=0.8, zorder=1.5
            )
        labelled = [*_HOLLOW, "reference", *([] if enlarged else _FILLED)]
        _draw_points(overview, summary, numbers, labelled, left=0)
        present = [state.name for state in STATES if state.name in set(rows["state"])]
        steps = f": {' to '.join(present)}" if len(present) > 1 else ""
        overview.set(title=f"Measured here{steps}", ylabel=accuracy_label)
        if enlarged:
            _draw_points(others[0], trained, numbers, _FILLED)
            others[0].set(title="Measured here: trained, enlarged", ylabel=accuracy_label)
        if not published.empty:
            others[-1].margins(0.1)
            _draw_points(others[-1], published, numbers, _FILLED, left=0)
            others[-1].set(title="Published, BAPPS val", ylabel="2AFC (%)")
        _draw_row_key(fig, rows, numbers, top=5.0)
        _draw_marker_key(fig, rows, columns=9 if wide else 5)
    return fig


def _as_points(rows: pd.DataFrame) -> pd.DataFrame:
    """The published numbers as if they had been measured, without intervals."""
    known = rows.dropna(subset=["published_two_afc", "published_rrf_1"])
    bounds = [f"{name}_{end}" for name in ("rrf_1", "two_afc") for end in ("low", "high")]
    return known.assign(
        rrf_1=known["published_rrf_1"],
        two_afc=known["published_two_afc"],
        state=_FILLED[-1],
        **dict.fromkeys(bounds, np.nan),
    )


def _draw_points(
    axes: Axes,
    rows: pd.DataFrame,
    numbers: Mapping[str, int],
    labelled: Sequence[str],
    left: float | None = None,
) -> None:
    """Markers with bars from ``left`` on, and labels next to those whose state is ``labelled``."""
    records = rows.to_dict("records")
    for row in records:
        filled, reference = row["state"] not in _HOLLOW, row["state"] == "reference"
        x, y, color = row["rrf_1"], row["two_afc"], row["color"]
        bar = {"color": color, "alpha": 0.5 if filled else 0.3, "lw": 0.9, "zorder": 2}
        axes.plot([row["rrf_1_low"], row["rrf_1_high"]], [y, y], **bar)
        axes.plot([x, x], [row["two_afc_low"], row["two_afc_high"]], **bar)
        style = marker(color, row["shape"], filled=filled, size=11 if reference else 7)
        axes.plot(x, y, **style, zorder=5 if reference else 4)
    # Before the labels, which are placed in the final view.
    axes.set_xlim(left=max(axes.get_xlim()[0], 0.0) if left is None else left)
    axes.set_xlabel(f"{RRF} at 1 px, lower is better")
    order = sorted(records, key=lambda row: row["state"] == "reference")
    named = [row for row in order if row["state"] in labelled]
    plotting.place_labels(
        axes,
        [(row["rrf_1"], row["two_afc"]) for row in named],
        [str(numbers.get(row["row"], row["row"])) for row in named],
        [row["color"] for row in named],
        markers=rows[["rrf_1", "two_afc"]].to_numpy(float),
        bars=plotting.interval_bars(rows),
    )


def _draw_row_key(
    figure: Figure, rows: pd.DataFrame, numbers: Mapping[str, int], top: float
) -> None:
    """Rows by number, ``top`` inches from above."""
    handles = [
        Line2D([], [], **marker(row.color, row.shape), label=f"{numbers[row.row]}  {row.row}")
        for row in rows.drop_duplicates("row")[["row", "color", "shape"]].itertuples()
    ]
    width, height = figure.get_size_inches()
    columns = plotting.key_columns(numbers, width)
    place = (0.55 / width, 1 - top / height)
    figure.legend(handles=handles, loc="upper left", bbox_to_anchor=place, ncols=columns, **KEY)


def _draw_marker_key(figure: Figure, rows: pd.DataFrame, columns: int) -> None:
    """Meaning of colours, shapes and fill, at the bottom."""
    column = _shape_column(rows)
    families = [each for name, each in _FAMILIES.items() if name in set(rows["anti_alias"])]
    shapes = [each for value, each in _SHAPES[column].items() if value in set(rows[column])]
    swatch = {"lw": 5, "solid_capstyle": "butt"}
    handles = [Line2D([], [], color=color, **swatch, label=label) for color, label in families]
    handles += [Line2D([], [], **marker(GREY, shape), label=label) for shape, label in shapes]
    handles += [
        Line2D([], [], **marker(GREY, "o", filled=False), label=" or ".join(_HOLLOW)),
        Line2D([], [], **marker(GREY, "o"), label=" or ".join(_FILLED)),
        Line2D([], [], color=GREY, lw=0.9, label="95 % interval"),
    ]
    place = (0.55 / figure.get_size_inches()[0], 0.0)
    figure.legend(handles=handles, loc="lower left", bbox_to_anchor=place, ncols=columns, **KEY)


def _shape_column(rows: pd.DataFrame) -> str:
    *varied, last = _SHAPES
    return next((name for name in varied if name in rows and rows[name].nunique() > 1), last)
