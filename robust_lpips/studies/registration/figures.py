"""Figures of the study of registration."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from robust_lpips import plotting
from robust_lpips.evaluation.noticed import scaled
from robust_lpips.plotting import GREY, INK, THUMBNAIL, figure, panels
from robust_lpips.studies.base import Tables
from robust_lpips.studies.registration.descent import LEARNING_RATE, OFFSET
from robust_lpips.studies.registration.human import FREE, UNREGISTERED, who
from robust_lpips.studies.registration.settings import RegistrationSettings

_PER_LINE = 4

Images = Mapping[str, np.ndarray]


def human_figure(settings: RegistrationSettings, tables: Tables) -> Figure:
    """Share of people who notice a shift, and scaled distances, one panel per metric."""
    people = tables["human_people"]
    # Registration leaves next to nothing, which a factor of its own would enlarge.
    curves = scaled(tables["human_curves"], tables["human_scores"], like={FREE: UNREGISTERED})
    title = (
        f"Distances of shifted images, and who notices the shift\n{who(settings, people)}\n"
        f"metrics: {settings.n} {settings.note}; times the factor that fits people best, "
        f"{FREE} times that of {UNREGISTERED}"
    )
    shown = dict(iter(curves.groupby("metric", sort=False)))
    top = plotting.title_height(title) + 0.3
    with figure((1.2 + 4.3 * max(2, len(shown)), top + 3.9), title) as fig:
        axes = panels(fig, len(shown), left=0.7, right=0.2, top=top, height=3.0, gap=0.75)
        for each, (metric, rows) in zip(axes, shown.items(), strict=True):
            _draw_noticed(each, people, rows)
            each.set_title(metric)
        lines, place = axes[0].get_legend_handles_labels(), {"bbox_to_anchor": (0.05, 0.0)}
        fig.legend(*lines, loc="lower left", ncols=4, **place, **plotting.KEY)
    return fig


def descent_figure(
    settings: RegistrationSettings, metric: str, curves: pd.DataFrame, images: Images
) -> Figure:
    """Losses of optimised images over the steps, next to the images.

    From the table ``descent``, and images of the same windows by name, uint8 (N, H, W, 3).
    """
    title = (
        f"Descent to a target {OFFSET} px away\n{metric}, Adam at {LEARNING_RATE:g}, "
        f"{settings.examples} {settings.note}\n"
        "images: the first windows; sought: the target, unshifted; then the start and the ends"
    )
    top, line = plotting.title_height(title) + 0.3, THUMBNAIL + 0.2
    rows = list(zip(*images.values(), strict=True))
    left, right = 5.85, len(images) * THUMBNAIL + 0.45
    height = max(3.2, len(rows) * line - 0.2)
    with figure((5.6 + right, top + height + 0.6), title) as fig:
        (axes,) = panels(fig, 1, left=1.0, right=right, top=top, height=height, gap=0)
        for i, (name, losses) in enumerate(curves.groupby("loss", sort=False)):
            color = plotting.LINES[i]
            for _, window in losses.groupby("window"):
                axes.plot(window["step"], window["value"], color=color, alpha=0.3, lw=0.7)
            mean = losses.groupby("step")["value"].mean()
            axes.plot(mean.index, mean, color=color, lw=2.0, label=f"{name}, mean")
        axes.set(yscale="log", xlabel="step", ylabel="loss (thin: each window)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="upper right")
        for i, row in enumerate(rows):
            plotting.draw_thumbnails(fig, left, top + i * line, row, list(images))
    return fig


def failures_figure(
    settings: RegistrationSettings, metric: str, table: pd.DataFrame, images: Images
) -> Figure:
    """First pair of each case, its estimated shift, and distances before and after alignment.

    From the table ``failures``, and as ``pairs`` uint8 (C, 2, H, W, 3) of its first pairs.
    """
    title = (
        "What alignment does to pairs that are hard for it\n"
        f"the first pair of each case; {metric}: distance unregistered → registered, and "
        f"registered with penalty human\n{settings.note}"
    )
    rows = table[table["pair"] == 0].to_dict("records")
    width, height = 2 * THUMBNAIL + 0.45, THUMBNAIL + 1.05
    top, lines = plotting.title_height(title) + 0.1, -(-len(rows) // _PER_LINE)
    with figure((0.2 + _PER_LINE * width, top + lines * height), title) as fig:
        for i, (row, pair) in enumerate(zip(rows, images["pairs"], strict=True)):
            left, above = 0.25 + i % _PER_LINE * width, top + i // _PER_LINE * height
            plotting.draw_heading(fig, left, above, row["case"], size=9)
            plotting.draw_thumbnails(fig, left, above + 0.2, pair, ("first", "second"))
            below = above + 0.2 + THUMBNAIL + 0.12
            plotting.draw_cells(fig, left, below, 0.16, (2 * THUMBNAIL,), _alignment(row))
    return fig


# Figures that show photographs, by part.
PHOTOGRAPHIC = {"descent": descent_figure, "failures": failures_figure}


def _draw_noticed(axes: Axes, people: pd.DataFrame, rows: pd.DataFrame) -> None:
    """People's share with its interval, and the variants of one metric."""
    x, low, high = (people[name] for name in ("shift", "noticed_low", "noticed_high"))
    axes.fill_between(x, low, high, color=INK, alpha=0.13, lw=0)
    axes.plot(x, people["noticed"], color=INK, lw=3.0, alpha=0.75, label="people")
    for i, (variant, curve) in enumerate(rows.groupby("variant", sort=False)):
        axes.plot(curve["shift"], curve["scaled"], **plotting.line_style(i), label=variant)
    axes.set_ylabel("share who notice, or scaled distance")
    plotting.shift_axis(axes, people)


def _alignment(row: Mapping[str, float]) -> plotting.Cells:
    """Estimate for one pair, and what it does to the distance."""
    estimate = f"estimate ({row['rows']:g}, {row['columns']:g})"
    if not np.isnan(row["true_rows"]):
        estimate += f", true ({row['true_rows']:g}, {row['true_columns']:g})"
    distances = f"{row['unregistered']:.3f} → {row['registered']:.3f}, human {row['human']:.3f}"
    return [((f"{estimate}, radius {row['radius']}",), GREY, False), ((distances,), INK, False)]
