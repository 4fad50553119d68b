"""The metric against the peers it replaces, and what it promises beyond their numbers."""

import copy
import itertools
import math
import pickle
import re
import warnings

import lpips
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from robust_lpips import BackboneConfig, RobustLPIPS
from robust_lpips.backbones import torchvision_keys
from robust_lpips.metric import unit_norm

NAMES = ["alexnet-shift-tolerant", "vgg16-shift-tolerant"]
SIZES = [(64, 64), (61, 64), (97, 131), (256, 256)]
KINDS = ["photographs", "noise"]
ADAPTIVE = BackboneConfig(anti_alias="adaptive", conv1_stride=2)


def assert_close(ours, theirs, rtol=1e-5):
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=0)


def numpy_by_hand(metric, img0, img1, *, linear):
    """Each layer's map (N, H_l, W_l), from the features by NumPy in float64."""
    maps = []
    features = zip(metric.features(img0), metric.features(img1), strict=True)
    for layer, (f0, f1) in enumerate(features):
        f0, f1 = f0.double().numpy(), f1.double().numpy()
        cosine = (f0 * f1).sum(1) / (np.linalg.norm(f0, axis=1) * np.linalg.norm(f1, axis=1))
        if linear:
            f0, f1 = (f / np.linalg.norm(f, axis=1, keepdims=True) for f in (f0, f1))
            weight = metric.lin[layer].double().numpy()
            maps.append(np.einsum("c,nchw->nhw", weight, (f0 - f1) ** 2))
        else:
            maps.append(2 * (1 - cosine))
    return maps


class TestAgainstSTLPIPS:
    """``stlpips_pytorch`` runs the authors' code on the weights that it ships."""

    @pytest.mark.parametrize(
        ("kind", "n", "shape"),
        [
            # A minute goes into these; one image of that size is compared, and smaller batches.
            pytest.param(*case, marks=pytest.mark.slow if case[1:] == (7, (256, 256)) else ())
            for case in itertools.product(KINDS, [1, 7], SIZES)
        ],
    )
    @pytest.mark.parametrize("name", NAMES)
    def test_distance(self, name, shape, n, kind, image_pair, released, stlpips_peer):
        images = image_pair(kind, n, *shape)
        with torch.no_grad():
            ours, theirs = released(name)(*images), stlpips_peer(name)(*images)
        assert ours.shape == (n,)
        assert theirs.min() > 1e-3
        assert_close(ours, theirs.flatten())

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("shape", SIZES[:3])
    @pytest.mark.parametrize("name", NAMES)
    def test_gradient(self, name, shape, kind, image_pair, released, stlpips_peer):
        img0, img1 = image_pair(kind, 1, *shape)
        gradients = []
        for metric in (released(name), stlpips_peer(name)):
            x = img0.clone().requires_grad_()
            metric(x, img1).sum().backward()
            gradients.append(x.grad)
        ours, theirs = gradients
        assert theirs.norm() > 0
        assert (ours - theirs).norm() <= 1e-4 * theirs.norm()

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("name", NAMES)
    def test_unweighted(self, name, kind, image_pair, stlpips_peer, monkeypatch):
        images = image_pair(kind, 2, 61, 64)
        monkeypatch.setattr(stlpips_peer(name), "lpips", False)
        ours = RobustLPIPS(name, linear=False)(*images)
        assert_close(ours, stlpips_peer(name)(*images).flatten())

    @pytest.mark.parametrize("linear", [True, False])
    @pytest.mark.parametrize("spatial", [True, False])
    @pytest.mark.parametrize("name", NAMES)
    def test_layers_and_maps(self, name, spatial, linear, image_pair, stlpips_peer, monkeypatch):
        images = image_pair("photographs", 2, 61, 64)
        peer = stlpips_peer(name)
        monkeypatch.setattr(peer, "lpips", linear)
        monkeypatch.setattr(peer, "spatial", spatial)
        metric = RobustLPIPS(name, linear=linear)
        total, layers = metric(*images, spatial=spatial, per_layer=True)
        expected, parts = peer(*images, retPerLayer=True)
        # The peer sums into its first entry, in place: take the others away again.
        parts = torch.cat([expected - sum(parts[1:]), *parts[1:]], dim=1)
        assert total.shape == ((2, 1, 61, 64) if spatial else (2,))
        assert layers.shape == ((2, 5, 61, 64) if spatial else (2, 5))
        torch.testing.assert_close(
            total, expected if spatial else expected.flatten(), rtol=1e-5, atol=1e-7
        )
        torch.testing.assert_close(
            layers, parts if spatial else parts.flatten(1), rtol=1e-5, atol=1e-6
        )

    def test_normalize(self, image_pair, released, stlpips_peer):
        images = [(x + 1) / 2 for x in image_pair("photographs", 2, 64, 64)]
        theirs = stlpips_peer(NAMES[0])(*images, normalize=True).flatten()
        assert_close(released()(*images, normalize=True), theirs)


@pytest.mark.parametrize(
    ("arch", "net"), [("alexnet", "alex"), ("vgg16", "vgg"), ("squeezenet1_1", "squeeze")]
)
class TestAgainstLPIPS:
    """LPIPS v0.1 as ``lpips`` computes it, on a random trunk: torchvision's is a download."""

    @pytest.fixture
    def trunk(self, arch, quick_build):
        torch.manual_seed(0)
        with quick_build():
            trunk = getattr(torchvision.models, arch)(weights=None)
        for layer in trunk.features.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
                nn.init.uniform_(layer.bias, -0.3, 0.3)
        return trunk

    @pytest.fixture
    def peer(self, net, trunk, quick_build):
        with quick_build(), warnings.catch_warnings(action="ignore"):
            peer = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
        convolutions = [m for m in trunk.features.modules() if isinstance(m, nn.Conv2d)]
        own = [layer for layer in peer.net.modules() if isinstance(layer, nn.Conv2d)]
        for source, target in zip(convolutions, own, strict=True):
            target.load_state_dict(source.state_dict())
        return peer

    @pytest.mark.parametrize("shape", SIZES[:3])
    def test_shared_weights(self, arch, shape, trunk, peer, image_pair):
        metric = RobustLPIPS(BackboneConfig(arch=arch), weights=None, linear=True)
        state = trunk.state_dict()
        keys = torchvision_keys(metric.config)
        metric.backbone.load_state_dict({ours: state[theirs] for ours, theirs in keys.items()})
        for weight, layer in zip(metric.lin, peer.lins, strict=True):
            weight.copy_(layer.model[-1].weight.flatten())
        for kind in KINDS:
            images = image_pair(kind, 1, *shape)
            assert_close(metric(*images), peer(*images).flatten())

    def test_released_name(self, arch, trunk, peer, image_pair, monkeypatch):
        """The trunk comes from torchvision, the 1x1 layers from the package ``lpips``."""
        asked = []

        def load_state_dict_from_url(url, **options):
            asked.append((url, options["check_hash"]))
            return trunk.state_dict()

        monkeypatch.setattr(torch.hub, "load_state_dict_from_url", load_state_dict_from_url)
        metric = RobustLPIPS(arch)
        assert metric.linear
        images = image_pair("photographs", 2, 61, 64)
        assert_close(metric(*images), peer(*images).flatten())
        ((url, check_hash),) = asked
        assert url == torchvision.models.get_model_weights(arch).IMAGENET1K_V1.url
        assert check_hash


class TestDistance:
    @pytest.mark.parametrize("config", [BackboneConfig(), ADAPTIVE])
    def test_unweighted_is_twice_the_mean_cosine_distance(self, config, image_pair):
        torch.manual_seed(0)
        metric = RobustLPIPS(config, weights=None)
        assert not metric.linear
        images = image_pair("noise", 2, 64, 61)
        maps = numpy_by_hand(metric, *images, linear=False)
        expected = sum(m.mean(axis=(1, 2)) for m in maps)
        np.testing.assert_allclose(metric(*images).numpy(), expected, rtol=1e-5)

    def test_untrained_1x1_weights_average_channels(self, image_pair):
        torch.manual_seed(0)
        weighted = RobustLPIPS(BackboneConfig(), weights=None, linear=True)
        images = image_pair("noise", 2, 64, 64)
        torch.manual_seed(0)
        unweighted = RobustLPIPS(BackboneConfig(), weights=None)
        channels = torch.tensor([64.0, 192, 384, 256, 256])
        expected = unweighted(*images, per_layer=True)[1] / channels
        assert_close(weighted(*images, per_layer=True)[1], expected)

    def test_spatial_map_is_each_layers_map_resized(self, metric, image_pair):
        images = image_pair("photographs", 2, 64, 61)
        maps = numpy_by_hand(metric, *images, linear=True)
        expected = sum(
            F.interpolate(torch.tensor(m)[:, None], (64, 61), mode="bilinear") for m in maps
        )
        total = metric(*images, spatial=True)
        torch.testing.assert_close(total.double(), expected, rtol=1e-4, atol=1e-6)
        # Resizing weighs the margins a little differently than the mean does.
        assert_close(total.mean(dim=(1, 2, 3)), metric(*images), rtol=0.1)

    @pytest.mark.parametrize("spatial", [True, False])
    def test_layers_sum_to_the_distance(self, spatial, metric, image_pair):
        images = image_pair("photographs", 2, 64, 61)
        total, layers = metric(*images, spatial=spatial, per_layer=True)
        torch.testing.assert_close(layers.sum(dim=1, keepdim=spatial), total)
        assert torch.equal(total, metric(*images, spatial=spatial))
        assert layers.min() >= 0

    @pytest.mark.parametrize("name", NAMES)
    def test_identity_and_symmetry(self, name, released, image_pair):
        img0, img1 = image_pair("photographs", 2, 64, 64)
        metric = released(name)
        assert torch.equal(metric(img0, img0.clone()), torch.zeros(2))
        assert torch.equal(metric(img0, img1), metric(img1, img0))

    def test_features_and_distance_equal_forward_bit_for_bit(self, metric, image_pair):
        img0, img1 = image_pair("photographs", 2, 64, 64)
        assert torch.equal(
            metric.distance(metric.features(img0), metric.features(img1)), metric(img0, img1)
        )
        scaled = metric.features((img0 + 1) / 2, normalize=True)
        for ours, expected in zip(scaled, metric.features(img0), strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)

    def test_dropout_keeps_the_mean(self, metric, image_pair):
        """Half of the differences are left out and the others doubled."""
        torch.manual_seed(0)
        f0, f1 = (metric.features(image) for image in image_pair("photographs", 1, 64, 64))
        draws = torch.stack([metric.distance(f0, f1, dropout=0.5) for _ in range(10)])
        assert draws.std() > 0
        assert_close(draws.mean(0), metric.distance(f0, f1), rtol=0.03)

    def test_unit_norm(self):
        torch.testing.assert_close(
            unit_norm(torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)).flatten(),
            torch.tensor([0.6, 0.8]),
        )
        assert not unit_norm(torch.zeros(1, 2, 1, 1)).any()
        # In half precision the sum of squares of these would overflow.
        large = unit_norm(torch.full((1, 4, 1, 1), 6e4, dtype=torch.float16))
        torch.testing.assert_close(large, torch.full((1, 4, 1, 1), 0.5))


class TestInputs:
    def test_batch_and_single_image(self, metric, image_pair):
        img0, img1 = image_pair("photographs", 3, 64, 61)
        whole = metric(img0, img1)
        assert whole.shape == (3,)
        single = metric(img0[1], img1[1])
        assert single.shape == (1,)
        assert_close(single, whole[1:2])
        assert metric(img0[1], img1[1:2], spatial=True).shape == (1, 1, 64, 61)

    def test_uint8_equals_floats(self, metric):
        pixels = torch.randint(0, 256, (2, 2, 3, 64, 64), dtype=torch.uint8)
        expected = metric(*pixels)
        assert expected.min() > 0
        assert_close(metric(*(pixels / 127.5 - 1)), expected)
        assert_close(metric(*(pixels / 255), normalize=True), expected)
        assert_close(metric(*pixels, normalize=True), expected)
        assert_close(metric(pixels[0], pixels[1] / 127.5 - 1), expected)

    def test_channels_last_gives_the_same(self, metric, image_pair):
        images = image_pair("photographs", 2, 64, 61)
        moved = [image.to(memory_format=torch.channels_last) for image in images]
        assert_close(metric(*moved), metric(*images))

    def test_non_contiguous_gives_the_same(self, metric, image_pair):
        images = [image[..., ::2, :] for image in image_pair("noise", 2, 128, 64)]
        assert_close(metric(*images), metric(*(image.contiguous() for image in images)))

    @pytest.mark.parametrize("which", [0, 1])
    @pytest.mark.parametrize(
        ("change", "came", "allowed"),
        [
            (lambda x: (x + 1) * 127.5, r"got \[[0-9.]+, 2[0-9.]+\]", r"\[-1, 1\].*uint8"),
            (lambda x: x * 1.1, r"got \[", r"\[-1, 1\]"),
            (lambda x: x.index_fill(0, torch.tensor(1), math.nan), "NaN", r"\[-1, 1\]"),
            (lambda x: x.index_fill(0, torch.tensor(1), math.inf), r"inf\]", r"\[-1, 1\]"),
            (lambda x: x[:, :1], r"got \(2, 1, 64, 64\)", r"\(N, 3, H, W\) or \(3, H, W\)"),
            (lambda x: torch.cat([x, x[:, :1]], 1), r"got \(2, 4, 64, 64\)", r"\(N, 3, H, W\)"),
            (lambda x: x[0, 0], r"got \(64, 64\)", r"\(3, H, W\)"),
            (lambda x: x[None], r"got \(1, 2, 3, 64, 64\)", r"\(3, H, W\)"),
            (lambda x: x.permute(0, 2, 3, 1), r"got \(2, 64, 64, 3\)", r"\(3, H, W\)"),
            (lambda x: x[:0], r"got \(0, 3, 64, 64\)", "N >= 1"),
            (lambda x: x[..., :5, :5], "got 5x5", r"at least \d+x\d+"),
            (lambda x: x.long(), "got torch.int64", "floating or uint8"),
            (lambda x: x > 0, "got torch.bool", "floating or uint8"),
            (lambda x: x.to("meta"), "is on meta", "metric on cpu"),
        ],
        ids=[
            "0..255 floats",
            "beyond 1",
            "NaN",
            "inf",
            "1 channel",
            "4 channels",
            "2 axes",
            "5 axes",
            "channels last",
            "empty",
            "5x5",
            "int64",
            "bool",
            "other device",
        ],
    )
    def test_refusals_say_which_what_and_what_else(
        self, change, came, allowed, which, metric, image_pair
    ):
        images = list(image_pair("photographs", 2, 64, 64))
        images[which] = change(images[which])
        with pytest.raises(ValueError, match=f"img{which}") as caught:
            metric(*images)
        assert re.search(came, str(caught.value))
        assert re.search(allowed, str(caught.value))

    def test_not_a_tensor(self, metric, image_pair):
        img0, img1 = image_pair("photographs", 1, 64, 64)
        with pytest.raises(TypeError, match=r"img1 must be a torch\.Tensor; got ndarray"):
            metric(img0, img1.numpy())

    def test_unequal_shapes(self, metric, image_pair):
        img0, img1 = image_pair("photographs", 2, 64, 64)
        for other in (img1[:1], img1[..., :-1], img1[0]):
            with pytest.raises(ValueError, match=r"same shape.*img0 \(2, 3, 64, 64\), img1 \("):
                metric(img0, other)

    def test_negative_values_with_normalize(self, metric, image_pair):
        with pytest.raises(ValueError, match=r"img0 must have values in \[0, 1\]; got \[-"):
            metric(*image_pair("photographs", 1, 64, 64), normalize=True)

    def test_rounding_beyond_the_range_is_accepted(self, metric, image_pair):
        img0, img1 = image_pair("photographs", 1, 64, 64)
        img0[..., 0, 0] = 1.0005
        img1[..., 0, 0] = -1.0005
        assert metric(img0, img1).isfinite().all()

    def test_unit_range_warns_once_at_the_callers_line(self, metric, image_pair):
        images = [(x + 1) / 2 for x in image_pair("photographs", 1, 64, 64)]
        with warnings.catch_warnings(record=True) as record:
            warnings.simplefilter("default")
            for _ in range(3):
                metric(*images)
        (warning,) = record
        assert warning.category is UserWarning
        assert warning.filename == __file__
        assert "normalize=True" in str(warning.message)

    def test_no_warning_where_the_range_is_clear(self, metric, image_pair):
        img0, img1 = image_pair("photographs", 1, 64, 64)
        unit = [(x + 1) / 2 for x in (img0, img1)]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            metric(img0, img1)
            metric(unit[0], img1)  # one image has negative values: the pair is in [-1, 1]
            metric(*unit, normalize=True)
            metric(*((x * 255).byte() for x in unit))
            metric(*unit, validate=False)

    def test_validate_switches_value_checks_only(self, metric, image_pair):
        img0, img1 = image_pair("photographs", 1, 64, 64)
        unchecked = RobustLPIPS(validate=False)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for wild in (img0 * 255, (img0 + 1) / 2):
                expected = unchecked(wild, img1.abs())
                assert torch.equal(metric(wild, img1.abs(), validate=False), expected)
            assert unchecked(img0 * math.nan, img1).isnan().all()
        with pytest.raises(ValueError, match="img0 must have values"):
            unchecked(img0 * 255, img1, validate=True)
        for bad in (img0[:, :1], img0[..., :5, :5], img0.long(), img0[:0]):
            with pytest.raises(ValueError, match="img0"):
                unchecked(bad, img1)
        with pytest.raises(ValueError, match="same shape"):
            unchecked(img0, img1[..., 1:])


class TestPrecision:
    DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("name", NAMES)
    def test_gradients_of_identical_images_are_finite(self, name, dtype, released, image_pair):
        metric = copy.deepcopy(released(name)).to(dtype)
        image, _ = image_pair("photographs", 1, 40, 40)
        x = image.to(dtype, copy=True).requires_grad_()
        distance = metric(x, x.detach().clone())
        distance.sum().backward()
        assert not distance.any()
        assert x.grad.isfinite().all()

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_gradients_are_finite_where_all_channels_are_0(self, dtype):
        x = torch.zeros(1, 8, 3, 3, dtype=dtype, requires_grad=True)
        (unit_norm(x) - 0.5).square().sum().backward()
        assert x.grad.isfinite().all()

    def test_gradients_near_identity_are_finite(self, metric, image_pair):
        img0, _ = image_pair("photographs", 1, 64, 64)
        x = (img0 + 1e-6 * torch.randn_like(img0)).clamp(-1, 1).requires_grad_()
        metric(x, img0).sum().backward()
        assert x.grad.isfinite().all()
        assert x.grad.any()

    @pytest.mark.parametrize(
        ("dtype", "rtol", "result"),
        [
            (torch.float64, 1e-5, torch.float64),
            (torch.float16, 0.02, torch.float32),
            (torch.bfloat16, 0.1, torch.float32),
        ],
    )
    def test_moved_metric_is_close(self, dtype, rtol, result, metric, image_pair):
        images = image_pair("photographs", 1, 64, 64)
        expected = metric(*images)
        moved = metric.to(dtype)(*(image.to(dtype) for image in images))
        assert moved.dtype == result
        assert_close(moved.float(), expected, rtol)
        assert_close(metric(*images).float(), expected, rtol)  # images in float32 are taken too

    def test_float_images_of_other_types_are_taken(self, metric, image_pair):
        images = image_pair("photographs", 2, 64, 64)
        assert_close(metric(*(image.double() for image in images)), metric(*images))

    def test_autocast_is_close(self, metric, image_pair):
        images = image_pair("photographs", 2, 64, 64)
        expected = metric(*images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            actual = metric(*images)
        assert actual.dtype == torch.float32
        assert_close(actual, expected, rtol=0.1)


class TestAsModule:
    @pytest.mark.parametrize("mode", [True, False])
    def test_train_keeps_evaluation_mode(self, mode, image_pair):
        """Batch normalisation inside a parent in training neither shows nor learns."""
        torch.manual_seed(0)
        metric = RobustLPIPS(ADAPTIVE, weights=None)
        images = image_pair("noise", 2, 64, 64)
        expected, state = metric(*images), copy.deepcopy(metric.state_dict())
        parent = nn.ModuleDict({"metric": metric, "other": nn.Dropout()}).train(mode)
        assert parent["other"].training == mode
        assert not any(module.training for module in metric.modules())
        assert torch.equal(metric(*images), expected)
        assert all(torch.equal(value, state[key]) for key, value in metric.state_dict().items())
        assert metric.train(mode) is metric

    def test_parameters_do_not_require_gradients(self, released):
        for name in NAMES:
            parameters = list(released(name).parameters())
            assert parameters
            assert not any(parameter.requires_grad for parameter in parameters)

    def test_requires_grad_reaches_all_parameters(self, metric):
        for flag in (True, False):
            assert metric.requires_grad_(flag) is metric
            assert {parameter.requires_grad for parameter in metric.parameters()} == {flag}

    @pytest.mark.parametrize("name", NAMES)
    def test_state_dict_holds_what_is_learnt_only(self, name, released):
        backbone = {f"backbone.{tensor}" for tensor in torchvision_keys(released(name).config)}
        assert set(released(name).state_dict()) == backbone | {f"lin.{i}" for i in range(5)}

    @pytest.mark.parametrize("assign", [True, False])
    @pytest.mark.parametrize("of", ["metric", "backbone", "parent"])
    def test_state_dict_round_trip(self, of, assign, metric, image_pair):
        images = image_pair("photographs", 1, 64, 64)
        other = RobustLPIPS(metric.config, weights=None, linear=True)
        other.lin.load_state_dict(metric.lin.state_dict())
        assert not torch.allclose(other(*images), metric(*images))
        source, target = (
            {"metric": m, "backbone": m.backbone, "parent": nn.Sequential(m)}[of]
            for m in (metric, other)
        )
        target.load_state_dict(source.state_dict(), strict=True, assign=assign)
        assert torch.equal(other(*images), metric(*images))

    @pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
    def test_copies(self, clone, released, image_pair):
        images = image_pair("photographs", 1, 64, 64)
        twin = clone(released())
        assert torch.equal(twin(*images), released()(*images))
        twin.lin[0].zero_()
        assert not torch.equal(twin(*images), released()(*images))

    def test_gradient_descent_reaches_the_other_image(self, metric, image_pair):
        """As a loss: the metric's own weights need no gradients for that."""
        img0, target = image_pair("photographs", 1, 64, 64)
        x = img0.clone().requires_grad_()
        optimizer = torch.optim.Adam([x], lr=0.02)
        start = metric(img0, target)
        for _ in range(10):
            optimizer.zero_grad()
            metric(x, target, validate=False).sum().backward()
            optimizer.step()
        assert metric(x.detach().clamp(-1, 1), target) < 0.7 * start


class TestCompilers:
    """Values cannot be looked at while a graph is recorded; these are out of range."""

    @pytest.fixture
    def wild(self, image_pair):
        return [image * 200 for image in image_pair("photographs", 2, 64, 64)]

    def test_compile(self, metric, wild):
        torch.compiler.reset()
        compiled = torch.compile(metric, backend="eager", fullgraph=True)
        assert_close(compiled(*wild), metric(*wild, validate=False))

    def test_compile_for_any_shape(self, wild):
        torch.compiler.reset()
        metric = RobustLPIPS(BackboneConfig(), weights=None, linear=True)
        compiled = torch.compile(metric, backend="eager", fullgraph=True, dynamic=True)
        for images in (wild, [image[:1, ..., :50] for image in wild]):
            assert_close(compiled(*images), metric(*images, validate=False))

    def test_export(self, metric, wild):
        batch = torch.export.Dim("batch", min=1, max=64)
        exported = torch.export.export(metric, tuple(wild), dynamic_shapes=({0: batch},) * 2)
        assert_close(exported.module()(*wild), metric(*wild, validate=False))
        three = [torch.cat([image, image[:1]]) for image in wild]
        assert_close(exported.module()(*three), metric(*three, validate=False))

    def test_trace(self, metric, wild):
        with warnings.catch_warnings(action="ignore"):  # deprecated, and wordy on shapes
            traced = torch.jit.trace(metric, wild, check_trace=False)
        assert_close(traced(*wild), metric(*wild, validate=False))

    @pytest.mark.parametrize("mode", ["fake", "symbolic"])
    def test_make_fx(self, mode, metric, wild):
        metric(*wild, validate=False)
        graph = make_fx(metric, tracing_mode=mode, _allow_non_fake_inputs=True)(*wild)
        assert_close(graph(*wild), metric(*wild, validate=False))

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    def test_cuda_graph(self, metric, wild):
        metric.cuda()
        wild = [image.cuda() for image in wild]
        with torch.no_grad():
            expected = metric(*wild, validate=False)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                captured = metric(*wild)
            graph.replay()
        assert_close(captured, expected)
