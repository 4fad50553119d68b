"""People's answers to shifted images, counted at each shift."""

from __future__ import annotations

import numpy as np
import pandas as pd

from robust_lpips.evaluation.bootstrap import bootstrap_means, generator, interval
from robust_lpips.evaluation.shifts import view_name

PEOPLE_COLUMNS = (
    "shift",
    "stimuli",
    "answers",
    "said_same",
    "percent_same",
    "percent_same_low",
    "percent_same_high",
    "std_mean",
    "std_std",
)


def people(responses: pd.DataFrame, n_boot: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Answers at each shift, counted.

    Args:
        responses: the table of :func:`robust_lpips.data.user_study.read_responses`.
        n_boot: number of resamples of the intervals; 0: none (NaN).
        seed: seed of the resamples.

    Returns:
        One row per shift, ascending: ``shift`` (pixels), ``stimuli``, ``answers``, ``said_same``;
        ``percent_same`` of all answers pooled, and ``percent_same_low, percent_same_high``, its
        95 % bootstrap interval over stimuli, whose answers are not independent; ``std_mean`` and
        ``std_std``, mean and standard deviation over stimuli of the standard deviation of a
        stimulus' answers, 0 and 1 (all of them dividing by the count).
    """
    rows = []
    for shift, answers in responses.groupby("shift"):
        pooled = answers["answer"].to_numpy(dtype=np.float64)
        codes = pd.factorize(answers["image"])[0]
        rng = generator(seed, view_name(shift))
        low, high = interval(100 * bootstrap_means(pooled[:, None], codes, n_boot, rng))
        spread = answers.groupby("image")["answer"].std(ddof=0)
        counts = int(shift), len(spread), len(pooled), int(pooled.sum())
        share = 100 * pooled.mean(), low[0], high[0]
        rows.append((*counts, *share, spread.mean(), spread.std(ddof=0)))
    return pd.DataFrame(rows, columns=list(PEOPLE_COLUMNS))
