"""Plots of results: tidy data in, one PNG out.

Figures are drawn without pyplot and under matplotlib's own defaults, so that neither the user's
backend nor their settings change a plot, nor a plot them.
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
_VERMILION, _BLUE, _GREEN, _PURPLE, _ORANGE, _SKY = (
    "#D55E00",
    "#0072B2",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
)
_LINES = (_BLUE, _VERMILION, _GREEN, _PURPLE, _ORANGE, _SKY, "#222222")
_DASHES = ("-", "--", ":")
_SHAPES = "osD^vPX"

_FAMILIES = {"none": _VERMILION, "blurpool": _BLUE, "adaptive": _GREEN}
_FAMILY_NAMES = {
    "none": "no anti-aliasing",
    "blurpool": "BlurPool",
    "adaptive": "adaptive filter",
}
# What a marker's shape tells: the first of these columns in which rows differ, else the last.
_SHAPE_KEYS = {
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
_RRF = r"rank flip rate $r_\mathrm{rf}$ (%)"
_INK = "#222222"
_GREY = "#888888"

_STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "axes.edgecolor": _GREY,
    "legend.frameon": False,
}
_DPI = 160
_LABEL_SIZE = 8.5


def plot_ablation(summary: pd.DataFrame, path: str | Path, title: str) -> Path:
    """Accuracy against r_rf at 1 px for the rows of an ablation, measured and published.

    Panels, from left to right: everything measured, each row untrained (hollow) and trained
    (filled) joined by a line, and references by name; the trained rows alone, enlarged; and what
    the paper reports of these rows, if anything. Bars are 95 % intervals. Colour tells the
    anti-aliasing, shape the architecture, the skips or the stride of conv-1, whichever differs;
    numbers point into the key of rows.

    Args:
        summary: a row a configuration and state: ``row`` (its name), ``state`` (``"untrained"``,
            ``"trained"`` or ``"reference"``), ``anti_alias``, ``conv1_stride``, if they differ
            ``arch`` and ``skip``, ``two_afc, two_afc_low, two_afc_high, rrf_1, rrf_1_low,
            rrf_1_high, published_two_afc, published_rrf_1`` in percent, NaN where there is none,
            and ``two_afc_label``, which says what ``two_afc`` is.
        path: a ``.png`` file.
        title: its first line is the heading; further lines say what the numbers are of.

    Returns:
        ``path``.

    Raises:
        ValueError: another suffix, or a summary without rows.
    """
    path = _png(path)
    if summary.empty:
        raise ValueError("summary has no rows")
    summary = summary.assign(shape=_shapes(summary))
    rows = summary[summary["state"] != "reference"]
    trained = rows[rows["state"] == "trained"]
    published = rows.drop_duplicates("row").dropna(subset=["published_two_afc", "published_rrf_1"])
    numbers = {name: i for i, name in enumerate(rows["row"].unique(), start=1)}
    enlarged = 0 < len(trained) < len(summary)
    panels = 1 + enlarged + (not published.empty)
    # A narrow figure has its keys in more lines.
    wide = panels > 2
    width = 1.2 + 4.0 * max(panels, 2)
    lines = -(-len(numbers) // _key_columns(numbers, width)) + (not wide)
    size = (width, 5.4 + 0.19 * lines)
    with _figure(path, size, title) as figure:
        axes = _panels(figure, panels, left=0.75, right=0.15, top=1.05, height=3.45, gap=0.75)
        _draw_overview(axes[0], summary, numbers, () if enlarged else ("trained",))
        if enlarged:
            _draw_trained(axes[1], trained, numbers)
        if not published.empty:
            _draw_published(axes[-1], published, numbers)
        _draw_row_key(figure, rows, numbers, top=5.0)
        _draw_marker_key(figure, rows, columns=9 if wide else 5)
    return path


def plot_shift_curves(curves: pd.DataFrame, path: str | Path, title: str) -> Path:
    """Distance to an image's own shifted self, and r_rf, both against the shift, a line a metric.

    Args:
        curves: ``metric, shift`` (pixels), ``relative_distance`` (in units of the metric's mean
            distance to the distorted patches), ``rrf, rrf_low, rrf_high`` (percent; NaN where
            there is none).
        path: a ``.png`` file.
        title: its first line is the heading; further lines say what the numbers are of.

    Returns:
        ``path``.

    Raises:
        ValueError: another suffix, or curves without rows.
    """
    path = _png(path)
    if curves.empty:
        raise ValueError("curves has no rows")
    # Inches: the names of metrics stand to the right of each panel.
    names = 0.25 + 0.064 * curves["metric"].str.len().max()
    with _figure(path, (8.8 + 2 * names, 5.2), title) as figure:
        left, right = _panels(
            figure, 2, left=0.7, right=names, top=1.05, height=3.55, gap=names + 0.7
        )
        _draw_unit(left)
        _draw_curves(left, curves, "relative_distance")
        left.set_title("Distance of an image to itself, shifted")
        left.set_ylabel("distance / mean distance to distorted patches")
        _draw_curves(right, curves, "rrf")
        right.set_title("Rank flips (bands: 95 % intervals)")
        right.set_ylabel(_RRF)
    return path


def plot_training(
    history: pd.DataFrame, steps: pd.DataFrame, path: str | Path, title: str, accuracy_label: str
) -> Path:
    """Loss and accuracy of one training against its epochs.

    Panels: the loss of every step (thin) and its mean over each epoch, which stands in the epoch's
    middle; and the mean accuracy on the training triplets, likewise, and that on the validation
    triplets before training and after each epoch, if there are any.

    Args:
        history: ``epoch`` (0: before training), ``loss``, ``accuracy``, ``validation``;
            accuracies in [0, 1], NaN where there is none.
        steps: ``epoch, step, loss``; epochs and steps counted from 0.
        path: a ``.png`` file.
        title: its first line is the heading; further lines say what the numbers are of.
        accuracy_label: what the accuracies are.

    Returns:
        ``path``.

    Raises:
        ValueError: another suffix, or a table without rows.
    """
    path = _png(path)
    for name, table in (("history", history), ("steps", steps)):
        if table.empty:
            raise ValueError(f"{name} has no rows")
    middle = history["epoch"] - 0.5
    with _figure(path, (9.6, 4.75), title) as figure:
        left, right = _panels(figure, 2, left=0.7, right=0.95, top=1.05, height=3.1, gap=1.7)
        when = steps["epoch"] + (steps["step"] + 1) / (steps["step"].max() + 1)
        left.plot(when, steps["loss"], color=_BLUE, alpha=0.35, lw=0.7, zorder=2)
        _draw_epochs(left, {"epoch mean": (middle, history["loss"])})
        left.set_title("Training loss (thin: each step)")
        left.set_ylabel("loss")
        accuracies = {
            "training": (middle, 100 * history["accuracy"]),
            "validation": (history["epoch"], 100 * history["validation"].astype(float)),
        }
        _draw_epochs(right, accuracies)
        right.set_title("Accuracy")
        right.set_ylabel(f"{accuracy_label} (%)")
    return path


def plot_training_curves(
    histories: pd.DataFrame, path: str | Path, title: str, accuracy_label: str
) -> Path:
    """Training loss and validation accuracy of several trainings against epochs, a line each.

    Args:
        histories: the tables of :func:`plot_training`, one below the other, with their names in
            a column ``run``; about a dozen runs can be told apart.
        path: a ``.png`` file.
        title: its first line is the heading; further lines say what the numbers are of.
        accuracy_label: what the accuracies are.

    Returns:
        ``path``.

    Raises:
        ValueError: another suffix, or histories without rows.
    """
    path = _png(path)
    if histories.empty:
        raise ValueError("histories has no rows")
    runs = dict(iter(histories.groupby("run", sort=False)))
    # Inches: the names of runs stand to the right of each panel.
    names = 0.25 + 0.064 * max(map(len, runs))
    with _figure(path, (8.8 + 2 * names, 4.9), title) as figure:
        left, right = _panels(
            figure, 2, left=0.7, right=names, top=1.05, height=3.25, gap=names + 0.7
        )
        _draw_epochs(
            left, {run: (table["epoch"] - 0.5, table["loss"]) for run, table in runs.items()}
        )
        left.set_title("Training loss (mean of each epoch)")
        left.set_ylabel("loss")
        _draw_epochs(right, {run: (t["epoch"], 100 * t["validation"]) for run, t in runs.items()})
        right.set_title("Validation")
        right.set_ylabel(f"{accuracy_label} (%)")
    return path


# --- Figures -----------------------------------------------------------------------------------


def _png(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix != ".png":
        raise ValueError(f"path must end in .png; got {str(path)!r}")
    return path


@contextmanager
def _figure(path: Path, size: tuple[float, float], title: str) -> Iterator[Figure]:
    """A figure of that size in inches, with its title, written to ``path`` in the end."""
    with matplotlib.style.context(["default", _STYLE], after_reset=True):
        figure = Figure(figsize=size, dpi=_DPI)
        FigureCanvasAgg(figure)
        heading, *rest = title.splitlines() or [""]
        top = 1 - 0.13 / size[1]
        figure.text(0.015, top, heading, va="top", fontsize=13, fontweight="bold", color=_INK)
        figure.text(0.015, top - 0.27 / size[1], "\n".join(rest), va="top", color="#555555")
        yield figure
        with atomic_path(path) as temporary:
            # Without the library's version in it, a file depends on the data alone.
            figure.savefig(temporary, metadata={"Software": None})


def _panels(
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


# --- Ablation ----------------------------------------------------------------------------------


def _draw_overview(
    axes: Axes, summary: pd.DataFrame, numbers: dict[str, int], labelled: Sequence[str]
) -> None:
    """Every state; trained rows are named only where ``labelled`` says so."""
    rows = summary[summary["state"] != "reference"]
    for _, states in rows.groupby("row", sort=False):
        color = _color(states.iloc[0])
        axes.plot(states["rrf_1"], states["two_afc"], color=color, alpha=0.35, lw=0.8, zorder=1.5)
    _draw_points(axes, summary, numbers, labelled=("untrained", "reference", *labelled), left=0)
    both = {"untrained", "trained"} <= set(rows["state"])
    axes.set_title("Measured here: untrained to trained" if both else "Measured here")
    axes.set_ylabel(summary["two_afc_label"].iloc[0])


def _draw_trained(axes: Axes, trained: pd.DataFrame, numbers: dict[str, int]) -> None:
    _draw_points(axes, trained, numbers, labelled=("trained",))
    axes.set_title("Measured here: trained, enlarged")
    axes.set_ylabel(trained["two_afc_label"].iloc[0])


def _draw_published(axes: Axes, published: pd.DataFrame, numbers: dict[str, int]) -> None:
    nothing = dict.fromkeys(
        [f"{name}_{end}" for name in ("rrf_1", "two_afc") for end in ("low", "high")], np.nan
    )
    points = published.assign(
        rrf_1=published["published_rrf_1"],
        two_afc=published["published_two_afc"],
        state="trained",
        **nothing,
    )
    axes.margins(0.1)
    _draw_points(axes, points, numbers, labelled=("trained",), left=0)
    axes.set_title("Published, BAPPS val")
    axes.set_ylabel("2AFC (%)")


def _draw_points(
    axes: Axes,
    rows: pd.DataFrame,
    numbers: dict[str, int],
    labelled: Sequence[str],
    left: float | None = None,
) -> None:
    """Markers with bars from ``left`` on, and labels beside those whose state is ``labelled``."""
    for row in rows.to_dict("records"):
        filled = row["state"] != "untrained"
        reference = row["state"] == "reference"
        x, y, color = row["rrf_1"], row["two_afc"], _color(row)
        bar = {"color": color, "alpha": 0.5 if filled else 0.3, "lw": 0.9, "zorder": 2}
        axes.plot([row["rrf_1_low"], row["rrf_1_high"]], [y, y], **bar)
        axes.plot([x, x], [row["two_afc_low"], row["two_afc_high"]], **bar)
        marker = _marker(color, row["shape"], filled=filled, size=11 if reference else 7)
        axes.plot(x, y, **marker, zorder=5 if reference else 4)
    # Before the labels, which are placed in the final view.
    axes.set_xlim(left=max(axes.get_xlim()[0], 0.0) if left is None else left)
    axes.set_xlabel(f"{_RRF} at 1 px, lower is better")
    # Bars as left, bottom, right and top.
    x, y = rows["rrf_1"], rows["two_afc"]
    bars = [
        *zip(rows["rrf_1_low"], y, rows["rrf_1_high"], y, strict=True),
        *zip(x, rows["two_afc_low"], x, rows["two_afc_high"], strict=True),
    ]
    order = sorted(rows.to_dict("records"), key=lambda row: row["state"] == "reference")
    named = [row for row in order if row["state"] in labelled]
    _place_labels(
        axes,
        [(row["rrf_1"], row["two_afc"]) for row in named],
        [str(numbers.get(row["row"], row["row"])) for row in named],
        [_color(row) for row in named],
        markers=rows[["rrf_1", "two_afc"]].to_numpy(float),
        bars=np.array(bars, dtype=float),
    )


def _draw_row_key(figure: Figure, rows: pd.DataFrame, numbers: dict[str, int], top: float) -> None:
    """What the numbers stand for, ``top`` inches from above."""
    handles = []
    for row in rows.drop_duplicates("row").to_dict("records"):
        label = f"{numbers[row['row']]}  {row['row']}"
        handles.append(Line2D([], [], **_marker(_color(row), row["shape"]), label=label))
    width, height = figure.get_size_inches()
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.55 / width, 1 - top / height),
        ncols=_key_columns(numbers, width),
        **_KEY,
    )


def _draw_marker_key(figure: Figure, rows: pd.DataFrame, columns: int) -> None:
    """What colours, shapes and fill stand for, at the bottom."""
    swatch = {"lw": 5, "solid_capstyle": "butt"}
    column = _shape_column(rows)
    handles = [
        *(
            Line2D([], [], color=color, **swatch, label=_FAMILY_NAMES[family])
            for family, color in _FAMILIES.items()
            if family in set(rows["anti_alias"])
        ),
        *(
            Line2D([], [], **_marker(_GREY, shape), label=label)
            for value, (shape, label) in _SHAPE_KEYS[column].items()
            if value in set(rows[column])
        ),
        Line2D([], [], **_marker(_GREY, "o", filled=False), label="untrained"),
        Line2D([], [], **_marker(_GREY, "o"), label="trained"),
        Line2D([], [], color=_GREY, lw=0.9, label="95 % interval"),
    ]
    figure.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0.55 / figure.get_size_inches()[0], 0.0),
        ncols=columns,
        **_KEY,
    )


_KEY = {"columnspacing": 1.6, "handletextpad": 0.5, "handlelength": 1.2, "borderaxespad": 0.4}


def _key_columns(names: Iterable[str], width: float) -> int:
    """How many names stand beside each other in a key of so many inches, at most four."""
    return max(1, min(4, int((width - 0.6) / (0.6 + 0.075 * max(map(len, names))))))


def _color(row: dict | pd.Series) -> str:
    return _INK if row["state"] == "reference" else _FAMILIES.get(row["anti_alias"], _GREY)


def _shape_column(rows: pd.DataFrame) -> str:
    *varied, last = _SHAPE_KEYS
    return next((name for name in varied if name in rows and rows[name].nunique() > 1), last)


def _shapes(rows: pd.DataFrame) -> pd.Series:
    """The marker of each row; references are stars."""
    column = _shape_column(rows[rows["state"] != "reference"])
    markers = rows[column].map({value: m for value, (m, _) in _SHAPE_KEYS[column].items()})
    return markers.where(rows["state"] != "reference", "*")


def _marker(color: str, shape: str, *, filled: bool = True, size: float = 7) -> dict:
    return {
        "marker": shape,
        "linestyle": "none",
        "markersize": size,
        "markerfacecolor": color if filled else "white",
        "markeredgecolor": "white" if filled else color,
        "markeredgewidth": 0.6 if filled else 1.3,
    }


# --- Curves ------------------------------------------------------------------------------------


def _draw_curves(axes: Axes, curves: pd.DataFrame, quantity: str) -> None:
    """One line a metric, its name at the end of it."""
    ends, names, colors = [], [], []
    for i, (metric, rows) in enumerate(curves.groupby("metric", sort=False)):
        rows = rows.dropna(subset=[quantity]).sort_values("shift")
        if rows.empty:
            continue
        style = _line_style(i)
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
    _name_ends(axes, ends, names, colors)


def _line_style(i: int) -> dict:
    """How line number ``i`` is drawn: colour, dashes and shape tell some dozen apart."""
    return {
        "color": _LINES[i % len(_LINES)],
        "linestyle": _DASHES[i // len(_LINES) % len(_DASHES)],
        "marker": _SHAPES[i % len(_SHAPES)],
        "markersize": 4.5,
        "markeredgecolor": "white",
        "markeredgewidth": 0.5,
        "lw": 1.6,
        "zorder": 3,
    }


def _draw_epochs(axes: Axes, lines: Mapping[str, tuple[pd.Series, pd.Series]]) -> None:
    """Lines over epochs, each with its name at its end; values that are NaN are left out."""
    ends, names, colors = [], [], []
    for i, (name, (epochs, values)) in enumerate(lines.items()):
        known = values.notna()
        if not known.any():
            continue
        style = _line_style(i)
        axes.plot(epochs[known], values[known], **style)
        ends.append((epochs[known].iloc[-1], values[known].iloc[-1]))
        names.append(name)
        colors.append(style["color"])
    # Epochs begin at 0 and end at whole numbers; what stands in their middle does not say so.
    axes.set_xlim(left=0, right=1.02 * np.ceil(max((x for x, _ in ends), default=1)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    _name_ends(axes, ends, names, colors)


def _draw_unit(axes: Axes) -> None:
    """The line at which a shift costs as much as a distortion."""
    axes.axhline(1.0, color=_GREY, lw=1.0, linestyle="--", zorder=1.5)
    axes.annotate(
        "as far as the distorted patches",
        (0.99, 1.0),
        xytext=(0, 2),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color="#555555",
        path_effects=[withStroke(linewidth=2, foreground="white")],
    )


def _name_ends(
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


# --- Labels ------------------------------------------------------------------------------------


def _points(axes: Axes, points: float) -> float:
    """A length in typographic points as pixels."""
    return points * axes.figure.dpi / 72


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


def _place_labels(
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
