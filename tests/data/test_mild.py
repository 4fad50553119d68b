import numpy as np
import pytest
import torch
from PIL import Image

from robust_lpips.data.mild import MILD, mildly_distorted


def test_distortions_take_turns_and_are_mild():
    examples = mildly_distorted(n=5)
    assert len({example["image"] for example in examples}) == 5
    names = [example["distortion"].partition("(")[0] for example in examples]
    assert names == [*(name for name, _ in MILD), MILD[0][0]]
    for example in examples:
        ref, distorted = (example[name].double() / 127.5 - 1 for name in ("ref", "p0"))
        assert ref.shape == distorted.shape == (3, 64, 64)
        assert 0 < float((ref - distorted).square().mean()) < 0.02
        assert torch.equal(example["p0"], example["p1"])
    assert torch.equal(mildly_distorted(n=2)[1]["p0"], examples[1]["p0"])
    assert not torch.equal(mildly_distorted(n=2, seed=1)[1]["ref"], examples[1]["ref"])


def test_own_images_are_taken_whole(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 33, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "mine.png")
    (example,) = mildly_distorted([tmp_path / "mine.png"], n=3)
    assert example["image"] == "mine.png"
    assert np.array_equal(example["ref"].permute(1, 2, 0).numpy(), pixels)


def test_images_that_are_too_small(tmp_path):
    Image.new("RGB", (9, 20)).save(tmp_path / "tiny.png")
    with pytest.raises(ValueError, match=r"image: tiny\.png: .*>= 16"):
        mildly_distorted([tmp_path / "tiny.png"])
