"""Sources: data sets with their words, decoded once."""

import shutil
from pathlib import Path

import pytest
import torch
from torch.utils.data import Subset

from robust_lpips.data import PackedDataset, TwoAFCDataset, bapps, sample_dataset
from robust_lpips.data.sample import JUDGE
from robust_lpips.studies.base.source import source_of, triplets
from robust_lpips.training import with_teacher
from tests.studies.base.tiny import SIZE, TinySettings


@pytest.fixture
def root(work):
    """Five triplets of noise, and a cache of their own."""
    return work.root / "bapps"


def test_packed_once(root, monkeypatch):
    files = TwoAFCDataset(root, image_size=SIZE)
    expected = [files[i]["p1"] for i in (0, 2, 4)]
    first = triplets(root, "val", 3, SIZE).dataset
    assert isinstance(first, PackedDataset)
    assert first.samples == [files.samples[i] for i in (0, 2, 4)]
    monkeypatch.setattr(bapps, "read_image", lambda *_: pytest.fail("decoded"))
    again = triplets(root, "val", 3, SIZE).dataset
    assert all(map(torch.equal, expected, (item["p1"] for item in again)))
    assert again.path == first.path


def test_words(root):
    people, nobody = triplets(root, "val", 3, SIZE), triplets(None, "val", 2, SIZE)
    assert (people.by_people, nobody.by_people) == (True, False)
    assert (people.name, nobody.name) == ("BAPPS val", "sample set val")
    assert (people.clustered, nobody.clustered) == ("", " clustered by photograph")
    assert (people.size, nobody.size) == (f"{SIZE}x{SIZE} px",) * 2
    assert people.accuracy_label == "2AFC (%)"
    assert people.accuracy != nobody.accuracy


def test_files_are_read_where_the_cache_has_no_room(root, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 0))
    with pytest.warns(UserWarning, match=r"0 are free.*decoded each time"):
        dataset = triplets(root, "val", 3, SIZE).dataset
    assert isinstance(dataset, Subset)
    assert torch.equal(dataset[1]["ref"], TwoAFCDataset(root, image_size=SIZE)[2]["ref"])


def test_files_are_read_where_the_cache_is_no_folder(root):
    (root.parent / "cache").write_text("a file")
    with pytest.warns(UserWarning, match="decoded each time"):
        assert len(triplets(root, "val", None, SIZE).dataset) == 5


def test_the_sample_set_keeps_its_judges_distances(root):
    dataset = triplets(None, "train", 2, SIZE).dataset
    assert isinstance(dataset, PackedDataset)
    path = root / "not-written.csv.gz"
    expected = with_teacher(sample_dataset(split="train", n=2, image_size=SIZE), JUDGE, path)
    found = with_teacher(dataset, JUDGE, path)
    assert [item["teacher"].tolist() for item in found] == [
        item["teacher"].tolist() for item in expected
    ]
    assert not path.exists()


def test_built_once_for_the_same_settings(root):
    settings = TinySettings(data_root=root, image_size=SIZE)
    assert source_of(settings) is source_of(TinySettings(data_root=root, image_size=SIZE))
    assert source_of(settings) is not source_of(TinySettings(data_root=root, image_size=SIZE, n=2))


@pytest.mark.parametrize(("n", "used"), [(None, TinySettings.sample_n), (7, 7)])
def test_size_of_the_sample_set(monkeypatch, n, used):
    asked = []
    monkeypatch.setattr(
        "robust_lpips.studies.base.settings.triplets", lambda *given: asked.append(given)
    )
    TinySettings(n=n, image_size=SIZE).source()
    TinySettings(n=n, image_size=SIZE, data_root=Path("x")).source()
    assert [given[2] for given in asked] == [used, n]
