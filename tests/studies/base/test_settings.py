"""Settings: limits, claims and records."""

from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from robust_lpips import BackboneConfig
from robust_lpips.provenance import file_digest
from robust_lpips.studies.base.settings import Settings, TripletSettings, option, value_type


@dataclass(frozen=True)
class Every(Settings):
    """A field of each kind."""

    count: int | None = option(None, "a number", least=1)
    rate: float = option(0.5, "a rate", least=0)
    arch: str = option("alexnet", "an architecture", choices=("alexnet", "vgg16"))
    sizes: tuple[int, ...] = option((1, 2), "sizes", least=1, choices=(1, 2, 3))
    file: Path | None = option(None, "a file or folder")
    files: tuple[Path, ...] = option((), "files")
    flag: bool = option(False, "a flag")
    text: str = option("", "a text", claimed=False)
    backbone: BackboneConfig = option(BackboneConfig("vgg16"), "the backbone")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count": 0}, "count must be at least 1; got 0"),
        ({"rate": float("nan")}, "rate must be at least 0; got nan"),
        ({"arch": "resnet"}, "arch must be one of alexnet, vgg16; got 'resnet'"),
        ({"sizes": (1, 4)}, "sizes must be one of 1, 2, 3; got 4"),
        ({"sizes": (0,)}, "sizes must be at least 1; got 0"),
    ],
)
def test_limits(given, message):
    with pytest.raises(ValueError, match=message):
        Every(**given)


def test_default_is_the_instance_that_was_given():
    assert Every().backbone == BackboneConfig("vgg16")


def test_types():
    kinds = {each.name: value_type(Every, each) for each in fields(Every)}
    assert kinds == {
        "count": (int, False),
        "rate": (float, False),
        "arch": (str, False),
        "sizes": (int, True),
        "file": (Path, False),
        "files": (Path, True),
        "flag": (bool, False),
        "text": (str, False),
        "backbone": (BackboneConfig, False),
    }
    nested = {each.name: value_type(BackboneConfig(), each) for each in fields(BackboneConfig)}
    assert nested["arch"] == nested["skip"] == (str, False)
    assert nested["conv1_stride"] == (int, False)


def test_claim(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("a")
    claim = Every(file=tmp_path, files=(path,), sizes=(3,), text="unclaimed").claim()
    assert claim["file"] == str(tmp_path.resolve())
    assert claim["files"] == [file_digest(path)]
    assert claim["sizes"] == [3]
    assert claim["backbone"]["arch"] == "vgg16"
    assert "text" not in claim


def test_record(tmp_path):
    record = Every(file=tmp_path / "a", files=(tmp_path / "b",)).record()
    assert record["file"] == "a"
    assert record["files"] == ["b"]
    assert record["flag"] is False
    assert not {"count", "text", "backbone"} & set(record)


@pytest.mark.parametrize("max_shift", [0, 64, 99])
def test_shift_must_fit(max_shift):
    with pytest.raises(ValueError, match="max_shift"):
        TripletSettings(max_shift=max_shift)


def test_shift_that_fits():
    assert TripletSettings(max_shift=63).max_shift == 63
