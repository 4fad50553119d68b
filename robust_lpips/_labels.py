"""Labels of points and of line ends, placed so that they do not cover each other."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import redirect_stdout

import numpy as np
import textalloc
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from scipy.optimize import isotonic_regression

# Sizes in typographic points.
LABEL_SIZE = 8.5
_LINE_HEIGHT = 12
_MARKER_RADIUS = 4.5


def name_line_ends(
    axes: Axes, ends: Sequence[tuple[float, float]], names: Sequence[str], colors: Sequence[str]
) -> None:
    """Write names to the right of a panel, next to where lines end, moved apart where they touch.

    Args:
        axes: the panel, with its final limits.
        ends: last point of each line, in data coordinates.
        names: one per line.
        colors: one per line.
    """
    if not len(ends):
        return
    # Points instead of pixels, of which a PDF has another number per inch.
    point = axes.figure.dpi / 72
    heights = axes.transData.transform(ends)[:, 1] / point
    bounds = _LINE_HEIGHT / 2, axes.figure.bbox.height / point - _LINE_HEIGHT / 2
    heights = _spread(heights, _LINE_HEIGHT, bounds)
    left = axes.bbox.x1 / point + 12
    # From the left end of the name, so that the line runs through no other name.
    leader = {"arrowstyle": "-", "lw": 0.7, "alpha": 0.6, "shrinkA": 1, "relpos": (0, 0.5)}
    for end, height, name, color in zip(ends, heights, names, colors, strict=True):
        axes.annotate(
            name,
            end,
            xytext=(left, height),
            textcoords="figure points",
            color=color,
            va="center",
            annotation_clip=False,
            arrowprops=leader | {"color": color},
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
    """Write labels next to points, off each other, off markers and, if there is room, off bars.

    A thin line leads from each label to its point. Places are found by ``textalloc``.

    Args:
        axes: the panel; its limits stay as they are from here on.
        points: what is labelled, in data coordinates.
        labels: one per point; the first ones get the nearest places.
        colors: one per point.
        markers: (M, 2) centres of all markers, in data coordinates.
        bars: (B, 4) left, bottom, right and top of all bars, in data coordinates; rows with NaN
            are ignored.

    Raises:
        ValueError: if there is not one label and one colour per point.
    """
    if not len(points) == len(labels) == len(colors):
        counts = f"{len(points)} points, {len(labels)} labels and {len(colors)} colors"
        raise ValueError(f"points, labels and colors must be of one length; got {counts}")
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    bars = bars[np.isfinite(bars).all(axis=1)]
    if not len(points):
        return
    # textalloc prints where it finds no place.
    with redirect_stdout(None):
        if len(bars) and _allocate(axes, points, labels, colors, markers, bars):
            return
        # Long labels between many bars: the white edge of the letters keeps them legible.
        _allocate(axes, points, labels, colors, markers, None)


def _allocate(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    labels: Sequence[str],
    colors: Sequence[str],
    markers: np.ndarray,
    bars: np.ndarray | None,
) -> bool:
    """Place all labels and return True; with ``bars``, place none where one finds no free place."""
    radius = _MARKER_RADIUS * axes.figure.dpi / 72
    *_, texts, leaders = textalloc.allocate(
        axes,
        *np.transpose(points),
        list(labels),
        x_scatter=markers[:, 0],
        y_scatter=markers[:, 1],
        scatter_sizes=[radius] * len(markers),
        text_scatter_sizes=[radius] * len(points),
        x_lines=None if bars is None else bars[:, [0, 2]],
        y_lines=None if bars is None else bars[:, [1, 3]],
        margin=0.003,
        min_distance=0.008,
        max_distance=0.25,
        nbr_candidates=1000,
        draw_all=bars is None,
        avoid_label_lines_overlap=True,
        avoid_crossing_label_lines=True,
        textsize=LABEL_SIZE,
        textcolor=list(colors),
        linecolor=list(colors),
        linewidth=0.6,
        # Above bars, below markers.
        plot_kwargs={"zorder": 3},
        zorder=6,
        path_effects=[withStroke(linewidth=2, foreground="white")],
    )
    if bars is None or all(texts):
        return True
    for artist in filter(None, texts + leaders):
        artist.remove()
    return False


def _spread(positions: np.ndarray, gap: float, bounds: tuple[float, float]) -> np.ndarray:
    """Positions that lie ``gap`` apart within ``bounds``, in the order they were in.

    They are the nearest such positions in least squares: less their gaps, they are an isotonic
    regression, and clipping one solves the bounded problem.
    """
    order = np.argsort(positions, kind="stable")
    offsets = gap * np.arange(len(positions))
    increasing = isotonic_regression(positions[order] - offsets).x
    spread = np.empty(len(positions))
    spread[order] = np.clip(increasing, bounds[0], bounds[1] - offsets[-1]) + offsets
    return spread
