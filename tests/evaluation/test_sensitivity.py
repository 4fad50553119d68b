"""Shift sensitivity from distances alone: tables by hand."""

import numpy as np
import pandas as pd
import pytest

from robust_lpips.evaluation.sensitivity import (
    first_flips,
    layer_table,
    shift_curves,
    verdict_table,
)


def distances(rows: list[tuple[float, float, float, float]]) -> pd.DataFrame:
    """A table of triplets of d0, d1, and both shifted."""
    parts = []
    for view, columns in (("full", (0, 1)), ("shift-0", (0, 1)), ("shift-1", (2, 3))):
        d0, d1 = ([row[column] for row in rows] for column in columns)
        samples = [f"x-{i}" for i in range(len(rows))]
        part = {"subset": "traditional", "sample": samples, "view": view}
        parts.append(pd.DataFrame(part | {"d0": d0, "d1": d1, "judge": 0.0}))
    return pd.concat(parts, ignore_index=True)


def test_verdicts():
    rows = [(1.0, 2, 2, 1), (1, 2, 3, 4), (2, 1, 2, 2), (2, 1, 1, 2)]
    table = verdict_table({"a": distances(rows), "b": distances(rows[::-1])})
    a = table[table["metric"] == "a"]
    assert a["closer"].tolist() == ["p0", "p0", "p1", "p1"]
    assert a["closer_shifted"].tolist() == ["p1", "p0", "p1", "p0"]
    assert a["flips"].tolist() == [True, False, False, True]
    assert table["metric"].tolist() == ["a", "b"] * 4
    assert table["sample"].tolist() == [f"x-{i}" for i in range(4) for _ in "ab"]


def test_verdicts_need_a_shift():
    unshifted = distances([(1.0, 2, 2, 1)]).query("view != 'shift-1'")
    with pytest.raises(ValueError, match="distances of a must have"):
        verdict_table({"a": unshifted})


def test_first_flips():
    rows = [(1.0, 2, 3, 4), (1, 2, 2, 1), (2, 1, 1, 2), (1, 2, 2, 1)]
    table = verdict_table({"a": distances(rows), "b": distances(rows[::-1])})
    assert first_flips(table, "a", 2) == ["x-1", "x-2"]
    assert first_flips(table, "a", 9) == ["x-1", "x-2", "x-3"]
    assert first_flips(table, "b", 1) == ["x-0"]


def test_shift_curves():
    triplets = distances([(1.0, 3, 3, 1), (2, 4, 2, 4)])
    references = distances([(0.0, 0, 1, 1), (0, 0, 3, 3)])
    table = shift_curves(triplets, references)
    assert table[["n", "shift"]].to_numpy().tolist() == [[2, 0], [2, 1]]
    assert table["distance"].tolist() == [0, 2]
    assert table["relative_distance"].tolist() == [0, 2 / 2.5]
    assert table["rrf"].tolist() == pytest.approx([np.nan, 50], nan_ok=True)


def test_layers():
    # Two taps, two triplets, shifts 0 and 1; the second tap flips on the second triplet.
    unshifted = [[[1, 2], [1, 4]], [[2, 4], [3, 6]]]
    shifted = [[[1, 2], [1, 7]], [[2, 4], [3, 6]]]
    table = layer_table(["a", "b"], np.array([unshifted, shifted], float))
    assert table["tap"].tolist() == ["a", "b", "all but the first", "all"]
    assert table["share"].tolist() == pytest.approx([700 / 23, 1600 / 23, 1600 / 23, 100])
    assert table["rrf_1"].tolist() == [0, 50, 50, 0]
