import gzip
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from robust_lpips.evaluation import (
    read_any_distances,
    read_distances,
    summarize,
    triplet_outcomes,
    write_distances,
)
from robust_lpips.evaluation.released_tables import read_named_distances

OFFICIAL = Path(__file__).parents[2].parent / "shared" / "official"
COLUMNS = ["subset", "sample", "view", "d0", "d1", "judge"]

# As the released code writes them: judgments of float32, distances in full, no header.
CNN = """\
../datasets/2afc/val/cnn/p0/000000.png,0.0215,0.125,0.7999999970197678,0.20000000298023224
../datasets/2afc/val/cnn/p0/000001.png,0.25,0.0625,0.800000011920929,0.800000011920929
../datasets/2afc/val/cnn/p0/000002.png,0.5,0.5,0.5,1.0
"""
COLOR = "../datasets/2afc/val/color/p0/000000.png,1e-05,0.125,1.0,0.0\n"


def full_name(subset: str, model: str = "alex_vanilla") -> str:
    return f"twoAFC_model-{model}_distortion-{subset}.csv"


def shifted_name(shift: int, subset: str, model: str = "alex_vanilla") -> str:
    return f"xshifted_n-{shift}_right_crop_model-{model}_distortion-{subset}_results.csv"


def write(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def export(tidy: pd.DataFrame, folder: Path, model: str) -> Path:
    """A tidy table as the files that the released code would have written of it."""
    folder.mkdir()
    for (subset, view), rows in tidy.groupby(["subset", "view"]):
        name = full_name(subset, model)
        if view != "full":
            name = shifted_name(int(view.removeprefix("shift-")), subset, model)
        score = [
            judge if d1 < d0 else 1 - judge if d0 < d1 else 0.5
            for d0, d1, judge in rows[["d0", "d1", "judge"]].itertuples(index=False)
        ]
        path = "../datasets/2afc/val/" + subset + "/p0/" + rows["sample"] + ".png"
        rows.assign(path=path, score=score)[["path", "d0", "d1", "score", "judge"]].to_csv(
            folder / name, header=False, index=False
        )
    return folder


def test_several_metrics(tmp_path):
    paths = [tmp_path / full_name("cnn", model) for model in ("one", "two")]
    for path in paths:
        path.write_text(CNN)
    assert list(read_named_distances(paths)) == ["one", "two"]
    with pytest.raises(ValueError, match="name of its own; got one, one"):
        read_named_distances([paths[0]] * 2)


# --- One file ----------------------------------------------------------------------------------


def test_a_released_file(tmp_path):
    folder = write(tmp_path, {full_name("cnn"): CNN})
    label, table = read_any_distances(folder / full_name("cnn"))
    assert label == "alex_vanilla"
    assert list(table.columns) == COLUMNS
    assert (table["subset"] == "cnn").all()
    assert (table["view"] == "full").all()
    assert list(table["sample"]) == ["000000", "000001", "000002"]
    assert list(table["d0"]) == [0.0215, 0.25, 0.5]
    assert list(table["d1"]) == [0.125, 0.0625, 0.5]
    assert list(table["judge"]) == [float(np.float32(0.2)), float(np.float32(0.8)), 1.0]
    # The column score is what we make of the others.
    np.testing.assert_allclose(triplet_outcomes(table)["two_afc"], [0.8, 0.8, 0.5], atol=1e-7)


@pytest.mark.parametrize("shift", [0, 3, 12])
def test_views_and_models_are_in_the_name(tmp_path, shift):
    name = shifted_name(shift, "cnn", "vgg_shift_tolerant")
    label, table = read_any_distances(str(write(tmp_path, {name: CNN}) / name))
    assert label == "vgg_shift_tolerant"
    assert (table["view"] == f"shift-{shift}").all()


@pytest.mark.parametrize("name", ["mine", "my.metric-v2", "twoAFC"])
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_a_name_that_says_nothing(tmp_path, name, suffix):
    path = tmp_path / (name + suffix)
    text = (COLOR + CNN).replace("../datasets/2afc/val/", "C:\\data\\").replace("/", "\\")
    path.write_bytes(gzip.compress(text.encode()) if suffix == ".csv.gz" else text.encode())
    label, table = read_any_distances(path)
    assert label == name
    assert list(table["subset"]) == ["color", "cnn", "cnn", "cnn"]
    assert list(table["sample"]) == ["000000", "000000", "000001", "000002"]
    assert (table["view"] == "full").all()


@pytest.mark.parametrize("part", ["ref", "p0", "p1"])
def test_paths_of_any_part_and_folder(tmp_path, part):
    for start in ("", "/a/p0/b c/", "./"):
        path = tmp_path / "m.csv"
        path.write_text(f"{start}mine/{part}/brick.wall-000123.jpeg,1,2,1,0\n")
        _, table = read_any_distances(path)
        assert table.loc[0, ["subset", "sample"]].tolist() == ["mine", "brick.wall-000123"]


def test_a_header_is_no_sample(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("path,d0,d1,score,judge\n" + CNN)
    assert len(read_any_distances(path)[1]) == 3


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_our_own_table_comes_back(tmp_path, suffix):
    rows = [("s", "NA", "full", 0.1, 0.2, 0.4), ("s", "0001", "full", 1 / 3, 0.2, 1.0)]
    tidy = pd.DataFrame(rows, columns=COLUMNS)
    path = tmp_path / f"bapps_alex.v1{suffix}"
    write_distances(tidy, path)
    label, table = read_any_distances(path)
    assert label == "bapps_alex.v1"
    assert_frame_equal(table, tidy, check_dtype=False, check_exact=True)
    assert read_any_distances(tmp_path)[0] == label


# --- Several -----------------------------------------------------------------------------------


@pytest.fixture
def released(tmp_path) -> Path:
    files = {full_name("color"): COLOR, full_name("cnn"): CNN}
    for shift in range(3):
        files |= {shifted_name(shift, "color"): COLOR, shifted_name(shift, "cnn"): CNN}
    folder = write(tmp_path / "alex_vanilla", files)
    (folder / "notes.txt").write_text("not a table")
    return folder


def test_a_folder_of_one_model(released):
    label, table = read_any_distances(released)
    assert label == "alex_vanilla"
    assert list(table.columns) == COLUMNS
    assert len(table) == 4 * (3 + 1)
    assert list(table["subset"].unique()) == ["cnn", "color"]  # BAPPS's order
    assert list(table["view"].unique()) == ["full", "shift-0", "shift-1", "shift-2"]
    found = summarize(table, n_boot=0).set_index("subset")
    assert list(found["n"]) == [3, 1, 4]
    assert found.loc["cnn", "two_afc"] == pytest.approx(70)
    assert found.loc["mean", "rrf_2"] == 0


def test_a_list_of_files(released):
    files = [released / full_name("color"), str(released / full_name("cnn"))]
    label, table = read_any_distances(files)
    assert label == "alex_vanilla"
    every = read_any_distances(released)[1]
    assert_frame_equal(table, every[every["view"] == "full"].reset_index(drop=True))


def test_files_of_several_models(released):
    write(released, {full_name("cnn", "vgg_vanilla"): CNN, "mine.csv": CNN})
    with pytest.raises(ValueError, match=r"one metric; .* has 3: ") as error:
        read_any_distances(released)
    for label in ("alex_vanilla", "vgg_vanilla", "mine"):
        assert label in str(error.value)
    with pytest.raises(ValueError, match="has 2: "):
        read_any_distances([released / "mine.csv", released / full_name("cnn")])


def test_the_same_rows_twice(released):
    (released / f"{full_name('cnn')}.gz").write_bytes(gzip.compress(CNN.encode()))
    with pytest.raises(ValueError, match="repeats rows: cnn/000000/full"):
        read_any_distances(released)


# --- What is not such a table ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "its first line is ''"),
        ("a,b\n1,2\n", "subset, sample, .*path, d0, d1, score, judge; its first line is 'a,b'"),
        ("path,d0,d1,judge\nx/p0/1.png,1,2,0\n", "first line is 'path,d0,d1,judge'"),
        ("subset,sample,d0\ns,1,2\n", r"must have the columns .* got subset, sample, d0"),
        ("path,d0,d1,score,judge\n", "no rows"),
        ("x/p0/1.png,1,2,1,0\nx/p0/2.png,1,two,1,0\n", "could not convert"),
        ("x/p0/1.png,1,2,1,0\nx/p0/2.png,1,2,1,0,5\n", "Expected 5 fields"),
        ("x/p0/1.png,1,2,1,0\nx/p0/2.png,1,2,1\n", "could not convert .*''"),
        ("x/p0/1.png,1,nan,1,0\n", "d1 must be finite; got nan at x/1/full"),
        ("x/p0/1.png,1,2,-1,2\n", r"judge must be in \[0, 1\]"),
        ("x/p0/1.png,1,2,1,0\nx/p1/1.png,1,2,1,0\n", "repeats rows: x/1/full"),
        ("1.png,1,2,1,0\n", "path must be <subset>/p0/<sample>.png.* got 1.png"),
        ("x/p2/1.png,1,2,1,0\n", "got x/p2/1.png"),
        # Of the score: distances swapped with similarities, and judgments with scores.
        ("x/p0/1.png,2,1,1,0\nx/p0/2.png,1,2,0.8,0.8\n", "similarities: at x/1, x/2"),
        ("x/p0/1.png,1,2,0.2,0.8\nx/p0/2.png,1,2,0.2,0.2\n", "columns are swapped.* at x/2"),
    ],
)
def test_other_files(tmp_path, text, message):
    path = tmp_path / "file.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_any_distances(path)
    assert "file.csv" in str(error.value)


def test_other_paths(tmp_path):
    with pytest.raises(ValueError, match="has none"):
        read_any_distances(tmp_path)
    with pytest.raises(ValueError, match="at least one file"):
        read_any_distances([])
    with pytest.raises(ValueError, match=re.escape("must end in .csv or .csv.gz; got")):
        read_any_distances(tmp_path / "table.json")
    with pytest.raises(FileNotFoundError, match=r"missing\.csv"):
        read_any_distances(tmp_path / "missing.csv")


def test_names_that_contradict_the_rows(tmp_path):
    folder = write(tmp_path, {full_name("color"): CNN})
    with pytest.raises(ValueError, match="the name says subset 'color', the column path cnn"):
        read_any_distances(folder)


@pytest.mark.parametrize("name", ["xshifted_n-1_left_crop_model-m_distortion-cnn_results.csv"])
def test_shifts_of_another_kind_are_not_taken_for_whole_patches(tmp_path, name):
    with pytest.raises(ValueError, match="must be named xshifted_n-<k>_right_crop"):
        read_any_distances(write(tmp_path, {name: CNN}) / name)


# --- What the authors measured -----------------------------------------------------------------


def official(name: str) -> Path:
    path = OFFICIAL / f"{name}.csv.gz"
    if not path.is_file():
        pytest.skip(f"the authors' measurements are not here: {path}")
    return path


def test_the_authors_table():
    label, table = read_any_distances(official("bapps_val_alex_vanilla"))
    assert label == "bapps_val_alex_vanilla"
    assert len(table[["subset", "sample"]].drop_duplicates()) == 36344
    assert_frame_equal(table, read_distances(official("bapps_val_alex_vanilla")))


def test_the_authors_table_in_their_files(tmp_path):
    tidy = read_distances(official("bapps_val_alex_shift_tolerant"))
    tidy = tidy[tidy["subset"].isin(["cnn", "frameinterp"])]
    label, table = read_any_distances(export(tidy, tmp_path / "results", "alex_st"))
    assert label == "alex_st"
    keys = ["subset", "sample", "view"]
    tidy, table = (t.sort_values(keys, ignore_index=True)[COLUMNS] for t in (tidy, table))
    assert_frame_equal(table, tidy, check_exact=True)
