"""Plots of results: tidy data in, one PNG out.

Figures are drawn without pyplot and under matplotlib's own defaults, so that neither the user's
backend nor their settings change a plot, nor a plot them.
"""

from __future__ import annotations

import itertools
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
    path = _checked(path, summary=summary)
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
    path = _checked(path, curves=curves)
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
    path = _checked(path, history=history, steps=steps)
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
    path = _checked(path, histories=histories)
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


def plot_scores(scores: pd.DataFrame, path: str | Path, title: str, label: str) -> Path:
    """One score of several metrics, a line each, the largest on top; and what is published.

    Args:
        scores: ``metric, value, low, high`` (bounds of the interval, NaN where there is none) and
            ``published`` (NaN where there is nothing), all in one unit.
        path: a ``.png`` file.
        title: its first line is the heading; further lines say what the numbers are of.
        label: what the score is.

    Returns:
        ``path``.

    Raises:
        ValueError: another suffix, or scores without rows.
    """
    path = _checked(path, scores=scores)
    top, height = _title_height(title), _rows_height(scores)
    with _figure(path, (8.4, top + height + 1.0), title) as figure:
        (axes,) = _panels(
            figure, 1, left=_names_width(scores), right=0.4, top=top, height=height, gap=0
        )
        _draw_scores(axes, scores, label)
        _draw_score_key(figure, scores)
    return path


def plot_scores_and_flips(
    scores: pd.DataFrame, flips: pd.DataFrame, path: str | Path, title: str, label: str
) -> Path:
    """The panel of :func:`plot_scores`, and beside it r_rf against the shift, a line a metric.

    Args:
        scores: as for :func:`plot_scores`.
        flips: ``metric``, in the order of ``scores``, ``shift`` (pixels), and ``rrf, rrf_low,
            rrf_high`` in percent.
        path: a ``.png`` file.
        title: its first line is the heading; further lines say what the numbers are of.
        label: what the score is.

    Returns:
        ``path``.

    Raises:
        ValueError: another suffix, or a table without rows.
    """
    path = _checked(path, scores=scores, flips=flips)
    names, top = _names_width(scores), _title_height(title) + 0.3
    height = max(3.2, _rows_height(scores))
    with _figure(path, (8.4 + 2 * names, top + height + 1.0), title) as figure:
        left, right = _panels(
            figure, 2, left=names, right=names + 0.15, top=top, height=height, gap=0.9
        )
        _draw_scores(left, scores, label)
        left.set_title("Accuracy")
        _draw_curves(right, flips, "rrf")
        right.set_title("Rank flips (bands: 95 % intervals)")
        right.set_ylabel(_RRF)
        _draw_score_key(figure, scores)
    return path


def plot_comparison(scores: pd.DataFrame, path: str | Path, title: str) -> Path:
    """Accuracy and rank flips of metrics, a line of dots a metric, with 95 % intervals.

    Args:
        scores: a row a metric: ``metric``, ``two_afc`` and ``rrf_n`` for each shift n, in percent,
            with ``_low`` and ``_high`` (NaN: no interval), and ``two_afc_label``, which says what
            ``two_afc`` is. Metrics that flip least at the smallest shift stand on top.
        path: a ``.png`` file.
        title: its first line is the heading; further lines say what the numbers are of.

    Returns:
        ``path``.

    Raises:
        ValueError: another suffix, or scores without rows.
    """
    path = _checked(path, scores=scores)
    shifts = [name for name in scores if name.startswith("rrf_") and name.count("_") == 1]
    scores = scores.sort_values(shifts or ["two_afc"], ascending=bool(shifts), kind="stable")
    names = 0.35 + 0.075 * scores["metric"].str.len().max()
    height = 0.35 + 0.24 * len(scores)
    panels = 2 if shifts else 1
    size = (names + 4.1 * panels, height + 1.75)
    with _figure(path, size, title) as figure:
        axes = _panels(figure, panels, left=names, right=0.2, top=1.05, height=height, gap=0.35)
        _draw_dots(axes[0], scores, {"two_afc": ""})
        axes[0].set_xlabel(scores["two_afc_label"].iloc[0])
        if shifts:
            _draw_dots(axes[1], scores, {name: f"{name[4:]} px" for name in shifts})
            axes[1].set_xlabel(_RRF)
            axes[1].set_xlim(left=0)
            axes[1].legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(shifts), **_KEY)
        for each in axes:
            each.set_yticks(range(len(scores)), scores["metric"] if each is axes[0] else [])
            each.set_ylim(len(scores) - 0.4, -0.6)
    return path


def plot_pareto(points: pd.DataFrame, path: str | Path, title: str, label: str) -> Path:
    """Accuracy against r_rf at 1 px of designs that start from networks, joined to them.

    Panels: all points, with the front of those that no other beats; and each network that has more
    than two by itself, enlarged, with its own front. Colour tells the design, shape the network;
    labels the design and the time that it takes, in units of the network's as it is. Bars are 95 %
    intervals.

    Args:
        points: a row a design: ``network, design, base`` (bool: the network as it is), ``rrf_1,
            rrf_1_low, rrf_1_high, two_afc, two_afc_low, two_afc_high`` in percent (bounds may be
            NaN), and ``time``.
        path: a ``.png`` file.
        title: its first line is the heading; further lines say what the numbers are of.
        label: what ``two_afc`` is.

    Returns:
        ``path``.

    Raises:
        ValueError: another suffix, or points without rows.
    """
    path = _checked(path, points=points)
    points = points.assign(color=_design_colors(points), shape=_network_shapes(points))
    networks = dict(iter(points.groupby("network", sort=False)))
    enlarged = {name: rows for name, rows in networks.items() if len(rows) > 2}
    overview = {} if enlarged and len(networks) == 1 else {_ALL: points}
    top = 0.65 + 0.16 * title.count("\n")
    panels = overview | enlarged
    # A single panel is wider, for the keys below it.
    width = 1.2 + 5.0 * len(panels) + 2.0 * (len(panels) == 1)
    with _figure(path, (width, top + 5.55), title) as figure:
        axes = _panels(figure, len(panels), left=0.75, right=0.2, top=top, height=4.2, gap=0.75)
        for each, (name, rows) in zip(axes, panels.items(), strict=True):
            named = rows[~rows["network"].isin(list(enlarged))] if name == _ALL else rows
            _draw_designs(each, rows, named)
            each.set_title(name)
            each.set_ylabel(label)
        _draw_design_key(figure, points)
    return path


def plot_user_study(
    people: pd.DataFrame, curves: pd.DataFrame, path: str | Path, title: str
) -> Path:
    """Who takes a shifted image for the same, and the distances of metrics, against the shift.

    Panels: the share of people's answers that said "the same", measured (with 95 % intervals) and
    published (hollow); and the mean distance of each metric over its own at the largest shift, with
    the share of people who do not say "the same", over theirs.

    Args:
        people: ``source`` ("measured" or "published"), ``shift`` (pixels), ``percent_same,
            percent_same_low, percent_same_high`` (percent; NaN where there is no interval).
        curves: ``metric, shift`` (pixels), ``relative_distance``.
        path: a ``.png`` file.
        title: its first line is the heading; further lines say what the numbers are of.

    Returns:
        ``path``.

    Raises:
        ValueError: another suffix, or a table without rows.
    """
    path = _checked(path, people=people, curves=curves)
    # Inches: the key of lines stands to the right, because they all end in one point.
    names = 0.75 + 0.07 * max(12, curves["metric"].str.len().max())
    with _figure(path, (9.4 + names, 4.9), title) as figure:
        left, right = _panels(figure, 2, left=0.7, right=names, top=1.05, height=3.25, gap=0.85)
        _draw_people(left, people)
        _draw_relative(right, people, curves)
    return path


def plot_correlations(table: pd.DataFrame, path: str | Path, title: str, headline: str) -> Path:
    """SRCC, PLCC and KRCC of metrics, a line of dots a metric, with 95 % intervals.

    Faint dots are the SRCC of each type of distortion.

    Args:
        table: ``metric, subset`` and ``srcc, plcc, krcc`` in [-1, 1], each with ``_low`` and
            ``_high`` (NaN: no interval). Metrics of the largest SRCC stand on top.
        path: a ``.png`` file.
        title: its first line is the heading; further lines say what the numbers are of.
        headline: the subset that sums up: ``"all"`` (all pairs) or ``"mean"`` (over types).

    Returns:
        ``path``.

    Raises:
        ValueError: another suffix, or a table without rows of ``headline``.
    """
    path = _checked(path)
    rows = table[table["subset"] == headline].sort_values("srcc", ascending=False, kind="stable")
    if rows.empty:
        raise ValueError(f"table has no rows of {headline!r}")
    names = 0.35 + 0.075 * rows["metric"].str.len().max()
    top, height = 0.6 + 0.17 * title.count("\n"), 0.35 + 0.42 * len(rows)
    with _figure(path, (max(names + 5.6, 8.0), top + height + 0.95), title) as figure:
        (axes,) = _panels(figure, 1, left=names, right=0.25, top=top, height=height, gap=0)
        _draw_correlations(axes, rows, table[~table["subset"].isin(["all", "mean"])])
        over = {"all": "over all pairs", "mean": "mean over types of distortion"}
        axes.set_xlabel(f"correlation, {over[headline]} (1: full agreement)")
        figure.legend(
            handles=_correlation_key(),
            loc="lower left",
            bbox_to_anchor=(0.01, 0.0),
            ncols=5,
            **_KEY,
        )
    return path


def plot_shift_examples(
    examples: pd.DataFrame,
    triplets: pd.DataFrame,
    example_images: Mapping[int, Sequence[np.ndarray]],
    triplet_images: Mapping[str, Sequence[np.ndarray]],
    path: str | Path,
    title: str,
) -> Path:
    """Images with what metrics say of them before and after a shift of one pixel.

    On the left examples, a reference and itself distorted, with the distance of each metric; on the
    right triplets, with the patch that each metric finds closer. Verdicts that turn are in colour.

    Args:
        examples: ``example, distortion, metric, no_shift, shift_1px``.
        triplets: ``sample, metric, d0, d1, closer, d0_shifted, d1_shifted, closer_shifted, flips``;
            may have no rows.
        example_images: reference and distorted image by example, uint8 (H, W, 3).
        triplet_images: reference, p0 and p1 by sample, likewise.
        path: a ``.png`` file.
        title: its first line is the heading; further lines say what the numbers are of.

    Returns:
        ``path``.

    Raises:
        ValueError: another suffix, or examples without rows.
    """
    path = _checked(path, examples=examples)
    count = max(len(example_images), len(triplet_images))
    names = 0.25 + 0.068 * examples["metric"].str.len().max()
    line = 0.2
    row = max(1.35, line * (1 + examples["metric"].nunique())) + 0.45
    left = 0.3 + 2 * _THUMBNAIL + names + 1.85 + 0.5
    right = 0.1 + 3 * _THUMBNAIL + names + 3.25 + 0.25
    width = left + right if triplet_images else left
    with _figure(path, (max(width, 7.5), 1.25 + row * count), title) as figure:
        _draw_heading(figure, 0.2, 0.95, "A mild distortion, and the same shifted by 1 px")
        if triplet_images:
            _draw_heading(figure, left, 0.95, "Which patch is closer, and once both are shifted")
        for i, (example, rows) in enumerate(examples.groupby("example", sort=False)):
            top = 1.3 + i * row
            labels = ("reference", rows["distortion"].iloc[0].replace("_", " "))
            _draw_thumbnails(figure, 0.2, top, example_images[example], labels)
            _draw_cells(
                figure, 0.3 + 2 * _THUMBNAIL, top, line, (names, 0.65, 0.65, 0.55), _jumps(rows)
            )
        for i, (sample, rows) in enumerate(triplets.groupby("sample", sort=False)):
            top = 1.3 + i * row
            _draw_thumbnails(figure, left, top, triplet_images[sample], ("reference", "p0", "p1"))
            _draw_cells(
                figure,
                left + 0.1 + 3 * _THUMBNAIL,
                top,
                line,
                (names, 1.25, 1.25, 0.75),
                _verdicts(rows),
            )
    return path


def plot_registration_human(
    people: pd.DataFrame, curves: pd.DataFrame, path: str | Path, title: str
) -> Path:
    """Who notices a shift, and what a metric charges for it, a panel a metric.

    Args:
        people: ``shift`` (pixels), ``noticed, noticed_low, noticed_high``, shares (NaN where there
            is no interval).
        curves: ``metric, variant, shift`` (pixels) and ``scaled``, the distance in units of shares.
        path: a ``.png`` file.
        title: its first line is the heading; further lines say what the numbers are of.

    Returns:
        ``path``.

    Raises:
        ValueError: another suffix, or a table without rows.
    """
    path = _checked(path, people=people, curves=curves)
    panels = dict(iter(curves.groupby("metric", sort=False)))
    top = _title_height(title) + 0.3
    with _figure(path, (1.2 + 4.3 * max(2, len(panels)), top + 3.9), title) as figure:
        axes = _panels(figure, len(panels), left=0.7, right=0.2, top=top, height=3.0, gap=0.75)
        for each, (metric, rows) in zip(axes, panels.items(), strict=True):
            _draw_noticed(each, people, rows)
            each.set_title(metric)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="lower left", bbox_to_anchor=(0.05, 0.0), ncols=4, **_KEY
        )
    return path


def plot_descent(
    curves: pd.DataFrame, images: Mapping[str, Sequence[np.ndarray]], path: str | Path, title: str
) -> Path:
    """Losses of images that are optimised against the steps, and the images beside them.

    Args:
        curves: ``loss`` (its name), ``step, window, value``.
        images: what is shown, by name, each of the same windows, uint8 (H, W, 3).
        path: a ``.png`` file.
        title: its first line is the heading; further lines say what the numbers are of.

    Returns:
        ``path``.

    Raises:
        ValueError: another suffix, or curves without rows.
    """
    path = _checked(path, curves=curves)
    top = _title_height(title) + 0.3
    rows = list(zip(*images.values(), strict=True))
    right = len(images) * _THUMBNAIL + 0.45
    height = max(3.2, len(rows) * (_THUMBNAIL + 0.2) - 0.2)
    with _figure(path, (5.6 + right, top + height + 0.6), title) as figure:
        (axes,) = _panels(figure, 1, left=0.75, right=right, top=top, height=height, gap=0)
        _draw_losses(axes, curves)
        for i, row in enumerate(rows):
            _draw_thumbnails(figure, 5.6 + 0.25, top + i * (_THUMBNAIL + 0.2), row, list(images))
    return path


def plot_failures(
    table: pd.DataFrame,
    images: Mapping[str, Sequence[np.ndarray]],
    path: str | Path,
    title: str,
) -> Path:
    """Pairs of images, with the shift that is estimated and distances before and after alignment.

    Args:
        table: a row a case: ``case, radius``; ``true_rows, true_columns`` (NaN: none), ``rows,
            columns``, in pixels; ``unregistered, registered, human``, distances.
        images: both images of each case, uint8 (H, W, 3).
        path: a ``.png`` file.
        title: its first line is the heading; further lines say what the numbers are of.

    Returns:
        ``path``.

    Raises:
        ValueError: another suffix, or a table without rows.
    """
    path = _checked(path, table=table)
    beside, width, height = 4, 2 * _THUMBNAIL + 0.45, _THUMBNAIL + 1.05
    top = _title_height(title) + 0.1
    lines = -(-len(table) // beside)
    with _figure(path, (0.2 + beside * width, top + lines * height), title) as figure:
        for i, row in enumerate(table.to_dict("records")):
            left, above = 0.25 + i % beside * width, top + i // beside * height
            _draw_heading(figure, left, above, row["case"], size=9)
            labels = ("first", "second")
            _draw_thumbnails(figure, left, above + 0.2, images[row["case"]], labels)
            below = above + 0.2 + _THUMBNAIL + 0.12
            _draw_cells(figure, left, below, 0.16, (2 * _THUMBNAIL,), _alignment(row))
    return path


# --- Figures -----------------------------------------------------------------------------------


def _checked(path: str | Path, **tables: pd.DataFrame) -> Path:
    """The path of a PNG; ValueError for another suffix, and for a table without rows."""
    path = Path(path)
    if path.suffix != ".png":
        raise ValueError(f"path must end in .png; got {str(path)!r}")
    for name, table in tables.items():
        if table.empty:
            raise ValueError(f"{name} has no rows")
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
    order = sorted(rows.to_dict("records"), key=lambda row: row["state"] == "reference")
    named = [row for row in order if row["state"] in labelled]
    _place_labels(
        axes,
        [(row["rrf_1"], row["two_afc"]) for row in named],
        [str(numbers.get(row["row"], row["row"])) for row in named],
        [_color(row) for row in named],
        markers=rows[["rrf_1", "two_afc"]].to_numpy(float),
        bars=_bars(rows),
    )


def _bars(rows: pd.DataFrame) -> np.ndarray:
    """Bars of intervals as left, bottom, right and top: (2 N, 4)."""
    x, y = rows["rrf_1"], rows["two_afc"]
    bars = [
        *zip(rows["rrf_1_low"], y, rows["rrf_1_high"], y, strict=True),
        *zip(x, rows["two_afc_low"], x, rows["two_afc_high"], strict=True),
    ]
    return np.array(bars, dtype=float)


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


# --- Designs -----------------------------------------------------------------------------------

_ALL = "All"
_DESIGNS = (*_LINES[:-1], "#7F4F24")
_FRONT = {"color": _INK, "lw": 1.0, "linestyle": "--", "alpha": 0.6}


def _design_colors(points: pd.DataFrame) -> pd.Series:
    """A colour a design; networks as they are are dark."""
    designs = points.loc[~points["base"], "design"].unique()
    colors = dict(zip(designs, itertools.cycle(_DESIGNS)))
    return points["design"].map(colors).where(~points["base"], _INK)


def _network_shapes(points: pd.DataFrame) -> pd.Series:
    shapes = zip(points["network"].unique(), itertools.cycle(_SHAPES))
    return points["network"].map(dict(shapes))


def _pareto_front(points: pd.DataFrame) -> pd.DataFrame:
    """Points than which no other has less ``rrf_1`` at as much ``two_afc``, from left to right."""
    order = points.sort_values(["rrf_1", "two_afc"], ascending=[True, False], kind="stable")
    best = order["two_afc"].cummax().shift(fill_value=-np.inf)
    return order[order["two_afc"] > best]


def _draw_designs(axes: Axes, points: pd.DataFrame, named: pd.DataFrame) -> None:
    """Markers joined to those of their networks, the front, and labels of those ``named``."""
    for _, rows in points.groupby("network", sort=False):
        for x, y in rows.loc[rows["base"], ["rrf_1", "two_afc"]].to_numpy():
            for end in rows[["rrf_1", "two_afc"]].to_numpy():
                axes.plot([x, end[0]], [y, end[1]], color=_GREY, alpha=0.5, lw=0.7, zorder=1.8)
    for row in points.to_dict("records"):
        x, y, color = row["rrf_1"], row["two_afc"], row["color"]
        bar = {"color": color, "alpha": 0.3, "lw": 0.9, "zorder": 2}
        axes.plot([row["rrf_1_low"], row["rrf_1_high"]], [y, y], **bar)
        axes.plot([x, x], [row["two_afc_low"], row["two_afc_high"]], **bar)
        axes.plot(x, y, **_marker(color, row["shape"], size=8), zorder=5 if row["base"] else 4)
    front = _pareto_front(points)
    axes.plot(front["rrf_1"], front["two_afc"], drawstyle="steps-post", **_FRONT, zorder=1.9)
    left, right = axes.get_xlim()
    # Rates of 0 are common: their markers are not to be cut.
    axes.set_xlim(left=max(left, -0.03 * right))
    axes.set_xlabel(f"{_RRF} at 1 px, lower is better")
    _place_labels(
        axes,
        named[["rrf_1", "two_afc"]].to_numpy(float),
        [
            row["design"] if row["base"] else f"{row['design']}, {row['time']:.1f}x"
            for row in named.to_dict("records")
        ],
        list(named["color"]),
        markers=points[["rrf_1", "two_afc"]].to_numpy(float),
        bars=_bars(points),
    )


def _draw_design_key(figure: Figure, points: pd.DataFrame) -> None:
    """What shapes, lines and colours stand for, at the bottom."""
    networks, designs = (points.drop_duplicates(name) for name in ("network", "design"))
    lines = [
        *(
            Line2D([], [], **_marker(_GREY, row["shape"]), label=row["network"])
            for row in networks.to_dict("records")
        ),
        Line2D([], [], **_FRONT, label="Pareto front"),
        Line2D([], [], color=_GREY, lw=0.9, label="95 % interval"),
    ]
    swatch = {"lw": 5, "solid_capstyle": "butt"}
    colors = [
        Line2D([], [], color=row["color"], **swatch, label=row["design"])
        for row in designs.to_dict("records")
    ]
    width, height = figure.get_size_inches()
    for bottom, handles in ((0.4, lines), (0.0, colors)):
        figure.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(0.55 / width, bottom / height),
            ncols=min(len(handles), round(width / 1.9)),
            **_KEY,
        )


# --- Scores ------------------------------------------------------------------------------------


def _draw_scores(axes: Axes, scores: pd.DataFrame, label: str) -> None:
    """A line a metric: its name, its interval, its score, and hollow what is published."""
    order = scores.reset_index(drop=True).sort_values("value", kind="stable")
    for height, (i, row) in enumerate(order.iterrows()):
        color = _line_style(i)["color"]
        bounds = [row["low"], row["high"]]
        axes.plot(bounds, [height, height], color=color, alpha=0.5, lw=1.6, zorder=2)
        axes.plot(row["value"], height, **_marker(color, "o", size=8), zorder=4)
        axes.plot(row["published"], height, **_marker(color, "D", filled=False, size=6), zorder=3)
    axes.set_yticks(range(len(order)), order["metric"])
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(label)


def _draw_score_key(figure: Figure, scores: pd.DataFrame) -> None:
    """What dots, bars and hollow markers stand for, at the bottom."""
    handles = [
        Line2D([], [], **_marker(_GREY, "o"), label="measured"),
        Line2D([], [], color=_GREY, lw=1.6, label="95 % interval"),
    ]
    if scores["published"].notna().any():
        published = Line2D([], [], **_marker(_GREY, "D", filled=False, size=6))
        published.set_label("published, on the paper's data")
        handles.append(published)
    figure.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0.15 / figure.get_size_inches()[0], 0.0),
        ncols=3,
        **_KEY,
    )


def _names_width(scores: pd.DataFrame) -> float:
    """Inches that the longest name of a metric takes beside an axis."""
    return 0.3 + 0.07 * scores["metric"].str.len().max()


def _rows_height(scores: pd.DataFrame) -> float:
    """Inches of a panel with a line a metric."""
    return max(1.4, 0.3 * len(scores) + 0.25)


def _title_height(title: str) -> float:
    """Inches that the heading and the lines below it take."""
    return 0.5 + 0.16 * len(title.splitlines())


# --- Dots --------------------------------------------------------------------------------------


def _draw_dots(axes: Axes, rows: pd.DataFrame, quantities: Mapping[str, str]) -> None:
    """A dot a row and quantity, one row above the other, with bars from ``_low`` to ``_high``."""
    for i, (name, label) in enumerate(quantities.items()):
        # Beside each other, so that bars do not hide dots.
        heights = np.arange(len(rows)) + 0.2 * (i - (len(quantities) - 1) / 2)
        color = _LINES[i % len(_LINES)]
        axes.hlines(
            heights, rows[f"{name}_low"], rows[f"{name}_high"], color=color, alpha=0.5, lw=1.2
        )
        axes.plot(rows[name], heights, **_marker(color, _SHAPES[i], size=5.5), label=label)


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


# --- People and metrics ------------------------------------------------------------------------


def _draw_people(axes: Axes, people: pd.DataFrame) -> None:
    """Shares of "the same": filled with intervals what is measured, hollow what is published."""
    for source, rows in people.groupby("source"):
        x, y = rows["shift"], rows["percent_same"]
        if source == "published":
            style = _marker(_INK, "D", filled=False, size=7)
            # Nothing inside, so that a measured dot shows through.
            axes.plot(x, y, **style | {"markerfacecolor": "none"}, label="published")
            continue
        bounds = [rows["percent_same_low"], rows["percent_same_high"]]
        axes.fill_between(x, *bounds, color=_INK, alpha=0.13, lw=0)
        axes.plot(x, y, color=_INK, lw=1.8, marker="o", ms=5, mec="white", mew=0.5, label=source)
    if (people["source"] == "measured").any():
        axes.set_title("People (band: 95 % interval)")
    else:
        axes.set_title("People, published")
    axes.set_ylim(0, 100)
    axes.set_ylabel('answers "the same" (%)')
    axes.legend(loc="upper right")
    _shift_axis(axes, people)


def _draw_relative(axes: Axes, people: pd.DataFrame, curves: pd.DataFrame) -> None:
    """A line a metric and people's, all 1 at the largest shift; the key beside the panel."""
    for i, (metric, rows) in enumerate(curves.groupby("metric", sort=False)):
        axes.plot(rows["shift"], rows["relative_distance"], **_line_style(i), label=metric)
    # "measured" comes before "published".
    source = people["source"].min()
    rows = people[people["source"] == source]
    gone = 100 - rows["percent_same"]
    style = {"color": _INK, "lw": 3.0, "alpha": 0.75, "solid_capstyle": "round", "zorder": 2.5}
    axes.plot(rows["shift"], gone / (gone.iloc[-1] or np.nan), **style, label=f"people\n({source})")
    axes.set_ylim(bottom=0)
    axes.set_title("Metrics and people, relative to the largest shift")
    axes.set_ylabel('distance, or answers not "the same"')
    # In the order in which lines lie above each other.
    lines = sorted(axes.get_lines(), key=lambda line: -np.nansum(line.get_ydata()))
    axes.legend(handles=lines, loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0)
    _shift_axis(axes, people)


def _shift_axis(axes: Axes, rows: pd.DataFrame) -> None:
    axes.set_xlim(-0.02 * rows["shift"].max(), 1.02 * rows["shift"].max())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("shift (px)")


# --- Correlations ------------------------------------------------------------------------------

_TYPE = {"linestyle": "none", "marker": "o", "color": _SKY, "alpha": 0.45, "ms": 4, "mew": 0}
_CORRELATIONS = {"srcc": ("o", _BLUE), "plcc": ("D", _VERMILION), "krcc": ("^", _GREEN)}


def _draw_correlations(axes: Axes, rows: pd.DataFrame, types: pd.DataFrame) -> None:
    """The three statistics of each metric below each other, and the types behind the first."""
    for place, row in enumerate(rows.to_dict("records")):
        each = types.loc[types["metric"] == row["metric"], "srcc"]
        for i, (name, (shape, color)) in enumerate(_CORRELATIONS.items()):
            y = place + 0.22 * (i - 1)
            if name == "srcc":
                axes.plot(each, [y] * len(each), **_TYPE)
            axes.plot([row[f"{name}_low"], row[f"{name}_high"]], [y, y], color=color, lw=1.3)
            axes.plot(row[name], y, **_marker(color, shape, size=6), zorder=4)
    axes.set_yticks(range(len(rows)), rows["metric"])
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.set_xlim(right=1.01)
    axes.grid(axis="y", visible=False)
    for edge in range(1, len(rows)):
        axes.axhline(edge - 0.5, color="#e6e6e6", lw=0.7, zorder=1)
    if axes.get_xlim()[0] < 0:
        axes.axvline(0, color=_GREY, lw=0.9, zorder=1.5)


def _correlation_key() -> list[Line2D]:
    return [
        *(
            Line2D([], [], **_marker(color, shape), label=name.upper())
            for name, (shape, color) in _CORRELATIONS.items()
        ),
        Line2D([], [], **_TYPE, label="SRCC of each type of distortion"),
        Line2D([], [], color=_GREY, lw=1.3, label="95 % interval"),
    ]


# --- Images and what is said of them ------------------------------------------------------------

# Inches from one small image to the next.
_THUMBNAIL = 1.32
_Cells = list[tuple[Sequence[str], str, bool]]


def _draw_heading(figure: Figure, left: float, top: float, text: str, size: float = 10.5) -> None:
    """A heading over a column; its place in inches."""
    width, height = figure.get_size_inches()
    figure.text(left / width, 1 - top / height, text, va="top", size=size, color=_INK)


def _draw_thumbnails(
    figure: Figure, left: float, top: float, images: Sequence[np.ndarray], labels: Sequence[str]
) -> None:
    """Images side by side in squares, each with its label below; places in inches."""
    width, height = figure.get_size_inches()
    side = _THUMBNAIL - 0.1
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        x = left + i * _THUMBNAIL
        box = (x / width, 1 - (top + side) / height, side / width, side / height)
        axes = figure.add_axes(box, anchor="N")
        axes.imshow(image, interpolation="nearest")
        axes.set_axis_off()
        below = 1 - (top + side + 0.05) / height
        size = 8 if len(label) < 18 else 6.5
        figure.text(
            (x + side / 2) / width, below, label, ha="center", va="top", size=size, color="#555555"
        )


def _draw_cells(
    figure: Figure, left: float, top: float, line: float, widths: Sequence[float], rows: _Cells
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


def _jumps(rows: pd.DataFrame) -> _Cells:
    """Distances of one example, a line a metric."""
    lines: _Cells = [(("distance", "no shift", "1 px", "ratio"), _GREY, False)]
    for row in rows.to_dict("records"):
        before, after = row["no_shift"], row["shift_1px"]
        ratio = f"{after / before:.3g}" if before > 0 else ""
        lines.append(((row["metric"], f"{before:.3g}", f"{after:.3g}", ratio), _INK, False))
    return lines


def _verdicts(rows: pd.DataFrame) -> _Cells:
    """What metrics say of one triplet, a line each; the ones that turn in colour."""
    lines: _Cells = [(("d(p0) : d(p1)", "no shift", "1 px", "closer"), _GREY, False)]
    for row in rows.to_dict("records"):
        before, after = (f"{row['d0' + e]:.3g} : {row['d1' + e]:.3g}" for e in ("", "_shifted"))
        if row["flips"]:
            verdict, color = f"{row['closer']} → {row['closer_shifted']}", _VERMILION
        else:
            verdict, color = row["closer"], _INK
        lines.append(((row["metric"], before, after, verdict), color, row["flips"]))
    return lines


def _alignment(row: Mapping[str, float]) -> _Cells:
    """What is estimated of one pair, and what it does to the distance."""
    estimate = f"estimate ({row['rows']:g}, {row['columns']:g})"
    if not np.isnan(row["true_rows"]):
        estimate += f", true ({row['true_rows']:g}, {row['true_columns']:g})"
    distances = f"{row['unregistered']:.3f} → {row['registered']:.3f}, human {row['human']:.3f}"
    return [
        ((f"{estimate}, radius {row['radius']}",), _GREY, False),
        ((distances,), _INK, False),
    ]


# --- Registration ------------------------------------------------------------------------------


def _draw_noticed(axes: Axes, people: pd.DataFrame, rows: pd.DataFrame) -> None:
    """People's share with its interval, and the variants of one metric."""
    x = people["shift"]
    axes.fill_between(
        x, people["noticed_low"], people["noticed_high"], color=_INK, alpha=0.13, lw=0
    )
    axes.plot(x, people["noticed"], color=_INK, lw=3.0, alpha=0.75, label="people")
    for i, (variant, curve) in enumerate(rows.groupby("variant", sort=False)):
        axes.plot(curve["shift"], curve["scaled"], **_line_style(i), label=variant)
    axes.set_ylabel("share who notice, or scaled distance")
    _shift_axis(axes, people)


def _draw_losses(axes: Axes, curves: pd.DataFrame) -> None:
    """Each window's loss, thin, and their means."""
    for i, (name, rows) in enumerate(curves.groupby("loss", sort=False)):
        color = _LINES[i]
        for _, window in rows.groupby("window"):
            axes.plot(window["step"], window["value"], color=color, alpha=0.3, lw=0.7)
        mean = rows.groupby("step")["value"].mean()
        axes.plot(mean.index, mean, color=color, lw=2.0, label=f"{name}, mean")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("step")
    axes.set_ylabel("loss (thin: each window)")
    axes.legend(loc="upper right")


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
