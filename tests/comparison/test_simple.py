import doctest

import pytest
import torch
from skimage.metrics import structural_similarity

import robust_lpips.comparison
from robust_lpips import RobustLPIPS, weights
from robust_lpips.comparison import l2, load_metric, metric_names, ssim


@pytest.fixture
def images() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    img0, img1 = (torch.rand(3, 3, 20, 24, generator=generator) * 2 - 1 for _ in range(2))
    # Of unequal likeness, so that an answer in the wrong place shows.
    return img0, img0 + torch.tensor([0.1, 0.4, 0.8]).view(3, 1, 1, 1) * (img1 - img0)


def test_l2_by_hand():
    black = torch.full((2, 3, 4, 4), -1.0)
    other = black.clone()
    other[0, 0] = 1.0  # one of three channels differs by 2
    other[1, :, 0, 0] = 0.0  # one of sixteen pixels differs by 1
    assert l2(black, other).tolist() == pytest.approx([4 / 3, 1 / 16])


def test_ssim_is_scikit_images_image_by_image(images):
    distances = ssim(*images)
    for distance, a, b in zip(distances, *images, strict=True):
        # Channel by channel, on the images in [0, 1].
        channels = [
            structural_similarity(
                (x.double().numpy() + 1) / 2,
                (y.double().numpy() + 1) / 2,
                data_range=1.0,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
            )
            for x, y in zip(a, b, strict=True)
        ]
        assert distance.item() == pytest.approx(1 - sum(channels) / 3, abs=1e-9)
    assert distances[0] < distances[1] < distances[2]


def test_ssim_is_piqs_within_its_rounding(images):
    piq = pytest.importorskip("piq")
    a, b = ((image.double() + 1) / 2 for image in images)
    other = 1 - piq.ssim(a, b, data_range=1.0, downsample=False, reduction="none")
    assert torch.allclose(ssim(*images), other, atol=1e-5)


def test_identical_images_are_at_no_distance(images):
    for name in ("l2", "ssim"):
        assert load_metric(name)(images[0], images[0]).tolist() == pytest.approx([0, 0, 0])


def test_released_names_give_the_released_metric():
    assert set(weights.names()) < set(metric_names())
    metric = load_metric("alexnet-shift-tolerant")
    assert isinstance(metric, RobustLPIPS)
    assert metric.config == RobustLPIPS("alexnet-shift-tolerant").config
    assert metric.linear


def test_untrained_depends_on_the_seed_alone():
    state = torch.get_rng_state()
    first, again, other = (
        load_metric("alexnet-untrained", "cpu", seed).state_dict() for seed in (3, 3, 4)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_device_is_where_weights_go():
    assert next(load_metric("alexnet-untrained", "meta").parameters()).device.type == "meta"


def test_unknown_names_are_told_what_there_is():
    with pytest.raises(ValueError, match=r"l2, ssim, .*alexnet-shift-tolerant.*got 'L3'"):
        load_metric("L3")


def test_examples():
    assert doctest.testmod(robust_lpips.comparison).failed == 0
