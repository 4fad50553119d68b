"""Hand-made metrics against the libraries, called as these say, on photographs in [0, 1]."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from skimage.metrics import structural_similarity

from robust_lpips.comparison import load_metric, ssim
from robust_lpips.comparison.structure import MS_SSIM_WEIGHTS, reflected

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def piq():
    return pytest.importorskip("piq", reason="piq is in the extra 'comparison'")


@pytest.fixture(scope="module")
def pyiqa():
    return pytest.importorskip("pyiqa", reason="pyiqa is in the extra 'comparison'")


@pytest.fixture
def photographs(image_pair):
    """``get(height, width)``: a pair for us, and the same in [0, 1] for a library."""

    def get(height=64, width=61, n=3):
        ours = image_pair("photographs", n, height, width)
        reference, distorted = ((image + 1) / 2 for image in ours)
        return SimpleNamespace(ours=ours, reference=reference, distorted=distorted)

    return get


def test_ssim_is_scikit_images_image_by_image(photographs):
    pair = photographs(20, 24)
    for distance, a, b in zip(ssim(*pair.ours), pair.reference, pair.distorted, strict=True):
        # Channel by channel, on the images in [0, 1].
        channels = [
            structural_similarity(
                x.double().numpy(),
                y.double().numpy(),
                data_range=1.0,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
            )
            for x, y in zip(a, b, strict=True)
        ]
        assert distance.item() == pytest.approx(1 - sum(channels) / 3, abs=1e-6)


def test_ssim_is_piqs_within_its_rounding(photographs, piq):
    pair = photographs()
    a, b = pair.reference.double(), pair.distorted.double()
    other = 1 - piq.ssim(a, b, data_range=1.0, downsample=False, reduction="none")
    assert torch.allclose(ssim(*pair.ours), other, atol=1e-5)


@pytest.mark.parametrize("name", ["fsim", "vsi", "vif"])
def test_indices_are_one_minus_piqs(name, photographs, piq):
    pair = photographs()
    index = {"fsim": piq.fsim, "vsi": piq.vsi, "vif": piq.vif_p}[name]
    # Its first argument is the distorted image.
    expected = 1 - index(pair.distorted, pair.reference, data_range=1.0, reduction="none")
    assert torch.allclose(load_metric(name)(*pair.ours), expected, rtol=1e-5)


def test_gmsd_is_piqs(photographs, piq):
    pair = photographs()
    expected = piq.gmsd(pair.reference, pair.distorted, data_range=1.0, reduction="none")
    assert torch.allclose(load_metric("gmsd")(*pair.ours), expected, rtol=1e-5)


def test_vif_takes_the_first_image_for_the_reference(photographs):
    reference, distorted = photographs().ours
    metric = load_metric("vif")
    assert (metric(reference, distorted) - metric(distorted, reference)).abs().max() > 0.01


class TestMsSsim:
    def test_is_piqs_where_five_scales_fit(self, photographs, piq):
        pair = photographs(163, 161, n=2)
        expected = 1 - piq.multi_scale_ssim(pair.distorted, pair.reference, reduction="none")
        assert torch.equal(load_metric("ms-ssim")(*pair.ours), expected)

    @pytest.mark.parametrize(
        ("size", "scales"), [((81, 160), 4), ((64, 61), 3), ((80, 41), 3), ((40, 64), 2)]
    )
    def test_smaller_images_get_the_finest_scales(self, size, scales, photographs, piq):
        pair = photographs(*size, n=2)
        weights = torch.tensor(MS_SSIM_WEIGHTS[:scales])
        expected = 1 - piq.multi_scale_ssim(
            pair.distorted,
            pair.reference,
            scale_weights=weights / weights.sum(),
            reduction="none",
        )
        assert torch.allclose(load_metric("ms-ssim")(*pair.ours), expected, rtol=1e-5)

    def test_one_scale_is_ssim(self, photographs):
        pair = photographs(20, 20, n=2)
        distances = load_metric("ms-ssim")(*pair.ours)
        assert torch.allclose(distances.double(), ssim(*pair.ours), atol=1e-4)


class TestPyiqa:
    def test_nlpd(self, photographs, pyiqa):
        pair = photographs()
        expected = pyiqa.create_metric("nlpd", device=CPU)(pair.distorted, pair.reference)
        assert torch.allclose(load_metric("nlpd")(*pair.ours), expected.reshape(-1), rtol=1e-5)

    def test_cw_ssim(self, photographs, pyiqa):
        pair = photographs(64, 70)
        expected = 1 - pyiqa.create_metric("cw_ssim", device=CPU)(pair.distorted, pair.reference)
        assert torch.allclose(load_metric("cw-ssim")(*pair.ours), expected)
        assert expected.min() > 0

    def test_cw_ssim_of_narrow_images_is_of_reflected_ones(self, photographs):
        metric = load_metric("cw-ssim")
        narrow = photographs(64, 61).ours
        grown = [torch.cat([x, x[..., [59, 58, 57]]], dim=-1) for x in narrow]
        assert torch.allclose(metric(*narrow), metric(*grown))

    def test_cw_ssim_of_flat_images_is_finite(self, pyiqa):
        grey = torch.zeros(1, 3, 64, 64)
        assert load_metric("cw-ssim")(grey, grey + 0.2).tolist() == [0.0]

    def test_mad(self, photographs, pyiqa):
        pair = photographs(64, 64)
        expected = pyiqa.create_metric("mad", device=CPU)(pair.distorted, pair.reference)
        assert torch.allclose(load_metric("mad")(*pair.ours), expected, rtol=1e-5)

    def test_mad_of_narrow_images_is_not_lost(self, photographs):
        metric = load_metric("mad")
        narrow, square = (metric(*photographs(64, width, n=2).ours) for width in (61, 64))
        assert square.min() > 100
        assert torch.allclose(narrow, square, rtol=0.15)

    def test_mad_sees_nothing_in_the_dark(self, pyiqa):
        black = torch.full((1, 3, 64, 64), -1.0)
        noisy = black + 0.1 * torch.rand(black.shape, generator=torch.Generator().manual_seed(0))
        assert load_metric("mad")(black, noisy).tolist() == [0.0]

    def test_mad_refuses_strips(self, pyiqa):
        with pytest.raises(ValueError, match=r"less than twice the shorter for mad; got 16x32"):
            load_metric("mad")(*torch.zeros(2, 1, 3, 16, 32))

    def test_loading_prints_nothing(self, pyiqa, capfd):
        load_metric("nlpd")
        assert capfd.readouterr() == ("", "")


def test_reflected():
    images = torch.rand(2, 3, 5, 6)
    grown = reflected(images, 7, 8)
    assert torch.equal(grown, F.pad(images, (0, 2, 0, 2), mode="reflect"))
    assert torch.equal(grown[..., :5, :6], images)
    assert reflected(images, 5, 6) is images


class TestRefused:
    @pytest.mark.parametrize(
        ("images", "message"),
        [
            (torch.zeros(2, 1, 3, 40, 64), r"H, W >= 41 for this metric; got \(1, 3, 40, 64\)"),
            (torch.zeros(2, 3, 64, 64), r"\(N, 3, H, W\)"),
            (torch.full((2, 1, 3, 64, 64), 2.0), r"img0 must have values in \[-1, 1\]"),
            (torch.full((2, 1, 3, 64, 64), torch.nan), "img0 contains NaN"),
        ],
    )
    def test_images(self, images, message, piq):
        with pytest.raises(ValueError, match=message):
            load_metric("vif")(*images)

    def test_different_shapes(self, piq):
        with pytest.raises(ValueError, match="same shape"):
            load_metric("vsi")(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 61))
