"""The registry, and what holds for every metric that can be loaded here."""

import doctest
import io
import os
import subprocess
import sys
import textwrap
import urllib.error
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from robust_lpips import RobustLPIPS, weights
from robust_lpips.comparison import (
    MetricUnavailable,
    entry,
    l2,
    load_metric,
    load_metrics,
    metric_names,
    registry,
)

# Metrics by the package that they need, if any; these load without a network.
OFFLINE = {
    None: ("l1", "l2", "psnr", "ssim", "alexnet-untrained", "alexnet-shift-tolerant", "e-lpips"),
    "piq": ("ms-ssim", "fsim", "vsi", "gmsd", "vif"),
    "plenoptic": ("cw-ssim", "nlpd"),
    "pyiqa": ("mad",),
    "pycvvdp": ("cvvdp",),
}
NAMES = [(package, name) for package, names in OFFLINE.items() for name in names]
SEVERITIES = (0, 1, 2)
# Metrics that may find weak distortions as near as the reference itself, and why.
MAY_BE_INVISIBLE = {
    "mad": "its model of detection puts weak noise, blur and JPEG at 0",
}


@pytest.fixture(scope="module")
def load():
    """``get(package, name)``: the metric, loaded once; skips where its package is missing."""
    loaded = {}

    def get(package, name):
        if package is not None:
            pytest.importorskip(package, reason=f"{package} is an optional dependency")
        if name not in loaded:
            loaded[name] = load_metric(name)
        return loaded[name]

    return get


@pytest.fixture(scope="module")
def photograph(image_pair):
    """64x61 pixels, uint8."""
    reference, _ = image_pair("photographs", 1, 64, 61)
    return ((reference[0].permute(1, 2, 0).numpy() + 1) * 127.5).round().astype(np.uint8)


def noise(image, severity):
    pattern = np.random.default_rng(0).standard_normal(image.shape)
    return image + (6, 16, 40)[severity] * pattern


def blur(image, severity):
    sigma = (0.6, 1.2, 2.4)[severity]
    return ndimage.gaussian_filter(image.astype(float), (sigma, sigma, 0))


def jpeg(image, severity):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=(70, 25, 6)[severity])
    return np.asarray(Image.open(buffer))


DISTORTIONS = {f.__name__: f for f in (noise, blur, jpeg)}


def as_batch(arrays):
    pixels = np.stack(arrays).clip(0, 255).astype(np.float32)
    return torch.tensor(pixels).permute(0, 3, 1, 2) / 127.5 - 1


class TestEveryMetric:
    @pytest.mark.parametrize(("package", "name"), NAMES, ids=[name for _, name in NAMES])
    def test_worse_is_farther(self, package, name, load, photograph):
        metric = load(package, name)
        ladders = {
            kind: [photograph] + [distort(photograph, s) for s in SEVERITIES]
            for kind, distort in DISTORTIONS.items()
        }
        for kind, ladder in ladders.items():
            distorted = as_batch(ladder)
            reference = as_batch([photograph] * len(ladder))
            with torch.no_grad():
                distances = metric(reference, distorted)
            assert distances.shape == (len(ladder),)
            assert distances.isfinite().all()
            steps = distances.diff()
            if name in MAY_BE_INVISIBLE:
                steps = steps[distances[1:] > 0]
                assert steps.numel() > 0, kind
                assert distances[0] == 0
            assert steps.min() > 0, (kind, distances.tolist())

    @pytest.mark.parametrize(("package", "name"), NAMES, ids=[name for _, name in NAMES])
    def test_a_batch_is_its_images(self, package, name, load, image_pair):
        metric = load(package, name)
        first, second = image_pair("photographs", 8, 64, 61)
        with torch.no_grad():
            together = metric(first, second)
            apart = [metric(a, b) for a, b in zip(first.split(1), second.split(1), strict=True)]
        assert together.unique().numel() > 1
        assert torch.allclose(together, torch.cat(apart), rtol=1e-4, atol=0)

    @pytest.mark.parametrize(("package", "name"), NAMES, ids=[name for _, name in NAMES])
    def test_tall_or_wide_as_one_likes(self, package, name, load, image_pair):
        with torch.no_grad():
            distances = load(package, name)(*image_pair("photographs", 1, 61, 72))
        assert distances.shape == (1,)
        assert distances.isfinite().all()


class TestCvvdp:
    def test_is_the_authors_own(self, load, image_pair):
        metric = load("pycvvdp", "cvvdp")
        import pycvvdp

        first, second = image_pair("photographs", 2, 64, 64)
        peer = pycvvdp.cvvdp(display_name="standard_4k", device=torch.device("cpu"), quiet=True)
        # As uint8 arrays, height x width x channel, which it takes as well.
        arrays = [
            ((x + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy() for x in (first, second)
        ]
        images = [torch.tensor(x).permute(0, 3, 1, 2) / 127.5 - 1 for x in arrays]
        expected = [
            10 - peer.predict(b, a, dim_order="HWC")[0] for a, b in zip(*arrays, strict=True)
        ]
        assert metric(*images).tolist() == pytest.approx([float(x) for x in expected], rel=1e-3)


class TestPim:
    @pytest.fixture
    def calls(self, monkeypatch):
        """What a stand-in for the authors' package was given."""
        calls = []

        class Model:
            def __call__(self, pair):
                calls.append(pair)
                return torch.tensor([float(np.abs(pair[0] - pair[1]).sum())])

        tensorflow, package = ModuleType("tensorflow"), ModuleType("perceptual_quality")
        tensorflow.constant = np.asarray
        tensorflow.random = ModuleType("random")
        tensorflow.random.set_seed = calls.append
        package.pim = ModuleType("pim")
        package.pim.load_trained = lambda name: calls.append(name) or Model()
        monkeypatch.setitem(sys.modules, "tensorflow", tensorflow)
        monkeypatch.setitem(sys.modules, "perceptual_quality", package)
        return calls

    def test_gets_images_one_by_one_as_it_wants_them(self, calls, image_pair):
        first, second = image_pair("photographs", 2, 20, 24)
        distances = load_metric("pim-5", seed=7)(first, second)
        assert distances.tolist() == pytest.approx(
            ((first - second).abs() / 2).sum(dim=(1, 2, 3)).tolist(), rel=1e-4
        )
        name, *pairs = calls
        assert name == "pim-5"
        assert pairs[::2] == [7, 7]
        for given, a, b in zip(pairs[1::2], first, second, strict=True):
            for array, image in zip(given, (a, b), strict=True):
                assert array.shape == (1, 20, 24, 3)
                assert np.allclose(array[0], (image.permute(1, 2, 0) + 1) / 2, atol=1e-6)


class TestNames:
    def test_all_of_the_papers_and_of_the_released(self):
        wanted = {
            *("l1", "l2", "psnr", "ssim", "ms-ssim", "cw-ssim", "fsim", "vsi", "gmsd", "nlpd"),
            *("vif", "mad", "dists", "pieapp-sparse", "pieapp-dense", "pim-1", "pim-5"),
            *("gti-cnn", "e-lpips", "cvvdp", "alexnet-untrained"),
            *("alexnet-cosine", "vgg16-cosine", "squeezenet-cosine"),
        }
        beyond = {
            f"{arch}-{variant}-{design}"
            for arch in ("alexnet", "vgg16")
            for variant in ("shift-tolerant", "vanilla")
            for design in ("registered", "registered-human", "tolerant", "jittered")
        }
        assert set(metric_names()) == wanted | set(weights.names()) | beyond
        assert len(set(metric_names())) == len(metric_names())

    def test_entries_say_what_tables_need(self):
        entries = [entry(name) for name in metric_names()]
        assert [each.name for each in entries] == list(metric_names())
        assert all(each.title and each.source and each.needs for each in entries)
        assert len({each.title for each in entries}) == len(entries)
        assert entry("ms-ssim").title == "MS-SSIM"
        assert entry("cw-ssim").needs == "plenoptic"

    @pytest.mark.parametrize("function", [entry, load_metric])
    def test_unknown_names_are_told_what_there_is(self, function):
        with pytest.raises(ValueError, match=r"l2, l1, .*alexnet-shift-tolerant.*got 'L3'"):
            function("L3")


class TestOurs:
    def test_names_of_what_goes_beyond_the_papers(self, image_pair):
        pair = image_pair("photographs", 2, 64, 64)  # two pixels apart, and noisy
        base, *others = (
            load_metric(f"alexnet-shift-tolerant{suffix}")(*pair)
            for suffix in ("", "-registered", "-registered-human", "-tolerant", "-jittered")
        )
        registered, human, tolerant, jittered = others
        assert (registered < base).all()
        assert (registered < human).all()
        assert (tolerant < base).all()
        assert not torch.equal(jittered, base)

    def test_released_names_give_the_released_metric(self):
        metric = load_metric("alexnet-shift-tolerant")
        assert isinstance(metric, RobustLPIPS)
        assert metric.config == RobustLPIPS("alexnet-shift-tolerant").config
        assert metric.linear

    def test_untrained_depends_on_the_seed_alone(self):
        state = torch.get_rng_state()
        first, again, other = (
            load_metric("alexnet-untrained", "cpu", seed).state_dict() for seed in (3, 3, 4)
        )
        assert torch.equal(torch.get_rng_state(), state)
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert not all(torch.equal(first[name], other[name]) for name in first)

    def test_device_is_where_weights_go(self):
        metric = load_metric("alexnet-untrained", "meta")
        assert next(metric.parameters()).device.type == "meta"

    def test_cosine_is_the_imagenet_trunk_unweighted(self, monkeypatch, image_pair):
        donor = load_metric("alexnet-untrained", seed=5)
        trunk = dict(donor.backbone.state_dict())
        monkeypatch.setattr(weights, "imagenet_trunk", lambda config: trunk)
        metric = load_metric("alexnet-cosine")
        pair = image_pair("photographs", 2, 64, 64)
        assert not metric.linear
        assert torch.equal(metric(*pair), donor(*pair))
        # Twice the cosine distance, by layer: |a - b|^2 of unit vectors.
        features = [metric.features(image) for image in pair]
        cosines = [
            (1 - torch.cosine_similarity(a, b, dim=1)).mean(dim=(1, 2))
            for a, b in zip(*features, strict=True)
        ]
        assert torch.allclose(metric(*pair), 2 * sum(cosines), rtol=1e-3)


class TestUnavailable:
    @pytest.mark.parametrize(
        ("name", "module", "needs", "extra"),
        [
            ("ms-ssim", "piq", "piq", "comparison"),
            ("vif", "piq", "piq", "comparison"),
            ("dists", "piq", "piq and weights that it downloads", "comparison"),
            ("cw-ssim", "plenoptic", "plenoptic", "comparison"),
            ("nlpd", "plenoptic", "plenoptic", "comparison"),
            ("mad", "pyiqa", "pyiqa", "pyiqa"),
            ("cvvdp", "pycvvdp", "cvvdp", "comparison"),
        ],
    )
    def test_missing_package(self, name, module, needs, extra, monkeypatch):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(MetricUnavailable) as caught:
            load_metric(name)
        expected = f'{name} needs {needs}: pip install "robust-lpips[{extra}]"'
        assert str(caught.value).startswith(expected)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("name", ["pim-1", "pim-5", "gti-cnn"])
    def test_what_no_package_has_can_be_brought_along(self, name, monkeypatch):
        monkeypatch.setitem(sys.modules, "tensorflow", None)
        with pytest.raises(MetricUnavailable, match=r"authors' release.*--metric module:factory"):
            load_metric(name)

    def test_missing_weights(self, monkeypatch):
        def missing(config):
            raise FileNotFoundError("not found\nand more")

        monkeypatch.setattr(weights, "imagenet_trunk", missing)
        with pytest.raises(MetricUnavailable) as caught:
            load_metric("vgg16-cosine")
        assert str(caught.value) == "vgg16-cosine needs ImageNet weights of torchvision: not found"

    def test_failing_download(self, monkeypatch):
        pytest.importorskip("piq", reason="piq is in the extra 'comparison'")

        def refuse(*_, **__):
            raise urllib.error.URLError("no network")

        monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
        for name in ("dists", "pieapp-sparse", "pieapp-dense"):
            with pytest.raises(MetricUnavailable, match=r"no network.*load it once online"):
                load_metric(name)

    def test_is_a_missing_file(self):
        assert issubclass(MetricUnavailable, FileNotFoundError)


class TestLoadMetrics:
    def test_leaves_out_what_is_missing(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "piq", None)
        metrics, missing = load_metrics(["l2", "fsim", "ssim"])
        assert list(metrics) == ["l2", "ssim"]
        assert metrics["l2"] is l2
        assert list(missing) == ["fsim"]
        assert missing["fsim"].startswith("fsim needs piq")

    @pytest.mark.parametrize(
        ("names", "given"), [([], "none"), (["l2", "l2"], "l2, l2"), (["l2", "L3"], "l2, L3")]
    )
    def test_refuses(self, names, given):
        with pytest.raises(ValueError, match=f"different names of .*l2.*; got {given}"):
            load_metrics(names)


class TestOwnFactory:
    @pytest.fixture(autouse=True)
    def module(self, tmp_path, monkeypatch):
        """A module in the current directory, which is not on the path."""
        source = """
            import torch

            class Metric(torch.nn.Module):
                def __init__(self):
                    super().__init__()
                    self.weight = torch.nn.Parameter(torch.ones(1))

                def forward(self, img0, img1):
                    return self.weight * (img0 - img1).abs().amax(dim=(1, 2, 3))

            def failing():
                return 1 / 0

            def number():
                return 3

            def lacking():
                raise FileNotFoundError("no weights here" + chr(10) + "at all")

            constant = 3
        """
        (tmp_path / "own_metric.py").write_text(textwrap.dedent(source))
        (tmp_path / "own_broken.py").write_text("1 / 0\n")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", list(sys.path))
        yield
        for name in ("own_metric", "own_broken"):
            sys.modules.pop(name, None)

    def test_its_metric_is_used(self, image_pair, monkeypatch):
        before = list(sys.path)
        monkeypatch.setattr(sys, "path", list(before))
        metric = load_metric("own_metric:Metric")
        first, second = image_pair("photographs", 2, 8, 8)
        assert torch.equal(metric(first, second), (first - second).abs().amax(dim=(1, 2, 3)))
        # Last, so that it hides nothing; and kept, because metrics import late, too.
        assert sys.path == [*before, os.getcwd()]
        assert load_metric("own_metric:Metric", "meta").weight.device.type == "meta"
        assert list(load_metrics(["l2", "own_metric:Metric"])[0]) == ["l2", "own_metric:Metric"]

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("own_nowhere:Metric", "cannot import 'own_nowhere': ModuleNotFoundError"),
            ("own_broken:Metric", "cannot import 'own_broken': ZeroDivisionError"),
            (":Metric", "cannot import ''"),
            ("own_metric:Nothing", "'own_metric' has no 'Nothing'"),
            ("own_metric:", "'own_metric' has no ''"),
            ("own_metric:constant", "has no callable 'constant'"),
            ("own_metric:failing", r"failing\(\) failed with ZeroDivisionError: division"),
            ("own_metric:number", r"number\(\) must return a callable .* got int"),
        ],
    )
    def test_refused(self, name, message):
        with pytest.raises(ValueError, match=message):
            load_metric(name)

    def test_its_missing_weights_leave_it_out(self):
        _, missing = load_metrics(["l2", "own_metric:lacking"])
        assert missing == {
            "own_metric:lacking": "own_metric:lacking cannot be loaded: no weights here"
        }


def test_importing_loads_no_library():
    code = "import sys, robust_lpips.comparison; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    heavy = {"piq", "plenoptic", "pyiqa", "pycvvdp", "torchvision", "skimage", "tensorflow"}
    assert not heavy & set(result.stdout.split())


def test_examples():
    assert doctest.testmod(registry).failed == 0
