"""The script that compares revisions: options of its runs, and differences of files."""

import re
import runpy
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PATH = ROOT / ".ci" / "compare_studies"


@pytest.fixture(scope="module")
def script():
    loader = SourceFileLoader("compare_studies", str(PATH))
    module = module_from_spec(spec_from_loader("compare_studies", loader))
    loader.exec_module(module)
    return module


def test_runs_give_options_that_scripts_have(script, monkeypatch, capsys):
    for command in script.RUNS.values():
        name, *options = command.split()
        # The options of a script depend on the table that is chosen.
        chosen = options[:2] if options[0] == "--table" else []
        monkeypatch.setattr("sys.argv", [name, *chosen, "--help"])
        with pytest.raises(SystemExit):
            runpy.run_path(str(ROOT / "experiments" / name), run_name="__main__")
        known = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))
        assert {part for part in options if part.startswith("--")} <= known, name


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("a,b\n1,x\n", "a,b\n1,x\n", ["equal"]),
        ("a,b\n1,x\n2,y\n", "a,b\n1,x\n2.5,y\n", ["column a differs", "1 of 2 rows", "0.5"]),
        ("a,b\n1,x\n", "a,c\n1,z\n", ["column b removed", "column c added"]),
        ("a\n1\n", "a\n1\n2\n", ["1 rows before, 2 after"]),
        ("a,b\n1,x\n", "b,a\nx,1\n", ["same values"]),
        ("a\nx\n", None, ["before only"]),
        (None, "a\nx\n", ["after only"]),
    ],
)
def test_differences_of_files(script, tmp_path, before, after, words):
    paths = tmp_path / "before.csv", tmp_path / "after.csv"
    for path, text in zip(paths, (before, after), strict=True):
        if text is not None:
            path.write_text(text)
    result = script.compare_files(*paths)
    assert all(word in result for word in words)
    assert (result == "equal") == (before == after)
