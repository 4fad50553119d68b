"""Metrics at the estimated alignment."""

import json
import re
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from robust_lpips import Registered, RobustLPIPS
from robust_lpips.registered import (
    HumanPenalty,
    excess,
    noise_distance,
    noticed,
    search_radius,
)
from robust_lpips.registration import align

ANSWERS = Path(__file__).parents[2] / "shared/official/user_study_responses.json"


def l1(img0, img1):
    return (img0 - img1).abs().mean(dim=(1, 2, 3))


def texture(*shape, seed=0):
    noise = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.avg_pool2d(noise, 3, 1, 1).clamp(-1, 1)


def moved(shift, size=64, n=1):
    """The shift is one that people would make with their hands: down and right."""
    image = texture(n, 3, size + 12, size + 12)
    rows, columns = shift
    return (
        image[..., 6 : 6 + size, 6 : 6 + size],
        image[..., 6 - rows : 6 - rows + size, 6 - columns : 6 - columns + size],
    )


class TestDistance:
    def test_of_shifted_images_is_none(self):
        assert l1(*moved((1, 3))).item() > 0.1
        assert Registered(l1)(*moved((1, 3))).item() == 0.0

    def test_of_larger_shifts_needs_a_larger_radius(self):
        images = moved((0, 5))
        assert Registered(l1)(*images).item() > 0.1
        assert Registered(l1, radius=5)(*images).item() == 0.0

    @pytest.mark.parametrize("shift", [(3, 0), (-2, 3), (2, 2)])
    def test_of_shifts_up_to_the_radius_is_none(self, shift):
        assert Registered(l1)(*moved(shift)).item() == 0.0

    @pytest.mark.parametrize(
        ("shift", "left"),
        [
            ((0, 4), (1, 0)),
            ((5, 0), (3, 0)),
            ((-5, 0), (-3, 0)),
            ((-3, 3), (-1, 0)),
            ((2, 6), (3, 0)),
        ],
    )
    def test_of_longer_shifts_something_is_left(self, shift, left):
        img0, img1 = moved(shift)
        assert Registered(l1).translation(img0, img1).tolist() == [[*map(float, shift)]]
        undone = torch.tensor(shift).float() - torch.tensor(left)
        assert_close(Registered(l1)(img0, img1), l1(*align(img0, img1, undone[None])))

    def test_what_is_left_does_not_grow_without_end(self):
        lengths = torch.tensor([3.6, 3.7, 4.0, 5.0, 5.2, 6.0, 8.0])
        left = excess(torch.stack((torch.zeros(7), lengths), dim=1), 3)
        assert_close(
            left[:, 0],
            torch.tensor([0.0, 0.0667, 0.6667, 2.6667, 3.0, 3.0, 3.0]),
            atol=1e-3,
            rtol=0,
        )
        assert not left[:, 1].any()

    @pytest.mark.parametrize("border", ["reflect", "crop"])
    @pytest.mark.parametrize("subpixel", [False, True])
    def test_of_shifts_about_the_radius_is_finite(self, border, subpixel):
        metric = Registered(l1, border=border, subpixel=subpixel)
        for columns in range(9, 25, 3):
            large = torch.nn.functional.avg_pool2d(texture(1, 3, 288, 320), 9, 1)
            pair = large[..., :280], large[..., columns : columns + 280]
            images = [torch.nn.functional.avg_pool2d(image, 4) for image in pair]
            assert metric(*images).isfinite().all()

    def test_search_is_as_far_as_the_images_allow(self):
        assert (search_radius(3, 64), search_radius(3, 25), search_radius(3, 24)) == (8, 4, 3)
        images = moved((2, -1), size=24)
        assert Registered(l1)(*images).item() == 0.0
        with pytest.raises(ValueError, match="img0 must be at least 24x24 for radius 3; got 23x23"):
            Registered(l1)(*(image[..., 1:, 1:] for image in images))

    def test_where_nothing_is_shifted_is_the_metrics(self):
        image = texture(2, 3, 64, 64)
        noisy = image + 0.1 * texture(2, 3, 64, 64, seed=1)
        whole, inside = (Registered(l1, border=border) for border in ("reflect", "crop"))
        assert torch.equal(whole(image, noisy), l1(image, noisy))
        images = (image[..., 3:-3, 3:-3], noisy[..., 3:-3, 3:-3])
        assert torch.equal(inside(image, noisy), l1(*images))

    @pytest.mark.parametrize("shift", [(0, 1), (-2, 3)])
    def test_of_distorted_images_does_not_depend_on_the_shift(self, released, shift):
        metric = Registered(released(), border="crop")
        image, noise = moved((0, 0))[0], 0.2 * texture(1, 3, 76, 76, seed=1)
        distorted = [
            moved((y, x))[1] + noise[..., 6 - y : 70 - y, 6 - x : 70 - x]
            for y, x in ((0, 0), shift)
        ]
        assert not torch.equal(*distorted)
        distances = [metric(image, other, validate=False) for other in distorted]
        assert torch.equal(*distances)

    def test_options_go_to_the_metric(self):
        metric = RobustLPIPS()
        images = [(image + 1) / 2 for image in moved((2, 0))]
        plain, registered = metric(*images, normalize=True), Registered(metric)
        assert registered(*images, normalize=True).item() < 1e-6 < plain.item()
        spatial = registered(*images, normalize=True, spatial=True)
        assert spatial.shape == (1, 1, 64, 64)
        total, layers = registered(*images, normalize=True, per_layer=True)
        assert_close(layers.sum(dim=1), total)

    def test_of_single_images_and_bytes(self):
        images = [(image[0] * 127.5 + 127.5).byte() for image in moved((2, 0))]
        assert Registered(RobustLPIPS())(*images).item() < 1e-6

    def test_tiles(self):
        left, right = moved((0, 1), 128), moved((2, 0), 128)
        images = [torch.cat(halves, dim=3) for halves in zip(left, right, strict=True)]
        whole, tiles = (Registered(l1, mode=mode)(*images) for mode in ("global", "tiles"))
        assert tiles < whole / 3

    def test_subpixel(self):
        large = [torch.nn.functional.avg_pool2d(image, 9, 1) for image in moved((2, 2), 392)]
        images = [torch.nn.functional.avg_pool2d(image, 4) for image in large]
        whole, between = (Registered(l1, subpixel=value)(*images) for value in (False, True))
        assert between < whole / 2


class TestGradients:
    def test_descend_to_the_target_where_it_lies(self):
        target, wanted = moved((0, 2))
        image = (wanted + 0.3 * texture(1, 3, 64, 64, seed=1)).requires_grad_()
        metric = Registered(RobustLPIPS())
        optimizer = torch.optim.Adam([image], lr=0.02)
        losses = []
        for _ in range(10):
            optimizer.zero_grad()
            loss = metric(target, image.clamp(-1, 1)).sum()
            loss.backward()
            assert image.grad.isfinite().all()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0] / 2

    def test_of_identical_images_are_finite(self):
        image = texture(1, 3, 64, 64).requires_grad_()
        Registered(RobustLPIPS(), penalty="human")(image, image).sum().backward()
        assert image.grad.isfinite().all()


class TestHumanPenalty:
    def test_grows_with_the_shift(self):
        metric = Registered(RobustLPIPS(), radius=9, penalty="human")
        distances = [metric(*moved((0, shift), size=96)).item() for shift in range(7)]
        assert distances == sorted(distances)
        assert distances[0] == 0.0 < distances[1]

    def test_what_half_of_the_people_notice_costs_what_just_visible_noise_costs(self):
        penalty = HumanPenalty(l1)
        two, three = noticed()[2:4]
        assert two < 0.5 < three
        shift = 2 + (0.5 - two) / (three - two)
        assert_close(penalty(shift[None]), noise_distance(l1)[None])

    def test_stays_beyond_the_last_shift(self):
        penalty = HumanPenalty(l1)
        assert penalty(torch.tensor([9.0])) == penalty(torch.tensor([30.0]))

    @pytest.mark.skipif(not ANSWERS.is_file(), reason="the released answers are not at hand")
    def test_is_that_of_the_released_answers(self):
        answers = [[] for _ in range(10)]
        for name, given in json.loads(ANSWERS.read_text()).items():
            answers[int(re.search(r"_n-(\d)\.png$", name)[1])] += given
        same = torch.tensor([sum(given) / len(given) for given in answers])
        assert_close(noticed(), 1 - same / same[0])

    def test_of_tiles_is_the_mean(self):
        left, right = moved((0, 0), 128), moved((0, 3), 128)
        images = [torch.cat(halves, dim=3) for halves in zip(left, right, strict=True)]
        cost = []
        Registered(l1, penalty=lambda shifts: cost.append(shifts) or shifts, mode="tiles")(*images)
        assert cost[0].tolist() == [0.0, 0.0, 3.0, 3.0] * 2

    def test_a_function_of_ones_own(self):
        metric = Registered(l1, penalty=lambda shifts: 0.1 * shifts)
        assert_close(metric(*moved((0, 2))), torch.tensor([0.2]))

    def test_is_added_to_maps(self):
        metric = Registered(RobustLPIPS(), penalty=lambda shifts: shifts)
        found = metric(*moved((0, 2)), spatial=True)
        assert_close(found, torch.full_like(found, 2.0), rtol=0, atol=1e-4)

    def test_is_of_no_layer(self):
        metric = Registered(RobustLPIPS(), penalty="human")
        with pytest.raises(ValueError, match="penalty is added to one tensor"):
            metric(*moved((0, 2)), per_layer=True)


class TestRefuses:
    def test_what_is_no_metric(self):
        with pytest.raises(TypeError, match="metric must be callable; got str"):
            Registered("alexnet")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"mode": "local"}, "mode must be one of 'global', 'tiles'; got 'local'"),
            ({"mode": "tiles", "tile": 20}, "tile must be at least 24 pixels for radius 3; got 20"),
            ({"border": "zeros"}, "border must be one of 'reflect', 'crop'; got 'zeros'"),
            ({"radius": 0}, "radius must be a whole number from 1; got 0"),
            ({"penalty": "all"}, "penalty must be None, 'human' or a function; got 'all'"),
        ],
    )
    def test_other_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            Registered(l1, **options)


def test_moves_with_its_metric():
    metric = Registered(RobustLPIPS(), penalty="human")
    assert {name for name, _ in metric.named_modules()} >= {"metric", "penalty"}
    assert set(metric.state_dict()) == {f"metric.{name}" for name in metric.metric.state_dict()}
