"""3x3 convolutions with a quarter of the multiplications, for inference on CPUs."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_KERNEL = 3

# The finite points by the side of the tile of outputs; infinity is one more. Mixing 1/2 and -2, as
# Barabasz et al. (ACM TOMS 2020) advise, rounded a third less in float32 than 2 and -2 did, or 1/2
# and -1/2: the entries of all three transforms stay small.
_POINTS = {3: (0.0, 1.0, -1.0, 0.5), 4: (0.0, 1.0, -1.0, 0.5, -2.0)}

# Stands for the transforms of a whole map of 3x3, where others are told by the side of their tile.
_WHOLE = 0

# With fewer pairs of channels, fewer tiles, or more products an output (of 9), the transforms take
# longer than they save.
_MIN_PAIRS = 128 * 256
_MIN_TILES = 32
_MAX_PRODUCTS = 4.5
# Tiles at a time, so that what one pass writes is in the processor's cache for the next.
_CHUNK = 512


class WinogradConv2d(nn.Module):
    """A 3x3 convolution of stride 1 by Winograd's minimal filtering (Lavin and Gray, CVPR 2016).

    4x4 outputs take 36 products a pair of channels instead of 144: patches of 6x6 inputs and the
    kernels are brought to 36 points each, multiplied point by point as matrices over channels, and
    brought back; tiles of 3x3 take 25 instead of 81 and fit some sizes better. A map of 3x3 with a
    border of zeros, as AlexNet has for images of 64 pixels, takes 16, see
    :func:`whole_map_transforms`. In exact arithmetic that is the convolution; in float32 its
    rounding error is two to three times that of the sum over 3x3.

    Where that is no gain (few tiles, other devices and dtypes, which have fast algorithms of their
    own), and where gradients are needed, the convolution itself is computed.

    Shapes: (N, C, H, W) to (N, C', H', W'), as the convolution has them.

    Args:
        conv: the convolution, which :meth:`applies_to`. It is kept as it is, and its weights may
            not change; the transformed kernels, three to four times its size, are made on first
            use.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self._transforms: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    @staticmethod
    def applies_to(conv: nn.Module) -> bool:
        """Whether ``conv`` is of the kind that is faster so."""
        return (
            type(conv) is nn.Conv2d
            and conv.kernel_size == (_KERNEL, _KERNEL)
            and conv.stride == conv.dilation == (1, 1)
            and conv.groups == 1
            and conv.padding_mode == "zeros"
            and not isinstance(conv.padding, str)
            and conv.in_channels * conv.out_channels >= _MIN_PAIRS
            and conv.weight.dtype == torch.float32
            and conv.weight.device.type == "cpu"
        )

    def forward(self, x: Tensor) -> Tensor:
        height, width = (
            n + 2 * p - _KERNEL + 1 for n, p in zip(x.shape[-2:], self.conv.padding, strict=True)
        )
        if (height, width) == x.shape[-2:] == (3, 3):
            return self._convolve_map(x) if self._pays(x, 1, _WHOLE) else self.conv(x)
        tile = _tile(height, width)
        tiles = -(-height // tile) * -(-width // tile)
        products = tiles * _patch(tile) ** 2
        if products > _MAX_PRODUCTS * height * width or not self._pays(x, tiles, tile):
            return self.conv(x)
        batches = x.split(max(1, _CHUNK // tiles))
        parts = [self._convolve(batch, height, width, tile) for batch in batches]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _convolve_map(self, x: Tensor) -> Tensor:
        """Of the whole map (N, C, 3, 3) with a border of zeros."""
        maps = x.permute(0, 2, 3, 1).flatten(1, 2)
        to_points, from_points, kernels = self._transform(_WHOLE)
        products = torch.bmm((to_points @ maps).transpose(0, 1), kernels).transpose(0, 1)
        out = from_points @ products
        if self.conv.bias is not None:
            out += self.conv.bias
        return out.unflatten(1, (3, 3)).permute(0, 3, 1, 2)

    def _convolve(self, x: Tensor, height: int, width: int, tile: int) -> Tensor:
        rows, columns, patch = -(-height // tile), -(-width // tile), _patch(tile)
        top, left = self.conv.padding
        below, right = (
            tiles * tile + _KERNEL - 1 - before - n
            for tiles, before, n in zip((rows, columns), (top, left), x.shape[-2:], strict=True)
        )
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, left, right, top, below))
        patches = padded.unfold(1, patch, tile).unfold(2, patch, tile)
        patches = patches.permute(0, 1, 2, 4, 5, 3).reshape(-1, patch**2, x.shape[1])
        to_points, from_points, kernels = self._transform(tile)
        products = torch.bmm((to_points @ patches).transpose(0, 1), kernels)
        out = (from_points @ products.flatten(1)).view(tile, tile, len(x), rows, columns, -1)
        out = out.permute(2, 3, 0, 4, 1, 5).reshape(len(x), rows * tile, columns * tile, -1)
        # Contiguous: of a single tile it would be a view in another order.
        out = out.contiguous()[:, :height, :width]
        if self.conv.bias is not None:
            out = out + self.conv.bias
        return out.permute(0, 3, 1, 2)

    def _transform(self, tile: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of patches and of outputs, and the kernels at the points, as :func:`_prepared`."""
        if tile not in self._transforms:
            # Of no mode: they are to serve later calls in every mode, and compilers.
            with torch.inference_mode(False), torch.no_grad():
                self._transforms[tile] = _prepared(self.conv.weight, tile)
        return self._transforms[tile]

    def _pays(self, x: Tensor, tiles: int, tile: int) -> bool:
        """Whether it is this path's case: float32 on a CPU, enough of it, no gradients."""
        return (
            len(x) * tiles >= _MIN_TILES
            and x.dtype == torch.float32
            and x.device.type == "cpu"
            and not (torch.is_grad_enabled() and x.requires_grad)
            and not torch.is_autocast_enabled("cpu")
            # Inside a graph they would be made again in every call.
            and (tile in self._transforms or not torch.compiler.is_compiling())
        )


def _prepared(weight: Tensor, tile: int) -> tuple[Tensor, Tensor, Tensor]:
    """Along both axes: of patches (P, inputs) and outputs (outputs, P), and the kernels (P, C, C').

    Both axes at once: a matrix product in place of many small passes.
    """
    output, kernel, patch = whole_map_transforms() if tile == _WHOLE else transforms(tile)
    weight_at = weight.detach().double().permute(2, 3, 1, 0).flatten(0, 1)
    points, patches, outputs = (torch.from_numpy(np.kron(m, m)) for m in (kernel, patch, output))
    kernels = torch.tensordot(points, weight_at, 1)
    return patches.to(weight.dtype), outputs.to(weight.dtype), kernels.to(weight.dtype)


def transforms(tile: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of outputs (tile, P), kernels (P, 3) and patches (P, P) along one axis, P = tile + 2.

    Toom's and Cook's: polynomials through finite points, and a last row or column for infinity.
    """
    points = np.array(_POINTS[tile])
    output = np.vander(points, tile, increasing=True).T
    output = np.c_[output, np.eye(tile)[-1]]
    gaps = points[:, None] - points + np.eye(len(points))
    kernel = np.vander(points, _KERNEL, increasing=True) / gaps.prod(axis=1, keepdims=True)
    kernel = np.r_[kernel, np.eye(_KERNEL)[-1:]]
    patch = np.zeros((_patch(tile), _patch(tile)))
    for i in range(len(points)):
        patch[i, :-1] = np.poly(np.delete(points, i))[::-1]
    patch[-1] = np.poly(points)[::-1]
    return output, kernel, patch


def whole_map_transforms() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As :func:`transforms`, of 3 outputs from 3 inputs with a zero on either side: 4 products.

    For weights (u, v, w) that is the matrix [[v, w, 0], [u, v, w], [0, u, v]], one product fewer
    than through points. On the sum of the outer inputs, the middle one and the difference of the
    outer ones it is tridiagonal, with (1, c^2 - g^2, 1) v on its diagonal wherever c^2 - g^2 = 1;
    then the first two rows, with c^2 v, and the last two, with -g^2 v, take two products each.
    Here c and g are 3 / sqrt(8) and 1 / sqrt(8), which makes all entries rational.
    """
    output = [[1 / 4, 1 / 4, -1 / 2, 1 / 2], [3 / 8, -3 / 8, -1 / 4, -1 / 4]]
    output.append([1 / 4, 1 / 4, 1 / 2, -1 / 2])
    kernel = [[2 / 3, 1, 2 / 3], [-2 / 3, 1, -2 / 3], [1, 1 / 2, -1], [-1, 1 / 2, 1]]
    patch = [[1, 3 / 2, 1], [1, -3 / 2, 1], [-1, 1 / 2, 1], [1, 1 / 2, -1]]
    return np.array(output), np.array(kernel), np.array(patch)


def _patch(tile: int) -> int:
    """Side of the inputs that a tile of outputs comes from."""
    return tile + _KERNEL - 1


def _tile(height: int, width: int) -> int:
    """The side of tiles that takes the fewest products."""
    return min(_POINTS, key=lambda tile: -(-height // tile) * -(-width // tile) * _patch(tile) ** 2)
