"""Hand-made metrics against the libraries, called as these document, on images in [0, 1]."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity

from robust_lpips.comparison import load_metric, ssim
from robust_lpips.comparison.structure import MS_SSIM_WEIGHTS, reflected
from tests.comparison.generated_pairs import SIZES, generated_pairs, stored_values

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def piq():
    return pytest.importorskip("piq", reason="piq is in the extra 'comparison'")


@pytest.fixture(scope="module")
def pyiqa():
    return pytest.importorskip("pyiqa", reason="pyiqa is in the extra 'pyiqa'")


@pytest.fixture(scope="module")
def plenoptic():
    return pytest.importorskip("plenoptic", reason="plenoptic is in the extra 'comparison'")


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


@pytest.fixture(scope="module")
def of_pyiqa():
    """``get(name, size)``: our distances of the generated pairs, and the values of pyiqa."""
    stored = stored_values()

    def get(name, size):
        height, width = size
        reference, distorted = (2 * image - 1 for image in generated_pairs(height, width))
        ours = load_metric(name)(reference, distorted).double()
        values = stored[name.replace("-", "_")][f"{height}x{width}"]
        return ours, torch.tensor(values, dtype=torch.float64)

    return get


@pytest.mark.usefixtures("plenoptic")
class TestCwSsim:
    @pytest.mark.parametrize("size", SIZES)
    def test_is_pyiqas(self, size, of_pyiqa):
        ours, index = of_pyiqa("cw-ssim", size)
        odd = any(side % 2 for side in size)  # we reflect these by a pixel, pyiqa does not
        assert torch.allclose(ours, 1 - index, rtol=0, atol=0.02 if odd else 1e-7)
        assert spearmanr(ours, 1 - index).statistic > (0.97 if odd else 0.9999)

    def test_is_pyiqas_on_photographs(self, photographs, pyiqa):
        pair = photographs(64, 70)
        expected = 1 - pyiqa.create_metric("cw_ssim", device=CPU)(pair.distorted, pair.reference)
        assert torch.allclose(load_metric("cw-ssim")(*pair.ours), expected.reshape(-1))
        assert expected.min() > 0

    @pytest.mark.parametrize(
        ("size", "side", "grown"),
        [
            ((64, 61), -1, [59, 58, 57]),  # to 64
            ((70, 65), -1, [63]),  # to an even number
            ((67, 64), -2, [65]),
        ],
    )
    def test_other_sides_are_reflected(self, size, side, grown, photographs):
        metric = load_metric("cw-ssim")
        images = photographs(*size).ours
        larger = [torch.cat([x, x.index_select(side, torch.tensor(grown))], side) for x in images]
        assert torch.equal(metric(*images), metric(*larger))

    @pytest.mark.parametrize("size", [(64, 64), (64, 61), (100, 131), (33, 40)])
    def test_identical_images_are_at_zero(self, size, photographs):
        image, other = photographs(*size).ours
        metric = load_metric("cw-ssim")
        assert metric(image, image.clone()).tolist() == [0.0, 0.0, 0.0]
        assert metric(image, other).min() > 0

    def test_flat_images(self):
        grey, noise = torch.zeros(1, 3, 64, 64), torch.rand(1, 3, 64, 64)
        metric = load_metric("cw-ssim")
        assert metric(grey, grey + 0.2).tolist() == [0.0]
        assert metric(grey, noise).item() == pytest.approx(1)

    def test_gradient_lowers_the_distance(self, photographs):
        reference, distorted = photographs(64, 64).ours
        metric = load_metric("cw-ssim")
        distorted.requires_grad_()
        before = metric(reference, distorted)
        (gradient,) = torch.autograd.grad(before.sum(), distorted)
        step = 0.05 * gradient / gradient.abs().amax(dim=(1, 2, 3), keepdim=True)
        assert (metric(reference, (distorted - step).clamp(-1, 1)) < before).all()

    def test_random_state_of_numpy_is_kept(self):
        before = pickle.dumps(np.random.get_state())  # noqa: NPY002
        load_metric("cw-ssim")(*torch.zeros(2, 1, 3, 64, 64))
        assert pickle.dumps(np.random.get_state()) == before  # noqa: NPY002


@pytest.mark.usefixtures("plenoptic")
class TestNlpd:
    @pytest.mark.parametrize("size", SIZES)
    def test_orders_pairs_as_pyiqa(self, size, of_pyiqa):
        ours, theirs = of_pyiqa("nlpd", size)
        assert spearmanr(ours, theirs).statistic > 0.97
        ratios = ours / theirs  # another blur, other borders
        assert 0.6 < ratios.min() < ratios.max() < 1.3
        assert ratios.median().item() == pytest.approx(0.95, abs=0.03)

    def test_is_plenoptics_of_the_luminance(self, photographs, plenoptic):
        from skimage.color import rgb2yiq

        pair = photographs(64, 61)
        grey = [
            torch.tensor(rgb2yiq(image.movedim(1, -1).numpy())[..., :1]).movedim(-1, 1)
            for image in (pair.reference, pair.distorted)
        ]
        # Ten decimals of its own constant, which keeps identical images from 0.
        expected = plenoptic.metric.nlpd(*grey, epsilon=1e-20).reshape(-1)
        assert torch.allclose(load_metric("nlpd")(*pair.ours).double(), expected.double())

    def test_identical_images_are_at_zero(self, photographs):
        image, _ = photographs().ours
        assert load_metric("nlpd")(image, image.clone()).tolist() == [0.0, 0.0, 0.0]

    def test_white_is_within_the_range(self, recwarn):
        white = torch.ones(1, 3, 64, 64)
        load_metric("nlpd")(white, -white)
        assert not recwarn.list


class TestMad:
    def test_is_pyiqas(self, photographs, pyiqa):
        pair = photographs(64, 64)
        expected = pyiqa.create_metric("mad", device=CPU)(pair.distorted, pair.reference)
        assert torch.allclose(load_metric("mad")(*pair.ours), expected, rtol=1e-5)

    def test_narrow_images_are_not_lost(self, photographs, pyiqa):
        metric = load_metric("mad")
        narrow, square = (metric(*photographs(64, width, n=2).ours) for width in (61, 64))
        assert square.min() > 100
        assert torch.allclose(narrow, square, rtol=0.15)

    def test_sees_nothing_in_the_dark(self, pyiqa):
        black = torch.full((1, 3, 64, 64), -1.0)
        noisy = black + 0.1 * torch.rand(black.shape, generator=torch.Generator().manual_seed(0))
        assert load_metric("mad")(black, noisy).tolist() == [0.0]

    def test_refuses_strips(self, pyiqa):
        with pytest.raises(ValueError, match=r"less than twice the shorter for mad; got 16x32"):
            load_metric("mad")(*torch.zeros(2, 1, 3, 16, 32))

    def test_loading_prints_nothing(self, pyiqa, capfd):
        load_metric("mad")
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

    @pytest.mark.parametrize("name", ["cw-ssim", "nlpd"])
    def test_small_images(self, name, plenoptic):
        with pytest.raises(ValueError, match=r"H, W >= 33 for this metric; got \(1, 3, 32, 64\)"):
            load_metric(name)(*torch.zeros(2, 1, 3, 32, 64))
        assert load_metric(name)(*torch.zeros(2, 1, 3, 33, 33)).tolist() == [0.0]

    def test_different_shapes(self, piq):
        with pytest.raises(ValueError, match="same shape"):
            load_metric("vsi")(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 61))
