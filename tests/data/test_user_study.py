"""The loaders of the study of small shifts, on files in its layout and on the released answers."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from robust_lpips.data import UserStudyPairs, read_responses

RELEASED = Path(__file__).resolve().parents[3] / "shared/official/user_study_responses.json"

ANSWERS = {
    "./0_9_pix_shift/00318_n-1.png": [0, 1, 1, 1],
    "./0_9_pix_shift/00318_n-9.png": [0, 0, 0],
    "./0_9_pix_shift/00069_n-0.png": [1, 1, 1],
}


def write_answers(path, answers=ANSWERS):
    path.write_text(json.dumps(answers))
    return path


def stimulus(seed, width=532):
    return np.random.default_rng(seed).integers(0, 256, (256, width, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "0_9_pix_shift"
    folder.mkdir()
    for seed, name in enumerate(ANSWERS):
        Image.fromarray(stimulus(seed)).save(folder / Path(name).name)
    (folder / "00999_n-3.png").write_bytes(b"nobody was asked")
    return folder


def test_reads_answers(tmp_path):
    table = read_responses(write_answers(tmp_path / "user_jnd.json"))
    assert list(table.columns) == ["image", "shift", "answer"]
    expected = [("00318", 1, answer) for answer in (0, 1, 1, 1)]
    expected += [("00318", 9, 0)] * 3 + [("00069", 0, 1)] * 3
    assert list(table.itertuples(index=False, name=None)) == expected


@pytest.mark.parametrize("name", ["a-b_n-2_n-3.png", "C:\\study\\a-b_n-2_n-3.png"])
def test_names_in_any_folder(tmp_path, name):
    table = read_responses(write_answers(tmp_path / "answers.json", {name: [1]}))
    assert table.iloc[0].to_list() == ["a-b_n-2", 3, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "expected JSON"),
        ("[[0, 1]]", "expected an object"),
        ("{}", "expected an object"),
        ('{"00318.png": [1]}', r"named <image>_n-<shift>.png; got '00318.png'"),
        ('{"00318_n-x.png": [1]}', "named <image>"),
        ('{"00318_n-01.png": [1]}', "named <image>"),
        ('{"_n-1.png": [1]}', "named <image>"),
        ('{"a_n-1.png": []}', r"answers to 'a_n-1.png' must be a list of some; got \[\]"),
        ('{"a_n-1.png": 1}', "must be a list of some; got 1"),
        ('{"a_n-1.png": {"x": 1}}', "must be a list of some"),
        ('{"a_n-1.png": [0, 2]}', "must be 0 or 1; got 2"),
        ('{"a_n-1.png": [true]}', "must be 0 or 1; got True"),
        ('{"a_n-1.png": [0.5]}', "must be 0 or 1; got 0.5"),
        ('{"a_n-1.png": ["1"]}', "must be 0 or 1; got '1'"),
        ('{"a_n-1.png": [0], "a_n-1.png": [1]}', "comes twice"),
        ('{"x/a_n-1.png": [0], "y/a_n-1.png": [1]}', "comes twice"),
    ],
)
def test_bad_answers(tmp_path, text, message):
    path = tmp_path / "answers.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_responses(path)


def test_missing_answers(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_responses(tmp_path / "answers.json")


def test_released_answers():
    if not RELEASED.is_file():
        pytest.skip("the released answers are not in this checkout's surroundings")
    table = read_responses(RELEASED)
    released = json.loads(RELEASED.read_text())
    assert len(table) == sum(map(len, released.values()))
    assert table.groupby(["image", "shift"]).ngroups == len(released) == 301
    assert sorted(table["shift"].unique()) == list(range(10))
    assert table["answer"].sum() == sum(map(sum, released.values()))


def test_pairs_are_the_halves_of_stimuli(folder, tmp_path):
    dataset = UserStudyPairs(folder, write_answers(tmp_path / "user_jnd.json"))
    assert len(dataset) == 3
    names = ["00318_n-1", "00318_n-9", "00069_n-0"]
    for seed, (item, name, same) in enumerate(zip(dataset, names, [0.75, 0, 1], strict=True)):
        assert list(item) == ["p0", "p1", "same", "subset", "sample"]
        whole = torch.from_numpy(stimulus(seed)).permute(2, 0, 1)
        assert torch.equal(item["p0"], whole[:, :, :256])
        assert torch.equal(item["p1"], whole[:, :, 276:])
        assert item["p0"].shape == item["p1"].shape == (3, 256, 256)
        assert isinstance(item["same"], float)
        assert (item["same"], item["subset"], item["sample"]) == (same, "user-study", name)
    assert "3 samples" in repr(dataset)


def test_pairs_of_a_table(folder):
    table = pd.DataFrame({"image": "00318", "shift": [9, 1, 1], "answer": [0, 1, 0]})
    dataset = UserStudyPairs(folder, table)
    assert [(s.sample, s.same) for s in dataset.samples] == [("00318_n-9", 0.0), ("00318_n-1", 0.5)]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pd.DataFrame({"image": ["a"], "answer": [1]}), "responses lacks columns: shift"),
        (pd.DataFrame({"image": [], "shift": [], "answer": []}), "must have rows"),
        (pd.DataFrame({"image": ["a"], "shift": [1], "answer": [2]}), "answers of 0 and 1"),
    ],
)
def test_bad_tables(folder, table, message):
    with pytest.raises(ValueError, match=message):
        UserStudyPairs(folder, table)


def test_missing_folder_and_stimulus(folder, tmp_path):
    answers = write_answers(tmp_path / "answers.json", {**ANSWERS, "00070_n-4.png": [1]})
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        UserStudyPairs(tmp_path / "nowhere", answers)
    with pytest.raises(FileNotFoundError, match=r"00070_n-4.png: no such file"):
        UserStudyPairs(folder, answers)


def test_stimulus_of_another_size(folder):
    Image.fromarray(stimulus(0, width=512)).save(folder / "00318_n-1.png")
    table = pd.DataFrame({"image": ["00318"], "shift": [1], "answer": [1]})
    with pytest.raises(ValueError, match=r"00318_n-1.png: .*532x256 in all; got 512x256"):
        UserStudyPairs(folder, table)[0]
