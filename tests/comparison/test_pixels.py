import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from robust_lpips.comparison import l1, l2, psnr


@pytest.fixture
def black_and_other() -> tuple[torch.Tensor, torch.Tensor]:
    black = torch.full((2, 3, 4, 4), -1.0)
    other = black.clone()
    other[0, 0] = 1.0  # one of three channels differs by 2
    other[1, :, 0, 0] = 0.0  # one of sixteen pixels differs by 1
    return black, other


def test_l1_by_hand(black_and_other):
    assert l1(*black_and_other).tolist() == pytest.approx([2 / 3, 1 / 16])


def test_l2_by_hand(black_and_other):
    assert l2(*black_and_other).tolist() == pytest.approx([4 / 3, 1 / 16])


def test_psnr_is_scikit_images_negative(image_pair):
    pair = image_pair("photographs", 3, 32, 29)
    a, b = ((image.double().numpy() + 1) / 2 for image in pair)
    expected = [-peak_signal_noise_ratio(x, y, data_range=1.0) for x, y in zip(a, b, strict=True)]
    assert psnr(*pair).tolist() == pytest.approx(expected, rel=1e-5)


def test_psnr_of_identical_images_is_finite(black_and_other):
    black, _ = black_and_other
    assert psnr(black, black).tolist() == pytest.approx([-100.0, -100.0])
