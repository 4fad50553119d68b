"""Digests of datasets: equal for equal files or contents, different for different ones."""

import os
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset

from robust_lpips.data import TwoAFCDataset
from robust_lpips.data.fingerprint import content_digest, fingerprint
from tests.data.bapps_tree import write_subset


class Listed(list):
    """Items 0, 1, ..., made from samples."""

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
    nested = Subset(Subset(dataset, [2, 0, 1]), [1, 0])
    assert fingerprint(nested) == fingerprint(Subset(dataset, [0, 2]))


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


# ---------------------------------------------------------------- content


def copied(root, name):
    """A copy of the files, with later times of change."""
    shutil.copytree(root, root.parent / name, copy_function=shutil.copyfile)
    return root.parent / name


class TestContentOfFiles:
    def test_copies_have_one_digest(self, root):
        first = content_digest(TwoAFCDataset(root))
        assert content_digest(TwoAFCDataset(copied(root, "copy"))) == first
        (root / "2afc" / "val" / "cnn" / "ref" / "000000.png").touch()
        assert content_digest(TwoAFCDataset(root)) == first
        assert re.fullmatch("[0-9a-f]{64}", first)

    @pytest.mark.parametrize("part", ["ref", "p0", "p1"])
    def test_every_pixel_counts(self, root, part):
        first = content_digest(TwoAFCDataset(root))
        path = root / "2afc" / "val" / "cnn" / part / "000002.png"
        pixels = np.array(Image.open(path))
        pixels[-1, -1, -1] ^= 1
        status = path.stat()
        Image.fromarray(pixels).save(path)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert content_digest(TwoAFCDataset(root)) != first

    def test_labels_and_names_count(self, root):
        digests = [content_digest(TwoAFCDataset(root))]
        folder = root / "2afc" / "val" / "cnn"
        np.save(folder / "judge" / "000001.npy", np.array([0.25], dtype=np.float32))
        digests.append(content_digest(TwoAFCDataset(root)))
        for part in ("ref", "p0", "p1", "judge"):
            (path,) = (folder / part).glob("000002.*")
            path.rename(path.with_stem("000003"))
        digests.append(content_digest(TwoAFCDataset(root)))
        folder.rename(folder.with_name("superres"))
        digests.append(content_digest(TwoAFCDataset(root)))
        assert len(set(digests)) == 4

    def test_size_of_images_counts(self, root):
        sizes = [content_digest(TwoAFCDataset(root, image_size=size)) for size in (16, 32, None)]
        assert len(set(sizes)) == 3

    def test_which_samples_and_in_which_order(self, root):
        dataset = TwoAFCDataset(root)
        choices = [dataset, *(Subset(dataset, chosen) for chosen in ([0], [0, 1], [1, 0], []))]
        assert len(set(map(content_digest, choices))) == len(choices)
        assert content_digest(Subset(dataset, [0, 1, 2])) == content_digest(dataset)
        nested = Subset(Subset(dataset, [2, 0, 1]), [1, 0])
        assert content_digest(nested) == content_digest(Subset(dataset, [0, 2]))

    def test_missing_file(self, root):
        dataset = TwoAFCDataset(root)
        (root / "2afc" / "val" / "cnn" / "p1" / "000001.png").unlink()
        with pytest.raises(FileNotFoundError, match=r"p1/000001\.png"):
            content_digest(dataset)

    def test_relative_paths_are_files_too(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        path = (tmp_path / "a.png").relative_to(tmp_path)
        path.write_bytes(b"1")
        first = content_digest(Listed(("a", path, 1.0)))
        assert first == content_digest(Listed(("a", str(path.absolute()), 1.0)))
        path.write_bytes(b"2")
        assert first != content_digest(Listed(("a", path, 1.0)))


def item(**changes):
    image = torch.arange(12, dtype=torch.uint8).reshape(3, 2, 2)
    return {"p0": image, "score": 0.5, "sample": "a"} | changes


class TestContentOfItems:
    def test_equal_items(self):
        swapped = dict(reversed(item().items()))
        strided = item(p0=item()["p0"].permute(2, 1, 0).contiguous().permute(2, 1, 0))
        assert not strided["p0"].is_contiguous()
        digests = {content_digest([one, item()]) for one in (item(), swapped, strided)}
        assert len(digests) == 1
        assert content_digest(Subset([item(), item(score=1.0)], [0])) == content_digest([item()])

    @pytest.mark.parametrize(
        "other",
        [
            item(p0=item()["p0"] ^ torch.tensor([1, 0], dtype=torch.uint8)),
            item(p0=item()["p0"].reshape(3, 4, 1)),
            item(p0=item()["p0"].to(torch.int8)),
            item(p0=item()["p0"].numpy()),
            item(score=0.5 + 2**-53),
            item(score="0.5"),
            item(sample="b"),
            item(sample=b"a"),
            item(sample=["a"]),
            item(sample=None),
            item(more=1),
        ],
        ids=repr,
    )
    def test_other_items(self, other):
        assert content_digest([other]) != content_digest([item()])

    def test_boundaries_between_values_count(self):
        groups = [["ab", "c"], ["a", "bc"], [["ab", "c"]], [["ab"], "c"], [("ab",), ("c",)]]
        assert len(set(map(content_digest, groups))) == len(groups)

    def test_types_of_tensors(self):
        for dtype in (torch.bfloat16, torch.bool, torch.complex64, torch.int64):
            ones, none = torch.ones(2, 2).to(dtype), torch.ones(0, 2).to(dtype)
            scalar = torch.ones(()).to(dtype)
            assert len({content_digest([value]) for value in (ones, none, scalar)}) == 3

    def test_numpy_numbers_are_numbers(self):
        assert content_digest([np.float64(0.5), np.int64(3)]) == content_digest([0.5, 3])

    def test_samples_without_files_do_not_count(self):
        assert content_digest(Listed("a", "b")) == content_digest([0, 1])

    def test_value_of_another_type(self):
        with pytest.raises(TypeError, match=r"items must be made of .*; got set"):
            content_digest([{"x": {1}}])
