import pytest
import torch
from pandas.testing import assert_frame_equal
from torch import nn
from torch.utils.data import Subset

from robust_lpips.evaluation import measure
from robust_lpips.studies import measured
from robust_lpips.studies.measured import file_stem, fingerprint, measure_all, weights_sha256


def l2(img0, img1):
    return (img0 - img1).square().mean((1, 2, 3))


def small_only(img0, img1):
    raise AssertionError("images must be larger\nthan this")


@pytest.fixture
def dataset():
    generator = torch.Generator().manual_seed(0)
    ref, p0, p1 = torch.randint(0, 256, (3, 3, 12, 12), dtype=torch.uint8, generator=generator)
    item = {"ref": ref, "p0": p0, "p1": p1, "judge": 1.0, "subset": "traditional"}
    return [item | {"sample": "a-0"}, item | {"sample": "a-1", "p1": ref}]


@pytest.fixture
def loaded(monkeypatch):
    """Names of the metrics that were loaded."""
    names = []
    metrics = {"l2": l2, "own:l2": l2, "broken": small_only}

    def load(wanted, device, seed):
        names.extend(wanted)
        found = {name: metrics[name] for name in wanted if name in metrics}
        return found, {name: f"{name} is nowhere" for name in wanted if name not in metrics}

    monkeypatch.setattr(measured, "load_metrics", load)
    return names


def test_measured_once_and_read_again_to_the_bit(dataset, loaded, tmp_path):
    first = measure_all(["l2", "own:l2"], dataset, tmp_path, max_shift=2)
    assert_frame_equal(first.tables["l2"], measure(l2, dataset, 2, progress=False))
    second = measure_all(["l2", "own:l2"], dataset, tmp_path, max_shift=2)
    # The user's own code may have changed: it is not read from files.
    assert loaded == ["l2", "own:l2", "own:l2"]
    for name in ("l2", "own:l2"):
        assert_frame_equal(first.tables[name], second.tables[name])


def test_what_cannot_be_measured_is_named_with_its_reason(dataset, loaded, tmp_path):
    result = measure_all(["broken", "l2", "absent"], dataset, tmp_path)
    assert list(result.tables) == ["l2"]
    assert result.left_out == {
        "broken": "broken failed: AssertionError: images must be larger",
        "absent": "absent is nowhere",
    }
    assert not list(tmp_path.glob("*broken*"))


def test_nothing_left(dataset, loaded, tmp_path):
    with pytest.raises(
        ValueError, match="no metric can be measured: broken failed: AssertionError: images"
    ):
        measure_all(["broken"], dataset, tmp_path)


def test_weights_digest():
    torch.manual_seed(0)
    a, b = nn.Linear(2, 3), nn.Linear(2, 3)
    digest = weights_sha256(a)
    assert len(digest) == 64
    assert digest != weights_sha256(b)
    b.load_state_dict(a.state_dict())
    assert digest == weights_sha256(b)
    assert digest == weights_sha256(a.to(torch.float32))
    assert weights_sha256(l2) is None
    assert weights_sha256(nn.ReLU()) is None


def test_file_stem():
    assert file_stem("alexnet-shift-tolerant") == "alexnet-shift-tolerant"
    assert file_stem("my.module:make_it") == "my.module-make_it"


class Labelled(list):
    """Items with the list of files and labels that fingerprints are taken from."""

    samples: list


def test_changed_labels_and_files_are_measured_anew(dataset, loaded, tmp_path):
    image = tmp_path / "a.png"
    image.write_bytes(b"1")
    data = Labelled(dataset)
    data.samples = [("a", image, 1.0), ("b", image, 0.0)]
    first = fingerprint(data)
    measure_all(["l2"], data, tmp_path / "run")
    measure_all(["l2"], data, tmp_path / "run")
    assert loaded == ["l2"]
    assert fingerprint(Subset(data, [0])) != first
    data.samples[1] = ("b", image, 1.0)
    measure_all(["l2"], data, tmp_path / "run")
    image.write_bytes(b"12")
    measure_all(["l2"], data, tmp_path / "run")
    assert loaded == ["l2"] * 3


def test_an_empty_message(dataset, loaded, tmp_path, monkeypatch):
    def bare(img0, img1):
        raise TypeError

    monkeypatch.setattr(measured, "load_metrics", lambda *_: ({"bare": bare, "l2": l2}, {}))
    result = measure_all(["bare", "l2"], dataset, tmp_path)
    assert result.left_out == {"bare": "bare failed: TypeError: no message"}
