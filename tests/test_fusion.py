"""Merged backbones against the layers that they replace, and when they are used."""

import copy
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch._dynamo import lookup_backend
from torch.nn.utils import vector_to_parameters
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from robust_lpips import BackboneConfig, RobustLPIPS, build_backbone
from robust_lpips.backbones import BlurPool
from robust_lpips.backbones.downsampling import SeparableMaxPool2d
from robust_lpips.backbones.winograd import WinogradConv2d
from robust_lpips.fusion import BlurredConv2d, merge
from robust_lpips.training import Recipe, fit
from tests.backbones.reference import SHIFT_TOLERANT, seeded, unsettle

BEFORE = {"anti_alias": "blurpool", "blur_placement": "blur_before_activation"}
# What merges: conv-1 with blurs of several sizes and both paddings, batch normalisation, skips.
CONFIGS = {
    **{
        f"alexnet-blur{size}-pad{pad}-stride{stride}": BackboneConfig(
            blur_size=size, reflection_pad=pad, conv1_stride=stride, **BEFORE
        )
        for size, pad, stride in [(1, 1, 1), (2, 1, 2), (3, 2, 1), (4, 2, 2), (7, 1, 1)]
    },
    "alexnet-full-conv": BackboneConfig(full_conv=True, conv1_stride=2, **BEFORE),
    "alexnet-plain": BackboneConfig(),
    "squeezenet": BackboneConfig(arch="squeezenet1_1", conv1_stride=1, **BEFORE),
    "squeezenet-plain": BackboneConfig(arch="squeezenet1_1"),
    "resnet-blurred-stem": BackboneConfig(arch="resnet18", conv1_stride=1, **BEFORE),
    "resnet-plain": BackboneConfig(arch="resnet18"),
    "vgg-skip": BackboneConfig(arch="vgg16", skip="blurpool", blur_size=4, reflection_pad=2),
}


def kinds(module):
    return {type(part) for part in module.modules()}


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class TestBlurredConv2d:
    @pytest.mark.parametrize("size", range(1, 8))
    @pytest.mark.parametrize("reflection_pad", [1, 2])
    @pytest.mark.parametrize(("kernel", "step", "padding"), [(11, 1, 2), (11, 2, 2), (7, 1, 6)])
    def test_equals_both_layers_to_the_border(self, kernel, step, padding, size, reflection_pad):
        """In float64, so that nothing but rounding could hide a wrong border."""
        torch.manual_seed(0)
        conv = nn.Conv2d(3, 4, kernel, step, padding).double().requires_grad_(False)
        blur = BlurPool(4, size, 2, reflection_pad).double()
        blurred = BlurredConv2d(conv, blur)
        # Odd and even, not square, and so small that there is nothing but border.
        for shape in [(64, 64), (61, 64), (38, 45), (37, 30), (24, 19), (23, 23)]:
            x = noise(2, 3, *shape).double()
            assert_close(blurred(x), blur(conv(x)), rtol=1e-10, atol=1e-10)

    def test_other_strides_of_the_blur(self):
        torch.manual_seed(0)
        conv = nn.Conv2d(3, 4, 5, padding=1, bias=False).double().requires_grad_(False)
        for stride, pad in ((1, 2), (3, 1), (3, 2), (4, 2)):
            blur = BlurPool(4, 5, stride, pad).double()
            for n in range(20, 25):
                x = noise(1, 3, n, n + 1).double()
                assert_close(BlurredConv2d(conv, blur)(x), blur(conv(x)), rtol=1e-10, atol=1e-10)

    @pytest.mark.parametrize(("kernel", "size", "saves"), [(11, 3, True), (11, 7, True), (3, 5, 0)])
    def test_saves_multiplications_where_it_says_so(self, kernel, size, saves):
        conv = nn.Conv2d(3, 8, kernel, padding=1).requires_grad_(False)
        blur = BlurPool(8, size)
        assert BlurredConv2d.saves(conv, blur) == saves
        x = noise(1, 3, 64, 64)
        one, two = multiplications(BlurredConv2d(conv, blur), x), multiplications(conv, x)
        assert (one < two) == saves


def multiplications(module, x):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(x)
    return counter.get_total_flops() // 2


class TestMerge:
    @pytest.mark.parametrize("name", CONFIGS)
    def test_features_are_those_of_the_plain_network(self, name):
        backbone = seeded(CONFIGS[name])
        merged = merge(backbone)
        smallest = backbone.min_size
        shapes = [(smallest, smallest), (smallest + 1, smallest + 6), (61, 64)]
        with torch.no_grad():
            for shape in shapes:
                x = noise(3, 3, *shape)
                for own, plain in zip(merged(x), backbone(x), strict=True):
                    assert_close(own, plain, rtol=1e-5, atol=1e-5 * plain.abs().max().item())

    def test_what_is_merged(self):
        def count(config, kind):
            return sum(
                type(part) is kind for part in merge(build_backbone(config).eval()).modules()
            )

        assert count(CONFIGS["alexnet-blur3-pad2-stride1"], BlurredConv2d) == 1
        assert count(CONFIGS["resnet-blurred-stem"], BlurredConv2d) == 1
        assert count(CONFIGS["resnet-blurred-stem"], nn.BatchNorm2d) == 0
        assert count(CONFIGS["resnet-plain"], nn.BatchNorm2d) == 0
        assert count(CONFIGS["alexnet-plain"], SeparableMaxPool2d) == 2
        assert count(CONFIGS["alexnet-plain"], WinogradConv2d) == 3

    @pytest.mark.parametrize("placement", ["original", "feature_after_blur"])
    def test_nothing_is_merged_over_a_nonlinearity(self, placement):
        config = BackboneConfig(anti_alias="blurpool", conv1_stride=1, blur_placement=placement)
        assert BlurredConv2d not in kinds(merge(build_backbone(config).eval()))

    def test_a_tapped_convolution_stays_apart(self):
        from robust_lpips.backbones.chain import Chain

        layers = [("conv", nn.Conv2d(3, 8, 5)), ("blur", BlurPool(8))]
        assert BlurredConv2d not in kinds(merge(Chain(layers, {"conv": 8, "blur": 8}).eval()))
        assert BlurredConv2d in kinds(merge(Chain(layers, {"blur": 8}).eval()))

    def test_blur_and_1x1_convolution_change_places(self):
        backbone = seeded(CONFIGS["vgg-skip"])
        skip, x = backbone.stage2.skip, noise(1, 64, 32, 32)
        merged = merge(backbone).stage2.skip
        assert [type(layer) for layer in merged[1]] == [BlurPool, nn.Conv2d]
        assert 3 * multiplications(merged, x) < multiplications(skip, x)
        assert_close(merged(x), skip(x), rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize(
        "options",
        [
            {"dilation": 2},
            {"groups": 3},
            {"padding": "same"},
            {"stride": (1, 2)},
            {"padding": (1, 2)},
        ],
        ids=str,
    )
    def test_convolutions_of_other_kinds_stay_apart(self, options):
        torch.manual_seed(0)
        conv = nn.Conv2d(3, 6, 7, **options)
        layers = nn.Sequential(conv, BlurPool(6)).eval()
        assert BlurredConv2d not in kinds(merge(layers))
        x = noise(1, 3, 40, 40)
        assert torch.equal(merge(layers)(x), layers(x))

    def test_the_backbone_stays_as_it_is(self):
        backbone = seeded(CONFIGS["resnet-blurred-stem"])
        before = [(name, type(part)) for name, part in backbone.named_modules()]
        state = {name: value.clone() for name, value in backbone.state_dict().items()}
        merge(backbone)
        assert [(name, type(part)) for name, part in backbone.named_modules()] == before
        assert all(torch.equal(value, state[k]) for k, value in backbone.state_dict().items())


@pytest.fixture
def images():
    return noise(2, 3, 64, 64, seed=1).clamp(-1, 1), noise(2, 3, 64, 64, seed=2).clamp(-1, 1)


@pytest.fixture
def small():
    """A metric of random weights and biases, its layers merged."""
    torch.manual_seed(0)
    metric = RobustLPIPS(SHIFT_TOLERANT, weights=None, linear=True)
    # Without biases the distance would not depend on the scale of a layer.
    unsettle(metric.backbone)
    return metric


def plain(metric, *images):
    """What the metric would give without merging, its weights as they are now."""
    twin = copy.deepcopy(metric)
    return twin.unfuse()(*images)


def named(metric, name):
    """The module that a change is made to: one around the metric, itself, or a part of it."""
    if name == "parent":
        return nn.ModuleDict({"metric": nn.Sequential(metric)})
    return metric if name == "metric" else metric.get_submodule(name)


def load(module, **options):
    module.load_state_dict({k: v * 0.7 for k, v in module.state_dict().items()}, **options)


def write_in_inference_mode(metric):
    with torch.inference_mode():
        metric.backbone.conv1.weight[::2].mul_(0.1)


def replace_filters(metric):
    metric.backbone.conv1.weight = nn.Parameter(noise(64, 3, 11, 11), requires_grad=False)


def replace_memory(metric):
    parameters = list(metric.backbone.parameters())
    vector_to_parameters(0.05 * noise(sum(p.numel() for p in parameters)), parameters)


# All that torch or the backbone records: what is changed, and how.
MODULES = ("metric", "backbone", "parent", "backbone.conv1")
CHANGES = {
    **{f"load {of}": lambda m, of=of: load(named(m, of)) for of in MODULES},
    **{f"assign {of}": lambda m, of=of: load(named(m, of), assign=True) for of in MODULES},
    **{f"round {of}": lambda m, of=of: named(m, of).bfloat16().float() for of in MODULES},
    "mul_": lambda m: m.backbone.conv1.weight.mul_(2.0),
    "copy_": lambda m: m.backbone.conv3.weight.copy_(noise(384, 192, 3, 3)),
    "view": lambda m: m.backbone.conv1.weight[3, 1, 2, 4].add_(1.0),
    "bias": lambda m: m.backbone.conv1.bias.add_(0.1),
    "inference mode": write_in_inference_mode,
    "foreach": lambda m: torch._foreach_mul_(list(m.backbone.parameters()), 0.7),
    "vector": replace_memory,
    "data": lambda m: setattr(m.backbone.conv1.weight, "data", noise(64, 3, 11, 11)),
    "parameter": replace_filters,
    "no bias": lambda m: setattr(m.backbone.conv1, "bias", None),
    "layer": lambda m: setattr(m.backbone, "relu2", nn.Softplus().eval()),
    "filters": lambda m: setattr(
        m.backbone, "conv3", nn.Conv2d(192, 384, 3, padding=1).eval().requires_grad_(False)
    ),
}


def merges(metric, images):
    twin = copy.copy(metric).unfuse()
    return multiplications(lambda x: metric(x, x), images) < multiplications(
        lambda x: twin(x, x), images
    )


class TestMetric:
    @pytest.mark.parametrize("name", ["alexnet-shift-tolerant", "vgg16-shift-tolerant"])
    @pytest.mark.parametrize("shape", [(64, 64), (35, 66)])
    def test_distances_are_the_plain_ones(self, name, shape, released, image_pair):
        metric = released(name)
        pair = image_pair("photographs", 8, *shape)
        with torch.no_grad():
            assert_close(metric(*pair), plain(metric, *pair), rtol=1e-5, atol=0)

    @pytest.mark.parametrize(
        ("n", "height", "width"), [(1, 64, 61), (1, 35, 90), (7, 64, 61), (60, 64, 64)]
    )
    def test_identical_images_are_at_distance_0(self, n, height, width, released, image_pair):
        img, _ = image_pair("photographs", n, height, width)
        with torch.no_grad():
            assert not released()(img, img.clone()).any()

    def test_is_the_default_and_can_be_switched(self, small, images):
        assert small.fused
        assert merges(small, images[0])
        assert not small.unfuse().fused
        assert not merges(small, images[0])
        assert small.fuse() is small
        assert merges(small, images[0])

    def test_state_dict_and_parameters_do_not_know(self, small, images):
        def names():
            return [name for name, _ in (*small.named_parameters(), *small.named_modules())]

        before, state = names(), list(small.state_dict())
        small(*images)
        small.fuse()
        assert names() == before
        assert list(small.state_dict()) == state

    @pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
    def test_no_change_is_missed(self, change, small, images):
        with torch.no_grad():
            before = small(*images)
            change(small)
            after = small(*images)
            assert_close(after, plain(small, *images), rtol=1e-5, atol=0)
            assert not torch.allclose(after, before, rtol=1e-6, atol=0)
        assert merges(small, images[0])

    @pytest.mark.parametrize("of", ["metric", "backbone", "parent"])
    def test_moved_to_float64_it_computes_in_float64(self, of, small, images):
        small(*images)
        named(small, of).double()
        small.double()
        wide = [image.double() for image in images]
        assert_close(small(*wide), plain(small, *wide), rtol=1e-10, atol=0)

    @pytest.mark.parametrize(
        "write",
        [
            lambda m: m.backbone.conv1.weight.data[3, 1, 2, 4].add_(1.0),
            lambda m: m.backbone.conv1.weight.numpy().__imul__(0.5),
            lambda m: setattr(m.backbone.blur1, "before", 1),
        ],
        ids=["data", "numpy", "setting"],
    )
    def test_what_torch_does_not_record_is_seen_after_fuse(self, write, small, images):
        before = small(*images)
        write(small)
        assert not torch.equal(small.fuse()(*images), before)
        assert_close(small(*images), plain(small, *images), rtol=1e-5, atol=0)

    @pytest.mark.parametrize("statistics", ["in-place", "training mode"])
    def test_statistics_of_batch_normalisation(self, statistics, images):
        torch.manual_seed(0)
        metric = RobustLPIPS(BackboneConfig(arch="resnet18"), weights=None)
        before = metric(*images)
        if statistics == "in-place":
            metric.backbone.layer2[0].bn2.running_var[::2].mul_(3.0)
        else:
            metric.backbone.train()
            metric.backbone(images[0])
            metric.eval()
        assert not torch.equal(metric(*images), before)
        assert_close(metric(*images), plain(metric, *images), rtol=1e-5, atol=0)

    @pytest.mark.parametrize("fused", [True, False])
    @pytest.mark.parametrize("through", ["metric", "backbone"])
    def test_steps_of_an_optimizer(self, through, fused, small, images):
        """Fused optimizers write what autograd does not count."""
        before = small(*images)
        network = named(small, through)
        optimizer = torch.optim.Adam(small.backbone.parameters(), 1e-2, fused=fused)
        network.requires_grad_(True)
        network(*images[: 2 if through == "metric" else 1])[-1].sum().backward()
        optimizer.step()
        network.requires_grad_(False)
        assert not torch.allclose(small(*images), before)
        assert_close(small(*images), plain(small, *images), rtol=1e-5, atol=0)
        assert merges(small, images[0])

    def test_steps_after_flags_of_parameters(self, small, images):
        """The flags themselves raise no revision: the call in between sees them."""
        parameters = list(small.backbone.parameters())
        before = small(*images)
        for parameter in parameters:
            parameter.requires_grad = True
        small(*images).sum().backward()
        torch.optim.Adam(parameters, 1e-2, fused=True).step()
        for parameter in parameters:
            parameter.requires_grad = False
        assert not torch.allclose(small(*images), before)
        assert_close(small(*images), plain(small, *images), rtol=1e-5, atol=0)

    def test_training(self, small, images):
        triplet = dict(zip(("ref", "p0", "p1"), (*images, -images[0]), strict=True))
        triplets = [{k: v[i] for k, v in triplet.items()} | {"judge": 1.0} for i in range(2)]
        before = small(*images)
        seen = []
        fit(
            small,
            triplets,
            Recipe(epochs=2, decay_epochs=0, learning_rate=1e-2, batch_size=2, mode="tune"),
            on_step=lambda _: seen.append((small(*images).detach(), plain(small, *images))),
        )
        seen.append((small(*images), plain(small, *images)))
        for found, expected in seen:
            assert_close(found, expected, rtol=1e-5, atol=0)
        assert not torch.allclose(small(*images), before)
        assert merges(small, images[0])

    def test_weights_that_require_gradients_are_not_merged(self, small, images):
        small.backbone.conv5.bias.requires_grad_(True)
        with torch.no_grad():
            assert not merges(small, images[0])

    def test_tensors_of_other_types_are_not_merged(self, small, images):
        """Quantized and sharded weights have types and operations of their own."""
        weight = small.backbone.conv1.weight.as_subclass(type("Quantized", (torch.Tensor,), {}))
        small.backbone.conv1.weight = nn.Parameter(weight, requires_grad=False)
        assert not merges(small, images[0])

    def test_inference_tensors_are_not_merged(self, images):
        """Torch does not count writes to them."""
        with torch.inference_mode():
            metric = RobustLPIPS(SHIFT_TOLERANT, weights=None, linear=True)
            before = metric.fuse()(*images)
            metric.backbone.conv1.weight[::2].mul_(0.1)
            assert not torch.allclose(metric(*images), before)
            assert_close(metric(*images), plain(metric, *images), rtol=1e-5, atol=0)

    def test_under_vmap(self, small, images):
        state = {name: torch.stack([value, value]) for name, value in small.state_dict().items()}
        small(*images)

        def distance(state):
            return torch.func.functional_call(small, state, images, {"validate": False})

        with warnings.catch_warnings(action="ignore"):  # torch's, on what it does one by one
            both = torch.func.vmap(distance)(state)
        assert_close(both, plain(small, *images).expand(2, -1), rtol=1e-4, atol=0)

    def test_hooks_see_every_layer(self, small, images):
        seen = []
        small(*images)
        hook = small.backbone.blur1.register_forward_hook(lambda *_: seen.append(1))
        small(*images)
        assert len(seen) == 2
        hook.remove()
        assert merges(small, images[0])

    def test_gradients_of_weights_are_those_of_the_plain_network(self, small, images):
        small.backbone.requires_grad_(True)
        small(*images).sum().backward()
        assert all(p.grad is not None and p.grad.any() for p in small.backbone.parameters())

    def test_gradients_of_images_are_those_of_the_plain_network(self, small, images):
        """In float64: where rounding moves a feature over 0, its gradient jumps."""

        def gradient(metric):
            x = images[0].double().requires_grad_()
            metric(x, images[1].double()).sum().backward()
            return x.grad

        expected = gradient(copy.deepcopy(small).double().unfuse())
        scale = expected.abs().max().item()
        assert_close(gradient(small.double()), expected, rtol=1e-8, atol=1e-8 * scale)

    def test_merged_in_inference_mode_serves_as_a_loss_later(self, small, images):
        with torch.inference_mode():
            expected = small(*images).clone()
        x = images[0].clone().requires_grad_()
        distance = small(x, images[1])
        distance.sum().backward()
        assert_close(distance.detach(), expected)
        assert x.grad.isfinite().all()

    @pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
    def test_copies_go_their_own_way(self, clone, small, images):
        small(*images)
        twin = clone(small)
        with torch.no_grad():
            twin.backbone.conv1.weight[::2].mul_(0.1)
        assert_close(twin(*images), plain(twin, *images), rtol=1e-5, atol=0)
        assert not torch.allclose(small(*images), twin(*images))
        assert len(pickle.dumps(small)) < 1.1 * len(pickle.dumps(copy.deepcopy(small).unfuse()))

    def test_a_shallow_copy_shares_weights(self, small, images):
        before = small(*images)
        twin = copy.copy(small)
        assert torch.equal(twin(*images), before)
        alone = copy.copy(small).fuse()
        small.backbone.conv1.weight[::2].mul_(0.1)
        for metric in (small, twin, alone):
            assert not torch.allclose(metric(*images), before)
            assert_close(metric(*images), plain(small, *images), rtol=1e-5, atol=0)
        assert not copy.copy(small).unfuse().fused
        assert small.fused

    def test_threads(self, small, images):
        with ThreadPoolExecutor(4) as pool:
            for found in pool.map(lambda _: small(*images), range(8)):
                assert_close(found, plain(small, *images), rtol=1e-5, atol=0)

    def test_compiled_its_weights_learn(self, small, images):
        torch.compiler.reset()
        compiled = torch.compile(small.fuse(), backend="aot_eager")
        small.backbone.requires_grad_(True)
        compiled(*images).sum().backward()
        assert all(p.grad is not None and p.grad.any() for p in small.backbone.parameters())

    def test_exported_and_traced_it_takes_other_sizes(self, small, images):
        small.fuse()
        others = [image[..., :51, :] for image in images]
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):
            traced = torch.jit.trace(small, images, check_trace=False)
            assert_close(traced(*others), small(*others), rtol=1e-5, atol=0)
        batch = torch.export.Dim("batch", min=1, max=64)
        exported = torch.export.export(small, images, dynamic_shapes=({0: batch},) * 2)
        more = [torch.cat([image] * 30) for image in images]
        assert_close(exported.module()(*more), small(*more), rtol=1e-5, atol=0)

    @pytest.mark.parametrize("backend", ["eager", "aot_eager"])
    def test_compiled_it_has_the_plain_layers(self, backend, small, images):
        torch.compiler.reset()
        small(*images)
        compiled = torch.compile(small, backend=backend, fullgraph=True)
        for change in (
            lambda m: m,
            lambda m: m.backbone.conv1.weight[::2].mul_(0.1),
            lambda m: m.backbone.conv1.weight.data[3, 1].zero_(),
            lambda m: load(m.backbone),
            replace_filters,
        ):
            change(small)
            assert_close(compiled(*images), plain(small, *images), rtol=1e-5, atol=0)

    @pytest.mark.parametrize("backend", ["eager", "aot_eager"])
    def test_compiled_after_fuse_it_has_merged_layers(self, backend, small, images):
        torch.compiler.reset()
        shapes = set()

        def counting(graph, inputs):
            shapes.update(tuple(x.shape) for x in inputs if isinstance(x, torch.Tensor))
            return lookup_backend(backend)(graph, inputs)

        compiled = torch.compile(small.fuse(), backend=counting, fullgraph=True)
        assert_close(compiled(*images), plain(small, *images), rtol=1e-5, atol=0)
        assert (64, 3, 13, 13) in shapes  # 11x11 and the blur
        # Recorded by the backbone, or by the compiler: the plain layers come back.
        for name in ("load metric", "round backbone", "load parent", "layer", "parameter"):
            small.fuse()
            CHANGES[name](small)
            assert_close(compiled(*images), plain(small, *images), rtol=1e-5, atol=0)

    @pytest.mark.parametrize("backend", ["eager", "aot_eager"])
    def test_compiled_it_sees_writes_after_fuse(self, backend, small, images):
        torch.compiler.reset()
        compiled = torch.compile(small.fuse(), backend=backend, fullgraph=True)
        expected = plain(small, *images)
        assert_close(compiled(*images), expected, rtol=1e-5, atol=0)
        for weight in (small.backbone.conv1.weight, small.backbone.conv1.weight.data):
            weight[::2].mul_(0.1)
            small.fuse()
            assert_close(compiled(*images), plain(small, *images), rtol=1e-5, atol=0)
            assert not torch.allclose(compiled(*images), expected)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    def test_on_a_gpu(self, small, images):
        with torch.no_grad():
            expected = plain(small, *images)
            small.cuda()
            found = small(*(image.cuda() for image in images))
        assert_close(found.cpu(), expected, rtol=1e-3, atol=0)
