"""The script that compares revisions: spellings of options, and differences of files."""

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parents[1] / ".ci" / "compare_studies"


@pytest.fixture(scope="module")
def script():
    loader = SourceFileLoader("compare_studies", str(PATH))
    module = module_from_spec(spec_from_loader("compare_studies", loader))
    loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("help_text", "spelled"),
    [
        ("[--n N] [--n-train N] [--distances F [F ...]]", "--n 3 --distances a b"),
        ("[--n N] [--n-train N] [--distances F]", "--n 3 --distances a --distances b"),
        ("[--val-triplets N] [--n-train N]", "--val-triplets 3 --distances a --distances b"),
    ],
)
def test_options_as_a_revision_spells_them(script, help_text, spelled):
    options = ["--n", "3", "--distances", "a", "b"]
    assert script.respelled(options, help_text) == spelled.split()


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
