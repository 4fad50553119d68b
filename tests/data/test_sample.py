"""The sample set: the same triplets each time, disjoint photographs, and an honest judge."""

import json
import shutil
import socket
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from robust_lpips import data
from robust_lpips._cache import cache_dir
from robust_lpips.data import Judge, TwoAFCDataset, sample, sample_dataset
from robust_lpips.data.photographs import PHOTOGRAPHS, load_photographs, photograph_path

IMAGES = ("ref", "p0", "p1")


def files(root):
    return {path.relative_to(root): path for path in Path(root).rglob("*") if path.is_file()}


def contents(root):
    return {name: path.read_bytes() for name, path in files(root).items()}


def mean_differences(ref, p0, p1):
    """Mean absolute differences: quick, for tests that are not about the judge."""
    return [(p.double() - ref).abs().mean((1, 2, 3)) for p in (p0, p1)]


def l1(img0, img1):
    return (img0 - img1).abs().mean((1, 2, 3))


def negative_l1(img0, img1):
    return -(img0 - img1).abs().mean((1, 2, 3))


class Weighted(torch.nn.Module):
    """Random weights, for judges that are modules."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.rand(3))


QUICK = Judge("mean-differences", mean_differences)


@pytest.fixture
def quick(monkeypatch):
    """The quick judge in place of the default one, whose name it bears."""
    monkeypatch.setattr(data, "_ReleasedMetric", lambda: mean_differences)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Two builds of one set and one of a longer set, by the real judge, without a network."""

    def refuse(*_, **__):
        raise AssertionError("the network was used")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        patch.setattr(socket, "create_connection", refuse)
        judge = data._ReleasedMetric()  # loaded once, because that takes longer than judging
        patch.setattr(data, "_ReleasedMetric", lambda: judge)
        roots = {name: tmp_path_factory.mktemp(name) for name in ("first", "second", "longer")}
        return {
            name: sample_dataset(root, n=6 if name == "longer" else 4)
            for name, root in roots.items()
        }


# ---------------------------------------------------------------- photographs


def test_no_photograph_is_in_both_splits():
    train, val = PHOTOGRAPHS["train"], PHOTOGRAPHS["val"]
    assert not set(train) & set(val)
    assert not set(train.values()) & set(val.values())
    scenes = {file.split(".")[0].removesuffix("_left").removesuffix("_right") for file in train}
    assert not scenes & {file.split(".")[0].removesuffix("_right") for file in val}


def test_splits_are_balanced():
    for split in PHOTOGRAPHS:
        loaded = load_photographs(split)
        grey = [name for name, p in loaded.items() if np.ptp(p.astype(int), axis=2).max() == 0]
        assert (len(loaded), len(grey)) == (8, 4)
        assert all(p.dtype == np.uint8 and p.shape[2] == 3 for p in loaded.values())
        assert not [name for name in loaded if "-" in name]


def test_small_photographs_are_skipped():
    assert "chelsea" in load_photographs("val", 300)
    assert "chelsea" not in load_photographs("val", 301)
    with pytest.raises(ValueError, match="no photograph of 'val' has a side of 5000"):
        load_photographs("val", 5000)


def test_a_photograph_that_is_not_there():
    with pytest.raises(FileNotFoundError, match=r"skimage/data/nothing.png"):
        photograph_path("nothing.png")


# ---------------------------------------------------------------- triplets


def test_a_crop_is_the_square_it_says():
    photograph = np.random.default_rng(0).integers(0, 256, (100, 150, 3), dtype=np.uint8)
    crop = sample.Crop(left=40, top=10, side=64, flipped=False)
    np.testing.assert_array_equal(sample.cut(photograph, crop, 64), photograph[10:74, 40:104])
    flipped = sample.cut(photograph, crop._replace(flipped=True), 64)
    np.testing.assert_array_equal(flipped, photograph[10:74, 103:39:-1])


def test_shrinking_filters_first():
    """A one-pixel checkerboard has to become grey, not a moiré."""
    board = np.indices((192, 192)).sum(axis=0) % 2 * 255
    board = np.repeat(board[..., None], 3, axis=2).astype(np.uint8)
    patch = sample.cut(board, sample.Crop(0, 0, 192, False), 64)
    assert np.abs(patch.astype(int) - 127).max() <= 16


def test_crops_stay_inside_and_vary():
    photograph = np.random.default_rng(0).integers(0, 256, (120, 400, 3), dtype=np.uint8)
    rng = np.random.default_rng(1)
    crops = [sample.random_crop(rng, photograph, 64)[1] for _ in range(200)]
    assert min(c.side for c in crops) == 64
    assert max(c.side for c in crops) == 120
    assert all(0 <= c.left <= 400 - c.side and 0 <= c.top <= 120 - c.side for c in crops)
    assert 60 < sum(c.flipped for c in crops) < 140


def test_blank_crops_are_drawn_again():
    """Only a tenth of this photograph holds anything."""
    photograph = np.full((100, 1000, 3), 30, np.uint8)
    photograph[:, :100] = np.random.default_rng(0).integers(0, 256, (100, 100, 3))
    rng = np.random.default_rng(1)
    patches = [sample.random_crop(rng, photograph, 64)[0] for _ in range(30)]
    assert np.mean([p.mean(axis=2).std() >= sample.BLANK_CROP_STD for p in patches]) > 0.8


def test_a_blank_photograph_still_gives_a_crop():
    patch, _ = sample.random_crop(
        np.random.default_rng(0), np.full((80, 80, 3), 9, np.uint8), image_size=64
    )
    assert patch.shape == (64, 64, 3)
    assert set(np.unique(patch)) == {9}


def test_every_distortion_changes_something():
    """`saturation` leaves grey photographs as they are, and so is not used alone on them."""
    photographs = {"camera": load_photographs("val")["camera"]}
    triplets = [sample.draw_triplet(i, "val", 64, 0, photographs) for i in range(60)]
    for t in triplets:
        assert not np.array_equal(t.ref, t.p0)
        assert not np.array_equal(t.ref, t.p1)


@pytest.mark.parametrize(
    "other", [{"i": 1}, {"seed": 1}, {"split": "train"}], ids=["number", "seed", "split"]
)
def test_a_triplet_depends_on(other):
    photographs = {"camera": load_photographs("val")["camera"]}
    arguments = {"i": 0, "split": "val", "image_size": 64, "seed": 0}
    a = sample.draw_triplet(**arguments, photographs=photographs)
    again = sample.draw_triplet(**arguments, photographs=photographs)
    b = sample.draw_triplet(**(arguments | other), photographs=photographs)
    for part in IMAGES:
        np.testing.assert_array_equal(getattr(a, part), getattr(again, part))
        assert not np.array_equal(getattr(a, part), getattr(b, part))


# ---------------------------------------------------------------- the set


def test_same_arguments_same_bytes(real):
    first, second = (contents(real[name].roots[0].parent) for name in ("first", "second"))
    assert len(first) == 4 * 4 + 3
    assert first == second


def test_a_shorter_set_is_the_beginning_of_a_longer_one(real):
    short, long = (real[name].roots[0] for name in ("first", "longer"))
    longer = contents(long)
    for name, content in contents(short).items():
        if name.suffix in (".png", ".npy"):
            assert content == longer[name]
    rows = (short / "triplets.csv").read_text().splitlines()
    assert (long / "triplets.csv").read_text().splitlines()[:5] == rows
    assert len(real["longer"]) == 6


def test_the_set_is_in_bapps_layout(real):
    dataset = real["first"]
    assert isinstance(dataset, TwoAFCDataset)
    assert dataset.subsets == ("traditional",)
    assert dataset.image_size == 64
    assert dataset.roots[0].name == "sample-v1-val-n4-64px-seed0"
    names = {s.sample.split("-")[0] for s in dataset.samples}
    assert names <= set(PHOTOGRAPHS["val"])
    assert sorted(int(s.sample.split("-")[1]) for s in dataset.samples) == list(range(4))
    assert all(Image.open(s.ref).size == (64, 64) for s in dataset.samples)


def test_the_manifest_and_the_table_of_triplets(real):
    folder = real["first"].roots[0]
    manifest = json.loads((folder / "sample.json").read_text())
    recipe = {"recipe": 1, "split": "val", "n": 4, "image_size": 64, "seed": 0}
    assert recipe.items() <= manifest.items()
    assert manifest["photographs"] == sorted(PHOTOGRAPHS["val"])
    assert manifest["judge"] == "vgg16-shift-tolerant"
    assert manifest["judged_by"].startswith("nobody: judge is the verdict of the released VGG-16")
    assert {"numpy", "pillow", "scikit-image"} <= manifest["versions"].keys()
    table = pd.read_csv(folder / "triplets.csv")
    assert list(table.columns) == ["sample", "photograph", "crop", "p0", "p1"]
    assert set(table["sample"]) == {s.sample for s in real["first"].samples}
    assert (table["photograph"] == table["sample"].str.split("-").str[0]).all()


@pytest.mark.filterwarnings("ignore")
def test_the_judge_is_the_released_vgg16(real):
    """Against the package that released it: distances, and which patch is closer."""
    stlpips = pytest.importorskip("stlpips_pytorch.stlpips")
    released = stlpips.LPIPS(net="vgg", variant="shift_tolerant", verbose=False)
    dataset = real["first"]
    ref, p0, p1 = (
        torch.stack([item[part] for item in dataset]).float() / 127.5 - 1 for part in IMAGES
    )
    with torch.no_grad():
        d0, d1 = (released(ref, p).flatten().numpy() for p in (p0, p1))
    table = sample.judge_distances(dataset)
    np.testing.assert_allclose(table["d0"], d0, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(table["d1"], d1, rtol=1e-3, atol=1e-6)
    assert [item["judge"] for item in dataset] == [float(closer) for closer in d1 < d0]
    assert table["judge"].tolist() == [item["judge"] for item in dataset]


def test_judge_distances_follow_the_dataset(real):
    dataset = real["longer"]
    table = sample.judge_distances(dataset)
    assert list(table.columns) == ["subset", "sample", "view", "d0", "d1", "judge"]
    assert table["sample"].tolist() == [s.sample for s in dataset.samples]
    assert set(table["view"]) == {"full"}
    assert ((table["d1"] < table["d0"]) == (table["judge"] == 1)).all()
    both = TwoAFCDataset([real["first"].roots[0], dataset.roots[0]])
    pd.testing.assert_frame_equal(
        sample.judge_distances(both),
        pd.concat([sample.judge_distances(real["first"]), table], ignore_index=True),
    )


def test_judge_distances_hold_at_the_judged_size_only(real, tmp_path):
    root = real["first"].roots[0]
    as_on_disk = sample.judge_distances(TwoAFCDataset(root, image_size=None))
    pd.testing.assert_frame_equal(as_on_disk, sample.judge_distances(real["first"]))
    assert sample.judge_distances(TwoAFCDataset(root, image_size=32)) is None
    shutil.copytree(root / "2afc", tmp_path / "2afc")
    assert sample.judge_distances(TwoAFCDataset(tmp_path)) is None


def test_judge_distances_that_lack_a_sample(quick, tmp_path):
    dataset = sample_dataset(tmp_path, n=3)
    path = next(dataset.roots[0].rglob("judge_distances.csv"))
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(ValueError, match=r"judge_distances.csv: expected a row for \w+-000002"):
        sample.judge_distances(dataset)


def test_large_patches(quick, tmp_path):
    """Of which the judge sees fewer at once."""
    dataset = sample_dataset(tmp_path, split="train", n=4, image_size=256)
    assert dataset[3]["p0"].shape == (3, 256, 256)
    assert {s.sample.split("-")[0] for s in dataset.samples} <= set(PHOTOGRAPHS["train"])
    assert len(sample.judge_distances(dataset)) == 4


# ---------------------------------------------------------------- another judge


def test_another_judge_has_a_set_of_its_own(quick, tmp_path):
    default = sample_dataset(tmp_path, n=3)
    reverse = Judge("reverse", lambda *images: [-d for d in mean_differences(*images)])
    dataset = sample_dataset(tmp_path, n=3, judge=reverse)
    assert dataset.roots[0].name == f"{default.roots[0].name}-judge-reverse"
    for first, second in zip(default, dataset, strict=True):
        assert torch.equal(first["p0"], second["p0"])
        assert first["judge"] == 1 - second["judge"]
    manifest = json.loads((dataset.roots[0] / "sample.json").read_text())
    assert manifest["judge"] == "reverse"
    assert "VGG" not in manifest["judged_by"]


def test_a_judge_sees_uint8_and_its_distances_are_kept(tmp_path):
    seen = []

    def recorded(*images):
        seen.append(images)
        return mean_differences(*images)

    dataset = sample_dataset(tmp_path, n=3, judge=Judge("recorded", recorded))
    ((ref, p0, p1),) = seen
    for part, images in {"ref": ref, "p0": p0, "p1": p1}.items():
        assert images.dtype == torch.uint8
        assert {image.numpy().tobytes() for image in images} == {
            item[part].numpy().tobytes() for item in dataset
        }
    table = sample.judge_distances(dataset, "recorded")
    expected = mean_differences(*(torch.stack([i[part] for i in dataset]) for part in IMAGES))
    np.testing.assert_allclose(table[["d0", "d1"]], torch.stack(expected, 1), rtol=1e-5)


def test_distances_of_another_judge_are_not_those_of_the_default(tmp_path):
    """A teacher that is the default judge would else be mistaken for another metric."""
    dataset = sample_dataset(tmp_path, n=2, judge=QUICK)
    assert sample.judge_distances(dataset) is None
    assert len(sample.judge_distances(dataset, QUICK.name)) == 2


def test_a_folder_of_another_judge_is_not_taken_for_the_default(quick, tmp_path):
    other = sample_dataset(tmp_path, n=2, judge=QUICK).roots[0]
    other.rename(tmp_path / "sample-v1-val-n2-64px-seed0")
    with pytest.warns(UserWarning, match="is built again"):
        dataset = sample_dataset(tmp_path, n=2)
    assert len(sample.judge_distances(dataset)) == 2


def test_a_function_judges_and_its_code_identifies_it(tmp_path):
    first = sample_dataset(tmp_path, n=3, judge=l1)
    expected = sample_dataset(tmp_path, n=3, judge=Judge("mean", mean_differences))
    assert [item["judge"] for item in first] == [item["judge"] for item in expected]
    assert sample_dataset(tmp_path, n=3, judge=l1).roots == first.roots
    other = sample_dataset(tmp_path, n=3, judge=negative_l1)
    assert other.roots != first.roots
    assert [item["judge"] for item in other] == [1 - item["judge"] for item in first]


def test_weights_identify_a_module_that_judges():
    torch.manual_seed(0)
    networks = [Weighted(), Weighted()]
    names = [Judge.of(network).name for network in networks]
    assert names[0] != names[1]
    networks[1].load_state_dict(networks[0].state_dict())
    assert Judge.of(networks[1]).name == names[0]


@pytest.mark.parametrize("name", ["", "a/b", "..", "-x", "a b", None])
def test_names_of_judges(name):
    with pytest.raises(ValueError, match="name of the judge must"):
        Judge(name, mean_differences)


def test_what_is_no_judge(tmp_path):
    with pytest.raises(TypeError, match="judge must be a module, a function without a closure"):
        sample_dataset(tmp_path, n=1, judge=partial(l1))
    with pytest.raises(TypeError, match="must be callable; got str"):
        Judge("l1", "l1")
    with pytest.raises(ValueError, match="belongs to the default judge"):
        sample_dataset(tmp_path, n=1, judge=Judge(sample.JUDGE, mean_differences))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda ref, p0, p1: (torch.zeros(3), torch.zeros(1)), r"d1 of shape \(3,\); got"),
        (lambda ref, p0, p1: (0.0, 0.0), r"d0 of shape \(3,\); got float"),
        (lambda ref, p0, p1: (torch.full((3,), torch.nan), torch.zeros(3)), "finite distances"),
    ],
)
def test_answers_of_judges_are_checked(tmp_path, answer, message):
    with pytest.raises(ValueError, match=message):
        sample_dataset(tmp_path, n=3, judge=Judge("broken", answer))
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- the cache


def test_a_second_call_reads_what_the_first_built(quick, tmp_path, monkeypatch):
    first = sample_dataset(tmp_path, n=3)
    before = {path: path.stat().st_mtime_ns for path in files(tmp_path).values()}
    monkeypatch.setattr(sample, "_build", lambda *_: pytest.fail("built again"))
    assert sample_dataset(tmp_path, n=3).samples == first.samples
    assert {path: path.stat().st_mtime_ns for path in files(tmp_path).values()} == before


def test_an_interrupted_build_leaves_nothing(quick, tmp_path, monkeypatch):
    write = sample._write_triplet
    calls = []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(sample, "_write_triplet", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sample_dataset(tmp_path, n=4)
    assert list(tmp_path.iterdir()) == []
    assert len(sample_dataset(tmp_path, n=4)) == 4


def test_the_slower_of_two_builders_takes_what_the_faster_built(quick, tmp_path, monkeypatch):
    build = sample._build
    final = tmp_path / "sample-v1-val-n3-64px-seed0"

    def overtaken(folder, recipe, judge):
        build(folder, recipe, judge)
        shutil.copytree(folder, final)
        (final / "winner").touch()

    monkeypatch.setattr(sample, "_build", overtaken)
    assert len(sample_dataset(tmp_path, n=3)) == 3
    assert (final / "winner").exists()
    assert list(tmp_path.iterdir()) == [final]


@pytest.mark.parametrize("manifest", [None, "", "[]", '{"recipe": 1, "n": 77}'])
def test_a_foreign_folder_is_kept_aside(quick, tmp_path, manifest):
    final = tmp_path / "sample-v1-val-n2-64px-seed0"
    final.mkdir()
    (final / "thesis.txt").write_text("mine")
    if manifest is not None:
        (final / "sample.json").write_text(manifest)
    with pytest.warns(UserWarning, match="is kept in"):
        dataset = sample_dataset(tmp_path, n=2)
    assert len(dataset) == 2
    assert not (final / "thesis.txt").exists()
    (kept,) = tmp_path.glob("*-replaced-*/old/thesis.txt")
    assert kept.read_text() == "mine"


def test_an_older_recipe_is_replaced(quick, tmp_path):
    final = tmp_path / "sample-v1-val-n2-64px-seed0"
    final.mkdir()
    (final / "sample.json").write_text('{"recipe": 0}')
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = sample_dataset(tmp_path, n=2)
    assert len(dataset) == 2
    assert list(tmp_path.iterdir()) == [final]


def test_the_default_place_is_the_cache(quick, tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUST_LPIPS_CACHE", str(tmp_path / "own"))
    assert sample_dataset(n=1).roots[0].parent == tmp_path / "own"


def test_cache_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("ROBUST_LPIPS_CACHE", "~/own")
    assert cache_dir() == tmp_path / "home" / "own"
    monkeypatch.setenv("ROBUST_LPIPS_CACHE", "")
    assert cache_dir() == tmp_path / "xdg" / "robust-lpips"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_dir() == tmp_path / "home" / ".cache" / "robust-lpips"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == tmp_path / "home" / ".cache" / "robust-lpips"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "test"}, "split must be one of 'train', 'val'; got 'test'"),
        ({"n": 0}, "n must be at least 1; got 0"),
        ({"n": 2.5}, "n must be an integer; got 2.5"),
        ({"image_size": 31}, "image_size must be at least 32; got 31"),
        ({"image_size": None}, "image_size must be an integer; got None"),
        ({"image_size": 4000}, "image_size: no photograph of 'val' has a side of 4000"),
        ({"seed": -1}, "seed must be at least 0; got -1"),
    ],
)
def test_arguments_are_checked(quick, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        sample_dataset(tmp_path, **arguments)
    assert list(tmp_path.iterdir()) == []
