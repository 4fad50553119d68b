"""Records: JSON lines that are appended, read and rendered."""

import json
import math

import pytest

from robust_lpips import records
from robust_lpips.records import Record


def add(folder, metric="l2", time=None, **changes):
    """One record; with ``time``, as if it had been written then."""
    own = {
        "metric": metric,
        "n": 4,
        "scores": {"two_afc": (62.92, 62.0, 64.0), "rrf_1": (3.59, math.nan, math.nan)},
    }
    of_run = {
        "benchmark": "2AFC",
        "dataset": "BAPPS val",
        "judged_by": "By people.",
        "command": "python x.py",
        "commits": ["abc"],
        "settings": {"image_size": 64},
    }
    records.append(folder, [Record(**(own | changes))], **of_run)
    if time:
        path = folder / records.RECORDS_FILE
        *lines, last = path.read_text().splitlines()
        lines.append(json.dumps(json.loads(last) | {"time": time}))
        path.write_text("\n".join(lines) + "\n")


def test_one_json_line_each(tmp_path):
    add(tmp_path / "a", "l2")
    add(tmp_path / "a", "ssim", weights="ab" * 32)
    lines = (tmp_path / "a" / records.RECORDS_FILE).read_text().splitlines()
    first, second = map(json.loads, lines)
    assert (first["metric"], second["metric"]) == ("l2", "ssim")
    assert first["scores"] == {"two_afc": [62.92, 62.0, 64.0], "rrf_1": [3.59, None, None]}
    assert first["settings"] == {"image_size": 64}
    assert first["commits"] == ["abc"]
    assert second["weights"] == "ab" * 32
    assert {"robust-lpips", "python", "torch"} <= set(first["versions"])
    assert records.read(tmp_path) == [first, second]


def test_the_newest_of_the_same_evaluation_counts(tmp_path):
    add(tmp_path, time="2026-01-02T00:00:00+00:00", scores={"two_afc": (70.0, 69.0, 71.0)})
    add(tmp_path, time="2026-01-01T00:00:00+00:00", scores={"two_afc": (50.0, 49.0, 51.0)})
    page = records.leaderboard(records.read(tmp_path))
    assert "70.00 [69.00, 71.00]" in page
    assert "50.0" not in page


def test_other_numbers_of_samples_are_other_evaluations(tmp_path):
    add(tmp_path, "l2", n=1000)
    add(tmp_path, "l2", n=10)
    page = records.leaderboard(records.read(tmp_path))
    assert "1000 samples" in page
    assert "\n10 samples" in page


def test_best_first_and_benchmarks_apart(tmp_path):
    add(tmp_path, "low", scores={"two_afc": (60.0, 59.0, 61.0)})
    add(tmp_path, "high", scores={"two_afc": (70.0, 69.0, 71.0), "rrf_1": (1.0, 0.5, 1.5)})
    add(tmp_path, "other", settings={"image_size": 256})
    page = records.leaderboard(records.read(tmp_path))
    assert page.index("| high") < page.index("| low")
    assert page.count("## 2AFC: BAPPS val") == 2
    assert "image_size 256" in page
    assert "–" in page  # noqa: RUF001, low has no r_rf


@pytest.mark.parametrize("line", ["{", "[1]", '{"benchmark": "2AFC"}'])
def test_a_broken_line_is_named(tmp_path, line):
    (tmp_path / records.RECORDS_FILE).write_text(line + "\n")
    with pytest.raises(ValueError, match=r"records\.jsonl, line 1: expected a record"):
        records.read(tmp_path)


def test_data_set_of_a_record_goes_before_that_of_the_run(tmp_path):
    add(tmp_path, dataset="TID2013", judged_by="By a formula.")
    (record,) = records.read(tmp_path)
    assert (record["dataset"], record["judged_by"]) == ("TID2013", "By a formula.")


def test_records_before_commits_were_kept_are_rendered(tmp_path):
    add(tmp_path)
    path = tmp_path / records.RECORDS_FILE
    old = json.loads(path.read_text())
    del old["commits"]
    path.write_text(json.dumps(old) + "\n")
    assert "62.92 [62.00, 64.00]" in records.leaderboard(records.read(tmp_path))


def test_no_records_no_file(tmp_path):
    records.append(
        tmp_path, [], benchmark="", dataset="", judged_by="", command=None, commits=[], settings={}
    )
    assert not list(tmp_path.iterdir())
