"""The loader of CLIC's choices, on small trees in the layout of the challenge's kit."""

import numpy as np
import pytest
import torch
from PIL import Image

from robust_lpips.data import CLICDataset
from robust_lpips.evaluation.bootstrap import photograph

NAMES = ("be43", "7254", "2a99", "ea17")
ROWS = (("be43", "7254", "2a99", 0), ("be43", "2a99", "ea17", 1))


def pixels(name, size=12):
    seed = NAMES.index(name)
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def as_tensor(array):
    return torch.from_numpy(array).permute(2, 0, 1)


@pytest.fixture
def root(tmp_path):
    for name in NAMES:
        Image.fromarray(pixels(name)).save(tmp_path / f"{name}.png")
    return tmp_path


def lines(rows=ROWS):
    return "".join(f"{o}.png,{a}.png,{b}.png,{t}\n" for o, a, b, t in rows)


def test_gives_back_what_was_written(root):
    (root / "oracle.csv").write_text(lines())
    (root / "validation.csv").write_text("be43.png,7254.png,2a99.png\n")
    (root / "notes.txt").write_text("more")
    dataset = CLICDataset(root)
    assert dataset.csv == root / "oracle.csv"
    assert len(dataset) == 2
    for item, row in zip(dataset, ROWS, strict=True):
        assert list(item) == ["ref", "p0", "p1", "judge", "subset", "sample"]
        for part, name in zip(("ref", "p0", "p1"), row[:3], strict=True):
            assert item[part].dtype == torch.uint8
            assert torch.equal(item[part], as_tensor(pixels(name)))
        assert isinstance(item["judge"], float)
        assert item["judge"] == row[3]
        assert item["subset"] == "clic"
    assert [sample.sample for sample in dataset.samples] == ["be43-000000", "be43-000001"]
    assert "2 samples" in repr(dataset)


def test_samples_of_one_original_share_their_cluster(root):
    (root / "oracle.csv").write_text(lines((*ROWS, ("ea17", "7254", "2a99", 1))))
    names = [sample.sample for sample in CLICDataset(root).samples]
    assert len(set(names)) == 3
    assert [photograph(name) for name in names] == ["be43", "be43", "ea17"]


def test_resizes(root):
    (root / "oracle.csv").write_text(lines())
    expected = Image.fromarray(pixels("2a99")).resize((8, 8), Image.Resampling.BICUBIC)
    assert torch.equal(CLICDataset(root, image_size=8)[0]["p1"], as_tensor(np.array(expected)))


def test_header_gives_the_order_of_columns(root):
    (root / "mine.csv").write_text("T,rater,B,A,O\n\n1,x,ea17.png,2a99.png,be43.png\n")
    item = CLICDataset(root, "mine.csv")[0]
    assert item["judge"] == 1.0
    for part, name in zip(("ref", "p0", "p1"), ("be43", "2a99", "ea17"), strict=True):
        assert torch.equal(item[part], as_tensor(pixels(name)))


@pytest.mark.parametrize(
    "text",
    [
        "crops\\be43.png,crops\\7254.png,crops\\2a99.png,0\r\n",
        "\ufeffcrops/be43.png, crops/7254.png ,crops/2a99.png,0\n\n , , ,\n",
        '"crops/be43.png","./crops/7254.png","crops/2a99.png","0"',
    ],
    ids=["windows", "mark, spaces and blanks", "quoted"],
)
def test_other_ways_to_write_it(root, text):
    (root / "crops").mkdir()
    for name in NAMES:
        (root / f"{name}.png").rename(root / "crops" / f"{name}.png")
    (root / "oracle.csv").write_text(text, encoding="utf-8", newline="")
    (sample,) = CLICDataset(root).samples
    assert (sample.sample, sample.judge) == ("be43-000000", 0.0)
    assert torch.equal(CLICDataset(root)[0]["p0"], as_tensor(pixels("7254")))


def test_finds_the_csv(root):
    (root / "clic_answers.csv").write_text(lines())
    (root / "validation.csv").write_text("be43.png,7254.png,2a99.png\n")
    assert CLICDataset(root).csv.name == "clic_answers.csv"
    (root / "old_oracle.csv").write_text(lines())
    with pytest.raises(ValueError, match=r"csv must be given .*clic_answers.csv, old_oracle.csv"):
        CLICDataset(root)
    assert CLICDataset(root, root / "old_oracle.csv").csv.name == "old_oracle.csv"


def test_missing_folder_and_csv(root):
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        CLICDataset(root / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"oracle.csv: no such file; .* holds nothing"):
        CLICDataset(root)
    with pytest.raises(FileNotFoundError, match=r"mine.csv: no such file.*O,A,B,T"):
        CLICDataset(root, "mine.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected rows of O,A,B,T, found none"),
        ("O,A,B\nbe43.png,7254.png,2a99.png\n", "lacks T"),
        ("be43.png,7254.png,2a99.png\n", r"line 1: expected 4 columns .*got 3"),
        (lines() + "\nbe43.png,7254.png,2a99.png,2\n", "line 4: T must be 0 or 1; got '2'"),
        ("be43.png,7254.png,2a99.png,\n", "T must be 0 or 1; got ''"),
        ("be43.png,7254.png,2a99.png,0.5\n", "T must be 0 or 1; got '0.5'"),
    ],
)
def test_bad_rows(root, text, message):
    (root / "oracle.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        CLICDataset(root)


@pytest.mark.parametrize("row", ["be43.png,gone.png,2a99.png,0", "be43.png,,2a99.png,0"])
def test_missing_image_names_its_row(root, row):
    (root / "oracle.csv").write_text(lines() + row)
    with pytest.raises(FileNotFoundError, match=r"line 3: A is '(gone.png)?', no such file"):
        CLICDataset(root)


def test_bad_image_and_size(root):
    (root / "oracle.csv").write_text(lines())
    with pytest.raises(ValueError, match="image_size must be None or an integer from 1; got 0"):
        CLICDataset(root, image_size=0)
    (root / "be43.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"be43.png: expected an image"):
        CLICDataset(root)[0]
