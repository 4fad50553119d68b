"""Low-pass filters with subsampling: fixed (BlurPool), content-aware and adaptive polyphase."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_lpips.backbones.config import BackboneConfig


def reflection_padding(size: int, reflection_pad: int) -> tuple[int, int]:
    """Pixels of reflection before and after each axis, for a filter of side ``size``.

    ``reflection_pad=1`` pads size-1 pixels in all, the odd one after; ``reflection_pad=2`` pads
    size-1 on each side.
    """
    total = size - 1
    if reflection_pad == 1:
        return total // 2, total - total // 2
    return total, total


class _ReflectedFilter(nn.Module):
    """Common part of the filters: reflection padding and the size of the output."""

    def __init__(self, size: int, stride: int, reflection_pad: int) -> None:
        super().__init__()
        self.size = size
        self.stride = stride
        self.before, self.after = reflection_padding(size, reflection_pad)

    def pad(self, x: Tensor) -> Tensor:
        if self.after == 0:
            return x
        return F.pad(x, (self.before, self.after, self.before, self.after), mode="reflect")

    def output_size(self, n: int) -> int:
        """Side of the output for an input of side ``n``; 0 if ``n`` is too small to reflect."""
        if n <= self.after:
            return 0
        return (n + self.before + self.after - self.size) // self.stride + 1

    def extra_repr(self) -> str:
        return f"size={self.size}, stride={self.stride}, pad=({self.before}, {self.after})"


class BlurPool(_ReflectedFilter):
    """Blur every channel with a binomial filter, then subsample (Zhang, ICML 2019).

    Shapes: (N, C, H, W) to (N, C, H', W'), where H' = ceil(H / stride) for
    ``reflection_pad=1``.

    Args:
        channels: C.
        size: side of the filter, 1 to 7; 1 subsamples without a blur.
        stride: subsampling factor.
        reflection_pad: 1 or 2, as in :func:`reflection_padding`.
    """

    def __init__(
        self, channels: int, size: int = 3, stride: int = 2, reflection_pad: int = 1
    ) -> None:
        super().__init__(size, stride, reflection_pad)
        self.channels = channels
        # Fixed by its size, so not part of the state dict.
        self.register_buffer("kernel", binomial_kernel(size).repeat(channels, 1, 1, 1), False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pad(x)
        if self.size == 1:
            return x[:, :, :: self.stride, :: self.stride]
        return F.conv2d(x, self.kernel, stride=self.stride, groups=self.channels)


def binomial_row(size: int) -> Tensor:
    """The (size,) binomial low-pass filter in float64, summing to one."""
    row = torch.ones(1, dtype=torch.float64)
    for _ in range(size - 1):
        row = F.pad(row, (1, 0)) + F.pad(row, (0, 1))
    return row / row.sum()


def binomial_kernel(size: int) -> Tensor:
    """The (size, size) binomial low-pass filter, summing to one."""
    row = binomial_row(size)
    return torch.outer(row, row).to(torch.get_default_dtype())


class AdaptiveBlurPool(_ReflectedFilter):
    """Blur with filters predicted at every position, then subsample (Zou et al., BMVC 2020).

    Consecutive channels form ``groups`` groups. A convolution with batch normalisation predicts one
    filter for each position and group, and a softmax over its size * size weights makes it a
    low-pass filter: positive, summing to one. Filters are predicted only at the positions that
    subsampling keeps.

    Shapes: (N, C, H, W) to (N, C, H', W'), the sizes as :class:`BlurPool`.

    Args:
        channels: C, a multiple of ``groups``.
        size: side of the filter, 2 to 7.
        stride: subsampling factor.
        reflection_pad: 1 or 2, as in :func:`reflection_padding`.
        groups: number of filters per position.
    """

    def __init__(
        self,
        channels: int,
        size: int = 3,
        stride: int = 2,
        reflection_pad: int = 1,
        groups: int = 2,
    ) -> None:
        super().__init__(size, stride, reflection_pad)
        self.groups = groups
        self.conv = nn.Conv2d(channels, groups * size**2, size, stride=stride, bias=False)
        self.norm = nn.BatchNorm2d(groups * size**2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pad(x)
        logits = self.norm(self.conv(x))
        weights = logits.unflatten(1, (self.groups, 1, self.size**2)).softmax(dim=3)
        height, width = weights.shape[-2:]
        grouped = x.unflatten(1, (self.groups, -1))
        out = torch.zeros((), dtype=x.dtype, device=x.device)
        # One multiply-add for each filter position: an unfolded copy of x would be size**2 as big.
        for index in range(self.size**2):
            top, left = divmod(index, self.size)
            rows = slice(top, top + self.stride * (height - 1) + 1, self.stride)
            columns = slice(left, left + self.stride * (width - 1) + 1, self.stride)
            out = out + grouped[..., rows, columns] * weights[:, :, :, index]
        return out.flatten(1, 2)


class AdaptivePolyphase(BlurPool):
    """Blur, then subsample on the grid with the largest norm.

    Adaptive polyphase sampling (Chaman and Dokmanic, CVPR 2021) with the l2 norm. A stride s has
    s * s possible grids. The strongest one moves with the image, so that features of a shifted
    image are shifted features. The grid is chosen for each image separately. Maps with an odd side
    are extended by their last row or column, so that all grids have the same size.

    Shapes: those of :class:`BlurPool`.

    Args:
        channels: C.
        size: side of the filter, 1 to 7; 1 does not blur.
        stride: subsampling factor.
        reflection_pad: 1 or 2, as in :func:`reflection_padding`.
    """

    def forward(self, x: Tensor) -> Tensor:
        x = self.pad(x)
        if self.size > 1:
            x = F.conv2d(x, self.kernel, groups=self.channels)
        stride = self.stride
        rows, columns = (-n % stride for n in x.shape[-2:])
        x = F.pad(x, (0, columns, 0, rows), mode="replicate")
        grids = F.pixel_unshuffle(x, stride).unflatten(1, (self.channels, stride**2))
        norms = grids.square().sum(dim=(1, 3, 4))
        strongest = norms.argmax(dim=1).view(-1, 1, 1, 1, 1)
        return grids.take_along_dim(strongest, dim=2).squeeze(2)


class SeparableMaxPool2d(nn.Module):
    """Max-pooling along one axis and then the other, for inference on CPUs.

    Faster than :class:`torch.nn.MaxPool2d`, which on CPUs always stores the indices of the maxima.
    With gradients and on other devices ``pool`` itself is computed.

    Shapes: (N, C, H, W) to (N, C, H', W'), those of ``pool`` plus the border.

    Args:
        pool: a layer for which :meth:`applies_to` is true.
        border: pixels of reflection before and after each axis of the output, written in place to
            avoid a copy.
    """

    def __init__(self, pool: nn.MaxPool2d, border: tuple[int, int] = (0, 0)) -> None:
        super().__init__()
        self.pool = pool
        self.border = border

    @staticmethod
    def applies_to(pool: nn.Module) -> bool:
        """True if ``pool`` is square, without padding, dilation, rounding up or indices."""
        return (
            type(pool) is nn.MaxPool2d
            and isinstance(pool.kernel_size, int)
            and pool.kernel_size > 1
            and isinstance(pool.stride, int)
            and (pool.padding, pool.dilation) == (0, 1)
            and not (pool.ceil_mode or pool.return_indices)
        )

    def forward(self, x: Tensor) -> Tensor:
        before, after = self.border
        if x.device.type != "cpu" or (torch.is_grad_enabled() and x.requires_grad):
            return F.pad(self.pool(x), (before, after) * 2, mode="reflect")
        x = self._pool_axis(x, 2)
        height, width = x.shape[-2], (x.shape[-1] - self.pool.kernel_size) // self.pool.stride + 1
        # Not in place for compilers, nor where F.pad raises its error: a map too small to reflect.
        if torch.compiler.is_compiling() or min(height, width) <= max(before, after):
            return F.pad(self._pool_axis(x, 3), (before, after) * 2, mode="reflect")
        size = (len(x), before + height + after, before + width + after, x.shape[1])
        out = x.new_empty(size).permute(0, 3, 1, 2)
        inside = out[..., before : before + height, before : before + width]
        self._pool_axis(x, 3, out=inside)
        for axis in (2, 3):
            _reflect(out, axis, before, after)
        return out

    def _pool_axis(self, x: Tensor, axis: int, out: Tensor | None = None) -> Tensor:
        size, stride = self.pool.kernel_size, self.pool.stride
        last = x.shape[axis] - size + 1
        pooled, *others, final = (
            _every(x.narrow(axis, begin, last), axis, stride) for begin in range(size)
        )
        own = None  # later maxima overwrite the first result
        for other in others:
            pooled = own = torch.maximum(pooled, other, out=own)
        return torch.maximum(pooled, final, out=own if out is None else out)


def _reflect(x: Tensor, axis: int, before: int, after: int) -> None:
    """Fill the border of ``x`` (N, C, H, W) along an axis with the reflection of its inside."""
    last = x.shape[axis] - after - 1
    pairs = [(before - i, before + i) for i in range(1, before + 1)]
    pairs += [(last + i, last - i) for i in range(1, after + 1)]
    for outside, inside in pairs:
        x.select(axis, outside).copy_(x.select(axis, inside))


def _every(x: Tensor, axis: int, stride: int) -> Tensor:
    return x if stride == 1 else x[(slice(None),) * axis + (slice(None, None, stride),)]


def blur(config: BackboneConfig, channels: int) -> nn.Module:
    """Low-pass filter of stride 2 as configured."""
    layers = {
        "blurpool": BlurPool,
        "adaptive": AdaptiveBlurPool,
        "polyphase": AdaptivePolyphase,
    }
    layer = layers[config.anti_alias]
    return layer(channels, size=config.blur_size, stride=2, reflection_pad=config.reflection_pad)


def max_pool(
    config: BackboneConfig, channels: int, size: int, *, ceil_mode: bool = False
) -> nn.Module:
    """Max-pooling of stride 2, or at stride 1 and then blurred (Zhang, ICML 2019, Sec. 3).

    ``ceil_mode`` rounds the output's size up, as in :class:`torch.nn.MaxPool2d`; at stride 1
    there is nothing to round.
    """
    if config.anti_alias == "none":
        return nn.MaxPool2d(size, stride=2, ceil_mode=ceil_mode)
    return nn.Sequential(nn.MaxPool2d(size, stride=1), blur(config, channels))
