"""The low-pass filters against the packages that introduced them and against plain loops."""

import antialiased_cnns
import numpy as np
import pytest
import torch
from stlpips_pytorch.models_lpf.downsample import Downsample

from robust_lpips.backbones import AdaptiveBlurPool, AdaptivePolyphase, BlurPool
from robust_lpips.backbones.downsampling import SeparableMaxPool2d

SIZES = [(12, 12), (13, 13), (12, 17)]


def reflected(image, size, reflection_pad):
    """(C, H, W) with the reflection that DESIGN.md states, by NumPy."""
    total = size - 1
    before, after = (total // 2, total - total // 2) if reflection_pad == 1 else (total, total)
    return np.pad(image, [(0, 0), (before, after), (before, after)], mode="reflect")


def adaptive_by_loops(layer, image, stride, reflection_pad):
    """What AdaptiveBlurPool states, one output pixel after the other, for one (C, H, W) image."""
    kernels = layer.conv.weight.detach().numpy()
    norm = {name: value.numpy() for name, value in layer.norm.state_dict().items()}
    size, groups, channels = layer.size, layer.groups, len(image)
    padded = reflected(image, size, reflection_pad)
    height, width = ((n - size) // stride + 1 for n in padded.shape[1:])
    out = np.empty((channels, height, width))
    for i in range(height):
        for j in range(width):
            top, left = i * stride, j * stride
            patch = padded[:, top : top + size, left : left + size]
            logits = (kernels * patch).sum(axis=(1, 2, 3))
            deviation = np.sqrt(norm["running_var"] + layer.norm.eps)
            logits = (logits - norm["running_mean"]) / deviation * norm["weight"] + norm["bias"]
            for group, own in enumerate(logits.reshape(groups, size, size)):
                weights = np.exp(own - own.max())
                weights /= weights.sum()
                members = slice(channels // groups * group, channels // groups * (group + 1))
                out[members, i, j] = (patch[members] * weights).sum(axis=(1, 2))
    return out


def adaptive(channels=4, seed=0, **options):
    """A filter in evaluation mode and float64, its batch normalisation away from the identity."""
    torch.manual_seed(seed)
    layer = AdaptiveBlurPool(channels, **options).double().eval()
    with torch.no_grad():
        for name, value in layer.norm.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape) + (0.5 if name == "running_var" else -0.5))
    return layer


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", range(1, 8))
def test_blur_pool_equals_antialiased_cnns(size, stride, shape):
    x = torch.randn(2, 5, *shape)
    peer = antialiased_cnns.BlurPool(5, filt_size=size, stride=stride)
    torch.testing.assert_close(BlurPool(5, size, stride)(x), peer(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", range(1, 8))
def test_blur_pool_with_more_padding_equals_stlpips(size, stride, shape):
    x = torch.randn(2, 5, *shape)
    peer = Downsample(filt_size=size, stride=stride, channels=5, pad_more=True)
    ours = BlurPool(5, size, stride, reflection_pad=2)(x)
    torch.testing.assert_close(ours, peer(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layer", [BlurPool, AdaptiveBlurPool])
@pytest.mark.parametrize("reflection_pad", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [2, 3, 4, 7])
def test_declared_output_size_is_the_real_one(layer, size, stride, reflection_pad):
    """And an input that ``output_size`` calls too small is one that cannot be reflected."""
    module = layer(2, size, stride, reflection_pad).eval()
    for n in range(1, 12):
        x = torch.zeros(1, 2, n, n)
        if module.output_size(n):
            assert module(x).shape[-2:] == (module.output_size(n),) * 2
        else:
            with pytest.raises(RuntimeError):
                module(x)


@pytest.mark.parametrize("n", [8, 9])
def test_blur_pool_of_padding_1_keeps_the_ceiling(n):
    for size in range(1, 8):
        assert BlurPool(1, size)(torch.zeros(1, 1, n, n)).shape[-1] == -(-n // 2)


@pytest.mark.parametrize("shape", [(7, 8), (6, 5)])
@pytest.mark.parametrize("reflection_pad", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_adaptive_blur_pool_equals_loops(size, stride, reflection_pad, shape):
    layer = adaptive(size=size, stride=stride, reflection_pad=reflection_pad)
    x = torch.randn(2, 4, *shape, dtype=torch.float64)
    expected = [adaptive_by_loops(layer, image.numpy(), stride, reflection_pad) for image in x]
    np.testing.assert_allclose(layer(x).detach().numpy(), np.stack(expected), rtol=1e-10)


def test_adaptive_blur_pool_has_a_filter_a_group():
    """Three groups of two channels equal loops too, and differ from one group."""
    x = torch.randn(1, 6, 9, 9, dtype=torch.float64)
    three, one = adaptive(6, groups=3), adaptive(6, groups=1)
    expected = adaptive_by_loops(three, x[0].numpy(), 2, 1)
    np.testing.assert_allclose(three(x)[0].detach().numpy(), expected, rtol=1e-10)
    assert not torch.allclose(three(x), one(x))


@pytest.mark.parametrize("make", [BlurPool, adaptive])
@pytest.mark.parametrize("reflection_pad", [1, 2])
def test_constant_image_stays_constant(make, reflection_pad):
    """Filters sum to one at every position."""
    out = make(4, reflection_pad=reflection_pad).double()(torch.full((1, 4, 9, 9), 0.7).double())
    torch.testing.assert_close(out, torch.full_like(out, 0.7), rtol=1e-6, atol=0)


def test_adaptive_blur_pool_stays_within_its_input():
    """Filters are positive: no output leaves the range of the input."""
    x = torch.rand(2, 4, 16, 16, dtype=torch.float64)
    out = adaptive()(x)
    assert x.min() <= out.min()
    assert out.max() <= x.max()


def test_adaptive_blur_pool_gradients():
    """Against finite differences, with respect to the image and to what predicts filters."""
    layer = adaptive(2, size=2)
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]

    def apply(x, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(apply, (x, *layer.parameters()))


def test_adaptive_blur_pool_state_dict_round_trip():
    first, second = adaptive(seed=0), adaptive(seed=1)
    x = torch.randn(1, 4, 8, 8, dtype=torch.float64)
    assert not torch.equal(first(x), second(x))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(x), second(x))


def test_blur_pool_has_nothing_to_save():
    assert not BlurPool(3).state_dict()


class TestAdaptivePolyphase:
    def test_keeps_the_strongest_grid_of_each_image(self):
        x = torch.zeros(2, 3, 8, 8)
        x[0, :, 1::2, ::2] = 2.0
        x[1, :, ::2, 1::2] = -3.0
        found = AdaptivePolyphase(3, size=1)(x)
        assert found.shape == (2, 3, 4, 4)
        assert found[0].unique().tolist() == [2.0]
        assert found[1].unique().tolist() == [-3.0]

    @pytest.mark.parametrize("size", [1, 3, 4])
    def test_of_a_shifted_image_is_a_shifted_map(self, size):
        """Of one whose border is empty: then its sum stays, which that of BlurPool does not."""
        x = torch.zeros(1, 4, 30, 30)
        x[..., 8:20, 8:20] = torch.rand(4, 12, 12, generator=torch.Generator().manual_seed(0))
        for layer, constant in ((AdaptivePolyphase(4, size), True), (BlurPool(4, size), False)):
            values = [
                layer(x.roll(shift, (2, 3))).square().sum() for shift in ((0, 0), (0, 1), (3, 2))
            ]
            same = torch.allclose(torch.stack(values), values[0], rtol=1e-5)
            assert same == constant

    @pytest.mark.parametrize("reflection_pad", [1, 2])
    @pytest.mark.parametrize("shape", [(9, 12), (12, 9), (7, 7)])
    def test_sizes_are_those_of_blur_pool(self, shape, reflection_pad):
        x = torch.rand(2, 3, *shape)
        wanted = BlurPool(3, reflection_pad=reflection_pad)(x).shape
        assert AdaptivePolyphase(3, reflection_pad=reflection_pad)(x).shape == wanted


class TestSeparableMaxPool2d:
    @pytest.mark.parametrize(("size", "stride"), [(2, 1), (2, 2), (3, 1), (3, 2)])
    @pytest.mark.parametrize("shape", [(12, 12), (13, 7), (3, 3)])
    def test_equals_torch(self, shape, size, stride):
        pool = torch.nn.MaxPool2d(size, stride)
        x = torch.randn(2, 5, *shape, generator=torch.Generator().manual_seed(0))
        x[0, 0, 1, 1] = float("nan")
        assert torch.equal(SeparableMaxPool2d(pool)(x).nan_to_num(9), pool(x).nan_to_num(9))

    def test_gradients_of_ties_are_torch_s(self):
        pool, gradients = torch.nn.MaxPool2d(3, 1), []
        for layer in (pool, SeparableMaxPool2d(pool)):
            x = torch.ones(1, 1, 6, 6, requires_grad=True)
            layer(x).sum().backward()
            gradients.append(x.grad)
        assert torch.equal(*gradients)

    @pytest.mark.parametrize("options", [{"padding": 1}, {"ceil_mode": True}, {"dilation": 2}])
    def test_applies_to_the_simple_kind_alone(self, options):
        assert SeparableMaxPool2d.applies_to(torch.nn.MaxPool2d(3, 2))
        assert not SeparableMaxPool2d.applies_to(torch.nn.MaxPool2d(3, 2, **options))
