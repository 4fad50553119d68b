"""Suite import: every statement in an interpreter of its own, and those that do not work."""

import pytest

from robust_lpips.studies.benchmark import imports
from robust_lpips.studies.benchmark.imports import ImportSettings


@pytest.fixture
def statements(monkeypatch):
    given = ("import json", "import robust_lpips", "import no_such_package")
    monkeypatch.setattr(imports, "STATEMENTS", given)


def test_times_are_over_the_first(statements, monkeypatch):
    # Each that works is run once before, which does not count.
    seconds = iter([9.0, 9.0, 1.0, 2.0, 1.0, 4.0, 2.0, 6.0])
    monkeypatch.setattr(imports, "seconds_of", lambda work, device: work() and next(seconds))
    result = imports.measure(ImportSettings(rounds=3), "cpu")
    base, ours = result.table.to_dict("records")
    assert (base["seconds"], base["ratio"]) == (1.0, 1.0)
    assert (ours["seconds"], ours["ratio"]) == (4.0, 3.0)
    assert (ours["ratio_low"], ours["ratio_high"]) == (2.0, 4.0)
    reason = "ModuleNotFoundError: No module named 'no_such_package'"
    assert result.unavailable == {"import no_such_package": reason}


def test_interpreters_are_run(statements):
    table = imports.measure(ImportSettings(rounds=1), "cpu").table
    assert table["case"].tolist() == ["import json", "import robust_lpips"]
    assert (table["seconds"] > 0).all()
