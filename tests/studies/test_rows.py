"""The tables as data: which configurations, and the numbers that were published of them."""

import csv
from pathlib import Path

import pytest

from robust_lpips.backbones import build_backbone
from robust_lpips.studies.rows import TABLES, table_rows

PAPER = Path(__file__).parents[2].parent / "shared" / "paper"


@pytest.mark.parametrize(("table", "count"), [("alexnet", 11), ("blur-placement", 6)])
def test_tables_have_the_papers_rows(table, count):
    rows = table_rows(table)
    assert len({row.name for row in rows}) == count
    assert len({row.config for row in rows}) == count
    for row in rows:
        build_backbone(row.config)


def test_a_row_is_the_released_network():
    row = {row.name: row for row in table_rows("blur-placement")}["s1-blur-before-activation"]
    assert (row.config.reflection_pad, row.config.conv1_stride) == (2, 1)
    assert row.published == {"two_afc": 70.48, "rrf_1": 0.57, "rrf_2": 1.06, "rrf_3": 1.5}


@pytest.mark.parametrize("table", TABLES)
def test_baselines_are_rows(table):
    rows = table_rows(table)
    names = [row.name for row in rows]
    assert all(row.baseline in names for row in rows if row.baseline)
    assert any(row.baseline is None for row in rows)


@pytest.mark.parametrize("table", TABLES)
def test_numbers_are_those_of_the_transcript(table):
    path = PAPER / TABLES[table]
    if not path.is_file():
        pytest.skip("the transcript of the paper's tables is not beside this checkout")
    with path.open() as file:
        published = {record["row"]: record for record in csv.DictReader(file)}
    for row in table_rows(table):
        for name, value in row.published.items():
            assert value == float(published[row.name][name])
        assert row.config.stride1 == int(published[row.name]["conv1_stride"])
        assert row.config.anti_alias == published[row.name]["anti_alias"]


def test_unknown_table():
    with pytest.raises(ValueError, match="alexnet, blur-placement; got 'resnet'"):
        table_rows("resnet")
