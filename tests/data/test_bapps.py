"""The BAPPS loaders, on small trees in BAPPS's layout."""

import os
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from robust_lpips.data import JNDDataset, TwoAFCDataset
from robust_lpips.data.bapps import Pair, Triplet
from tests.data.bapps_tree import pixels, write_subset


def as_tensor(array):
    return torch.from_numpy(array).permute(2, 0, 1)


# ---------------------------------------------------------------- what comes back


def test_two_afc_gives_back_what_was_written(tmp_path):
    write_subset(tmp_path, "cnn", n=3)
    dataset = TwoAFCDataset(tmp_path, image_size=None)
    assert len(dataset) == 3
    for i, item in enumerate(dataset):
        assert list(item) == ["ref", "p0", "p1", "judge", "subset", "sample"]
        for j, part in enumerate(("ref", "p0", "p1")):
            assert item[part].dtype == torch.uint8
            assert torch.equal(item[part], as_tensor(pixels(10 * i + j)))
        assert item["judge"] == pytest.approx(i / 3)
        assert isinstance(item["judge"], float)
        assert (item["subset"], item["sample"]) == ("cnn", f"{i:06d}")


def test_jnd_gives_back_what_was_written(tmp_path):
    write_subset(tmp_path, "traditional", task="jnd")
    dataset = JNDDataset(str(tmp_path), image_size=16)
    item = dataset[1]
    assert list(item) == ["p0", "p1", "same", "subset", "sample"]
    assert torch.equal(item["p0"], as_tensor(pixels(10)))
    assert torch.equal(item["p1"], as_tensor(pixels(11)))
    assert item["same"] == 0.5
    assert len(dataset) == 2


def test_subsets_come_in_the_order_of_bapps(tmp_path):
    for subset in ("zoom", "frameinterp", "color", "traditional", "a_new_one", "cnn", "superres"):
        write_subset(tmp_path, subset, n=1)
    dataset = TwoAFCDataset(tmp_path)
    expected = ("traditional", "cnn", "superres", "color", "frameinterp", "a_new_one", "zoom")
    assert dataset.subsets == expected
    assert tuple(sample.subset for sample in dataset.samples) == expected


def test_chosen_subsets_only(tmp_path):
    for subset in ("traditional", "cnn", "mix"):
        write_subset(tmp_path, subset, split="train")
    chosen = TwoAFCDataset(tmp_path, split="train", subsets=["mix", "cnn"])
    assert chosen.subsets == ("cnn", "mix")
    assert len(chosen) == 4
    assert TwoAFCDataset(tmp_path, split="train", subsets="mix").subsets == ("mix",)


def test_several_roots_follow_each_other(tmp_path):
    write_subset(tmp_path / "a", "cnn", n=2)
    write_subset(tmp_path / "b", "cnn", n=1, seed=500)
    write_subset(tmp_path / "b", "traditional", n=1, seed=600)
    dataset = TwoAFCDataset([tmp_path / "a", tmp_path / "b"], image_size=None)
    assert dataset.roots == (tmp_path / "a", tmp_path / "b")
    assert dataset.subsets == ("traditional", "cnn")
    assert [(s.root.name, s.subset) for s in dataset.samples] == [
        ("a", "cnn"),
        ("a", "cnn"),
        ("b", "traditional"),
        ("b", "cnn"),
    ]
    assert torch.equal(dataset[3]["ref"], as_tensor(pixels(500)))


@pytest.mark.parametrize("size", [8, 11, 32])
def test_resizing_is_that_of_torchvision_on_pil_images(tmp_path, size):
    write_subset(tmp_path, "cnn", n=1)
    resize = v2.Resize((size, size), interpolation=v2.InterpolationMode.BICUBIC)
    expected = np.array(resize(Image.fromarray(pixels(2))))
    item = TwoAFCDataset(tmp_path, image_size=size)[0]
    assert item["p1"].shape == (3, size, size)
    assert torch.equal(item["p1"], as_tensor(expected))


def test_an_image_of_the_right_size_is_not_resized(tmp_path, monkeypatch):
    write_subset(tmp_path, "cnn", n=1)
    monkeypatch.setattr(Image.Image, "resize", lambda *_, **__: pytest.fail("resized"))
    assert torch.equal(TwoAFCDataset(tmp_path, image_size=16)[0]["ref"], as_tensor(pixels(0)))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA"])
def test_other_modes_become_rgb(tmp_path, mode):
    folder = write_subset(tmp_path, "cnn", n=1)
    image = Image.fromarray(pixels(7)).convert(mode)
    if mode == "RGBA":
        image.putalpha(100)
    image.save(folder / "ref" / "000000.png")
    expected = {"L": "L", "P": "P", "RGBA": "RGB"}[mode]  # alpha is dropped, not blended
    expected = np.array(image.convert(expected).convert("RGB"))
    ref = TwoAFCDataset(tmp_path, image_size=None)[0]["ref"]
    assert torch.equal(ref, as_tensor(expected))
    if mode == "L":
        assert torch.equal(ref[0], ref[1])
    if mode == "RGBA":
        assert torch.equal(ref, as_tensor(pixels(7)))


@pytest.mark.parametrize(
    "value", [np.float64(0.25), np.array([0.25], "f4"), np.full((1, 1, 1), 0.25), np.array(1)]
)
def test_a_judge_may_have_any_shape_of_one_element(tmp_path, value):
    folder = write_subset(tmp_path, "cnn", n=1)
    np.save(folder / "judge" / "000000.npy", value)
    assert TwoAFCDataset(tmp_path)[0]["judge"] == float(np.ravel(value)[0])


def test_other_files_are_ignored(tmp_path):
    folder = write_subset(tmp_path, "cnn", n=2)
    for name in (".DS_Store", "._000000.png", "Thumbs.db", "notes.txt"):
        (folder / "ref" / name).write_bytes(b"x")
        (folder / "judge" / name).write_bytes(b"x")
        (folder.parent / name).write_bytes(b"x")
    (folder.parent / ".hidden").mkdir()
    assert len(TwoAFCDataset(tmp_path)) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_default_collation(tmp_path, workers):
    write_subset(tmp_path, "cnn", n=5)
    loader = DataLoader(TwoAFCDataset(tmp_path, image_size=8), batch_size=3, num_workers=workers)
    first, second = loader
    assert first["ref"].shape == (3, 3, 8, 8)
    assert second["ref"].shape == (2, 3, 8, 8)
    judges = torch.cat([first["judge"], second["judge"]])
    assert judges.tolist() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
    assert first["subset"] + second["subset"] == ["cnn"] * 5
    assert second["sample"] == ["000003", "000004"]


# ---------------------------------------------------------------- samples


def test_samples_are_tuples_of_paths_in_order(tmp_path):
    write_subset(tmp_path, "cnn", n=2)
    folder = tmp_path / "2afc" / "val" / "cnn"
    expected = [
        Triplet(
            tmp_path,
            "cnn",
            stem,
            *(str(folder / part / f"{stem}.png") for part in ("ref", "p0", "p1")),
            str(folder / "judge" / f"{stem}.npy"),
        )
        for stem in ("000000", "000001")
    ]
    samples = TwoAFCDataset(tmp_path).samples
    assert list(samples) == expected
    assert samples == expected
    assert samples == TwoAFCDataset(tmp_path).samples
    assert samples != expected[:1]
    assert samples != expected[::-1]
    assert samples != 3
    assert [samples[-1], samples[np.int64(0)]] == expected[::-1]
    for index in (2, -3):
        with pytest.raises(IndexError):
            samples[index]


def test_slices_and_choices_of_samples(tmp_path):
    write_subset(tmp_path, "cnn", n=3, task="jnd")
    write_subset(tmp_path, "traditional", n=2, task="jnd")
    samples = JNDDataset(tmp_path).samples
    whole = list(samples)
    assert all(type(sample) is Pair for sample in whole)
    for part in (slice(1, 4), slice(None, None, -2), slice(-2, None), slice(7, 9)):
        assert samples[part] == whole[part]
    assert samples.take([4, 0, 4]) == [whole[4], whole[0], whole[4]]
    assert samples.subsets == ("traditional", "cnn")
    assert samples[2:].subsets == ("cnn",)
    assert samples[5:].subsets == ()
    assert repr(samples[1:]) == "Samples(4 of traditional, cnn)"


def test_file_names_of_any_kind(tmp_path):
    folder = write_subset(tmp_path, "cnn", n=1)
    for part, suffix in (("ref", ".PNG"), ("p0", ".jpeg"), ("p1", ".png"), ("judge", ".npy")):
        (file,) = (folder / part).iterdir()
        file.rename(folder / part / f"Größe 1.5 of a stem{suffix}")
    (sample,) = TwoAFCDataset(tmp_path).samples
    assert sample.sample == "Größe 1.5 of a stem"
    assert all(os.path.isfile(path) for path in sample[3:])
    assert sample.p0.endswith("p0/Größe 1.5 of a stem.jpeg")


def test_a_relative_root_is_that_of_the_beginning(tmp_path, monkeypatch):
    write_subset(tmp_path, "cnn", n=1)
    monkeypatch.chdir(tmp_path)
    dataset = TwoAFCDataset(".", image_size=16)
    monkeypatch.chdir("/")
    assert torch.equal(dataset[0]["ref"], as_tensor(pixels(0)))


def test_samples_are_small(tmp_path):
    folder, n = tmp_path / "2afc" / "val" / "cnn", 1000
    for part, suffix in (("ref", "png"), ("p0", "png"), ("p1", "png"), ("judge", "npy")):
        (folder / part).mkdir(parents=True)
        for i in range(n):
            (folder / part / f"{i:06d}.{suffix}").touch()
    tracemalloc.start()
    try:
        dataset = TwoAFCDataset(tmp_path)
        bytes_a_sample = tracemalloc.get_traced_memory()[0] / n
    finally:
        tracemalloc.stop()
    assert len(dataset) == n
    # As tuples of paths they took 530.
    assert bytes_a_sample < 100


# ---------------------------------------------------------------- errors


def test_root_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such folder.*2afc/val"):
        TwoAFCDataset(tmp_path / "nowhere")


def test_root_without_the_task_says_what_is_there(tmp_path):
    write_subset(tmp_path, "cnn", task="jnd")
    with pytest.raises(FileNotFoundError, match=r"expected 2afc/val in it, but it holds jnd"):
        TwoAFCDataset(tmp_path)


def test_root_without_the_split_says_which_there_are(tmp_path):
    write_subset(tmp_path, "cnn", split="train")
    with pytest.raises(FileNotFoundError, match=r"expected 2afc/val .*2afc holds train"):
        TwoAFCDataset(tmp_path)


@pytest.mark.parametrize("inner", ["2afc", "2afc/val", "2afc/val/cnn"])
def test_root_too_deep_gets_a_hint(tmp_path, inner):
    write_subset(tmp_path, "cnn")
    with pytest.raises(FileNotFoundError) as caught:
        TwoAFCDataset(tmp_path / inner)
    assert f"did you mean root={str(tmp_path)!r}?" in str(caught.value)


@pytest.mark.parametrize("wanted", ["cnm", ["cnn", "cnm"]])
def test_unknown_subset_lists_those_present(tmp_path, wanted):
    write_subset(tmp_path, "cnn")
    write_subset(tmp_path, "traditional")
    with pytest.raises(ValueError, match=r"subsets must be some of traditional, cnn .*got cnm$"):
        TwoAFCDataset(tmp_path, subsets=wanted)


def test_no_subset_at_all(tmp_path):
    (tmp_path / "2afc" / "val").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"2afc/val: expected a folder for each subset"):
        TwoAFCDataset(tmp_path)


def test_empty_subset(tmp_path):
    write_subset(tmp_path, "cnn", n=0)
    with pytest.raises(ValueError, match=r"val/cnn: .*empty"):
        TwoAFCDataset(tmp_path)


def test_missing_part(tmp_path):
    folder = write_subset(tmp_path, "cnn", n=1)
    (folder / "p0" / "000000.png").unlink()
    (folder / "p0").rmdir()
    with pytest.raises(FileNotFoundError, match=r"cnn/p0: no such folder.*ref, p0, p1, judge"):
        TwoAFCDataset(tmp_path)


@pytest.mark.parametrize("part", ["p0", "p1", "judge"])
def test_ref_without_a_counterpart(tmp_path, part):
    folder = write_subset(tmp_path, "cnn", n=3)
    next((folder / part).glob("000001.*")).unlink()
    with pytest.raises(ValueError, match=rf"ref/000001.png: .*cnn/{part}, found none \(1 such"):
        TwoAFCDataset(tmp_path)


@pytest.mark.parametrize("part", ["p0", "judge"])
def test_counterpart_without_a_ref(tmp_path, part):
    folder = write_subset(tmp_path, "cnn", n=3)
    (folder / "ref" / "000002.png").unlink()
    (folder / "p0" / "000002.png").unlink()
    (folder / "p1" / "000002.png").unlink()
    (folder / "judge" / "000002.npy").unlink()
    suffix = ".npy" if part == "judge" else ".png"
    (folder / part / f"000009{suffix}").write_bytes(b"x")
    with pytest.raises(ValueError, match=rf"{part}/000009{suffix}: .*cnn/ref, found none"):
        TwoAFCDataset(tmp_path)


def test_two_files_of_one_stem(tmp_path):
    folder = write_subset(tmp_path, "cnn", n=1)
    (folder / "ref" / "000000.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"ref/000000\.(png|jpg): a second file with the stem of"):
        TwoAFCDataset(tmp_path)


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (np.nan, "nan"),
        (1.01, "1.01"),
        (-0.5, "-0.5"),
        (np.array([0.2, 0.4]), r"shape \(2,\)"),
        (np.array([]), r"shape \(0,\)"),
        (np.array("half"), "<U4"),
        (np.array(1j), "complex"),
        (np.array([None]), "cannot be read"),
    ],
)
def test_judge_out_of_its_range(tmp_path, value, got):
    folder = write_subset(tmp_path, "cnn", n=1)
    np.save(folder / "judge" / "000000.npy", value, allow_pickle=True)
    dataset = TwoAFCDataset(tmp_path)
    with pytest.raises(ValueError, match=rf"000000.npy: expected .*one number in \[0, 1\].*{got}"):
        dataset[0]


@pytest.mark.parametrize("content", [b"", b"0.5\n", b"\x93NUMPY\x01\x00"])
def test_judge_that_is_no_npy_file(tmp_path, content):
    folder = write_subset(tmp_path, "cnn", n=1)
    (folder / "judge" / "000000.npy").write_bytes(content)
    dataset = TwoAFCDataset(tmp_path)
    with pytest.raises(ValueError, match=r"000000.npy: expected .*cannot be read"):
        dataset[0]


def test_judge_that_is_an_archive(tmp_path):
    folder = write_subset(tmp_path, "cnn", n=1)
    with open(folder / "judge" / "000000.npy", "wb") as file:
        np.savez(file, a=np.array(0.5))
    dataset = TwoAFCDataset(tmp_path)
    with pytest.raises(ValueError, match=r"000000.npy: expected .*archive"):
        dataset[0]


@pytest.mark.parametrize("kept", [0, 10, 200])
def test_image_that_cannot_be_decoded(tmp_path, kept):
    folder = write_subset(tmp_path, "cnn", n=1)
    path = folder / "p1" / "000000.png"
    path.write_bytes(path.read_bytes()[:kept])
    dataset = TwoAFCDataset(tmp_path)
    with pytest.raises(ValueError, match=r"p1/000000.png: expected an image"):
        dataset[0]


def test_image_that_has_gone_since(tmp_path):
    folder = write_subset(tmp_path, "cnn", n=1)
    dataset = TwoAFCDataset(tmp_path)
    (folder / "p1" / "000000.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"p1/000000.png"):
        dataset[0]


@pytest.mark.parametrize("size", [0, -1, 64.0, "64", True])
def test_image_size_is_checked(tmp_path, size):
    with pytest.raises(ValueError, match=r"image_size must be None or an integer"):
        TwoAFCDataset(tmp_path, image_size=size)


def test_roots_are_checked(tmp_path):
    with pytest.raises(ValueError, match="root must be a path or several"):
        TwoAFCDataset([])
    with pytest.raises(ValueError, match="root must be different folders"):
        TwoAFCDataset([tmp_path, str(tmp_path)])
