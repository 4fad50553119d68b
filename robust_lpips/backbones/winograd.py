"""3x3 convolutions with a quarter of the multiplications, for inference on CPUs."""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_KERNEL = 3

# Tiles of 4x4 outputs: four finite points and infinity would give 3x3. The points are those with
# the least rounding error in float32 (Barabasz et al., ACM TOMS 2020): mixing 1/2 and -2 keeps the
# entries of all three transforms small.
_POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)
_TILE = len(_POINTS) - 1
_PATCH = len(_POINTS) + 1

# With fewer pairs of channels, or fewer tiles, the transforms take longer than they save.
_MIN_PAIRS = 128 * 256
_MIN_TILES = 48
# Tiles at a time, so that what one pass writes is in the processor's cache for the next.
_CHUNK = 512


class WinogradConv2d(nn.Module):
    """A 3x3 convolution of stride 1 by Winograd's minimal filtering (Lavin and Gray, CVPR 2016).

    4x4 outputs take 36 products a pair of channels instead of 144: patches of 6x6 inputs and the
    kernels are brought to 36 points each, multiplied point by point as matrices over channels, and
    brought back. In exact arithmetic that is the convolution; in float32 its rounding error is two
    to three times that of the sum over 3x3.

    Where that is no gain (few tiles, other devices and dtypes, which have fast algorithms of their
    own), and where gradients are needed, the convolution itself is computed.

    Shapes: (N, C, H, W) to (N, C', H', W'), as the convolution has them.

    Args:
        conv: the convolution, which :meth:`applies_to`. It is kept as it is, and its weights may
            not change; the transformed kernels, four times its size, are made on first use.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    @functools.cached_property
    def transforms(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of patches (36, 36) and outputs (16, 36), and the kernels at the points (36, C, C')."""
        output, kernel, patch = _transforms()
        weight = self.conv.weight.detach().double().permute(2, 3, 1, 0).flatten(0, 1)
        # Both axes at once: a matrix product in place of many small passes.
        points = torch.tensordot(torch.from_numpy(np.kron(kernel, kernel)), weight, 1)
        dtype = self.conv.weight.dtype
        return (
            torch.from_numpy(np.kron(patch, patch)).to(dtype),
            torch.from_numpy(np.kron(output, output)).to(dtype),
            points.to(dtype),
        )

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
        tiles = -(-height // _TILE) * -(-width // _TILE)
        if len(x) * tiles < _MIN_TILES or not _possible(x):
            return self.conv(x)
        batches = x.split(max(1, _CHUNK // tiles))
        return torch.cat([self._convolve(batch, height, width) for batch in batches])

    def _convolve(self, x: Tensor, height: int, width: int) -> Tensor:
        rows, columns = -(-height // _TILE), -(-width // _TILE)
        top, left = self.conv.padding
        below, right = (
            tiles * _TILE + _KERNEL - 1 - before - n
            for tiles, before, n in zip((rows, columns), (top, left), x.shape[-2:], strict=True)
        )
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, left, right, top, below))
        patches = padded.unfold(1, _PATCH, _TILE).unfold(2, _PATCH, _TILE)
        patches = patches.permute(0, 1, 2, 4, 5, 3).reshape(-1, _PATCH**2, x.shape[1])
        patch, output, kernels = self.transforms
        products = torch.bmm((patch @ patches).transpose(0, 1), kernels)
        out = output @ products.flatten(1)
        out = out.view(_TILE, _TILE, len(x), rows, columns, -1).permute(2, 3, 0, 4, 1, 5)
        out = out.reshape(len(x), rows * _TILE, columns * _TILE, -1)[:, :height, :width]
        if self.conv.bias is not None:
            out = out + self.conv.bias
        return out.permute(0, 3, 1, 2)


def _possible(x: Tensor) -> bool:
    """Whether it is this path's case: float32 on a CPU, without gradients or autocast."""
    return (
        x.dtype == torch.float32
        and x.device.type == "cpu"
        and not (torch.is_grad_enabled() and x.requires_grad)
        and not torch.is_autocast_enabled("cpu")
    )


def _transforms() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of outputs (4, 6), kernels (6, 3) and patches (6, 6), along one axis (Toom and Cook).

    Polynomials through the finite points, and a last row for infinity.
    """
    points = np.array(_POINTS)
    output = np.vander(points, _TILE, increasing=True).T
    output = np.c_[output, np.eye(_TILE)[-1]]
    gaps = points[:, None] - points + np.eye(len(points))
    kernel = np.vander(points, _KERNEL, increasing=True) / gaps.prod(axis=1, keepdims=True)
    kernel = np.r_[kernel, np.eye(_KERNEL)[-1:]]
    patch = np.zeros((_PATCH, _PATCH))
    for i in range(len(points)):
        patch[i, :-1] = np.poly(np.delete(points, i))[::-1]
    patch[-1] = np.poly(points)[::-1]
    return output, kernel, patch
