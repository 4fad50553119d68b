"""Backbones: chains of named layers whose features are tapped by name."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

# More than any of the supported networks needs; a bound for the search only.
_LARGEST_MINIMUM = 512


class Chain(nn.Module):
    """Layers applied one after the other; the outputs of the tapped ones are the features.

    Shapes: (N, 3, H, W) to a tuple of (N, C_l, H_l, W_l), one entry per tap, in order.

    Args:
        layers: (name, layer) in the order of application.
        taps: number of channels of each tapped layer by name, in the same order.

    Attributes:
        taps: as given.
        min_size: the smallest H and W, in pixels, that all layers accept.
        revision: a counter, raised when weights are loaded, moved or cast, here or through a
            module that contains this one, and when ``requires_grad_`` is called or taps are
            removed here.
    """

    def __init__(self, layers: Iterable[tuple[str, nn.Module]], taps: Mapping[str, int]) -> None:
        super().__init__()
        self.revision = 0
        for name, layer in layers:
            self.add_module(name, layer)
        self.taps = dict(taps)
        _initialize(self)
        self.min_size = _smallest_input(list(self.children()))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.iter_features(x))

    def iter_features(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the features of each tap before the layers after it are computed."""
        for name, layer in self.named_children():
            x = layer(x)
            if name in self.taps:
                yield x

    def keep_first_taps(self, count: int | None) -> None:
        """Remove the taps after the first ``count``, and the layers after the last one left.

        ``None`` keeps all taps, and removes layers after the last one. The change is in place.
        """
        self.taps = dict(itertools.islice(self.taps.items(), count))
        layers = [name for name, _ in self.named_children()]
        for name in layers[layers.index(list(self.taps)[-1]) + 1 :]:
            delattr(self, name)
        self.min_size = _smallest_input(list(self.children()))
        self.revision += 1

    def requires_grad_(self, requires_grad: bool = True) -> Chain:
        self.revision += 1
        return super().requires_grad_(requires_grad)

    # Torch calls these two on all modules inside the one that is loaded, moved or cast.

    def _load_from_state_dict(self, *args: Any) -> None:
        self.revision += 1
        super()._load_from_state_dict(*args)

    def _apply(self, *args: Any, **kwargs: Any) -> Chain:
        self.revision += 1
        return super()._apply(*args, **kwargs)


def output_size(layer: nn.Module, n: int) -> int:
    """Side of the output of ``layer`` for an input of side ``n``; 0 or less if it is too small."""
    if isinstance(layer, nn.Sequential):
        for part in layer:
            n = output_size(part, n)
        return n
    if n < 1:
        return 0
    if isinstance(layer, nn.Conv2d):
        return (n + 2 * layer.padding[0] - layer.kernel_size[0]) // layer.stride[0] + 1
    if isinstance(layer, nn.MaxPool2d):
        # With ceil_mode a last window that begins inside counts, even if it ends outside.
        excess = layer.stride - 1 if layer.ceil_mode else 0
        return (n + 2 * layer.padding - layer.kernel_size + excess) // layer.stride + 1
    if isinstance(layer, nn.ZeroPad2d):
        return n + sum(layer.padding[:2])
    if hasattr(layer, "output_size"):
        return layer.output_size(n)
    return n  # pointwise


def _initialize(module: nn.Module) -> None:
    """Draw convolutions from the Gaussian that preserves scale through ReLU (He et al., 2015)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _smallest_input(layers: list[nn.Module]) -> int:
    chain = nn.Sequential(*layers)
    for n in range(1, _LARGEST_MINIMUM):
        if output_size(chain, n) >= 1:
            return n
    raise ValueError(f"no input of less than {_LARGEST_MINIMUM} pixels passes these layers")


def convolution(
    in_channels: int,
    out_channels: int,
    size: int,
    *,
    stride: int = 1,
    padding: int,
    bias: bool = True,
    full: bool,
) -> nn.Conv2d:
    """A convolution with zero padding ``padding``, or ``size - 1`` if ``full`` (F-Conv)."""
    padding = size - 1 if full else padding
    return nn.Conv2d(in_channels, out_channels, size, stride=stride, padding=padding, bias=bias)
