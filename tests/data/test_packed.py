"""Packs hold the content of the files, for as long as the files are the same."""

import errno
import importlib
import io
import json
import multiprocessing
import operator
import os
import pickle
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Subset

from robust_lpips.data import (
    IQADataset,
    JNDDataset,
    PackedDataset,
    TwoAFCDataset,
    bapps,
    packed,
    packed_or_read,
    sample_dataset,
)
from robust_lpips.data.fingerprint import content_digest, fingerprint
from robust_lpips.data.packed import HEADER, IMAGES, LABELS, UnfitPackError
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


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def size_of(pack):
    return sum(path.stat().st_size for path in pack.path.iterdir())


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
    assert len(names(folder)) == 3


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
    begun = (first.path / IMAGES).stat()
    no_decoding()
    again = quietly(TwoAFCDataset(tree, image_size=SIZE), folder)
    assert (again.path / IMAGES).stat() == begun
    assert_same_items(expected, again)


def test_one_pack_however_the_root_is_written(dataset, tree, folder, no_decoding, monkeypatch):
    first = quietly(dataset, folder)
    no_decoding()
    (tree.parent / "link").symlink_to(tree)
    monkeypatch.chdir(tree)
    for root in (".", "../tree", tree.parent / "link"):
        assert quietly(TwoAFCDataset(root, image_size=SIZE), folder).path == first.path


def test_others_have_packs_of_their_own(tree, folder):
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
def test_changed_files_are_packed_again(dataset, tree, folder, part, change):
    before = quietly(dataset, folder)
    change(tree / "2afc" / "val" / "cnn" / part)
    changed = TwoAFCDataset(tree, image_size=SIZE)
    with pytest.warns(UserWarning, match="files of the dataset have changed; .*packed again"):
        after = packed(changed, folder, progress=False)
    assert not before.path.exists()
    assert names(folder) == [after.path.name]
    assert_same_items(changed, after)
    assert_same_items(changed, quietly(changed, folder))


def with_header(**changes):
    def change(text):
        return json.dumps(json.loads(text) | changes).encode()

    return change


def npy_of(array):
    def change(_):
        buffer = io.BytesIO()
        np.save(buffer, array)
        return buffer.getvalue()

    return change


@pytest.mark.parametrize(
    ("file", "make", "reason"),
    [
        (IMAGES, lambda whole: whole[:-1], "incomplete"),
        (IMAGES, lambda whole: whole[:40], "incomplete"),
        (IMAGES, lambda whole: b"", "incomplete"),
        (IMAGES, lambda whole: b"\x89PNG\r\n" * 1000, "incomplete"),
        (IMAGES, npy_of(np.array([{}] * 5)), "incomplete"),
        (IMAGES, npy_of(np.zeros((5, 3, 3, SIZE, SIZE))), "another type or shape"),
        (LABELS, lambda whole: whole[:-1], "incomplete"),
        (LABELS, npy_of(np.zeros(4)), "another type or shape"),
        (HEADER, lambda whole: whole[:-1], "no header that can be read"),
        (HEADER, lambda whole: b"", "no header that can be read"),
        (HEADER, lambda whole: b"[" * 100_000, "no header that can be read"),
        (HEADER, lambda whole: b"[1, 2]", "no header that can be read"),
        (HEADER, lambda whole: b"\xff" * 9000, "no header that can be read"),
        (HEADER, lambda whole: b'{"count": 5}', "of format None, not 2"),
        (HEADER, with_header(format=3), "of format 3, not 2"),
        (HEADER, with_header(count=4), "header is broken"),
        (HEADER, with_header(content_digest=None), "header is broken"),
    ],
)
def test_a_pack_that_is_not_whole_is_replaced(dataset, folder, file, make, reason):
    path = quietly(dataset, folder).path
    (path / file).write_bytes(make((path / file).read_bytes()))
    with pytest.warns(UserWarning, match=reason) as caught:
        pack = packed(dataset, folder, progress=False)
    assert str(path) in str(caught[0].message)
    assert caught[0].filename == __file__
    assert names(folder) == [path.name]
    assert_same_items(dataset, pack)
    quietly(dataset, folder)


@pytest.mark.parametrize("file", [HEADER, LABELS, IMAGES])
def test_a_pack_that_lacks_a_file_is_replaced(dataset, folder, file):
    (quietly(dataset, folder).path / file).unlink()
    with pytest.warns(UserWarning, match="incomplete|no header"):
        assert_same_items(dataset, packed(dataset, folder, progress=False))


def test_a_file_in_its_place_is_replaced(dataset, folder):
    path = quietly(dataset, folder).path
    shutil.rmtree(path)
    path.write_bytes(b"no folder")
    with pytest.warns(UserWarning, match="no header"):
        assert_same_items(dataset, packed(dataset, folder, progress=False))


def test_the_pack_of_another_dataset_under_this_name_is_replaced(dataset, folder):
    other = quietly(Subset(dataset, [4, 3, 2, 1, 0]), folder)
    path = quietly(dataset, folder).path
    shutil.copytree(other.path, path, dirs_exist_ok=True)
    with pytest.warns(UserWarning, match="it is of another dataset"):
        assert_same_items(dataset, packed(dataset, folder, progress=False))


def test_another_pillow_decodes_again(dataset, folder, monkeypatch):
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
        patch.setattr(module, "_CHUNK", 1)
        with pytest.raises(error):
            packed(dataset, folder, progress=False)
    assert names(folder) == []
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
    assert names(folder) == []
    assert_same_items(dataset, quietly(dataset, folder))


def test_no_room(dataset, folder, monkeypatch, no_decoding):
    needed = 5 * (3 * 3 * SIZE**2 + 8)
    no_decoding()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 8, 1234))
    with pytest.raises(OSError, match=rf"needs {needed:,} bytes, 1,234 are free") as caught:
        packed(dataset, folder, progress=False)
    assert caught.value.errno == errno.ENOSPC
    assert names(folder) == []


def test_size_of_a_pack(dataset, folder):
    assert 0 <= size_of(quietly(dataset, folder)) - 5 * 3 * 3 * SIZE**2 <= 4096


def test_other_programs_can_read_it(dataset, folder):
    pack = quietly(dataset, folder)
    images, labels = (np.load(pack.path / name, allow_pickle=False) for name in (IMAGES, LABELS))
    assert (images[3, 2] == dataset[3]["p1"].numpy()).all()
    assert labels.tolist() == [item["judge"] for item in dataset]


def test_beyond_four_gibibytes(dataset, folder, tmp_path):
    """All of BAPPS val at 256x256, in a file with holes: the last image is where it should be."""
    pack = quietly(dataset, folder)
    count, shape = 36_344, [3, 3, 256, 256]
    header = json.loads((pack.path / HEADER).read_text()) | {"count": count, "shape": shape}
    (pack.path / HEADER).write_text(json.dumps(header))
    for name, dtype, of in ((IMAGES, np.uint8, (count, *shape)), (LABELS, np.float64, (count,))):
        array = np.lib.format.open_memmap(pack.path / name, "w+", dtype, of)
        array.flat[-1] = 1
        array.flush()
    content = module._mapped(pack.path, header)
    assert content.images.nbytes == count * 3 * 3 * 256**2 > 4 * 2**30
    assert content.labels[-2:].tolist() == [0, 1]
    assert content.images[-1, -1, -1, -1, -3:].tolist() == [0, 0, 1]
    shutil.rmtree(pack.path)


def pack_at_once(root, folder, barrier):
    dataset = TwoAFCDataset(root, image_size=SIZE)
    rename = Path.rename

    def rename_together(source, target):
        barrier.wait(60)  # both have written all, and neither has given it its name
        return rename(source, target)

    Path.rename = rename_together
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
    assert names(folder) == [quietly(dataset, folder).path.name]


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
print(large - small, (pack.path / "images.npy").stat().st_size // 1024)
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
    monkeypatch.setattr(module, "_CHUNK", 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert_same_items(dataset, quietly(dataset, folder))


def test_pixels_do_not_travel(tmp_path):
    write_subset(tmp_path, "cnn", n=9)
    dataset = TwoAFCDataset(tmp_path, image_size=64)
    pack = quietly(dataset, tmp_path)
    sent = pickle.dumps(pack)
    assert len(sent) < 4096 < size_of(pack)
    assert_same_items(dataset, pickle.loads(sent))


def test_an_equal_pack_may_take_its_place(dataset, folder):
    pack = quietly(dataset, folder)
    sent = pickle.dumps(pack)
    shutil.copytree(pack.path, folder / "equal")
    shutil.rmtree(pack.path)
    (folder / "equal").rename(pack.path)
    assert_same_items(dataset, pickle.loads(sent))


def test_a_pack_that_is_deleted_meanwhile(dataset, tree, folder):
    expected, pack = list(dataset), quietly(dataset, folder)
    image_of_another_content(tree / "2afc" / "val" / "cnn" / "p1" / "000000.png")
    with pytest.warns(UserWarning, match="have changed"):
        packed(dataset, folder, progress=False)
    # A process that has opened it keeps its content, and so do processes forked from it.
    assert_same_items(expected, pack)
    fork = DataLoader(pack, num_workers=1, multiprocessing_context="fork", batch_size=None)
    assert_same_items(expected, list(fork))
    with (
        multiprocessing.get_context("fork").Pool(1) as pool,
        pytest.raises(UnfitPackError, match=f"{pack.path.name}: it has no header"),
    ):
        pool.apply(operator.getitem, (pack, 0))


# ---------------------------------------------------------------- digest of the content


def test_digest_is_of_the_items(dataset, folder):
    pack = quietly(dataset, folder)
    assert content_digest(pack) == pack.content_digest == content_digest(list(dataset))
    assert quietly(dataset, folder).content_digest == pack.content_digest
    assert pickle.loads(pickle.dumps(pack)).content_digest == pack.content_digest
    part = Subset(dataset, [3, 0])
    assert content_digest(Subset(pack, [3, 0])) == quietly(part, folder).content_digest


def test_digest_tells_contents_apart_not_copies(dataset, tree, folder):
    pack = quietly(dataset, folder)
    copy = tree.parent / "copy"
    shutil.copytree(tree, copy, copy_function=shutil.copyfile)  # later times of change
    image = copy / "2afc" / "val" / "cnn" / "p1" / "000000.png"
    Image.open(image).save(image, compress_level=1)  # other bytes of the same pixels
    copied = TwoAFCDataset(copy, image_size=SIZE)
    assert quietly(copied, folder).content_digest == pack.content_digest
    assert quietly(copied, folder).fingerprint != pack.fingerprint
    assert quietly(TwoAFCDataset(tree, image_size=11), folder).content_digest != pack.content_digest
    pixels = np.array(Image.open(image))
    pixels[3, 4, 1] ^= 1
    Image.fromarray(pixels).save(image)
    with pytest.warns(UserWarning, match="have changed"):
        changed = packed(copied, folder, progress=False)
    assert changed.content_digest != pack.content_digest


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
    assert names(folder) == []


def test_a_file_that_is_gone_is_not_taken_for_a_full_cache(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUST_LPIPS_CACHE", str(tmp_path / "cache"))
    Path(dataset.samples[0].p0).unlink()
    with pytest.raises(FileNotFoundError):
        packed_or_read(dataset)
