"""Scores of estimated translations, by hand."""

import numpy as np
import pandas as pd
import pytest

from robust_lpips.evaluation.translations import axis_errors, case_means, shares


def test_shares_by_hand():
    table = pd.DataFrame(
        [(0, 0, 0, 0), (1, 2, 1, 2), (1, 2, 0, 0), (0, 3, 0, 1)],
        columns=["true_rows", "true_columns", "rows", "columns"],
    ).assign(distortion="jpeg", severity=0.5)
    (row,) = shares(table).to_dict("records")
    assert row == {
        "distortion": "jpeg",
        "severity": 0.5,
        "n": 4,
        "exact": 50.0,
        "stayed": 25.0,
        "wrong": 25.0,
        "farthest": 2,
    }


def test_errors_between_pixels_by_hand():
    table = pd.DataFrame(
        {
            "distortion": "none",
            "true_rows": [0.25, 0.5, 1.0],
            "rows": [0.25, 0.75, 2.0],
            "true_columns": [2.75, -2.5, 2.0],
            "columns": [3.0, -2.5, 2.0],
        }
    )
    found = axis_errors(table, 2).set_index(["axis", "shift"])
    assert found.loc[("rows", "to 2 px"), "median"] == 0.25
    assert found.loc[("rows", "to 2 px"), "p95"] == pytest.approx(0.925)
    assert found.loc[("columns", "beyond"), ["n", "median"]].tolist() == [2, 0.125]


def test_means_of_cases_by_hand():
    table = pd.DataFrame(
        {
            "case": ["a", "a", "b"],
            "radius": 3,
            "pair": [0, 1, 0],
            "true_rows": [0, 0, np.nan],
            "true_columns": [2, 2, np.nan],
            "rows": [0.0, 0, 1],
            "columns": [2.0, 0, 0],
            "unregistered": [1.0, 3, 5],
            "registered": [0.0, 3, 4],
            "human": [0.5, 3, 4],
        }
    )
    a, b = case_means(table, ["unregistered", "registered", "human"]).to_dict("records")
    assert (a["radius"], a["n"]) == (3, 2)
    assert (a["true_rows"], a["true_columns"], a["rows"], a["columns"]) == (0, 2, 0, 2)
    assert (a["stayed"], a["right"], a["unregistered"], a["human"]) == (50, 50, 2, 1.75)
    assert np.isnan(b["true_rows"])
    assert b["stayed"] == 0
    assert np.isnan(b["right"])
