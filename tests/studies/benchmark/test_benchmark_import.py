"""Suite import: every statement in an interpreter of its own, and those that do not work."""

import pytest

from robust_lpips.studies.benchmark import Settings, imports


@pytest.fixture
def statements(monkeypatch):
    given = ("import json", "import robust_lpips", "import no_such_package")
    monkeypatch.setattr(imports, "STATEMENTS", given)
    monkeypatch.setattr(imports, "BASELINE", given[0])


def test_times_are_over_the_first(statements, monkeypatch):
    seconds = iter([1.0, 2.0, 1.0, 4.0, 2.0, 6.0])
    monkeypatch.setattr(imports, "_seconds", lambda statement: next(seconds))
    result = imports.measure(Settings(rounds=3))
    base, ours = result.table.to_dict("records")
    assert (base["seconds"], base["ratio"]) == (1.0, 1.0)
    assert (ours["seconds"], ours["ratio"]) == (4.0, 3.0)
    assert result.shown["times torch"][1] == "3.00 [2.00, 4.00]"
    reason = "ModuleNotFoundError: No module named 'no_such_package'"
    assert result.left_out == {"import no_such_package": reason}


def test_interpreters_are_run(statements):
    table = imports.measure(Settings(rounds=1)).table
    assert table["case"].tolist() == ["import json", "import robust_lpips"]
    assert (table["seconds"] > 0).all()
