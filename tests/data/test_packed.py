"""Packs hold what the files hold, for as long as the files are the same."""

import errno
import importlib
import multiprocessing
import operator
import os
import pickle
import shutil
import subprocess
import sys
import warnings

import numpy as np
import PIL
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from robust_lpips.data import (
    IQADataset,
    JNDDataset,
    PackedDataset,
    TwoAFCDataset,
    bapps,
    packed,
    sample_dataset,
)
from robust_lpips.data.fingerprint import fingerprint
from robust_lpips.data.packed import MAGIC, UnfitPackError
from robust_lpips.data.sample import judge_distances
from tests.data.bapps_tree import write_subset

# The package has a function of the module's name.
module = importlib.import_module("robust_lpips.data.packed")

SIZE = 16


@pytest.fixture
def tree(tmp_path):
    """A root of both tasks: three samples of one subset, two of another."""
    for task in ("2afc", "jnd"):
        write_subset(tmp_path / "tree", "cnn", n=3, task=task)
        write_subset(tmp_path / "tree", "traditional", n=2, task=task, seed=500)
    return tmp_path / "tree"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "packs"


@pytest.fixture
def dataset(tree):
    return TwoAFCDataset(tree, image_size=SIZE)


def assert_same_items(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert list(one) == list(other)
        for name, value in one.items():
            assert type(other[name]) is type(value)
            if isinstance(value, torch.Tensor):
                assert other[name].dtype == value.dtype
                assert torch.equal(other[name], value)
            else:
                assert other[name] == value


def quietly(dataset, folder, **options):
    """Packed without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return packed(dataset, folder, progress=False, **options)


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def no_decoding(monkeypatch):
    """``forbid()``: from then on no image may be decoded and no label read."""

    def forbid():
        for name in ("read_image", "read_label"):
            monkeypatch.setattr(bapps, name, lambda *_: pytest.fail("read from its file"))

    return forbid


# ---------------------------------------------------------------- what comes back


@pytest.mark.parametrize("kind", [TwoAFCDataset, JNDDataset])
@pytest.mark.parametrize("size", [SIZE, 11])
def test_items_are_those_of_the_dataset(tree, folder, kind, size):
    dataset = kind(tree, image_size=size)
    pack = quietly(dataset, folder)
    assert isinstance(pack, PackedDataset)
    assert_same_items(dataset, pack)
    for name in ("samples", "subsets", "roots", "split", "image_size"):
        assert getattr(pack, name) == getattr(dataset, name), name
    assert fingerprint(pack) == fingerprint(dataset)


def test_only_the_chosen_samples_are_packed(tree, folder):
    whole = TwoAFCDataset(tree, image_size=SIZE)
    part = Subset(whole, [3, 0, 3])
    pack = quietly(part, folder)
    assert_same_items(part, pack)
    assert pack.samples == [whole.samples[i] for i in part.indices]
    assert fingerprint(pack) == fingerprint(part)
    one = quietly(Subset(whole, np.array([-1])), folder)
    assert (len(one), one.subsets) == (1, ("cnn",))
    assert_same_items([whole[4]], one)
    assert len(quietly(Subset(whole, []), folder)) == 0
    assert len(files(folder)) == 3


def test_indices(dataset, folder):
    pack = quietly(dataset, folder)
    assert torch.equal(pack[-1]["p1"], dataset[4]["p1"])
    assert torch.equal(pack[np.int64(2)]["p1"], dataset[2]["p1"])
    for index in (5, -6):
        with pytest.raises(IndexError):
            pack[index]


def test_images_own_their_memory(dataset, folder):
    pack = quietly(dataset, folder)
    image = pack[1]["p0"]
    assert image.is_contiguous()
    assert image.untyped_storage().nbytes() == image.numel() == 3 * SIZE**2
    image += 1
    assert torch.equal(pack[1]["p0"], dataset[1]["p0"])


def test_repr_names_what_and_where(dataset, folder):
    pack = quietly(dataset, folder)
    assert repr(pack) == (
        f"PackedDataset(5 samples of val: traditional, cnn; image_size={SIZE}; {pack.path})"
    )


def test_default_folder_is_in_the_cache(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUST_LPIPS_CACHE", str(tmp_path / "cache"))
    assert packed(dataset, progress=False).path.parent == tmp_path / "cache" / "packed"


@pytest.mark.parametrize("progress", [True, False])
def test_progress(dataset, folder, progress, capsys):
    packed(dataset, folder, progress=progress)
    assert ("pack: 100%" in capsys.readouterr().err) == progress


def test_the_sample_set_keeps_the_distances_that_its_judge_measured(tmp_path):
    dataset = sample_dataset(tmp_path, n=2, image_size=32)
    pack = quietly(dataset, tmp_path / "packs")
    assert judge_distances(pack).equals(judge_distances(dataset))


def test_pairs_have_no_judged_triplets(tree, folder):
    assert judge_distances(quietly(JNDDataset(tree, image_size=SIZE), folder)) is None


# ---------------------------------------------------------------- once


def test_second_use_decodes_nothing(dataset, tree, folder, no_decoding):
    expected = list(dataset)
    first = quietly(dataset, folder)
    begun = first.path.stat()
    no_decoding()
    again = quietly(TwoAFCDataset(tree, image_size=SIZE), folder)
    assert again.path.stat() == begun
    assert_same_items(expected, again)


def test_one_pack_however_the_root_is_written(dataset, tree, folder, no_decoding, monkeypatch):
    first = quietly(dataset, folder)
    no_decoding()
    (tree.parent / "link").symlink_to(tree)
    monkeypatch.chdir(tree)
    for root in (".", "../tree", tree.parent / "link"):
        assert quietly(TwoAFCDataset(root, image_size=SIZE), folder).path == first.path


def test_others_have_files_of_their_own(tree, folder):
    write_subset(tree, "cnn", n=3, split="train")
    shutil.copytree(tree, tree.parent / "copy")
    datasets = [
        TwoAFCDataset(tree, image_size=SIZE),
        TwoAFCDataset(tree.parent / "copy", image_size=SIZE),
        TwoAFCDataset([tree, tree.parent / "copy"], image_size=SIZE),
        TwoAFCDataset(tree, image_size=SIZE + 1),
        TwoAFCDataset(tree, subsets="cnn", image_size=SIZE),
        TwoAFCDataset(tree, "train", image_size=SIZE),
        JNDDataset(tree, image_size=SIZE),
    ]
    datasets.append(Subset(datasets[0], [0]))
    assert len({quietly(each, folder).path for each in datasets}) == len(datasets)
    for each in datasets:
        assert_same_items(each, quietly(each, folder))


# ---------------------------------------------------------------- stale and foreign files


def image_of_another_content(path):
    shutil.copy(path.with_name("000001.png"), path)


def same_size_and_content_later(path):
    time_ns = path.stat().st_mtime_ns + 1_000
    os.utime(path, ns=(time_ns, time_ns))


def longer_at_the_same_time(path):
    status = path.stat()
    path.write_bytes(path.read_bytes() + b"\0")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def another_label(path):
    np.save(path, np.array([0.25], dtype=np.float32))


def another_suffix(path):
    path.rename(path.with_suffix(".PNG"))


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("p1/000000.png", image_of_another_content),
        ("ref/000000.png", same_size_and_content_later),
        ("p0/000000.png", longer_at_the_same_time),
        ("p0/000000.png", another_suffix),
        ("judge/000000.npy", another_label),
        ("judge/000000.npy", same_size_and_content_later),
    ],
)
def test_changed_files_are_packed_anew(dataset, tree, folder, part, change):
    before = quietly(dataset, folder)
    change(tree / "2afc" / "val" / "cnn" / part)
    changed = TwoAFCDataset(tree, image_size=SIZE)
    with pytest.warns(UserWarning, match="files of the dataset have changed; it is packed anew"):
        after = packed(changed, folder, progress=False)
    assert after.path == before.path
    assert_same_items(changed, after)
    assert_same_items(changed, quietly(changed, folder))


def headed(text, body=b""):
    return MAGIC + len(text).to_bytes(8, "little") + text + body


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda whole: whole[:-1], "bytes, not"),
        (lambda whole: whole + b"\0", "bytes, not"),
        (lambda whole: whole[:40], "no pack, or its header is broken"),
        (lambda whole: b"", "no pack"),
        (lambda whole: b"\x89PNG\r\n" * 1000, "no pack"),
        (lambda whole: headed(b"{" * 9), "header is broken"),
        (lambda whole: headed(b"[" * 4000), "header is broken"),
        (lambda whole: headed(b"[1, 2]"), "header is broken"),
        (lambda whole: headed(b"{}"), "of format None, not 1"),
        (lambda whole: MAGIC + b"\xff" * 9000, "header is broken"),
        (lambda whole: whole.replace(b'"format": 1', b'"format": 2'), "of format 2, not 1"),
        (lambda whole: whole.replace(b'"count": 5', b'"count": 4'), "header is broken"),
    ],
)
def test_a_file_that_is_no_whole_pack_is_replaced(dataset, folder, make, reason):
    path = quietly(dataset, folder).path
    path.write_bytes(make(path.read_bytes()))
    with pytest.warns(UserWarning, match=reason) as caught:
        pack = packed(dataset, folder, progress=False)
    assert str(path) in str(caught[0].message)
    assert caught[0].filename == __file__
    assert files(folder) == [path.name]
    assert_same_items(dataset, pack)
    quietly(dataset, folder)


def test_the_pack_of_another_dataset_under_this_name_is_replaced(dataset, folder):
    other = quietly(Subset(dataset, [4, 3, 2, 1, 0]), folder)
    path = quietly(dataset, folder).path
    shutil.copy(other.path, path)
    with pytest.warns(UserWarning, match="it is of another dataset"):
        assert_same_items(dataset, packed(dataset, folder, progress=False))


def test_another_pillow_decodes_anew(dataset, folder, monkeypatch):
    quietly(dataset, folder)
    own = PIL.__version__
    monkeypatch.setattr(PIL, "__version__", "0.1")
    with pytest.warns(UserWarning, match=rf"Pillow {own} decoded it, not 0\.1"):
        packed(dataset, folder, progress=False)


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_is_cut_off_leaves_nothing(dataset, folder, monkeypatch, error):
    read, count = bapps.read_image, iter(range(100))

    def failing(path, size):
        if next(count) == 8:
            raise error
        return read(path, size)

    with monkeypatch.context() as patch:
        patch.setattr(bapps, "read_image", failing)
        patch.setattr(module, "_BATCH", 1)
        with pytest.raises(error):
            packed(dataset, folder, progress=False)
    assert files(folder) == []
    assert_same_items(dataset, quietly(dataset, folder))


def test_a_file_that_changes_meanwhile(dataset, tree, folder, monkeypatch):
    read, touched = bapps.read_image, tree / "2afc" / "val" / "cnn" / "judge" / "000001.npy"

    def changing(path, size):
        same_size_and_content_later(touched)
        return read(path, size)

    with monkeypatch.context() as patch:
        patch.setattr(bapps, "read_image", changing)
        with pytest.raises(RuntimeError, match=r"tree.*: files changed while they were packed"):
            packed(dataset, folder, progress=False)
    assert files(folder) == []
    assert_same_items(dataset, quietly(dataset, folder))


def test_no_room(dataset, folder, monkeypatch, no_decoding):
    expected = quietly(dataset, folder).path.stat().st_size
    shutil.rmtree(folder)
    no_decoding()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 8, 1234))
    with pytest.raises(OSError, match=rf"needs {expected:,} bytes, 1,234 are free") as caught:
        packed(dataset, folder, progress=False)
    assert caught.value.errno == errno.ENOSPC
    assert files(folder) == []


def test_size_of_the_file(dataset, folder):
    size = quietly(dataset, folder).path.stat().st_size
    assert 0 <= size - 5 * 3 * 3 * SIZE**2 <= 3 * 4096


def test_beyond_four_gibibytes(tmp_path):
    """All of BAPPS val at 256x256, in a file with holes: the last image is where it should be."""
    header = {"format": 1, "count": 36_344, "shape": [3, 3, 256, 256]}
    layout = module._layout(header)
    assert layout.end - layout.images == 36_344 * 3 * 3 * 256**2 > 4 * 2**30
    path = tmp_path / "holes.pack"
    with open(path, "wb") as file:
        file.write(module._head(header))
        file.truncate(layout.end)
        file.seek(layout.labels + 8 * 36_343)
        file.write(np.array(0.75, "<f8"))
        file.seek(layout.end - 3)
        file.write(bytes([1, 2, 3]))
    labels, images = module._mapped(path, header)
    assert (labels[-2:].tolist(), len(labels)) == ([0, 0.75], 36_344)
    assert images[-1, -1, -1, -1, -4:].tolist() == [0, 1, 2, 3]
    path.unlink()


def pack_at_once(root, folder, barrier):
    dataset = TwoAFCDataset(root, image_size=SIZE)
    rename = os.replace

    def rename_together(source, target):
        barrier.wait(60)  # both have written all, and neither has given it its name
        rename(source, target)

    os.replace = rename_together
    barrier.wait(60)
    pack = quietly(dataset, folder)
    assert_same_items(dataset, pack)


def test_two_processes_at_once(dataset, tree, folder):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    workers = [context.Process(target=pack_at_once, args=(tree, folder, barrier)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(100)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert files(folder) == [quietly(dataset, folder).path.name]


GROWTH = """
import sys
from robust_lpips.data import TwoAFCDataset, bapps, packed

def anonymous():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

def noted(path, size, read=bapps.read_image):
    grown.append(anonymous())
    return read(path, size)

bapps.read_image, peaks, *roots, folder = noted, [], *sys.argv[1:]
for root in roots:
    grown = []
    pack = packed(TwoAFCDataset(root, image_size=128), folder, progress=False)
    for item in pack: grown.append(anonymous())
    peaks.append(max(grown))
small, large = peaks
print(large - small, pack.path.stat().st_size // 1024)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="Linux tells the memory")
def test_memory_does_not_grow_with_the_samples(tmp_path):
    for name, n in (("small", 100), ("large", 400)):
        subset = write_subset(tmp_path / name, "cnn", n=1)
        for file in list(subset.rglob("000000.*")):
            for i in range(1, n):
                file.with_stem(f"{i:06d}").hardlink_to(file)
    result = subprocess.run(
        [sys.executable, "-c", GROWTH, tmp_path / "small", tmp_path / "large", tmp_path],
        capture_output=True,
        text=True,
        check=True,
    )
    grown, whole = map(int, result.stdout.split())
    # All but a quarter of it would be new, if anything were kept; allocators keep a little.
    assert grown < whole / 4


# ---------------------------------------------------------------- other processes


@pytest.mark.parametrize(("method", "workers"), [("fork", 2), ("spawn", 1)])
def test_workers_read_it(dataset, folder, method, workers):
    pack = quietly(dataset, folder)
    options = {"batch_size": 2, "num_workers": workers, "multiprocessing_context": method}
    for one, other in zip(
        DataLoader(dataset, batch_size=2), DataLoader(pack, **options), strict=True
    ):
        assert torch.equal(one["p1"], other["p1"])
        assert torch.equal(one["judge"], other["judge"])
        assert one["sample"] == other["sample"]


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_and_batches_keep_the_order(threads, dataset, folder, monkeypatch):
    monkeypatch.setattr(module, "_BATCH", 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert_same_items(dataset, quietly(dataset, folder))


def test_pixels_do_not_travel(tmp_path):
    write_subset(tmp_path, "cnn", n=9)
    dataset = TwoAFCDataset(tmp_path, image_size=64)
    pack = quietly(dataset, tmp_path)
    sent = pickle.dumps(pack)
    assert len(sent) < 4096 < pack.path.stat().st_size
    assert_same_items(dataset, pickle.loads(sent))


def test_an_equal_pack_may_take_its_place(dataset, folder):
    pack = quietly(dataset, folder)
    sent = pickle.dumps(pack)
    shutil.copy(pack.path, folder / "equal")
    os.replace(folder / "equal", pack.path)
    assert_same_items(dataset, pickle.loads(sent))


def test_a_pack_of_another_content_in_its_place(dataset, tree, folder):
    expected, pack = list(dataset), quietly(dataset, folder)
    image_of_another_content(tree / "2afc" / "val" / "cnn" / "p1" / "000000.png")
    with pytest.warns(UserWarning, match="have changed"):
        packed(dataset, folder, progress=False)
    # What has the file open goes on with what it was, and so do processes forked from it.
    assert_same_items(expected, pack)
    fork = DataLoader(pack, num_workers=1, multiprocessing_context="fork", batch_size=None)
    assert_same_items(expected, list(fork))
    message = r"\.pack: not the pack of this dataset: files of the dataset have changed"
    with (
        multiprocessing.get_context("fork").Pool(1) as pool,
        pytest.raises(UnfitPackError, match=message),
    ):
        pool.apply(operator.getitem, (pack, 0))


# ---------------------------------------------------------------- errors


def test_images_of_several_sizes(tree, folder):
    with pytest.raises(ValueError, match=r"dataset must have an image_size.*got None"):
        packed(TwoAFCDataset(tree, image_size=None), folder)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("make", "got"),
    [
        (list, "list"),
        (lambda dataset: Subset(list(dataset), [0]), "a Subset of list"),
        (lambda dataset: Subset(Subset(dataset, [0]), [0]), "a Subset of Subset"),
        (lambda dataset: IQADataset, "type"),
    ],
)
def test_other_datasets(dataset, folder, make, got):
    with pytest.raises(TypeError, match=f"must be a TwoAFCDataset, a JNDDataset or .*got {got}$"):
        packed(make(dataset), folder)


def test_an_image_that_cannot_be_decoded(dataset, tree, folder):
    (tree / "2afc" / "val" / "cnn" / "p1" / "000002.png").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"p1/000002.png: expected an image"):
        packed(dataset, folder, progress=False)
    assert files(folder) == []
