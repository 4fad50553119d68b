"""3x3 convolutions with a quarter of the multiplications, for inference on CPUs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_KERNEL = 3

# The finite points by the side of the tile of outputs; infinity is one more. Mixing 1/2 and -2, as
# Barabasz et al. (ACM TOMS 2020) advise, rounded a third less in float32 than 2 and -2 did, or 1/2
# and -1/2: the entries of all three transforms stay small.
_POINTS = {3: (0.0, 1.0, -1.0, 0.5), 4: (0.0, 1.0, -1.0, 0.5, -2.0)}

# With fewer pairs of channels, fewer tiles, or more products an output (of 9), the transforms take
# longer than they save.
_MIN_PAIRS = 128 * 256
_MIN_TILES = 32
_MAX_PRODUCTS = 4.5
# Maps of so few tiles are brought to points as a whole, borders included, which copies nothing.
_FEW_TILES = 4
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

    The convolution itself is computed where that is not faster (few tiles; other devices and
    dtypes, which have their own fast algorithms) and where gradients are needed.

    Shapes: (N, C, H, W) to (N, C', H', W'), those of the convolution.

    Args:
        conv: a convolution for which :meth:`applies_to` is true. It is kept, and its weights must
            not change: the transformed kernels, three to four times its size, are computed once,
            on first use.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self._transforms: dict[_Tiling, tuple[Tensor, Tensor]] = {}
        self._kernels: dict[int, Tensor] = {}

    @staticmethod
    def applies_to(conv: nn.Module) -> bool:
        """True if ``conv`` is of a kind that this algorithm speeds up."""
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
        tiling = _Tiling.of(x.shape[-2:], self.conv.padding)
        if not self._pays(x, tiling):
            return self.conv(x)
        batches = x.split(max(1, _CHUNK // tiling.tiles))
        parts = [self._convolve(batch, tiling) for batch in batches]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _convolve(self, x: Tensor, tiling: _Tiling) -> Tensor:
        to_points, from_points, kernels = self._prepared(tiling)
        maps = x.permute(0, 2, 3, 1)
        patches = maps.flatten(1, 2) if tiling.is_whole else _patches(maps, tiling)
        points = (to_points @ patches).view(-1, *kernels.shape[:2])
        out = from_points @ torch.bmm(points.transpose(0, 1), kernels).flatten(1)
        tile, (rows, columns), (height, width) = tiling.tile, tiling.grid, tiling.outputs
        out = out.view(tile, tile, len(x), rows, columns, -1).permute(2, 3, 0, 4, 1, 5)
        out = out.reshape(len(x), rows * tile, columns * tile, -1).contiguous()
        if self.conv.bias is not None:
            out += self.conv.bias
        out = out[:, :height, :width]
        return out.permute(0, 3, 1, 2)

    def _prepared(self, tiling: _Tiling) -> tuple[Tensor, Tensor, Tensor]:
        """Transforms of patches (points, inputs) and outputs (outputs, P), kernels (P, C, C')."""
        if tiling not in self._transforms:
            # Outside inference mode: later calls in other modes and compilers use them, too.
            with torch.inference_mode(False), torch.no_grad():
                weight, form = self.conv.weight, tiling.form
                matrices = map(torch.from_numpy, (tiling.to_points(), tiling.from_points()))
                self._transforms[tiling] = tuple(matrix.to(weight.dtype) for matrix in matrices)
                if form not in self._kernels:
                    self._kernels[form] = _kernels(weight, tiling.along[1])
        return *self._transforms[tiling], self._kernels[tiling.form]

    def _pays(self, x: Tensor, tiling: _Tiling) -> bool:
        """True if the algorithm applies and is faster: float32, CPU, many tiles, no gradients."""
        height, width = tiling.outputs
        learns = x.requires_grad or self.conv.weight.requires_grad
        return (
            len(x) * tiling.tiles >= _MIN_TILES
            and tiling.products <= _MAX_PRODUCTS * height * width
            and x.dtype == torch.float32
            and x.device.type == "cpu"
            and not (torch.is_grad_enabled() and learns)
            and not torch.is_autocast_enabled("cpu")
            # Inside a graph they would be computed again in every call.
            and (tiling in self._transforms or not torch.compiler.is_compiling())
        )


class _Tiling(NamedTuple):
    """Division of maps of one size into tiles of outputs."""

    inputs: tuple[int, int]
    padding: tuple[int, int]
    tile: int

    @classmethod
    def of(cls, inputs: Sequence[int], padding: tuple[int, int]) -> _Tiling:
        """The tiling with the fewest products."""
        tilings = (cls(tuple(inputs), padding, tile) for tile in _POINTS)
        return min(tilings, key=lambda tiling: tiling.products)

    @property
    def outputs(self) -> tuple[int, ...]:
        """Height and width."""
        sides = zip(self.inputs, self.padding, strict=True)
        return tuple(n + 2 * padding - _KERNEL + 1 for n, padding in sides)

    @property
    def grid(self) -> tuple[int, ...]:
        """Rows and columns of tiles."""
        return tuple(-(-n // self.tile) for n in self.outputs)

    @property
    def tiles(self) -> int:
        rows, columns = self.grid
        return rows * columns

    @property
    def products(self) -> int:
        """Number of products per pair of channels and map."""
        points = 4 if self.form == 0 else self.tile + _KERNEL - 1
        return self.tiles * points**2

    @property
    def form(self) -> int:
        """Key of the kernels: the tile, or 0 for the form of a whole map of 3x3."""
        return 0 if self.inputs == (3, 3) and self.padding == (1, 1) else self.tile

    @property
    def along(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Transforms of outputs, kernels and patches along one axis."""
        return whole_map_transforms() if self.form == 0 else transforms(self.tile)

    @property
    def is_whole(self) -> bool:
        """True if maps are transformed as a whole, not patch by patch."""
        return self.tiles <= _FEW_TILES

    def to_points(self) -> np.ndarray:
        """Transform of a whole map (points, inputs) or of a patch (P, inputs).

        Of both axes at once: one matrix product instead of many small passes.
        """
        patch = self.along[2]
        if not self.is_whole:
            return np.kron(patch, patch)
        sides = zip(self.grid, self.inputs, self.padding, strict=True)
        down, across = (self._placed(patch, *side) for side in sides)
        both = np.einsum("apx,bqy->abpqxy", down, across)
        return both.reshape(-1, self.inputs[0] * self.inputs[1])

    def from_points(self) -> np.ndarray:
        """Transform of the points of a tile to its outputs: (outputs, P)."""
        output = self.along[0]
        return np.kron(output, output)

    def _placed(self, patch: np.ndarray, tiles: int, inputs: int, padding: int) -> np.ndarray:
        """Transforms (tiles, P, inputs) of each tile of an axis, applied to the whole axis."""
        if self.form == 0:
            return patch[None]
        width = patch.shape[1]
        placed = np.zeros((tiles, len(patch), padding + inputs + tiles * self.tile + width))
        for index in range(tiles):
            begin = index * self.tile
            placed[index, :, begin : begin + width] = patch
        return placed[..., padding : padding + inputs]


def _patches(maps: Tensor, tiling: _Tiling) -> Tensor:
    """Input patches (tiles, inputs, C) of the tiles of maps (N, H, W, C)."""
    (rows, columns), tile = tiling.grid, tiling.tile
    patch, (top, left) = tile + _KERNEL - 1, tiling.padding
    below, right = (
        tiles * tile + _KERNEL - 1 - before - n
        for tiles, before, n in zip((rows, columns), (top, left), maps.shape[1:3], strict=True)
    )
    padded = F.pad(maps, (0, 0, left, right, top, below))
    patches = padded.unfold(1, patch, tile).unfold(2, patch, tile)
    return patches.permute(0, 1, 2, 4, 5, 3).reshape(-1, patch**2, maps.shape[-1])


def _kernels(weight: Tensor, kernel: np.ndarray) -> Tensor:
    """Transformed weights (C', C, 3, 3): (P, C, C')."""
    points = torch.from_numpy(np.kron(kernel, kernel))
    weight_at = weight.detach().double().permute(2, 3, 1, 0).flatten(0, 1)
    return torch.tensordot(points, weight_at, 1).to(weight.dtype)


def transforms(tile: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Transforms along one axis of outputs (tile, P), kernels (P, 3) and patches (P, P).

    P = tile + 2. The Toom-Cook construction: polynomials through finite points, and a last row or
    column for infinity.
    """
    points = np.array(_POINTS[tile])
    output = np.vander(points, tile, increasing=True).T
    output = np.c_[output, np.eye(tile)[-1]]
    gaps = points[:, None] - points + np.eye(len(points))
    kernel = np.vander(points, _KERNEL, increasing=True) / gaps.prod(axis=1, keepdims=True)
    kernel = np.r_[kernel, np.eye(_KERNEL)[-1:]]
    patch = np.zeros((len(kernel), len(kernel)))
    for i in range(len(points)):
        patch[i, :-1] = np.poly(np.delete(points, i))[::-1]
    patch[-1] = np.poly(points)[::-1]
    return output, kernel, patch


def whole_map_transforms() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Transforms for 3 outputs of 3 inputs with one zero on either side, by 4 products.

    The counterpart of :func:`transforms` with one product fewer. For weights (u, v, w) the map is
    the matrix [[v, w, 0], [u, v, w], [0, u, v]]. In the basis of the sum of the outer inputs, the
    middle input and the difference of the outer inputs it is tridiagonal, with diagonal
    (1, c^2 - g^2, 1) v for c^2 - g^2 = 1. The first two rows, with c^2 v, and the last two, with
    -g^2 v, then take two products each. With c = 3 / sqrt(8) and g = 1 / sqrt(8) all entries are
    rational.
    """
    output = [[1 / 4, 1 / 4, -1 / 2, 1 / 2], [3 / 8, -3 / 8, -1 / 4, -1 / 4]]
    output.append([1 / 4, 1 / 4, 1 / 2, -1 / 2])
    kernel = [[2 / 3, 1, 2 / 3], [-2 / 3, 1, -2 / 3], [1, 1 / 2, -1], [-1, 1 / 2, 1]]
    patch = [[1, 3 / 2, 1], [1, -3 / 2, 1], [-1, 1 / 2, 1], [1, 1 / 2, -1]]
    return np.array(output), np.array(kernel), np.array(patch)
