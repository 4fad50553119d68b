"""The triplets of a run are decoded once."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset

from robust_lpips.data import PackedDataset, TwoAFCDataset, bapps, sample_dataset
from robust_lpips.data.sample import JUDGE
from robust_lpips.studies.triplets import count, decoded_once, triplets
from robust_lpips.training import with_teacher

SIZE = 32


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUST_LPIPS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path):
    """Five triplets of noise."""
    rng = np.random.default_rng(0)
    for part in ("ref", "p0", "p1", "judge"):
        folder = tmp_path / "bapps" / "2afc" / "val" / "cnn" / part
        folder.mkdir(parents=True)
        for i in range(5):
            pixels = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
            if part == "judge":
                np.save(folder / f"{i}.npy", i / 5)
            else:
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return tmp_path / "bapps"


def test_packed_once(root, cache, monkeypatch):
    files = TwoAFCDataset(root, image_size=SIZE)
    expected = [files[i]["p1"] for i in (0, 2, 4)]
    first = triplets(root, "val", 3, SIZE)
    assert isinstance(first, PackedDataset)
    assert first.samples == [files.samples[i] for i in (0, 2, 4)]
    monkeypatch.setattr(bapps, "read_image", lambda *_: pytest.fail("decoded"))
    again = triplets(root, "val", 3, SIZE)
    assert all(map(torch.equal, expected, (item["p1"] for item in again)))
    assert list((cache / "packed").iterdir()) == [again.path]


def test_counting_packs_nothing(root, cache):
    assert [count(root, "val", n, SIZE) for n in (None, 2, 9)] == [5, 2, 5]
    assert not cache.exists()


def test_files_are_read_where_the_cache_has_no_room(root, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 0))
    with pytest.warns(UserWarning, match=r"0 are free: .*decoded anew each time") as caught:
        dataset = triplets(root, "val", 3, SIZE)
    assert caught[0].filename == __file__
    assert isinstance(dataset, Subset)
    assert torch.equal(dataset[1]["ref"], TwoAFCDataset(root, image_size=SIZE)[2]["ref"])


def test_files_are_read_where_the_cache_is_no_folder(root, cache):
    cache.write_text("a file")
    with pytest.warns(UserWarning, match="decoded anew each time"):
        assert len(triplets(root, "val", None, SIZE)) == 5


def test_the_sample_set_keeps_its_judges_distances(tmp_path):
    dataset = triplets(None, "train", 2, SIZE)
    assert isinstance(dataset, PackedDataset)
    path = tmp_path / "not-written.csv.gz"
    expected = with_teacher(sample_dataset(split="train", n=2, image_size=SIZE), JUDGE, path)
    found = with_teacher(dataset, JUDGE, path)
    assert [item["teacher"].tolist() for item in found] == [
        item["teacher"].tolist() for item in expected
    ]
    assert not path.exists()


def test_a_file_that_is_gone_is_not_taken_for_a_full_cache(root):
    dataset = TwoAFCDataset(root, image_size=SIZE)
    Path(dataset.samples[0].p0).unlink()
    with pytest.raises(FileNotFoundError):
        decoded_once(dataset)
