"""Sections of the page of the study of registration."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pandas as pd

from robust_lpips.registered import search_radius
from robust_lpips.studies.base import Results, Tables, pivot_in_order
from robust_lpips.studies.registration.descent import LEARNING_RATE, OFFSET, START_DISTORTION
from robust_lpips.studies.registration.estimates import (
    LARGEST_FRACTION,
    MOVING,
    SHRINKING,
    SUBPIXEL_NOISE,
    TEXTURED_STD,
)
from robust_lpips.studies.registration.human import SHIFTS
from robust_lpips.studies.registration.scores import (
    counted,
    errors_between,
    exact,
    failure_means,
    shares,
)
from robust_lpips.studies.registration.settings import RADIUS, WIDE_RADIUS, RegistrationSettings
from robust_lpips.tables import to_markdown, with_interval

# Percentage of right estimates below which the page names a cell.
_EXPECTED = {"in place": 100.0, "shifted": 95.0}
_READING = """\
- A whole period is invisible: both images are the same, and to find no shift is right, whatever the
  true one is. Half a period turns a pattern into its negative; aligned, the two are alike again, if
  that is a whole number of pixels. Do not register where the phase of a pattern matters.
- In what repeats, several shifts are equally true, and along the stripes of a grating all of them.
  Any of them gives the same registered distance. The shortest is taken, which need not be the true
  one.
- Where nothing has structure, no shift should be believed: two noises should stay, and on a ramp a
  shift is a change of brightness.
- A warp is no shift. One shift may undo a part of it, so that the registered distance falls, and
  the rest has to remain: a registered distance near 0 would be a failure. Where it is above the
  unregistered one, alignment does harm.
- Where one half of an image moved, one shift is wrong for the other half, whichever is found;
  `mode="tiles"` is for that.
- Shifts that people do see are free without a penalty. That is the meaning of `penalty=None`, and a
  reason not to take it for a measure of what people see.
- A shift beyond the radius is undone in part; the metric sees the rest, and the penalty is that of
  the whole shift. A shift of more than about twice the radius cannot be found.
- The weight of the penalty relative to other distortions is a convention: compare the difference
  between registered and human with the unregistered distances of the same column."""


def page(results: Results[RegistrationSettings], tables: Tables) -> Iterator[str]:
    """One section per part that is measured."""
    yield "# Registration: does alignment do what it says?"
    yield (
        "Measured here; nothing is taken from papers but people's answers (Ghildyal and Liu, "
        "ECCV 2022)."
    )
    sections = {
        "estimates": _estimates,
        "human_curves": _human,
        "descent": partial(_descent, metric=results.plan.metrics[0]),
        "failures": partial(_failures, metric=results.plan.metrics[0]),
    }
    for table, section in sections.items():
        if table in tables:
            yield from section(results.settings, tables)


def _estimates(settings: RegistrationSettings, tables: Tables) -> Iterator[str]:
    whole, between = tables["estimates"], tables["subpixel"]
    place = whole[whole["test"] == "in place"]
    moved = whole[(whole["test"] == "shifted") & whole["textured"]]
    between = between[between["textured"]]
    yield "## Estimates"
    yield (
        f"`estimate_translation` at radius {search_radius(RADIUS, settings.image_size)}, the range "
        f"that `Registered` searches at radius {RADIUS}; {settings.note}."
    )
    yield "### Distorted in place: percentage of estimates that are exactly no shift"
    yield (
        f"{settings.n} windows, all of them, in each cell. {_overall(whole, 'in place')}. The last "
        f"rows move content and do not count: {', '.join(MOVING)}."
    )
    yield from _cells("in place", place)
    yield "### Shifted by whole pixels and distorted: percentage of estimates that are exact"
    yield (
        f"Both windows are cut from the photograph, up to {RADIUS} px apart along each axis; the "
        f"second is distorted. {moved['window'].nunique()} of {settings.n} windows are textured "
        f"(standard deviation of luminance of at least {TEXTURED_STD:g} of 255) and counted here; "
        f"the others are in estimates.csv. {_overall(whole, 'shifted')}, of those that do not move "
        "content."
    )
    yield from _cells("shifted", moved)
    yield "### Between pixels: absolute error in pixels with `subpixel=True`"
    yield (
        f"Windows {SHRINKING} times as large, whole pixels apart, shrunk by means of areas: shifts "
        f"are multiples of 1/{SHRINKING} px up to {LARGEST_FRACTION / SHRINKING} px. "
        f"{between['window'].nunique()} of {settings.n} windows are textured and counted. Noise: "
        f"{SUBPIXEL_NOISE[0]} at severity {SUBPIXEL_NOISE[1]}, on the second window."
    )
    yield to_markdown(errors_between(between), {"median": ".3f", "p95": ".3f"})


def _human(settings: RegistrationSettings, tables: Tables) -> Iterator[str]:
    people, curves = tables["human_people"], tables["human_curves"]
    numbers = {"spearman": ".3f", "factor": ".3g", "mse": ".4f", "mse_monotone": ".4f"}
    bounds = people[["noticed", "noticed_low", "noticed_high"]].to_numpy()
    shares = people[["shift", "answers", "said_same"]].assign(
        noticed=[with_interval(*row, digits=2) for row in bounds]
    )
    yield "## People"
    yield (
        f"Mean distance between windows 0 to {SHIFTS[-1]} columns apart, nothing padded, "
        f"{settings.n} windows at each shift; {settings.note}. Registered at radius {WIDE_RADIUS}. "
        f'{who(settings, people)}. noticed: of the people who say "the same" without a shift, '
        "the share who no longer do."
    )
    yield (
        '**The cost under `penalty="human"` is calibrated from these answers.** That its curve '
        "follows them shows that the parts fit together; it predicts nothing."
    )
    yield to_markdown(shares)
    yield "Distances, in each metric's own unit:"
    shown = curves.assign(
        shift=curves["shift"].map("{} px".format), distance=curves["distance"].map("{:.3g}".format)
    )
    keys = ["metric", "variant"]
    wide = shown.pivot(index=keys, columns="shift", values="distance")
    wide = wide.loc[list(shown[keys].drop_duplicates().itertuples(index=False, name=None))]
    yield to_markdown(wide.reset_index())
    yield (
        "spearman: rank correlation with the share noticed, over shifts. mse: mean squared error "
        "after the one factor that fits best. mse_monotone: after the best monotone function, "
        "which makes all curves that only grow the same, and perfect where people's only grows, "
        "too. Registered without a penalty, next to nothing is left: read its distances, not its "
        "factor, which enlarges them. A curve of zeros has the mse of saying that nobody notices."
    )
    yield to_markdown(tables["human_scores"], numbers)
    if "human_halves" in tables:
        yield "### Half of the stimuli against the other half"
        yield (
            "The share noticed in a random half of the stimuli of each shift, as the penalty would "
            "be shaped by them, scored on the other half; metrics on the same halves. Means over "
            f"{settings.splits} splits, seed {settings.seed}. The stimuli are different ones, the "
            "study is the same."
        )
        yield to_markdown(tables["human_halves"], {"mse": ".4f", "spearman": ".3f"})


def _descent(settings: RegistrationSettings, tables: Tables, metric: str) -> Iterator[str]:
    start = " and ".join(f"{name} at severity {severity}" for name, severity in START_DISTORTION)
    yield "## Descent"
    yield (
        f"{settings.examples} windows under {start} are optimised for {settings.steps} steps of "
        f"Adam at {LEARNING_RATE:g} towards themselves undistorted, but {OFFSET} columns to the "
        f"left, by {metric} unregistered and registered at radius {RADIUS}; {settings.note}. "
        "aligned: between what both images show, the target read where the start lies. in place: "
        "between the same columns of both. An unregistered loss is smallest where the target lies: "
        "it has to move the image, which in place shows. Where a distance falls and PSNR hardly "
        "grows, the metric accepts different pixels. Means over windows."
    )
    means = tables["descent_results"].drop(columns="window").groupby("image", sort=False).mean()
    formats = {name: ".4f" if name.startswith("distance") else ".2f" for name in means}
    formats = {_words(name): spec for name, spec in formats.items()}
    yield to_markdown(means.reset_index().rename(columns=_words), formats)
    yield (
        "finite: gradients, over all steps and windows; aligned: share of estimated shifts that "
        "are the true one."
    )
    rows = []
    for name, curve in tables["descent"].groupby("loss", sort=False):
        by_step = curve.groupby("step")["value"].mean()
        finite = f"{curve['finite'].sum()} of {len(curve)}"
        aligned = f"{100 * curve['aligned'].mean():.1f} %"
        rows.append((name, by_step.iloc[0], by_step.iloc[-1], finite, aligned))
    courses = pd.DataFrame(rows, columns=["loss", "first", "last", "finite", "aligned"])
    yield to_markdown(courses, {"first": ".4f", "last": ".4f"})


def _failures(settings: RegistrationSettings, tables: Tables, metric: str) -> Iterator[str]:
    formats = dict.fromkeys(("stayed", "right"), ".0f")
    formats |= dict.fromkeys(("unregistered", "registered", "human"), ".4f")
    yield "## Failures"
    yield (
        f"Pairs that are hard to align, or should not be aligned; distances of {metric}, means "
        f"over n pairs; {settings.note}. Textures are from either split. stayed and right: "
        "percentage of estimates that are no shift, and that are the true one. human: registered "
        'with `penalty="human"`. Shifts and radius in pixels, (rows, columns).'
    )
    yield to_markdown(failure_means(tables["failures"]), formats)
    yield "How to read it:"
    yield _READING


def who(settings: RegistrationSettings, people: pd.DataFrame) -> str:
    """Origin of people's answers and kind of their interval, for captions."""
    kind = "as if answers were independent" if settings.responses is None else "over stimuli"
    return f"people: {people['answers'].sum()} answers, band: 95 % interval {kind}"


def _words(name: str) -> str:
    return name.replace("psnr", "PSNR (dB)").replace("_", " ")


def _overall(whole: pd.DataFrame, test: str) -> str:
    right = exact(counted(whole, test))
    return f"Overall {right.sum()} of {len(right)} ({100 * right.mean():.2f} %)"


def _cells(test: str, table: pd.DataFrame) -> Iterator[str]:
    """Shares by distortion and severity, and the cells that fall short, the worst first."""
    cells, least = shares(table), _EXPECTED[test]
    severities = cells["severity"].sort_values().map("{:g}".format).unique()
    shown = cells.assign(severity=cells["severity"].map("{:g}".format))
    wide = pivot_in_order(shown, "distortion", "severity", "exact")
    yield to_markdown(wide[["distortion", *severities]], dict.fromkeys(severities, ".1f"))
    short = cells[(cells["exact"] < least) & ~cells["distortion"].isin(MOVING)]
    if short.empty:
        yield f"In no cell fewer than {least:g} % are right."
        return
    yield (
        f"Cells with less than {least:g} %. stayed: wrong, and no shift; wrong: another shift than "
        "the true one; farthest: the largest error along an axis, in pixels."
    )
    formats = dict.fromkeys(("exact", "stayed", "wrong"), ".1f") | {"farthest": "g"}
    yield to_markdown(short.sort_values("exact", kind="stable"), {"severity": "g", **formats})
