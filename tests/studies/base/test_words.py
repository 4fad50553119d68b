import math

import pandas as pd

from robust_lpips.studies.base.source import Source
from robust_lpips.studies.base.words import (
    conditions,
    difference_cell,
    interval_cells,
    pivot_in_order,
    quantity_label,
    rank_flip_columns,
)


def test_labels():
    assert [quantity_label(name) for name in ("two_afc", "rrf_1", "srcc")] == [
        "accuracy",
        "r_rf 1",
        "srcc",
    ]


def test_rank_flip_columns():
    scores = ["two_afc", "rrf_1", "rrf_1_low", "rrf_1_high", "rrf_10", "rrf_10_low"]
    assert rank_flip_columns(scores) == ["rrf_1", "rrf_10"]


def test_cells():
    table = pd.DataFrame({"x": [1.25, 2.0], "x_low": [1, math.nan], "x_high": [1.5, math.nan]})
    assert interval_cells(table, "x", 2) == ["1.25 [1.00, 1.50]", "2.00"]
    row = pd.Series({"difference": 0.25, "low": -1.0, "high": 1.5})
    assert difference_cell(row) == "+0.2 [-1.0, +1.5]"


def test_pivot_keeps_the_order():
    table = pd.DataFrame(
        {"metric": ["z", "z", "a", "a"], "subset": ["t", "c", "t", "c"], "cell": list("1234")}
    )
    wide = pivot_in_order(table, "metric", "subset", "cell")
    assert wide.columns.tolist() == ["metric", "t", "c"]
    assert wide.to_numpy().tolist() == [["z", "1", "2"], ["a", "3", "4"]]


def test_conditions():
    source = Source("BAPPS val", "", size="64x64 px")
    assert "3 px" in conditions(source, 10, max_shift=3, seed=0)
    assert conditions(source, 10, seed=7).endswith("10 triplets of 64x64 px, seed 7")
