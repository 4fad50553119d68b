"""What shifts cost a metric, unregistered and registered, beside who notices them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from robust_lpips.comparison import load_metric
from robust_lpips.data.user_study import read_responses
from robust_lpips.plots import plot_registration_human
from robust_lpips.registered import ANSWERS, SAME, Registered
from robust_lpips.studies import user_study
from robust_lpips.studies.registration.settings import WIDE_RADIUS, Settings
from robust_lpips.studies.registration.windows import as_input, cut_pairs, windows
from robust_lpips.tables import to_markdown, with_interval, write_csv

UNREGISTERED, FREE, HUMAN = "unregistered", "registered", "registered, human"
OTHER_HALF = "penalty from the other half"

SHIFTS = range(WIDE_RADIUS + 1)

# Of the standard normal distribution, for intervals of 95 %.
_QUANTILE = 1.959964


def run(
    settings: Settings, output: Path, metrics: Sequence[str], device: torch.device | str
) -> str:
    """Measure, write ``human*.csv`` and ``human.png``, and return the section."""
    responses = None if settings.answers is None else read_responses(settings.answers)
    people = people_table(responses, settings.seed)
    curves = distance_curves(settings, metrics, device)
    scored = scores(curves, people["noticed"].to_numpy())
    halves = None
    if responses is not None:
        halves = split_half(responses, curves, settings.splits, settings.seed)
        write_csv(halves, output / "human_halves.csv")
    write_csv(people, output / "human_people.csv")
    write_csv(curves, output / "human_curves.csv")
    write_csv(scored, output / "human_scores.csv")
    plot_registration_human(
        people,
        _scaled(curves, scored),
        output / "human.png",
        f"What shifts cost, and who notices them\n{_who(settings, people)}\n"
        f"metrics: {settings.n} {settings.note}; times the factor that fits people best, "
        f"{FREE} times that of {UNREGISTERED}",
    )
    return _section(settings, people, curves, scored, halves)


def people_table(responses: pd.DataFrame | None, seed: int = 0) -> pd.DataFrame:
    """Who notices shifts, of the people who say "the same" without one.

    Args:
        responses: of :func:`robust_lpips.data.user_study.read_responses`, about every shift from
            0 to 9; None: :data:`robust_lpips.registered.SAME`.
        seed: of the intervals.

    Returns:
        A row a shift: ``shift`` (pixels), ``answers, said_same``; ``noticed``, in [0, 1] unless
        more say "the same" than without a shift, and ``noticed_low, noticed_high``, a 95 %
        interval: over stimuli where there are answers, else Wilson's, as if answers were
        independent. The share without a shift is taken as it is: there is no interval of it.

    Raises:
        ValueError: answers about other shifts, or nobody who says "the same" without one.
    """
    if responses is None:
        counts = pd.DataFrame({"shift": SHIFTS, "answers": ANSWERS, "said_same": SAME})
        bounds = _wilson(counts["said_same"], counts["answers"])
    else:
        counts = user_study.people(responses, seed=seed)
        bounds = (counts[f"percent_same_{end}"] / 100 for end in ("low", "high"))
    if list(counts["shift"]) != list(SHIFTS):
        given = ", ".join(map(str, counts["shift"]))
        raise ValueError(f"answers must be about every shift from 0 to {SHIFTS[-1]}; got {given}")
    same = counts["said_same"] / counts["answers"]
    if same[0] == 0:
        raise ValueError('answers must hold one "the same" without a shift; got none')
    high, low = (1 - bound / same[0] for bound in bounds)
    table = counts[["shift", "answers", "said_same"]].assign(
        noticed=1 - same / same[0], noticed_low=low, noticed_high=high
    )
    table.loc[0, ["noticed_low", "noticed_high"]] = math.nan
    return table


@torch.no_grad()
def distance_curves(
    settings: Settings, metrics: Sequence[str], device: torch.device | str
) -> pd.DataFrame:
    """Mean distance between windows so many columns apart.

    Returns:
        A row a metric, variant and shift: ``metric, variant, shift, n``, and ``distance`` in the
        metric's own unit.
    """
    size = settings.image_size
    side = size + 2 * SHIFTS[-1]
    around = windows(settings.split, settings.n, side, side, settings.seed)
    rows = []
    for name in metrics:
        for variant, measure in _variants(name, settings.seed, device):
            for shift in tqdm(SHIFTS, desc=f"{name}, {variant}", unit="shift"):
                shifts = np.tile([0, -shift], (settings.n, 1))
                first, second, _ = cut_pairs(around, shifts, size)
                distances = measure(as_input(first, device), as_input(second, device))
                rows.append((name, variant, shift, settings.n, float(distances.mean())))
    return pd.DataFrame(rows, columns=["metric", "variant", "shift", "n", "distance"])


def scores(curves: pd.DataFrame, noticed: np.ndarray) -> pd.DataFrame:
    """How well curves follow people's.

    Args:
        curves: of :func:`distance_curves`.
        noticed: (S,) people's share at each shift.

    Returns:
        A row a metric and variant: ``metric, variant``; ``spearman``, in [-1, 1], NaN for a
        constant; ``factor``, which scales distances best, and ``mse``, the mean squared error
        then; ``mse_monotone``, that of the best monotone function of the distance.
    """
    rows = []
    for (metric, variant), curve in curves.groupby(["metric", "variant"], sort=False):
        distance = curve.sort_values("shift")["distance"].to_numpy()
        factor = best_factor(distance, noticed)
        rows.append(
            {
                "metric": metric,
                "variant": variant,
                "spearman": spearman(distance, noticed),
                "factor": factor,
                "mse": scaled_error(distance, noticed),
                "mse_monotone": float(np.mean((monotone(distance, noticed) - noticed) ** 2)),
            }
        )
    return pd.DataFrame(rows)


def split_half(
    responses: pd.DataFrame, curves: pd.DataFrame, splits: int = 200, seed: int = 0
) -> pd.DataFrame:
    """How well half of the stimuli, and metrics, tell what people say of the other half.

    Args:
        responses: answers, with two stimuli or more at each shift.
        curves: of :func:`distance_curves`.
        splits: of the stimuli of each shift, at random.
        seed: of the splits.

    Returns:
        A row for the share noticed in the first half, whose ``metric`` is :data:`OTHER_HALF`, and
        one for each metric and variant but those that the answers calibrated: ``metric, variant``;
        ``mse``, after the best factor, and ``spearman``, means over the splits.

    Raises:
        ValueError: fewer than two stimuli at a shift.
    """
    measured = {
        key: curve.sort_values("shift")["distance"].to_numpy()
        for key, curve in curves.groupby(["metric", "variant"], sort=False)
        if key[1] != HUMAN
    }
    rows = []
    for one, other in halves(responses, splits, seed):
        for key, curve in {(OTHER_HALF, ""): one, **measured}.items():
            rows.append((*key, scaled_error(curve, other), spearman(curve, other)))
    table = pd.DataFrame(rows, columns=["metric", "variant", "mse", "spearman"])
    return table.groupby(["metric", "variant"], sort=False).mean().reset_index()


def halves(
    responses: pd.DataFrame, splits: int, seed: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The shares noticed (S,) in two random halves of the stimuli of each shift, for each split."""
    stimuli = responses.groupby(["shift", "image"])["answer"].agg(["sum", "size"])
    by_shift = [part.to_numpy() for _, part in stimuli.groupby(level="shift")]
    if (fewest := min(map(len, by_shift))) < 2:
        raise ValueError(f"answers must be about 2 stimuli or more at each shift; got {fewest}")
    rng = np.random.default_rng(seed)
    for _ in range(splits):
        shuffled = [rng.permutation(part) for part in by_shift]
        one, other = (
            np.array([part[half(len(part))].sum(axis=0) for part in shuffled])
            for half in (lambda n: slice(n // 2), lambda n: slice(n // 2, None))
        )
        yield _noticed(one), _noticed(other)


def best_factor(values: np.ndarray, target: np.ndarray) -> float:
    """The factor from 0 by which ``values`` come closest to ``target``; 0 where all are 0."""
    power = float(values @ values)
    return max(0.0, float(values @ target) / power) if power else 0.0


def scaled_error(values: np.ndarray, target: np.ndarray) -> float:
    """Mean squared error of ``values`` (S,) times :func:`best_factor`."""
    return float(np.mean((best_factor(values, target) * values - target) ** 2))


def monotone(values: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The function of ``values`` (S,) that never falls and comes closest to ``target``: (S,).

    Isotonic regression: targets of equal values are one block, and neighbouring blocks are pooled
    while they fall.
    """
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    blocks: list[tuple[float, int, int]] = []  # sum, answers and values of each
    for total, count in zip(np.bincount(place, target), counts, strict=True):
        blocks.append((total, count, 1))
        while len(blocks) > 1 and _mean(blocks[-2]) > _mean(blocks[-1]):
            last = blocks.pop()
            blocks[-1] = tuple(a + b for a, b in zip(blocks[-1], last, strict=True))
    fitted = np.concatenate([np.full(block[2], _mean(block)) for block in blocks])
    return fitted[place]


def spearman(values: np.ndarray, target: np.ndarray) -> float:
    """Spearman's rank correlation of (S,) and (S,), NaN where either is constant."""
    from scipy.stats import spearmanr

    if np.ptp(values) == 0 or np.ptp(target) == 0:
        return math.nan
    return float(spearmanr(values, target).statistic)


def _variants(
    name: str, seed: int, device: torch.device | str
) -> Iterator[tuple[str, Callable[[Tensor, Tensor], Tensor]]]:
    metric = load_metric(name, device, seed)
    yield UNREGISTERED, metric
    yield FREE, Registered(metric, WIDE_RADIUS)
    yield HUMAN, Registered(metric, WIDE_RADIUS, "human").to(device)


def _scaled(curves: pd.DataFrame, scored: pd.DataFrame) -> pd.DataFrame:
    """The curves with ``scaled`` distances, in units of shares.

    What registration leaves is next to nothing. Its own factor would make it look like much.
    """
    factors = scored.set_index(["metric", "variant"])["factor"]
    own = curves["variant"].where(curves["variant"] != FREE, UNREGISTERED)
    keys = list(zip(curves["metric"], own, strict=True))
    return curves.assign(scaled=curves["distance"] * factors.loc[keys].to_numpy())


def _noticed(counts: np.ndarray) -> np.ndarray:
    """Shares noticed (S,) of counts (S, 2) of "the same" and of answers."""
    same = counts[:, 0] / counts[:, 1]
    return 1 - same / same[0]


def _wilson(hits: pd.Series, counts: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Wilson's 95 % interval of shares."""
    share, square = hits / counts, _QUANTILE**2
    centre = (share + square / (2 * counts)) / (1 + square / counts)
    half = (share * (1 - share) / counts + square / (4 * counts**2)) ** 0.5
    half *= _QUANTILE / (1 + square / counts)
    return centre - half, centre + half


def _mean(block: tuple[float, int, int]) -> float:
    return block[0] / block[1]


def _who(settings: Settings, people: pd.DataFrame) -> str:
    kind = "over stimuli" if settings.answers is not None else "as if answers were independent"
    return f"people: {people['answers'].sum()} answers, band: 95 % interval {kind}"


def _section(
    settings: Settings,
    people: pd.DataFrame,
    curves: pd.DataFrame,
    scored: pd.DataFrame,
    halves: pd.DataFrame | None,
) -> str:
    numbers = {"spearman": ".3f", "factor": ".3g", "mse": ".4f", "mse_monotone": ".4f"}
    bounds = people[["noticed", "noticed_low", "noticed_high"]].to_numpy()
    shares = people[["shift", "answers", "said_same"]].assign(
        noticed=[with_interval(*row, digits=2) for row in bounds]
    )
    parts = [
        "## People",
        f"Mean distance between windows 0 to {SHIFTS[-1]} columns apart, nothing padded, "
        f"{settings.n} a shift; {settings.note}. Registered at radius {WIDE_RADIUS}. "
        f"{_who(settings, people)}. "
        'noticed: of those who say "the same" without a shift, the share who no longer do.',
        '**What `penalty="human"` costs is calibrated from these answers.** That its curve '
        "follows them shows that the pieces fit together; it predicts nothing.",
        to_markdown(shares),
        "Distances, in each metric's own unit:",
        to_markdown(_wide(curves)),
        "spearman: rank correlation with the share noticed, over shifts; mse: mean squared error "
        "after the one factor that fits best; mse_monotone: after the best monotone function, "
        "which makes of every curve that only grows the same, and perfect where people's only "
        "grows, too. Registered without a penalty, next to nothing is left: read its distances, "
        "not its factor, which enlarges that. A curve of nothing but zeros has the mse of saying "
        "that nobody notices.",
        to_markdown(scored, numbers),
    ]
    if halves is not None:
        parts += [
            "### Half of the stimuli against the other half",
            "The share noticed in a random half of the stimuli of each shift, as the penalty "
            "would be shaped by them, scored on the other half; metrics on the same halves. Means "
            f"over {settings.splits} splits, seed {settings.seed}. The stimuli are others, the "
            "study is the same.",
            to_markdown(halves, {"mse": ".4f", "spearman": ".3f"}),
        ]
    return "\n\n".join([*parts, "![People and metrics](human.png)"])


def _wide(curves: pd.DataFrame) -> pd.DataFrame:
    """A row a metric and variant, a column a shift."""
    rows = []
    for (metric, variant), curve in curves.groupby(["metric", "variant"], sort=False):
        cells = {f"{r.shift} px": f"{r.distance:.3g}" for r in curve.itertuples()}
        rows.append({"metric": metric, "variant": variant} | cells)
    return pd.DataFrame(rows)
