"""Windows of photographs: pairs that are a known shift apart, and what they are fed as."""

import numpy as np
import torch

from robust_lpips.data.windows import (
    as_images,
    as_input,
    as_pixels,
    cut_pairs,
    pairs_apart,
    pairs_between,
    random_windows,
    shrunk,
    textured,
)
from robust_lpips.registration import align, estimate_translation


def test_pairs_show_the_same_a_shift_apart():
    around = random_windows("val", 3, 46, seed=0)
    shifts = np.array([[3, -2], [-3, 1], [0, 2]])
    first, second, _ = cut_pairs(around, shifts, 40)
    for one, other, (y, x) in zip(first, second, shifts, strict=True):
        assert np.array_equal(one[8:20, 8:20], other[8 + y : 20 + y, 8 + x : 20 + x])
    # As the estimate and the alignment have it.
    pair = as_pixels(first), as_pixels(second)
    assert np.array_equal(estimate_translation(*pair).numpy(), shifts)
    assert torch.equal(*align(*pair, torch.from_numpy(shifts).float()))


def test_shrunk_is_the_mean_of_areas():
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3), dtype=np.uint8)
    small = shrunk(images, 4)
    assert small.shape == (2, 2, 3, 3)
    assert small[1, 1, 2, 0] == round(float(images[1, 4:8, 8:12, 0].mean()))


def test_texture_is_a_matter_of_luminance():
    stripes = np.zeros((2, 8, 8, 3), dtype=np.uint8)
    stripes[0, :, ::2, 2] = 120  # blue counts 0.114: 6.8 grey levels
    stripes[1, :, ::2] = 21
    assert textured(stripes).tolist() == [False, True]


def test_range():
    images = np.array([0, 255], dtype=np.uint8).repeat(3).reshape(1, 1, 2, 3)
    assert as_input(images).flatten().unique().tolist() == [-1, 1]


def test_images_are_the_reverse_of_input():
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 6, 3), dtype=np.uint8)
    assert np.array_equal(as_images(as_input(images)), images)


def test_pairs_apart_have_their_shifts():
    first, second, shifts = pairs_apart("val", 8, 40, 2, seed=0)
    assert np.abs(shifts).max() <= 2
    assert shifts.any(axis=1).all()
    for one, other, (y, x) in zip(first, second, shifts, strict=True):
        assert np.array_equal(one[8:20, 8:20], other[8 + y : 20 + y, 8 + x : 20 + x])


def test_refined_estimates_are_near():
    first, second, shifts = pairs_between("val", 8, 48, 11, 4, seed=0)
    found = estimate_translation(as_pixels(first), as_pixels(second), 8, subpixel=True).numpy()
    inside = (np.abs(shifts) <= 2).all(axis=1)
    assert (np.median(np.abs(found - shifts)[inside], axis=0) < 0.15).all()
    assert (shifts * 4 % 1 == 0).all()
    assert (shifts % 1 != 0).any()
