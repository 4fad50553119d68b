import doctest
import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

import robust_lpips.comparison.elpips
from robust_lpips.comparison.elpips import ELPIPS, KEEP, Transformation, dropout_mask

IDENTITY = Transformation(
    offset=(0, 0),
    scale=1,
    flips=(False, False),
    transposed=False,
    channels=(0, 1, 2),
    factors=(1.0, 1.0, 1.0),
)


def drawn(count, height=64, width=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [Transformation.draw(generator, height, width) for _ in range(count)]


@pytest.fixture
def pair(image_pair):
    return image_pair("photographs", 3, 32, 40)


@pytest.fixture
def recorded(metric, monkeypatch):
    """The default metric and the images, in [0, 1], that it is asked for the features of."""
    seen = []

    def features(images, **settings):
        assert settings == {"normalize": True}
        seen.append(images)
        return type(metric).features(metric, images, **settings)

    monkeypatch.setattr(metric, "features", features)
    return metric, seen


class TestTransformation:
    @pytest.fixture
    def images(self):
        return torch.rand(2, 3, 11, 9, generator=torch.Generator().manual_seed(0))

    @pytest.fixture
    def padded(self, images):
        return np.pad(images.numpy(), [(0, 0), (0, 0), (0, 7), (0, 7)], mode="reflect")

    def test_at_rest_it_only_pads(self, images, padded):
        assert np.array_equal(IDENTITY(images).numpy(), padded)

    @pytest.mark.parametrize("offset", [(0, 7), (3, 5), (7, 0)])
    def test_offset_moves_all_pixels(self, images, offset):
        moved = replace(IDENTITY, offset=offset)(images)
        down, right = offset
        assert moved.shape == (2, 3, 18, 16)
        assert torch.equal(moved[..., down : down + 11, right : right + 9], images)
        widths = [(0, 0), (0, 0), (down, 7 - down), (right, 7 - right)]
        assert np.array_equal(moved.numpy(), np.pad(images.numpy(), widths, mode="reflect"))

    @pytest.mark.parametrize("flips", list(itertools.product([False, True], repeat=2)))
    def test_flips_and_transposition_only_rearrange(self, images, padded, flips):
        rows, columns = (-1 if flip else 1 for flip in flips)
        expected = padded[:, :, ::rows, ::columns]
        flipped = replace(IDENTITY, flips=flips)(images)
        turned = replace(IDENTITY, flips=flips, transposed=True)(images)
        assert np.array_equal(flipped.numpy(), expected)
        assert np.array_equal(turned.numpy(), expected.swapaxes(2, 3))
        assert torch.equal(turned.flatten().sort()[0], torch.tensor(padded).flatten().sort()[0])

    def test_a_flip_and_a_transposition_are_a_quarter_turn(self, images, padded):
        turned = replace(IDENTITY, flips=(True, False), transposed=True)(images)
        assert np.array_equal(turned.numpy(), np.rot90(padded, -1, axes=(2, 3)))

    def test_channels_are_permuted_then_multiplied(self, images, padded):
        factors = (0.5, 0.25, 1.0)
        result = replace(IDENTITY, channels=(2, 0, 1), factors=factors)(images).numpy()
        for place, (source, factor) in enumerate(zip((2, 0, 1), factors, strict=True)):
            assert np.array_equal(result[:, place], padded[:, source] * np.float32(factor))

    @pytest.mark.parametrize("scale", [2, 3, 4])
    def test_scaling_averages_boxes(self, images, scale):
        result = replace(IDENTITY, scale=scale, offset=(1, 2))(images).numpy()
        rows, columns = -(-18 // scale) * scale, -(-16 // scale) * scale
        widths = [(0, 0), (0, 0), (1, rows - 12), (2, columns - 11)]
        boxes = np.pad(images.numpy(), widths, mode="reflect").reshape(
            2, 3, rows // scale, scale, columns // scale, scale
        )
        assert result == pytest.approx(boxes.mean(axis=(3, 5)), abs=1e-6)


class TestDraw:
    @pytest.mark.parametrize(
        ("size", "scales"),
        [((21, 500), 1), ((127, 127), 1), ((128, 400), 2), ((400, 256), 4), ((640, 512), 8)],
    )
    def test_scales_have_probability_of_one_over_their_square(self, size, scales):
        count = 4000
        scale = Counter(draw.scale for draw in drawn(count, *size))
        expected = 1.0 / np.arange(1, scales + 1) ** 2
        expected *= count / expected.sum()
        observed = [scale[s] for s in range(1, scales + 1)]
        assert sum(observed) == count
        assert chisquare(observed, expected).pvalue > 0.01 or scales == 1

    def test_large_images_are_scaled_by_at_most_8(self):
        assert max(draw.scale for draw in drawn(2000, 10_000, 10_000)) == 8

    def test_the_rest_is_uniform(self):
        draws = drawn(4000)
        discrete = {
            "offset": (64, [draw.offset for draw in draws]),
            "orientation": (8, [(*draw.flips, draw.transposed) for draw in draws]),
            "channels": (6, [draw.channels for draw in draws]),
        }
        for kinds, values in discrete.values():
            counts = Counter(values)
            assert len(counts) == kinds
            assert chisquare(list(counts.values())).pvalue > 0.01
        assert {value for draw in draws for value in draw.offset} == set(range(8))
        factors = np.array([draw.factors for draw in draws])
        assert 0.2 <= factors.min() < 0.21
        assert 0.99 < factors.max() <= 1.0
        assert factors.mean(axis=0) == pytest.approx([0.6] * 3, abs=0.015)

    def test_size_decides_on_the_scale_alone(self):
        small, large = drawn(20), drawn(20, 512, 512)
        assert [replace(draw, scale=1) for draw in large] == small
        assert large != small


class TestDropoutMask:
    def test_keeps_99_percent_and_their_mean(self):
        features = torch.zeros(5, 64, 50, 40)
        mask = dropout_mask(features, torch.Generator().manual_seed(0))
        assert mask.shape == (1, 64, 50, 40)
        assert torch.equal(mask.unique(), torch.tensor([0.0, 1 / KEEP]))
        # The standard deviation of the share is 0.0003.
        assert mask.count_nonzero().item() / mask.numel() == pytest.approx(0.99, abs=0.001)
        assert mask.mean().item() == pytest.approx(1.0, abs=0.001)


class TestDistance:
    def test_both_images_are_transformed_alike(self, recorded, pair):
        metric, seen = recorded
        unequal, equal = (img.clone() for img in pair)
        equal[0] = unequal[0]
        ELPIPS(metric, samples=6)(unequal, equal)
        assert len(seen) == 12
        seeds = [np.random.SeedSequence((0, i)).generate_state(1)[0] for i in range(6)]
        for seed, first, second in zip(seeds, seen[::2], seen[1::2], strict=True):
            assert torch.equal(first[0], second[0])
            (transform,) = drawn(1, 32, 40, int(seed))
            for image, got in ((unequal, first), (equal, second)):
                torch.testing.assert_close(got, transform((image + 1) / 2))
                assert got.min() >= 0.0
                assert got.max() <= 1.0

    def test_one_draw_by_hand(self, metric, pair):
        generator = torch.Generator().manual_seed(
            int(np.random.SeedSequence((5, 0)).generate_state(1)[0])
        )
        transform = Transformation.draw(generator, 32, 40)
        first, second = (metric.features(2 * transform((img + 1) / 2) - 1) for img in pair)
        expected = torch.zeros(3)
        for f0, f1, weight in zip(first, second, metric.lin, strict=True):
            _, channels, height, width = f0.shape
            kept = torch.rand(1, height, width, channels, generator=generator) < 0.99
            difference = (f0 - f1).square() * kept.permute(0, 3, 1, 2) / 0.99**2
            expected += torch.einsum("nchw,c->n", difference, weight) / (height * width)
        torch.testing.assert_close(ELPIPS(metric, samples=1, seed=5)(*pair), expected)

    def test_it_is_the_mean_of_single_draws(self, released, pair):
        many = ELPIPS(released(), samples=5)
        draws = many.draws(*pair)
        assert draws.shape == (5, 3)
        torch.testing.assert_close(many(*pair), draws.sum(dim=0) / 5)
        assert torch.equal(ELPIPS(released(), samples=2).draws(*pair), draws[:2])
        assert len(draws[:, 0].unique()) == 5

    def test_it_keeps_the_order_of_plain_distances(self, released, pair):
        reference, _ = pair
        noise = torch.randn(reference.shape, generator=torch.Generator().manual_seed(1))
        distances = [
            ELPIPS(released(), samples=4)(reference, (reference + s * noise).clamp(-1, 1))
            for s in (0.05, 0.2, 0.6)
        ]
        assert (distances[0] < distances[1]).all()
        assert (distances[1] < distances[2]).all()

    def test_calls_repeat_and_leave_the_global_state(self, released, pair):
        elpips = ELPIPS(released(), samples=2)
        state = torch.get_rng_state()
        first = elpips(*pair)
        assert torch.equal(torch.get_rng_state(), state)
        torch.rand(1)
        assert torch.equal(elpips(*pair), first)
        assert torch.equal(ELPIPS(released(), samples=2)(*pair), first)

    def test_seeds_have_no_draw_in_common(self, released, pair):
        draws = torch.cat(
            [ELPIPS(released(), samples=4, seed=seed).draws(*pair) for seed in range(3)]
        )
        assert len(draws[:, 0].unique()) == 12

    def test_a_batch_is_its_images_one_by_one(self, released, image_pair):
        img0, img1 = image_pair("photographs", 8, 32, 40)
        elpips = ELPIPS(released(), samples=3)
        single = torch.cat([elpips(*(img[i : i + 1] for img in (img0, img1))) for i in range(8)])
        torch.testing.assert_close(elpips(img0, img1), single, rtol=1e-5, atol=0.0)
        torch.testing.assert_close(elpips(img0[3], img1[3]), single[3:4], rtol=1e-5, atol=0.0)

    def test_symmetric_and_zero_for_identical_images(self, released, pair):
        elpips = ELPIPS(released(), samples=3)
        assert torch.equal(elpips(*pair), elpips(*reversed(pair)))
        assert elpips(pair[0], pair[0].clone()).tolist() == [0.0, 0.0, 0.0]

    def test_other_encodings_of_the_same_images(self, released, pair):
        elpips = ELPIPS(released(), samples=2)
        pixels = [((img + 1) * 127.5).round().to(torch.uint8) for img in pair]
        expected = elpips(*(img / 127.5 - 1.0 for img in pixels))
        torch.testing.assert_close(elpips(*pixels), expected, rtol=1e-4, atol=1e-6)
        in_unit = elpips(*(img / 255.0 for img in pixels), normalize=True)
        torch.testing.assert_close(in_unit, expected, rtol=1e-4, atol=1e-6)

    def test_images_large_enough_are_scaled_down(self, recorded):
        metric, seen = recorded
        black, white = torch.full((1, 3, 128, 130), -1.0), torch.full((1, 3, 128, 130), 1.0)
        with torch.no_grad():
            ELPIPS(metric, samples=6)(black, white)
        # 135 and 137 pixels with their padding; half of them rounded up.
        sides = {tuple(sorted(images.shape[-2:])) for images in seen}
        assert sides == {(135, 137), (68, 69)}


class TestGradients:
    def test_finite_and_reaching_every_pixel(self, released, pair):
        img0, img1 = (img.clone().requires_grad_() for img in pair)
        ELPIPS(released(), samples=2)(img0, img1).sum().backward()
        for image in (img0, img1):
            assert image.grad.isfinite().all()
            assert (image.grad != 0).any(dim=1).all()

    def test_zero_for_identical_images(self, released, pair):
        image = pair[0].clone().requires_grad_()
        ELPIPS(released(), samples=2)(image, pair[0]).sum().backward()
        assert torch.equal(image.grad, torch.zeros_like(image))

    def test_are_the_slope(self, pair):
        from robust_lpips import RobustLPIPS

        elpips = ELPIPS(RobustLPIPS().double(), samples=2)
        img0, img1 = (img[:1].double() * 0.9 for img in pair)
        direction = torch.randn(
            img0.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
        )
        img0.requires_grad_()
        (gradient,) = torch.autograd.grad(elpips(img0, img1).sum(), img0)
        step = 1e-6
        with torch.no_grad():
            up, down = (elpips(img0 + sign * step * direction, img1) for sign in (1, -1))
        slope = ((up - down) / (2 * step)).item()
        assert (gradient * direction).sum().item() == pytest.approx(slope, rel=1e-3)


class TestArguments:
    @pytest.mark.parametrize("samples", [0, -1, 1.5])
    def test_samples(self, released, samples):
        with pytest.raises(ValueError, match=r"samples must be a whole number >= 1; got"):
            ELPIPS(released(), samples=samples)

    @pytest.mark.parametrize("seed", [-1, 0.5])
    def test_seed(self, released, seed):
        with pytest.raises(ValueError, match=r"seed must be a whole number >= 0; got"):
            ELPIPS(released(), seed=seed)

    @pytest.mark.parametrize(
        ("img0", "img1", "message"),
        [
            (torch.zeros(1, 1, 32, 32), torch.zeros(1, 1, 32, 32), "img0 must have shape"),
            (torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 33), "the same shape; got img0"),
            (torch.zeros(1, 3, 8, 32), torch.zeros(1, 3, 8, 32), "img0 must be at least 21x21"),
            (torch.zeros(1, 3, 32, 32), torch.full((1, 3, 32, 32), 2.0), r"img1 .* in \[-1, 1\]"),
            (torch.full((1, 3, 32, 32), torch.nan), torch.zeros(1, 3, 32, 32), "img0 .* NaN"),
            (torch.zeros(1, 3, 32, 32, device="meta"), torch.zeros(1, 3, 32, 32), "is on meta"),
        ],
    )
    def test_images(self, released, img0, img1, message):
        with pytest.raises(ValueError, match=message):
            ELPIPS(released())(img0, img1)

    def test_values_are_checked_where_the_metric_checks(self, metric):
        metric.validate = False
        bright = torch.full((1, 3, 32, 32), 2.0)
        assert ELPIPS(metric, samples=1)(bright, -bright).isfinite().all()

    def test_normalize_states_the_range(self, released):
        grey = torch.full((1, 3, 32, 32), -0.5)
        with pytest.raises(ValueError, match=r"img0 must have values in \[0, 1\]"):
            ELPIPS(released(), samples=1)(grey, grey, normalize=True)


def test_examples():
    assert doctest.testmod(robust_lpips.comparison.elpips).failed == 0
