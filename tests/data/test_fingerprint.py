"""Fingerprints of datasets: the same for the same files, another for others."""

import os

import pytest
from torch.utils.data import Subset

from robust_lpips.data import TwoAFCDataset
from robust_lpips.data.fingerprint import fingerprint
from tests.data.bapps_tree import write_subset


class Listed(list):
    """Items, and what they are made from."""

    def __init__(self, *samples):
        super().__init__(range(len(samples)))
        self.samples = samples


@pytest.fixture
def root(tmp_path):
    write_subset(tmp_path / "tree", "cnn", n=3)
    return tmp_path / "tree"


@pytest.mark.parametrize("file", ["ref/000000.png", "p1/000002.png", "judge/000001.npy"])
def test_time_and_size_of_every_file_count(root, file):
    first, path = fingerprint(TwoAFCDataset(root)), root / "2afc" / "val" / "cnn" / file
    status = path.stat()
    path.touch()
    second = fingerprint(TwoAFCDataset(root))
    path.write_bytes(path.read_bytes() + b"1")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert len({first, second, fingerprint(TwoAFCDataset(root))}) == 3


def test_the_way_to_the_files_does_not_count(root, monkeypatch):
    first = fingerprint(TwoAFCDataset(root))
    (root.parent / "link").symlink_to(root)
    monkeypatch.chdir(root)
    for way in (".", "../tree", root.parent / "link"):
        assert fingerprint(TwoAFCDataset(way)) == first
    root.rename(root.parent / "renamed")
    assert fingerprint(TwoAFCDataset(root.parent / "renamed")) != first


def test_relative_paths_are_files_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = (tmp_path / "a.png").relative_to(tmp_path)
    path.write_bytes(b"1")
    first = fingerprint(Listed(("a", path, 1.0)))
    assert first == fingerprint(Listed(("a", path.absolute(), 1.0)))
    path.write_bytes(b"12")
    assert first != fingerprint(Listed(("a", path, 1.0)))


def test_which_samples_and_in_which_order(root):
    dataset = TwoAFCDataset(root)
    choices = [dataset, *(Subset(dataset, indices) for indices in ([0], [0, 1], [1, 0], []))]
    assert len(set(map(fingerprint, choices))) == len(choices)
    assert fingerprint(Subset(dataset, [0, 1, 2])) == fingerprint(dataset)


def test_labels_and_names_count():
    datasets = [Listed(("a", 1.0)), Listed(("a", 0.0)), Listed(("b", 1.0)), Listed("a")]
    assert len(set(map(fingerprint, datasets))) == len(datasets)


def test_what_lists_no_samples_counts_by_length():
    assert fingerprint([1, 2]) == fingerprint([3, 4]) != fingerprint([1, 2, 3])
    assert fingerprint(Subset([1, 2, 3], [2, 0])) == fingerprint([1, 2])


def test_files_that_are_not_there_count_by_name(tmp_path):
    gone = [Listed((str(tmp_path / name),)) for name in ("a", "b")]
    assert fingerprint(gone[0]) != fingerprint(gone[1])
    (tmp_path / "a").touch()
    assert fingerprint(gone[0]) != fingerprint(Listed(("a",)))
