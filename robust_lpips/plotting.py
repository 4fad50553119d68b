"""Style and shared parts of the figures; each figure stands next to its study.

A study draws inside ``with figure(size, title) as fig`` and returns ``fig``; :func:`save` writes
it. Figures are drawn without pyplot and under matplotlib's own defaults, so that neither the
user's backend nor their settings change a figure, nor a figure them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from robust_lpips._files import atomic_path
from robust_lpips._labels import LABEL_SIZE, name_line_ends
from robust_lpips._labels import place_labels as place_labels

# Colours that people with colour vision deficiencies tell apart: Okabe and Ito, 2008.
VERMILION = "#D55E00"
BLUE = "#0072B2"
GREEN = "#009E73"
PURPLE = "#CC79A7"
ORANGE = "#E69F00"
SKY = "#56B4E9"
INK = "#222222"
GREY = "#888888"
LINES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, INK)
SHAPES = "osD^vPX"
RRF = r"rank flip rate $r_\mathrm{rf}$ (%)"
KEY = {"columnspacing": 1.6, "handletextpad": 0.5, "handlelength": 1.2, "borderaxespad": 0.4}
# Inches from the left edge of one small image to that of the next.
THUMBNAIL = 1.32
# Lines of a small table: the cells, their colour, and whether they are bold.
Cells = list[tuple[Sequence[str], str, bool]]

_SOFT_INK = "#555555"
_DASHES = ("-", "--", ":")
_DPI = 160
_STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "axes.edgecolor": GREY,
    "legend.frameon": False,
    # TrueType: many venues refuse PDFs with Type 3 fonts, the default.
    "pdf.fonttype": 42,
}
# Without versions and times in them, files depend on the data alone.
_METADATA = {
    ".png": {"Software": None},
    ".pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}


@contextmanager
def figure(size: tuple[float, float], title: str) -> Iterator[Figure]:
    """Figure with a title, to be drawn inside the block, where the style holds.

    Args:
        size: width and height in inches.
        title: the first line is the heading; further lines say what the numbers are of.
    """
    with _style():
        drawn = Figure(figsize=size, dpi=_DPI)
        FigureCanvasAgg(drawn)
        heading, *rest = title.splitlines() or [""]
        _text(drawn, 0.15, 0.13, heading, fontsize=13, fontweight="bold", color=INK)
        _text(drawn, 0.15, 0.4, "\n".join(rest), color=_SOFT_INK)
        yield drawn


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG and as PDF: both files, or on an error neither.

    Args:
        figure: made by :func:`figure`.
        path: the file without suffix, or with one of the two.

    Raises:
        ValueError: if ``path`` has another suffix.
    """
    path = Path(path)
    if path.suffix not in ("", *_METADATA):
        raise ValueError(f"path must end in {', '.join(_METADATA)} or no suffix; got {str(path)!r}")
    with _style(), ExitStack() as files:
        for suffix, metadata in _METADATA.items():
            temporary = files.enter_context(atomic_path(path.with_suffix(suffix)))
            figure.savefig(temporary, metadata=metadata)


def panels(
    figure: Figure, count: int, *, left: float, right: float, top: float, height: float, gap: float
) -> list[Axes]:
    """Axes of equal width side by side; margins, height and the gap between them in inches.

    Placed by hand, because labels are set between markers whose place has to be final.
    """
    width = (figure.get_figwidth() - left - right - (count - 1) * gap) / count
    return [_axes(figure, left + i * (width + gap), top, width, height) for i in range(count)]


def title_height(title: str) -> float:
    """Height in inches of the heading and the lines below it."""
    return 0.5 + 0.16 * len(title.splitlines())


def names_width(scores: pd.DataFrame) -> float:
    """Width in inches of the longest name in column ``metric``, next to an axis."""
    return 0.3 + 0.07 * scores["metric"].str.len().max()


def rows_height(scores: pd.DataFrame) -> float:
    """Height in inches of a panel with one line per row of ``scores``."""
    return max(1.4, 0.3 * len(scores) + 0.25)


def marker(color: str, shape: str, *, filled: bool = True, size: float = 7) -> dict[str, Any]:
    """Arguments of ``plot`` for a marker without line; ``size`` in typographic points."""
    return {
        "marker": shape,
        "linestyle": "none",
        "markersize": size,
        "markerfacecolor": color if filled else "white",
        "markeredgecolor": "white" if filled else color,
        "markeredgewidth": 0.6 if filled else 1.3,
        # Whole on the border of a panel: rates of 0 are common.
        "clip_on": False,
    }


def line_style(i: int) -> dict[str, Any]:
    """Arguments of ``plot`` for line number ``i``; about a dozen can be told apart."""
    return {
        "color": LINES[i % len(LINES)],
        "linestyle": _DASHES[i // len(LINES) % len(_DASHES)],
        "marker": SHAPES[i % len(SHAPES)],
        "markersize": 4.5,
        "markeredgecolor": "white",
        "markeredgewidth": 0.5,
        "lw": 1.6,
        "zorder": 3,
    }


def key_columns(names: Iterable[str], width: float) -> int:
    """Number of columns, from 1 to 4, of a key of ``names`` that is ``width`` inches wide."""
    return max(1, min(4, int((width - 0.6) / (0.6 + 0.075 * max(map(len, names))))))


def score_figure(scores: pd.DataFrame, title: str, label: str) -> Figure:
    """One score of several metrics, one line each, the largest on top; and what is published.

    Args:
        scores: ``metric, value``, and where there are any ``low, high``, the bounds of the
            interval, and ``published``, all in one unit; NaN where there is nothing.
        title: its first line is the heading; further lines give the conditions.
        label: term for the score.

    Raises:
        ValueError: if there are no scores.
    """
    if scores.empty:
        raise ValueError("scores has no rows")
    missing = {name: np.nan for name in ("low", "high", "published") if name not in scores}
    scores = scores.assign(**missing)
    top, height = title_height(title), rows_height(scores)
    with figure((8.4, top + height + 1.0), title) as fig:
        (axes,) = panels(fig, 1, left=names_width(scores), right=0.4, top=top, height=height, gap=0)
        draw_scores(axes, scores, label)
        draw_score_key(fig, scores)
    return fig


def epochs_figure(
    losses: Mapping[str, tuple[pd.Series, pd.Series]],
    accuracies: Mapping[str, tuple[pd.Series, pd.Series]],
    title: str,
    accuracy_label: str,
    panel_titles: tuple[str, str],
    steps: tuple[pd.Series, pd.Series] | None = None,
) -> Figure:
    """Losses and accuracies of one training or of several against epochs, a panel each.

    Args:
        losses: epochs and values by name of the line; about a dozen can be told apart.
        accuracies: likewise; values that are NaN are left out.
        title: its first line is the heading; further lines give the conditions.
        accuracy_label: term for the accuracies with its unit.
        panel_titles: of the losses and of the accuracies.
        steps: epochs, with fractions, and losses of single steps, drawn thin.

    Raises:
        ValueError: if there is no loss.
    """
    if not any(len(values) for _, values in losses.values()):
        raise ValueError("losses has no values")
    # Inches: names of lines stand to the right of each panel.
    names = 0.25 + 0.064 * max(map(len, [*losses, *accuracies]))
    with figure((8.8 + 2 * names, 4.9), title) as fig:
        left, right = panels(fig, 2, left=0.7, right=names, top=1.05, height=3.25, gap=names + 0.7)
        if steps is not None:
            left.plot(*steps, color=BLUE, alpha=0.35, lw=0.7, zorder=2)
        draw_epochs(left, losses)
        left.set(title=panel_titles[0], ylabel="loss")
        draw_epochs(right, accuracies)
        right.set(title=panel_titles[1], ylabel=accuracy_label)
    return fig


def draw_scores(axes: Axes, scores: pd.DataFrame, label: str) -> None:
    """Draw one line per metric, the largest score on top: name, score, interval, published score.

    Args:
        axes: the panel.
        scores: ``metric, value, low, high, published``, all in one unit; NaN where there is none.
        label: name and unit of the score.
    """
    order = scores.reset_index(drop=True).sort_values("value", kind="stable")
    for height, (i, row) in enumerate(order.iterrows()):
        color = line_style(i)["color"]
        bounds = [row["low"], row["high"]]
        axes.plot(bounds, [height, height], color=color, alpha=0.5, lw=1.6, zorder=2)
        axes.plot(row["value"], height, **marker(color, "o", size=8), zorder=4)
        axes.plot(row["published"], height, **marker(color, "D", filled=False, size=6), zorder=3)
    axes.set_yticks(range(len(order)), order["metric"])
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(label)


def draw_score_key(figure: Figure, scores: pd.DataFrame) -> None:
    """Draw the key of :func:`draw_scores` at the bottom of the figure."""
    handles = [Line2D([], [], **marker(GREY, "o"), label="measured")]
    if scores["low"].notna().any():
        handles.append(Line2D([], [], color=GREY, lw=1.6, label="95 % interval"))
    if scores["published"].notna().any():
        hollow = marker(GREY, "D", filled=False, size=6)
        handles.append(Line2D([], [], **hollow, label="published, on the paper's data"))
    anchor = (0.15 / figure.get_figwidth(), 0.0)
    figure.legend(handles=handles, loc="lower left", bbox_to_anchor=anchor, ncols=3, **KEY)


def draw_dots(axes: Axes, rows: pd.DataFrame, quantities: Mapping[str, str]) -> None:
    """Draw one dot per row and quantity, row ``i`` at height ``i``, with interval bars.

    Args:
        axes: the panel.
        rows: a column per quantity, and its interval in those with ``_low`` and ``_high``.
        quantities: label of each quantity in the key, by column.
    """
    for i, (name, label) in enumerate(quantities.items()):
        # Slightly apart, so that bars do not hide dots.
        heights = np.arange(len(rows)) + 0.2 * (i - (len(quantities) - 1) / 2)
        color, shape = LINES[i % len(LINES)], SHAPES[i % len(SHAPES)]
        bar = {"color": color, "alpha": 0.5, "lw": 1.2}
        axes.hlines(heights, rows[f"{name}_low"], rows[f"{name}_high"], **bar)
        axes.plot(rows[name], heights, **marker(color, shape, size=5.5), label=label)


def draw_curves(axes: Axes, curves: pd.DataFrame, quantity: str) -> None:
    """Draw one line per metric over the shift, with its interval as a band, its name at the end.

    Args:
        axes: the panel.
        curves: ``metric, shift`` (pixels), ``quantity``, and if there are intervals its ``_low``
            and ``_high``. Rows where ``quantity`` is NaN are left out.
        quantity: a column of ``curves``; not negative.
    """
    metrics = {
        name: rows.dropna(subset=[quantity]).sort_values("shift")
        for name, rows in curves.groupby("metric", sort=False)
    }
    lines = _draw_lines(axes, {name: (t["shift"], t[quantity]) for name, t in metrics.items()})
    if f"{quantity}_low" in curves:
        for line in lines:
            rows = metrics[line.get_label()]
            bounds = rows[f"{quantity}_low"], rows[f"{quantity}_high"]
            axes.fill_between(rows["shift"], *bounds, color=line.get_color(), alpha=0.13, lw=0)
    axes.set_ylim(bottom=0)
    _count_axis(axes, 0, 1.02 * curves["shift"].max(), "shift (px)")
    _name_lines(axes, lines)


def draw_epochs(axes: Axes, lines: Mapping[str, tuple[pd.Series, pd.Series]]) -> None:
    """Draw lines over epochs, each with its name at its end.

    Args:
        axes: the panel.
        lines: epochs and values by name; values that are NaN are left out.
    """
    drawn = _draw_lines(axes, lines)
    # A mean over an epoch stands in its middle; the axis ends with the epoch.
    last = np.ceil(max((line.get_xdata()[-1] for line in drawn), default=1))
    _count_axis(axes, 0, 1.02 * last, "epoch")
    _name_lines(axes, drawn)


def shift_axis(axes: Axes, rows: pd.DataFrame) -> None:
    """Set the horizontal axis to the shifts in column ``shift`` (pixels), from 0 on."""
    largest = rows["shift"].max()
    _count_axis(axes, -0.02 * largest, 1.02 * largest, "shift (px)")


def draw_heading(figure: Figure, left: float, top: float, text: str, size: float = 10.5) -> None:
    """Write a heading ``left`` and ``top`` inches from the upper left corner of the figure."""
    _text(figure, left, top, text, size=size, color=INK)


def draw_thumbnails(
    figure: Figure, left: float, top: float, images: Sequence[np.ndarray], labels: Sequence[str]
) -> None:
    """Draw small images side by side, each with its label below.

    Args:
        figure: where to draw.
        left, top: inches from the upper left corner of the figure to that of the first image.
        images: uint8 (H, W, 3).
        labels: one per image.
    """
    side = THUMBNAIL - 0.1
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        x = left + i * THUMBNAIL
        axes = _axes(figure, x, top, side, side, anchor="N")
        axes.imshow(image, interpolation="nearest")
        axes.set_axis_off()
        style = {"size": 8 if len(label) < 18 else 6.5, "color": _SOFT_INK}
        _text(figure, x + side / 2, top + side + 0.05, label, ha="center", **style)


def draw_cells(
    figure: Figure, left: float, top: float, line: float, widths: Sequence[float], rows: Cells
) -> None:
    """Write a small table; its first column is aligned to the left, the others to the right.

    Args:
        figure: where to write.
        left, top: inches from the upper left corner of the figure to that of the table.
        line: height of a line in inches.
        widths: width of each column in inches.
        rows: the lines; each has as many cells as there are widths.
    """
    edges = left + np.cumsum(widths)
    for i, (cells, color, bold) in enumerate(rows):
        style = {"size": LABEL_SIZE, "color": color, "weight": "bold" if bold else "normal"}
        for j, (cell, edge) in enumerate(zip(cells, edges, strict=True)):
            x, side = (edge, "right") if j else (left, "left")
            _text(figure, x, top + i * line, cell, ha=side, **style)


def interval_bars(rows: pd.DataFrame) -> np.ndarray:
    """Interval bars of points at (``rrf_1``, ``two_afc``), for :func:`place_labels`.

    Returns:
        (2 N, 4) in data coordinates: left, bottom, right and top of the horizontal bars, then of
        the vertical ones; NaN where there is no interval.
    """
    x, left, right = rows[["rrf_1", "rrf_1_low", "rrf_1_high"]].to_numpy(float).T
    y, bottom, top = rows[["two_afc", "two_afc_low", "two_afc_high"]].to_numpy(float).T
    return np.hstack([(left, y, right, y), (x, bottom, x, top)]).T


def _draw_lines(axes: Axes, lines: Mapping[str, tuple[pd.Series, pd.Series]]) -> list[Line2D]:
    """Draw lines labelled with their names; one without known values only takes up its style."""
    drawn = []
    for i, (name, (x, y)) in enumerate(lines.items()):
        known = y.notna()
        if known.any():
            drawn += axes.plot(x[known], y[known], **line_style(i), label=name)
    return drawn


def _name_lines(axes: Axes, lines: Sequence[Line2D]) -> None:
    """Write the labels of lines at their ends."""
    name_line_ends(
        axes,
        [line.get_xydata()[-1] for line in lines],
        [line.get_label() for line in lines],
        [line.get_color() for line in lines],
    )


def _count_axis(axes: Axes, left: float, right: float, label: str) -> None:
    """Set the horizontal axis to whole numbers between ``left`` and ``right``."""
    axes.set_xlim(left, right)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(label)


def _axes(
    figure: Figure, left: float, top: float, width: float, height: float, **style: Any
) -> Axes:
    """Axes of that size, ``left`` and ``top`` from the upper left corner, all in inches."""
    size = figure.get_size_inches()
    corner = (left, size[1] - top - height) / size
    return figure.add_axes((*corner, *((width, height) / size)), **style)


def _text(figure: Figure, left: float, top: float, text: str, **style: Any) -> None:
    """Write text whose top is ``left`` and ``top`` inches from the upper left corner."""
    y = figure.get_figheight() - top
    figure.text(left, y, text, va="top", transform=figure.dpi_scale_trans, **style)


def _style() -> Any:
    """Context in which matplotlib draws as by default, but for the style of this module."""
    return matplotlib.style.context(["default", _STYLE], after_reset=True)
