"""Minimal filtering against the convolution that it replaces."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from robust_lpips.backbones.winograd import (
    WinogradConv2d,
    transforms,
    whole_map_transforms,
)


def convolution(inputs=128, outputs=256, **options):
    torch.manual_seed(0)
    return nn.Conv2d(inputs, outputs, 3, **({"padding": 1} | options)).requires_grad_(False)


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).relu()


def multiplications(module, x):
    with FlopCounterMode(display=False) as counter:
        module(x)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("tile", [3, 4])
def test_transforms_give_the_correlation_of_every_signal_and_filter(tile):
    output, kernel, patch = transforms(tile)
    signals = np.random.default_rng(0).normal(size=(20, tile + 2))
    filters = np.random.default_rng(1).normal(size=(20, 3))
    expected = [np.correlate(s, f, "valid") for s, f in zip(signals, filters, strict=True)]
    found = ((filters @ kernel.T) * (signals @ patch.T)) @ output.T
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_transforms_of_a_whole_map_give_the_correlation_with_zeros_around():
    output, kernel, patch = whole_map_transforms()
    signals = np.random.default_rng(0).normal(size=(20, 3))
    filters = np.random.default_rng(1).normal(size=(20, 3))
    expected = [np.correlate(s, f, "same") for s, f in zip(signals, filters, strict=True)]
    found = ((filters @ kernel.T) * (signals @ patch.T)) @ output.T
    np.testing.assert_allclose(found, expected, atol=1e-14)


@pytest.mark.parametrize("shape", [(8, 8), (13, 9), (4, 30), (3, 3), (5, 5), (9, 9), (4, 3)])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_equals_the_convolution(shape, padding, bias):
    conv = convolution(padding=padding, bias=bias)
    x = noise(50, 128, *shape)
    exact = nn.functional.conv2d(
        x.double(), conv.weight.double(), None if bias is False else conv.bias.double(), 1, padding
    )
    found = WinogradConv2d(conv)(x)
    assert found.shape == exact.shape
    assert_close(found.double(), exact, rtol=0, atol=4e-6 * exact.abs().max().item())


def test_multiplies_less():
    conv, x = convolution(256, 256), noise(16, 256, 16, 16)
    assert multiplications(WinogradConv2d(conv), x) < 0.4 * multiplications(conv, x)


def test_a_whole_map_of_3x3_takes_16_products():
    conv, x = convolution(256, 256), noise(64, 256, 3, 3)
    fast = WinogradConv2d(conv)
    fast(x)  # the kernels are transformed once
    count = multiplications(fast, x)
    assert 16 * 64 * 256**2 < count < 18 * 64 * 256**2


def test_batches_do_not_matter():
    conv = WinogradConv2d(convolution())
    x = noise(70, 128, 12, 12)  # several passes
    assert_close(conv(x), torch.cat([conv(part) for part in x.split(20)]), rtol=1e-5, atol=1e-5)


class TestLeavesToTheConvolution:
    def same(self, x):
        conv = convolution().to(x.dtype)
        assert torch.equal(WinogradConv2d(conv)(x), conv(x))

    def test_few_tiles(self):
        self.same(noise(1, 128, 8, 8))

    def test_other_types(self):
        self.same(noise(16, 128, 8, 8).double())

    def test_gradients(self):
        x = noise(16, 128, 8, 8).requires_grad_()
        self.same(x)

    def test_autocast(self):
        with torch.autocast("cpu", torch.bfloat16):
            found = WinogradConv2d(convolution())(noise(16, 128, 8, 8))
        assert found.dtype == torch.bfloat16

    @pytest.mark.parametrize(
        "options",
        [
            {"stride": 2},
            {"dilation": 2},
            {"groups": 2},
            {"padding": "same"},
            {"padding_mode": "reflect"},
            {"inputs": 64},
            {"dtype": torch.float64},
        ],
        ids=str,
    )
    def test_convolutions_of_other_kinds(self, options):
        assert WinogradConv2d.applies_to(convolution())
        assert not WinogradConv2d.applies_to(convolution(**options))
        assert not WinogradConv2d.applies_to(nn.Conv2d(256, 256, 1))
