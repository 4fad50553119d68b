"""Estimating and undoing shifts, on photographs' windows that lie a known shift apart."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from robust_lpips.data.photographs import load_photographs
from robust_lpips.distortions import apply
from robust_lpips.registration import (
    DIRECT_RADIUS,
    align,
    align_inside,
    align_tiles,
    correlations,
    estimate_tile_translations,
    estimate_translation,
    largest_radius,
    translate,
)


def window(name, top, left, size=64):
    image = load_photographs("train")[name]
    return image[top : top + size, left : left + size]


def tensor(image):
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None] / 127.5 - 1.0


def pair(shift, name="astronaut", size=64, top=100, left=180):
    """img1[y + shift] shows what img0[y] shows."""
    rows, columns = shift
    return (
        tensor(window(name, top, left, size)),
        tensor(window(name, top - rows, left - columns, size)),
    )


class TestWholePixels:
    @pytest.mark.parametrize("shift", [(0, 0), (0, 1), (-1, 0), (2, -3), (3, 3), (-3, 1)])
    def test_are_found(self, shift):
        assert estimate_translation(*pair(shift)).tolist() == [list(shift)]

    def test_every_pair_of_a_batch_has_its_own(self):
        shifts = [(0, 0), (1, -2), (-3, 3)]
        batches = [torch.cat(images) for images in zip(*map(pair, shifts), strict=True)]
        assert estimate_translation(*batches).tolist() == [list(shift) for shift in shifts]

    @pytest.mark.parametrize("radius", [DIRECT_RADIUS, DIRECT_RADIUS + 1, 12])
    def test_whatever_computes_them(self, radius):
        assert estimate_translation(*pair((-5, 6)), radius=radius).tolist() == [[-5, 6]]

    def test_brightness_and_contrast_do_not_matter(self):
        img0, img1 = pair((1, 2))
        assert estimate_translation(img0, 0.4 * img1 - 0.3).tolist() == [[1, 2]]

    def test_of_bytes_too(self):
        img0, img1 = ((image * 127.5 + 127.5).round().byte() for image in pair((1, 2)))
        assert estimate_translation(img0, img1).tolist() == [[1, 2]]

    @pytest.mark.parametrize("name", ["gaussian_white_noise", "gaussian_blur", "jpeg", "contrast"])
    def test_under_distortion(self, name):
        moved = apply(name, window("astronaut", 98, 181), 0.5, np.random.default_rng(0))
        assert estimate_translation(pair((0, 0))[0], tensor(moved)).tolist() == [[2, -1]]


class TestStaysWhere:
    """There is nothing to find, or not enough."""

    def test_images_are_flat(self):
        flat = torch.zeros(1, 3, 64, 64)
        assert not estimate_translation(flat, flat).any()
        assert not estimate_translation(flat, pair((0, 0))[0]).any()

    def test_images_are_independent_noise(self):
        noise = torch.rand(2, 40, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        assert not estimate_translation(*noise).any()

    def test_faint_noise_on_a_flat_image(self):
        noise = torch.randn(2, 20, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.02
        assert not estimate_translation(*noise).any()

    def test_period_fits(self):
        stripes = torch.arange(64).remainder(3).float().sub(1).expand(1, 3, 64, 64)
        assert not estimate_translation(stripes, stripes).any()

    def test_of_shifts_that_fit_the_shortest_is_taken(self):
        stripes = torch.arange(80).remainder(4).float().mul(0.5).sub(0.8).expand(1, 3, 64, 80)
        found = estimate_translation(stripes[..., 4:68], stripes[..., 3:67])
        assert found.tolist() == [[0.0, 1.0]]

    @pytest.mark.parametrize("name", ["gaussian_white_noise", "gaussian_blur", "jpeg"])
    def test_only_distorted(self, name):
        generator = np.random.default_rng(0)
        for severity in (0.25, 1.0):
            distorted = apply(name, window("astronaut", 100, 180), severity, generator)
            assert not estimate_translation(pair((0, 0))[0], tensor(distorted)).any()


class TestSubpixel:
    @pytest.mark.parametrize("quarters", [(1, 0), (2, 3), (-1, -2), (6, -5), (11, -10)])
    def test_quarters(self, quarters):
        """Windows shrunk by four, by areas, lie a quarter of a pixel apart."""
        large = pair(quarters, size=384, top=60, left=60)
        small = [torch.nn.functional.avg_pool2d(image, 4) for image in large]
        found = estimate_translation(*small, subpixel=True)
        assert_close(found, torch.tensor([quarters]) / 4, rtol=0, atol=0.15)

    def test_equal_images_do_not_move(self):
        image = pair((0, 0))[0]
        assert not estimate_translation(image, image, subpixel=True).any()


def test_correlations_are_those_of_numpy():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.rand(2, 1, 40, 30, generator=generator, dtype=torch.float64)
    for radius in (2, 9):
        found = correlations(first, second, radius)
        for y, x in ((0, 0), (1, radius), (-radius, 2), (radius, -radius)):
            here = first[0, max(0, -y) : 40 - max(0, y), max(0, -x) : 30 - max(0, x)]
            there = second[0, max(0, y) : 40 + min(0, y), max(0, x) : 30 + min(0, x)]
            expected = np.corrcoef(here.flatten(), there.flatten())[0, 1]
            assert found[0, radius + y, radius + x].item() == pytest.approx(expected, abs=1e-9)


def test_what_only_the_border_shows_counts():
    """A post at the border of a sky: what is left without it has no position."""
    image = torch.full((1, 3, 64, 64), 0.2) + 0.01 * torch.randn(
        1, 3, 64, 64, generator=torch.Generator().manual_seed(0)
    )
    image[..., :5] = -0.9
    for darker in (0.8, 0.5):
        assert not estimate_translation(image, darker * image, 6).any()
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(1))
    assert not estimate_translation(image, image + 0.05 * noise, 6)[:, 1].any()


@pytest.mark.parametrize("side", [22, 30, 64])
def test_the_largest_radius_is_the_largest(side):
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    radius = largest_radius(side)
    assert not estimate_translation(image, image, radius).any()
    with pytest.raises(ValueError, match=f"must be at least {side + 1}x{side + 1}"):
        estimate_translation(image, image, radius + 1)


class TestAlign:
    @pytest.mark.parametrize("shift", [(1, 0), (-2, 3), (0, -3)])
    def test_windows_of_one_photograph_become_equal(self, shift):
        img0, img1 = align(*pair(shift), torch.tensor([shift]).float())
        assert torch.equal(img0, img1)

    def test_what_both_show_stays_where_the_first_had_it(self):
        original, _ = pair((2, -3))
        img0, _ = align(*pair((2, -3)), torch.tensor([[2.0, -3.0]]))
        assert torch.equal(img0[:, :, :-2, 3:], original[:, :, :-2, 3:])

    def test_no_shift_is_no_change(self):
        images = torch.cat(pair((1, 0))), torch.cat(pair((0, 1)))
        aligned = align(*images, torch.tensor([[0.0, 0.0], [0.5, -1.25]]))
        for before, after in zip(images, aligned, strict=True):
            assert torch.equal(before[0], after[0])
            assert not torch.equal(before[1], after[1])

    def test_fractions_are_shared(self):
        large = pair((2, 2), size=384, top=60, left=60)
        img0, img1 = (torch.nn.functional.avg_pool2d(image, 4) for image in large)
        apart = (img0 - img1).abs().mean()
        img0, img1 = align(img0, img1, torch.tensor([[0.5, 0.5]]))
        assert (img0 - img1)[..., 4:-4, 4:-4].abs().mean() < apart / 2

    @pytest.mark.parametrize("shift", [(1.0, -2.0), (0.5, 0.25)])
    def test_gradients_reach_both_images(self, shift):
        images = [image.requires_grad_() for image in pair((0, 0))]
        img0, img1 = align(*images, torch.tensor([shift]))
        (img0 * img1).sum().backward()
        assert all(image.grad.isfinite().all() and image.grad.any() for image in images)


class TestAlignInside:
    @pytest.mark.parametrize("shift", [(0, 0), (1, 0), (-2, 3), (3, -3)])
    def test_what_is_compared_does_not_depend_on_the_shift(self, shift):
        first, second = align_inside(*pair(shift), torch.tensor([shift]).float(), 3)
        inside = pair((0, 0))[0][..., 3:-3, 3:-3]
        assert torch.equal(first, inside)
        assert torch.equal(second, inside)

    def test_fractions_are_shared_between_both(self):
        images = pair((1, 0))
        first, second = align_inside(*images, torch.tensor([[1.25, 0.0]]), 3)
        expected = align(*images, torch.tensor([[0.25, 0.0]]))
        assert torch.equal(first, expected[0][..., 3:-3, 3:-3])
        assert torch.equal(second, expected[1][..., 4:-2, 3:-3])


class TestTiles:
    def test_shifts_that_differ_are_found(self):
        left, right = pair((0, 2), size=128), pair((1, -1), size=128, left=20, top=300)
        img0, img1 = (torch.cat(halves, dim=3) for halves in zip(left, right, strict=True))
        found = estimate_tile_translations(img0, img1, tile=64)
        assert found.shape == (1, 2, 4, 2)
        expected = torch.tensor([[0.0, 2.0], [0.0, 2.0], [1.0, -1.0], [1.0, -1.0]])
        assert_close(found, expected.expand(1, 2, 4, 2), rtol=0, atol=0)

    def test_small_images_are_one_tile(self):
        found = estimate_tile_translations(*pair((1, 2)))
        assert found.tolist() == [[[[1.0, 2.0]]]]

    def test_sides_need_be_no_multiples(self):
        pairs = pair((1, 2), size=130)
        shifts = estimate_tile_translations(*pairs)
        assert_close(shifts, torch.tensor([1.0, 2.0]).expand(1, 3, 3, 2))
        shifts[0, 1, 1] += 1.0  # not as a whole, but tile by tile
        assert [image.shape for image in align_tiles(*pairs, shifts)] == [pairs[0].shape] * 2

    def test_flat_tiles_follow_the_whole(self):
        img0, img1 = pair((1, 2), size=128)
        img0[..., :60, :60] = 0.0
        img1[..., :61, :62] = 0.0
        assert_close(
            estimate_tile_translations(img0, img1, tile=48),
            torch.tensor([1.0, 2.0]).expand(1, 3, 3, 2),
        )

    def test_one_shift_is_aligned_as_a_whole(self):
        img0, img1 = pair((1, 2), size=128)
        shifts = estimate_tile_translations(img0, img1)
        first, second = align_tiles(img0, img1, shifts)
        assert torch.equal(first, second)

    def test_a_field_brings_the_images_closer(self):
        base = tensor(window("astronaut", 100, 100, 192))
        stretched = torch.nn.functional.interpolate(
            base, scale_factor=1.03, mode="bicubic", align_corners=False
        )
        stretched = stretched[..., 3:195, 3:195].clamp(-1, 1)
        shifts = estimate_tile_translations(base, stretched, subpixel=True)
        first, second = align_tiles(base, stretched, shifts)
        assert (first - second).square().mean() < (base - stretched).square().mean() / 3


def test_fields_are_interpolated_between_the_centres_of_tiles():
    """Of overlapping ones too: at a centre the shift is that of its tile."""
    ramp = torch.linspace(-1, 1, 100).view(1, 1, 100, 1).expand(1, 3, 100, 100)
    shifts = torch.tensor([[-2.0, 0.0], [2.0, 0.0]]).view(1, 2, 1, 2).expand(1, 2, 2, 2)
    _, warped = align_tiles(ramp, ramp, shifts)
    moved = (warped - ramp)[0, 0, :, 50] * 99 / 2
    # 64 pixels wide, they are centred at 31.5 and 67.5.
    assert_close(moved[[20, 31]], torch.tensor([-2.0, -2.0]), rtol=0, atol=0.05)
    assert_close(moved[[68, 80]], torch.tensor([2.0, 2.0]), rtol=0, atol=0.05)
    assert_close(moved[[49, 50]].sum(), torch.tensor(0.0), rtol=0, atol=0.05)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_moved_as_far(dtype):
    images, shift = torch.cat(pair((1, 2), size=200)).to(dtype), torch.tensor([[0.5, -1.25]] * 2)
    moved = translate(images, shift)
    assert moved.dtype == dtype
    assert_close(moved.float(), translate(images.float(), shift), rtol=0, atol=0.01)


def test_autocast_and_other_default_types_change_nothing():
    images = pair((1, 2))
    with torch.autocast("cpu", torch.bfloat16):
        assert estimate_translation(*images).tolist() == [[1.0, 2.0]]
    torch.set_default_dtype(torch.float64)
    try:
        assert estimate_translation(*images).tolist() == [[1.0, 2.0]]
    finally:
        torch.set_default_dtype(torch.float32)


def test_translate_by_whole_pixels_is_a_shift():
    image, _ = pair((0, 0))
    moved = translate(image, torch.tensor([[2.0, -1.0]]))
    assert_close(moved[..., :-2, 1:], image[..., 2:, :-1], rtol=0, atol=1e-5)


class TestRefuses:
    def test_shifts_of_more_than_half_a_side(self):
        with pytest.raises(ValueError, match=r"translation must be at most half .* 64x64; got 33"):
            align(*pair((0, 0)), torch.tensor([[0.0, -33.0]]))

    @pytest.mark.parametrize("radius", [0, -1, 1.5, True])
    def test_other_radii(self, radius):
        with pytest.raises(ValueError, match="radius must be a whole number from 1; got"):
            estimate_translation(*pair((0, 0)), radius=radius)

    def test_images_that_are_too_small(self):
        image = torch.zeros(1, 3, 23, 64)
        with pytest.raises(ValueError, match="img0 must be at least 24x24 for radius 3; got 23x64"):
            estimate_translation(image, image)

    def test_images_of_two_sizes(self):
        with pytest.raises(ValueError, match="same shape"):
            estimate_translation(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 63))

    def test_tiles_that_are_too_small(self):
        with pytest.raises(
            ValueError, match="tile must be at least 24 pixels for radius 3; got 20"
        ):
            estimate_tile_translations(*pair((0, 0)), tile=20)
