"""The figure of the table ``beyond``: accuracy against r_rf, and what designs change of both."""

from __future__ import annotations

import itertools

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from robust_lpips import plotting
from robust_lpips.evaluation.variants import pareto_front
from robust_lpips.plotting import GREY, INK, figure, marker, panels

_ALL = "All"
_DESIGNS = (*plotting.LINES[:-1], "#7F4F24")
_FRONT = {"color": INK, "lw": 1.0, "linestyle": "--", "alpha": 0.6}
_POINT = ["rrf_1", "two_afc"]


def pareto_figure(points: pd.DataFrame, title: str, label: str) -> Figure:
    """Accuracy against r_rf at 1 px of designs, joined to the networks that they start from.

    Panels: all points, with the front of those that no other beats; and each network that has more
    than two points by itself, enlarged, with its own front. Colour tells the design, shape the
    network; labels give the design and its time, in units of the unchanged network's. Bars are
    95 % intervals.

    Args:
        points: one row per design: ``network, design, base`` (bool: the unchanged network),
            ``rrf_1, rrf_1_low, rrf_1_high, two_afc, two_afc_low, two_afc_high`` in percent (bounds
            may be NaN), and ``relative_time``.
        title: its first line is the heading; further lines give the conditions.
        label: term for ``two_afc``.

    Raises:
        ValueError: if there are no points.
    """
    if points.empty:
        raise ValueError("points has no rows")
    designs = points.loc[~points["base"], "design"].unique()
    colors = dict(zip(designs, itertools.cycle(_DESIGNS)))
    shapes = dict(zip(points["network"].unique(), itertools.cycle(plotting.SHAPES)))
    points = points.assign(
        color=points["design"].map(colors).where(~points["base"], INK),
        shape=points["network"].map(shapes),
    )
    networks = dict(iter(points.groupby("network", sort=False)))
    enlarged = {name: rows for name, rows in networks.items() if len(rows) > 2}
    overview = {} if enlarged and len(networks) == 1 else {_ALL: points}
    shown = overview | enlarged
    top = 0.65 + 0.16 * title.count("\n")
    # A single panel is wider, for the keys below it.
    width = 1.2 + 5.0 * len(shown) + 2.0 * (len(shown) == 1)
    with figure((width, top + 5.55), title) as fig:
        axes = panels(fig, len(shown), left=0.75, right=0.2, top=top, height=4.2, gap=0.75)
        for each, (name, rows) in zip(axes, shown.items(), strict=True):
            named = rows[~rows["network"].isin(list(enlarged))] if name == _ALL else rows
            _draw_designs(each, rows, named)
            each.set_title(name)
            each.set_ylabel(label)
        _draw_key(fig, points)
    return fig


def _draw_designs(axes: Axes, points: pd.DataFrame, named: pd.DataFrame) -> None:
    """Markers joined to those of their networks, the front, and labels of those ``named``."""
    for _, rows in points.groupby("network", sort=False):
        for start, end in itertools.product(
            rows.loc[rows["base"], _POINT].to_numpy(), rows[_POINT].to_numpy()
        ):
            axes.plot(*zip(start, end, strict=True), color=GREY, alpha=0.5, lw=0.7, zorder=1.8)
    for row in points.to_dict("records"):
        x, y, color = row["rrf_1"], row["two_afc"], row["color"]
        bar = {"color": color, "alpha": 0.3, "lw": 0.9, "zorder": 2}
        axes.plot([row["rrf_1_low"], row["rrf_1_high"]], [y, y], **bar)
        axes.plot([x, x], [row["two_afc_low"], row["two_afc_high"]], **bar)
        axes.plot(x, y, **marker(color, row["shape"], size=8), zorder=5 if row["base"] else 4)
    front = pareto_front(points)
    axes.plot(front["rrf_1"], front["two_afc"], drawstyle="steps-post", **_FRONT, zorder=1.9)
    left, right = axes.get_xlim()
    # Rates of 0 are common: their markers are not to be cut.
    axes.set_xlim(left=max(left, -0.03 * right))
    axes.set_xlabel(f"{plotting.RRF} at 1 px, lower is better")
    labels = [
        row["design"] if row["base"] else f"{row['design']}, {row['relative_time']:.1f}x"
        for row in named.to_dict("records")
    ]
    plotting.place_labels(
        axes,
        named[_POINT].to_numpy(float),
        labels,
        list(named["color"]),
        markers=points[_POINT].to_numpy(float),
        bars=plotting.interval_bars(points),
    )


def _draw_key(figure: Figure, points: pd.DataFrame) -> None:
    """Meaning of shapes, lines and colours, at the bottom."""
    networks, designs = (
        points.drop_duplicates(name).to_dict("records") for name in ("network", "design")
    )
    lines = [
        *(Line2D([], [], **marker(GREY, row["shape"]), label=row["network"]) for row in networks),
        Line2D([], [], **_FRONT, label="Pareto front"),
        Line2D([], [], color=GREY, lw=0.9, label="95 % interval"),
    ]
    swatch = {"lw": 5, "solid_capstyle": "butt"}
    colors = [Line2D([], [], color=row["color"], **swatch, label=row["design"]) for row in designs]
    width, height = figure.get_size_inches()
    for bottom, handles in ((0.4, lines), (0.0, colors)):
        figure.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(0.55 / width, bottom / height),
            ncols=min(len(handles), round(width / 1.9)),
            **plotting.KEY,
        )
