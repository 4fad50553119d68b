"""Style and parts of figures; each figure stands next to its study.

A figure is drawn inside ``with figure(size, title) as fig`` and returned as a matplotlib
``Figure``; :func:`save` writes it. Figures are drawn without pyplot and under matplotlib's own
defaults, so that neither the user's backend nor their settings change a figure, nor a figure them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from robust_lpips._files import atomic_path

# Colours that people with colour vision deficiencies tell apart: Okabe and Ito, 2008.
VERMILION, BLUE, GREEN, PURPLE, ORANGE, SKY = (
    "#D55E00",
    "#0072B2",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
)
LINES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, "#222222")
_DASHES = ("-", "--", ":")
SHAPES = "osD^vPX"
RRF = r"rank flip rate $r_\mathrm{rf}$ (%)"
INK = "#222222"
GREY = "#888888"

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
}
_DPI = 160
_LABEL_SIZE = 8.5
KEY = {"columnspacing": 1.6, "handletextpad": 0.5, "handlelength": 1.2, "borderaxespad": 0.4}
# Inches from one small image to the next.
THUMBNAIL = 1.32
# Lines of a small table: cells, colour, and whether they are bold.
Cells = list[tuple[Sequence[str], str, bool]]


@contextmanager
def figure(size: tuple[float, float], title: str) -> Iterator[Figure]:
    """A figure of that size in inches, with its title; the style holds inside the block."""
    with matplotlib.style.context(["default", _STYLE], after_reset=True):
        drawn = Figure(figsize=size, dpi=_DPI)
        FigureCanvasAgg(drawn)
        heading, *rest = title.splitlines() or [""]
        top = 1 - 0.13 / size[1]
        drawn.text(0.015, top, heading, va="top", fontsize=13, fontweight="bold", color=INK)
        drawn.text(0.015, top - 0.27 / size[1], "\n".join(rest), va="top", color="#555555")
        yield drawn


def save(figure: Figure, path: Path) -> None:
    """Write ``figure`` as ``path`` with the suffixes ``.png`` and ``.pdf``, each atomically."""
    # Without versions and times in them, files depend on the data alone.
    metadata = {".png": {"Software": None}, ".pdf": {"CreationDate": None, "Producer": None}}
    with matplotlib.style.context(["default", _STYLE], after_reset=True):
        for suffix, entries in metadata.items():
            with atomic_path(path.with_suffix(suffix)) as temporary:
                figure.savefig(temporary, metadata=entries)


def panels(
    figure: Figure, count: int, *, left: float, right: float, top: float, height: float, gap: float
) -> list[Axes]:
    """Axes of one width side by side; margins, height and the gap between them in inches.

    Placed by hand, because labels are set between markers whose place has to be final.
    """
    total = figure.get_size_inches()
    width = (total[0] - left - right - (count - 1) * gap) / count
    return [
        figure.add_axes(
            (
                (left + i * (width + gap)) / total[0],
                1 - (top + height) / total[1],
                width / total[0],
                height / total[1],
            )
        )
        for i in range(count)
    ]


def title_height(title: str) -> float:
    """Inches that the heading and the lines below it take."""
    return 0.5 + 0.16 * len(title.splitlines())


def names_width(scores: pd.DataFrame) -> float:
    """Inches that the longest name of a metric takes beside an axis."""
    return 0.3 + 0.07 * scores["metric"].str.len().max()


def rows_height(scores: pd.DataFrame) -> float:
    """Inches of a panel with a line a metric."""
    return max(1.4, 0.3 * len(scores) + 0.25)


def marker(color: str, shape: str, *, filled: bool = True, size: float = 7) -> dict:
    return {
        "marker": shape,
        "linestyle": "none",
        "markersize": size,
        "markerfacecolor": color if filled else "white",
        "markeredgecolor": "white" if filled else color,
        "markeredgewidth": 0.6 if filled else 1.3,
    }


def line_style(i: int) -> dict:
    """How line number ``i`` is drawn: colour, dashes and shape tell some dozen apart."""
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
    """How many names stand beside each other in a key of so many inches, at most four."""
    return max(1, min(4, int((width - 0.6) / (0.6 + 0.075 * max(map(len, names))))))


def score_figure(scores: pd.DataFrame, title: str, label: str) -> Figure:
    """One score of several metrics, one line each, the largest on top; and what is published.

    Args:
        scores: ``metric, value, low, high`` (bounds of the interval, NaN where there is none) and
            ``published`` (NaN where there is nothing), all in one unit.
        title: its first line is the heading; further lines give the conditions.
        label: term for the score.

    Raises:
        ValueError: if there are no scores.
    """
    if scores.empty:
        raise ValueError("scores has no rows")
    top, height = title_height(title), rows_height(scores)
    with figure((8.4, top + height + 1.0), title) as fig:
        (axes,) = panels(fig, 1, left=names_width(scores), right=0.4, top=top, height=height, gap=0)
        draw_scores(axes, scores, label)
        draw_score_key(fig, scores)
    return fig


def draw_scores(axes: Axes, scores: pd.DataFrame, label: str) -> None:
    """A line a metric: its name, its interval, its score, and hollow what is published."""
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
    """What dots, bars and hollow markers stand for, at the bottom."""
    handles = [
        Line2D([], [], **marker(GREY, "o"), label="measured"),
        Line2D([], [], color=GREY, lw=1.6, label="95 % interval"),
    ]
    if scores["published"].notna().any():
        published = Line2D([], [], **marker(GREY, "D", filled=False, size=6))
        published.set_label("published, on the paper's data")
        handles.append(published)
    figure.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0.15 / figure.get_size_inches()[0], 0.0),
        ncols=3,
        **KEY,
    )


def draw_dots(axes: Axes, rows: pd.DataFrame, quantities: Mapping[str, str]) -> None:
    """A dot a row and quantity, one row above the other, with bars from ``_low`` to ``_high``."""
    for i, (name, label) in enumerate(quantities.items()):
        # Beside each other, so that bars do not hide dots.
        heights = np.arange(len(rows)) + 0.2 * (i - (len(quantities) - 1) / 2)
        color = LINES[i % len(LINES)]
        axes.hlines(
            heights, rows[f"{name}_low"], rows[f"{name}_high"], color=color, alpha=0.5, lw=1.2
        )
        axes.plot(rows[name], heights, **marker(color, SHAPES[i], size=5.5), label=label)


def draw_curves(axes: Axes, curves: pd.DataFrame, quantity: str) -> None:
    """One line a metric, its name at the end of it."""
    ends, names, colors = [], [], []
    for i, (metric, rows) in enumerate(curves.groupby("metric", sort=False)):
        rows = rows.dropna(subset=[quantity]).sort_values("shift")
        if rows.empty:
            continue
        style = line_style(i)
        color = style["color"]
        axes.plot(rows["shift"], rows[quantity], **style)
        if f"{quantity}_low" in rows:
            low, high = rows[f"{quantity}_low"], rows[f"{quantity}_high"]
            axes.fill_between(rows["shift"], low, high, color=color, alpha=0.13, lw=0)
        ends.append((rows["shift"].iloc[-1], rows[quantity].iloc[-1]))
        names.append(metric)
        colors.append(color)
    axes.set_xlim(left=0, right=curves["shift"].max() * 1.02)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("shift (px)")
    name_line_ends(axes, ends, names, colors)


def draw_epochs(axes: Axes, lines: Mapping[str, tuple[pd.Series, pd.Series]]) -> None:
    """Lines over epochs, each with its name at its end; values that are NaN are left out."""
    ends, names, colors = [], [], []
    for i, (name, (epochs, values)) in enumerate(lines.items()):
        known = values.notna()
        if not known.any():
            continue
        style = line_style(i)
        axes.plot(epochs[known], values[known], **style)
        ends.append((epochs[known].iloc[-1], values[known].iloc[-1]))
        names.append(name)
        colors.append(style["color"])
    # Epochs begin at 0 and end at whole numbers; what stands in their middle does not say so.
    axes.set_xlim(left=0, right=1.02 * np.ceil(max((x for x, _ in ends), default=1)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    name_line_ends(axes, ends, names, colors)


def shift_axis(axes: Axes, rows: pd.DataFrame) -> None:
    axes.set_xlim(-0.02 * rows["shift"].max(), 1.02 * rows["shift"].max())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("shift (px)")


def draw_heading(figure: Figure, left: float, top: float, text: str, size: float = 10.5) -> None:
    """A heading over a column; its place in inches."""
    width, height = figure.get_size_inches()
    figure.text(left / width, 1 - top / height, text, va="top", size=size, color=INK)


def draw_thumbnails(
    figure: Figure, left: float, top: float, images: Sequence[np.ndarray], labels: Sequence[str]
) -> None:
    """Images side by side in squares, each with its label below; places in inches."""
    width, height = figure.get_size_inches()
    side = THUMBNAIL - 0.1
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        x = left + i * THUMBNAIL
        box = (x / width, 1 - (top + side) / height, side / width, side / height)
        axes = figure.add_axes(box, anchor="N")
        axes.imshow(image, interpolation="nearest")
        axes.set_axis_off()
        below = 1 - (top + side + 0.05) / height
        size = 8 if len(label) < 18 else 6.5
        figure.text(
            (x + side / 2) / width, below, label, ha="center", va="top", size=size, color="#555555"
        )


def draw_cells(
    figure: Figure, left: float, top: float, line: float, widths: Sequence[float], rows: Cells
) -> None:
    """A small table: the first column to the left, others to the right of their width; inches."""
    width, height = figure.get_size_inches()
    for i, (cells, color, bold) in enumerate(rows):
        x = left
        for j, (cell, column) in enumerate(zip(cells, widths, strict=True)):
            figure.text(
                (x + (column if j else 0)) / width,
                1 - (top + i * line) / height,
                cell,
                ha="right" if j else "left",
                va="top",
                size=8.5,
                color=color,
                weight="bold" if bold else "normal",
            )
            x += column


def interval_bars(rows: pd.DataFrame) -> np.ndarray:
    """Bars of intervals as left, bottom, right and top: (2 N, 4)."""
    x, y = rows["rrf_1"], rows["two_afc"]
    bars = [
        *zip(rows["rrf_1_low"], y, rows["rrf_1_high"], y, strict=True),
        *zip(x, rows["two_afc_low"], x, rows["two_afc_high"], strict=True),
    ]
    return np.array(bars, dtype=float)


def name_line_ends(
    axes: Axes, ends: Sequence[tuple[float, float]], names: Sequence[str], colors: Sequence[str]
) -> None:
    """Names to the right of where lines end, moved apart where they would touch."""
    points = axes.transData.transform(ends)
    gap = 1.35 * _points(axes, 9)
    heights = _spread(points[:, 1], gap)
    # Many names that end together would leave the figure.
    heights += max(0.0, gap / 2 - heights.min())
    heights -= max(0.0, heights.max() + gap / 2 - axes.figure.bbox.height)
    edge = axes.transAxes.transform((1.0, 0.0))[0]
    for (x, y), height, name, color in zip(points, heights, names, colors, strict=True):
        axes.annotate(
            name,
            (x, y),
            xytext=(edge + _points(axes, 12), height),
            xycoords="figure pixels",
            textcoords="figure pixels",
            color=color,
            va="center",
            annotation_clip=False,
            # From the left end of the name, so that the line runs through no other name.
            arrowprops={
                "arrowstyle": "-",
                "color": color,
                "lw": 0.7,
                "alpha": 0.6,
                "shrinkA": 1,
                "relpos": (0, 0.5),
            },
        )


def place_labels(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    labels: Sequence[str],
    colors: Sequence[str],
    *,
    markers: np.ndarray,
    bars: np.ndarray,
) -> None:
    """Write each label beside its point where it covers the least.

    Places around the point are tried from near to far; a thin line leads to the farther ones.

    Args:
        axes: where; its limits stay as they are from here on.
        points: what is labelled, in data coordinates, with a label and a colour each.
        markers: (M, 2) every marker that is in the way.
        bars: (B, 4) left, bottom, right and top of every bar that is in the way.
    """
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    to_screen = axes.transData.transform
    pixel = axes.figure.dpi / 72
    radius = 4.5 * pixel
    taken = [(x - radius, y - radius, x + radius, y + radius) for x, y in to_screen(markers)]
    bars = bars[np.isfinite(bars).all(axis=1)]
    thick = np.array([-1, -1, 1, 1]) * 0.5 * pixel
    taken += list(to_screen(bars.reshape(-1, 2)).reshape(-1, 4) + thick)
    for point, label, color in zip(to_screen(points), labels, colors, strict=True):
        half = np.array([0.31 * len(label), 0.5]) * _LABEL_SIZE * pixel
        centre, box, near = min(
            _places(point, half, pixel),
            key=lambda place: _cost(place, point, taken, axes.bbox.extents),
        )
        taken.append(box)
        axes.annotate(
            label,
            point,
            xytext=centre,
            xycoords="figure pixels",
            textcoords="figure pixels",
            ha="center",
            va="center",
            fontsize=_LABEL_SIZE,
            color=color,
            zorder=6,
            path_effects=[withStroke(linewidth=2, foreground="white")],
            arrowprops=None if near else {"arrowstyle": "-", "color": color, "lw": 0.6},
        )


def _places(
    point: np.ndarray, half: np.ndarray, pixel: float
) -> Iterator[tuple[np.ndarray, np.ndarray, bool]]:
    """Where a label may stand: its centre, its box, and whether that is next to the point."""
    for i, distance in enumerate((9, 13, 18, 24, 31, 39)):
        for angle in np.pi / 4 + np.arange(16) * np.pi / 8:
            way = np.array([np.cos(angle), np.sin(angle)])
            # A wide label keeps its distance by its edge, not by its centre.
            centre = point + way * (distance * pixel + half - half.min())
            yield centre, np.concatenate([centre - half, centre + half]), i == 0


def _cost(
    place: tuple[np.ndarray, np.ndarray, bool],
    point: np.ndarray,
    taken: Sequence[np.ndarray],
    frame: np.ndarray,
) -> float:
    """Square pixels that a label covers there, and what else speaks against the place."""
    centre, box, near = place
    covered = sum(_overlap(box, other) for other in taken)
    if not near:
        # Its line should cross no other label or marker; near the point is its own marker.
        for x, y in np.linspace(point, centre, 9)[4:-1]:
            covered += 40 * sum(a[0] < x < a[2] and a[1] < y < a[3] for a in taken)
    outside = (box[:2] < frame[:2]).any() or (box[2:] > frame[2:]).any()
    return covered + 0.4 * float(np.hypot(*(centre - point))) + 1e6 * outside


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Area that two boxes (left, bottom, right, top) share."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)


def _spread(positions: np.ndarray, gap: float) -> np.ndarray:
    """Positions moved as little as it takes to lie ``gap`` apart, in the order they were in.

    Least squares under an order: subtract the gaps, pool what is out of order, add them again.
    """
    order = np.argsort(positions, kind="stable")
    offsets = gap * np.arange(len(positions))
    blocks: list[list[float]] = []
    for value in positions[order] - offsets:
        blocks.append([value])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    spread = np.empty(len(positions))
    spread[order] = np.concatenate([np.full(len(b), np.mean(b)) for b in blocks]) + offsets
    return spread


def _points(axes: Axes, points: float) -> float:
    """A length in typographic points as pixels."""
    return points * axes.figure.dpi / 72
