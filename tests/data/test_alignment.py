"""Pairs that are hard to align: what is said of them is true."""

import numpy as np

from robust_lpips.data.alignment import hard_pairs


def test_true_shifts_are_true():
    for case in hard_pairs("val", 2, 64, seed=0):
        assert case.first.shape == case.second.shape
        assert case.first.dtype == case.second.dtype == np.uint8
        content = case.name not in ("flat, two greys", "two noises")
        if not content or any(step % 1 for step in case.shift) or np.isnan(case.shift).any():
            continue
        moved = np.roll(case.second.astype(int), [-int(s) for s in case.shift], axis=(1, 2))
        inside = (slice(None), slice(10, -10), slice(10, -10))
        # The ramp is rounded to whole grey levels.
        assert np.abs(moved - case.first)[inside].max() <= 1, case.name


def test_cases_have_names_of_their_own():
    names = [case.name for case in hard_pairs("val", 1, 64, seed=0)]
    assert len(set(names)) == len(names)
