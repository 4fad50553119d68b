import doctest

import pandas as pd
import pytest

from robust_lpips import tables
from robust_lpips.tables import MISSING, to_markdown, with_interval, write_csv, write_text

NAN = float("nan")


def parse(markdown: str) -> list[list[str]]:
    """Cells of a Markdown table: header, rule, rows."""
    lines = [line.replace("\\|", "\0") for line in markdown.splitlines()]
    return [
        [cell.strip().replace("\0", "|") for cell in line.strip("|").split("|")] for line in lines
    ]


def test_markdown_holds_the_values_in_their_formats():
    table = pd.DataFrame({"metric": ["l2", "ssim"], "rrf": [12.25, NAN], "n": [100, 7]})
    header, rule, *rows = parse(to_markdown(table, {"rrf": ".1f"}))
    assert header == ["metric", "rrf", "n"]
    assert rows == [["l2", "12.2", "100"], ["ssim", MISSING, "7"]]
    assert [cell.endswith(":") for cell in rule] == [False, True, True]


def test_markdown_lines_are_of_one_width_and_numbers_end_together():
    table = pd.DataFrame({"metric": ["l2", "a-long-name"], "n": [5, 12345]})
    lines = to_markdown(table).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[2].endswith("    5 |")


def test_markdown_escapes_what_would_end_a_cell_or_row():
    table = pd.DataFrame({"a|b": ["x|y", "two\nlines", "back\\slash"]})
    text = to_markdown(table)
    assert text.splitlines()[0] == "| a\\|b        |"
    header, _, *rows = parse(text)
    assert header == ["a|b"]
    assert rows == [["x|y"], ["two lines"], ["back\\\\slash"]]


@pytest.mark.parametrize("missing", [None, NAN, pd.NA])
def test_missing_text_is_a_dash_and_truth_is_text(missing):
    rows = parse(to_markdown(pd.DataFrame({"note": ["x", missing], "ok": [True, False]})))
    assert rows[1] == ["----------"[: len(rows[1][0])], "-----"]
    assert rows[3] == [MISSING, "False"]


def test_markdown_names_wrong_formats_and_refuses_nothing():
    with pytest.raises(ValueError, match="rff"):
        to_markdown(pd.DataFrame({"rrf": [1.0]}), {"rff": ".1f"})
    with pytest.raises(ValueError, match="no columns"):
        to_markdown(pd.DataFrame())


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((88.04, 85.0, 90.81), "88.0 [85.0, 90.8]"),
        ((88.04, NAN, 90.81), "88.0"),
        ((88.04, 85.0, NAN), "88.0"),
        ((NAN, 85.0, 90.0), MISSING),
    ],
)
def test_intervals(values, text):
    assert with_interval(*values) == text


def test_interval_digits():
    assert with_interval(0.12345, 0.1, 0.2, digits=3) == "0.123 [0.100, 0.200]"


def test_csv_has_full_precision_and_no_index(tmp_path):
    path = tmp_path / "new" / "table.csv"
    write_csv(pd.DataFrame({"metric": ["l2", "ssim"], "rrf": [1 / 3, NAN]}), path)
    assert path.read_bytes() == f"metric,rrf\nl2,{1 / 3!r}\nssim,\n".encode()
    assert [entry.name for entry in path.parent.iterdir()] == ["table.csv"]


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "page.md"
    write_text(path, "café\n")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_bytes() == "café\n".encode()
    assert [entry.name for entry in tmp_path.iterdir()] == ["page.md"]


def test_examples():
    assert doctest.testmod(tables).failed == 0
