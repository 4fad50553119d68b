import pytest

from robust_lpips.comparison import metric_names
from robust_lpips.published.numbers import (
    PUBLISHED_NAMES,
    TABLES,
    published,
    published_of,
    published_shares,
)


@pytest.mark.parametrize("table", TABLES)
def test_every_table_is_there(table):
    assert len(published(table)) > 0


def test_numbers_of_the_paper():
    assert published_of("comparison_bapps", "l2") == {
        "two_afc": 62.92,
        "rrf_1": 3.59,
        "rrf_2": 7.55,
        "rrf_3": 10.82,
    }
    assert published_of("jnd", "alexnet-shift-tolerant") == {"jnd_map": 0.771}
    assert published_of("comparison_bapps", "alexnet-shift-tolerant") == {}  # other weights there
    users = published("user_study").set_index("shift")
    share = 100 * users["said_same"] / (users["said_same"] + users["said_shifted"])
    assert users["percent_same"].to_numpy() == pytest.approx(share.to_numpy(), abs=0.06)


def test_shares_of_the_user_study():
    shares = published_shares()
    assert list(shares) == list(range(10))
    assert shares[0] == pytest.approx(140 / 150, abs=5e-4)
    assert shares[9] == pytest.approx(15 / 150, abs=5e-4)


def test_names_are_of_metrics_and_of_published_rows():
    assert set(PUBLISHED_NAMES) <= set(metric_names())
    tables = ("comparison_bapps", "comparison_clic", "jnd", "shift_examples")
    known = {name for table in tables for name in published(table)["metric"]}
    ours = set(PUBLISHED_NAMES.values())
    assert ours - known == set()


def test_unknown_tables():
    with pytest.raises(ValueError, match="table must be one of comparison_bapps"):
        published("x")
    with pytest.raises(ValueError, match="'user_study' has none"):
        published_of("user_study", "l2")
