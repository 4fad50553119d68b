"""The tables as data: which configurations, and the numbers that were published of them."""

import csv
from dataclasses import asdict
from pathlib import Path

import pytest

from robust_lpips.backbones import build_backbone
from robust_lpips.published.rows import PUBLISHED_QUANTITIES, TABLES, table_rows

PAPER = Path(__file__).parents[2].parent / "shared" / "paper"


@pytest.mark.parametrize(
    ("table", "count"), [("alexnet", 11), ("blur-placement", 6), ("backbones", 9), ("skip", 5)]
)
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
    assert all(name in names for row in rows for name in row.baselines)
    assert any(not row.baselines for row in rows)


def test_a_backbone_is_compared_with_its_plain_self():
    rows = table_rows("backbones")
    plain = {row.config.arch: row.name for row in rows if row.config.anti_alias == "none"}
    assert len(plain) == 3
    for row in rows:
        blurred = row.config.anti_alias == "blurpool"
        assert row.baselines == ((plain[row.config.arch],) if blurred else ())
        assert row.config.stride1 == (1 if blurred or row.config.arch == "vgg16" else 2)
        assert ("clamps" in row.note) == (row.config.arch == "squeezenet1_1")


def test_skips_are_compared_with_what_they_change():
    rows = {row.name: row for row in table_rows("skip")}
    blurred, strided = "vgg16-blurpool-pad2", "vgg16-skip-strided"
    assert {name: row.baselines for name, row in rows.items()} == {
        "vgg16": (),
        strided: ("vgg16",),
        blurred: ("vgg16",),
        f"{blurred}-skip-strided": (blurred, strided),
        f"{blurred}-skip-blurpool": (blurred, strided),
    }
    assert not any(row.published for row in rows.values())


@pytest.mark.parametrize("table", TABLES)
def test_numbers_are_those_of_the_transcript(table):
    path = PAPER / TABLES[table]
    if not path.is_file():
        pytest.skip("the transcript of the paper's tables is not next to this checkout")
    with path.open() as file:
        transcript = {record["row"]: record for record in csv.DictReader(file)}
    rows = table_rows(table)
    assert [row.name for row in rows] == list(transcript)
    for row in rows:
        record = transcript[row.name]
        numbers = {name: float(record[name]) for name in PUBLISHED_QUANTITIES if name in record}
        assert row.published == numbers
        options = asdict(row.config) | {"conv1_stride": row.config.stride1}
        for name in ("arch", "anti_alias", "conv1_stride", "skip"):
            assert str(options[name]) == record.get(name, str(options[name]))


def test_unknown_table():
    with pytest.raises(ValueError, match="alexnet, blur-placement, backbones, skip; got 'resnet'"):
        table_rows("resnet")
