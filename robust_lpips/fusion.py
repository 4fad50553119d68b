"""Rewrites of a backbone for inference: the same features with fewer multiplications."""

from __future__ import annotations

import copy
import itertools
import operator
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from robust_lpips.backbones.chain import Chain
from robust_lpips.backbones.downsampling import BlurPool, SeparableMaxPool2d, binomial_row
from robust_lpips.backbones.winograd import WinogradConv2d

# Subclasses (fake, sharded, quantized tensors) are left to the plain layers.
_ORDINARY = (Tensor, nn.Parameter)

Children = dict[str, nn.Module | None]


def merge(backbone: nn.Module) -> nn.Module:
    """Build a network with the features of ``backbone`` in evaluation mode, at less cost.

    Adjacent linear layers are merged where that is exact and cheaper: a convolution with its batch
    normalisation, and a convolution with the blur after it (:class:`BlurredConv2d`). A 1x1
    convolution and the blur after it change places. 3x3 convolutions get a fast algorithm
    (:class:`~robust_lpips.backbones.winograd.WinogradConv2d`). Layers whose output is tapped are
    not merged with the next one. Layers that stay as they are are shared with ``backbone``;
    rewritten weights are copies and do not follow later changes of ``backbone``.
    """
    with torch.inference_mode(False), torch.no_grad():
        return _rewritten(_rewritten(backbone, _merge_pairs), _speed_up)


class Fused:
    """The merged form of a backbone, merged again once the backbone has changed.

    Changes are those that torch or the backbone records: replaced layers and parameters, writes
    that autograd counts (``Tensor._version``), weights moved to other memory (``.to``,
    ``weight.data = ...``), and calls that raise :attr:`~robust_lpips.backbones.Chain.revision`.
    Not recorded, so not seen, are writes through ``weight.data[...]`` or a NumPy view, steps of a
    ``fused=True`` optimizer (unless the backbone's ``requires_grad_`` is called after them), and
    changed settings of a layer. After those, make a new object.

    Args:
        backbone: the network that :func:`merge` takes.
        in_graphs: also give the merged network to compilers and CUDA graphs. Compilers get the
            backbone again after layers or parameters were replaced or ``revision`` was raised.

    Attributes:
        backbone: as given.
        in_graphs: as given.
    """

    def __init__(self, backbone: Chain, *, in_graphs: bool = False) -> None:
        self.backbone = backbone
        self.in_graphs = in_graphs
        self._merged: _Merged | None = None

    def __reduce__(self) -> tuple[Callable[..., Fused], tuple[Chain]]:
        # Copies and pickles merge again: the merged weights are large.
        return Fused, (self.backbone,)

    def network(self, *, graph: bool = False) -> Chain:
        """The merged backbone, or the backbone itself where merging would change what it does.

        The backbone is returned in training mode, where a layer has hooks, where a weight requires
        gradients, is an inference tensor or not an ordinary parameter, and inside transforms of
        :mod:`torch.func`.

        Args:
            graph: this call is recorded in a graph that serves later calls.
        """
        merged, revision = self._merged, self.backbone.revision
        modules = _modules(self.backbone)
        tensors = _tensors(modules)
        objects = [*modules, *tensors]
        usable = _can_merge(modules, tensors)
        same = merged is not None and merged.is_of(revision, objects)
        if graph:
            return merged.network if self.in_graphs and usable and same else self.backbone
        transformed = torch._C._are_functorch_transforms_active()
        if not usable or transformed or any(map(Tensor.is_inference, tensors)):
            self._merged = None  # an optimizer that autograd does not count may come next
            return self.backbone
        versions = [tensor._version for tensor in tensors]
        current = (
            same
            and versions == merged.versions
            and all(map(Tensor.is_set_to, tensors, merged.memory))
        )
        if not current:
            memory = [tensor.detach() for tensor in tensors]
            merged = _Merged(revision, objects, versions, memory, merge(self.backbone))
            self._merged = merged
        return merged.network


class _Merged(NamedTuple):
    """A merged network, and the state of the backbone from which it was made."""

    revision: int
    objects: list[nn.Module | Tensor]
    versions: list[int]
    memory: list[Tensor]  # detached tensors: they keep the memory of then if ``.data`` is replaced
    network: Chain

    def is_of(self, revision: int, objects: list[nn.Module | Tensor]) -> bool:
        """True for the same modules and tensors at the same revision."""
        return (
            revision == self.revision
            and len(objects) == len(self.objects)
            and all(map(operator.is_, objects, self.objects))
        )


class BlurredConv2d(nn.Module):
    """A convolution and the blur after it as one convolution.

    With a kernel of side k and stride s, and a filter of side m and stride t, the interior is one
    convolution of side k + s (m - 1) and stride s t with the composed kernel. In a frame of
    ceil(padding / t) outputs, where the filter reaches beyond the border, each row has its own
    kernel: the filter, folded back at the border, composed with the convolution along one axis;
    the other axis is blurred as before. A row whose filter lies outside as a whole equals a row
    inside.

    Shapes: those of ``nn.Sequential(conv, blur)``.

    Args:
        conv: an ungrouped, zero-padded convolution with a square kernel.
        blur: the layer that follows it.
    """

    def __init__(self, conv: nn.Conv2d, blur: BlurPool) -> None:
        super().__init__()
        self.conv, self.blur = conv, blur
        # On the CPU and in float64, whatever the weights are on and in.
        weight, row = conv.weight.detach().cpu().double(), binomial_row(blur.size)
        step = conv.stride[0]
        composed = _composed(_composed(weight, row[None], step)[0].mT, row[None], step)[0].mT
        self.weight = _like(composed, conv.weight)
        self.rows = _Frame(conv, blur, weight)
        self.columns = _Frame(conv, blur, weight.mT)

    @staticmethod
    def saves(conv: nn.Conv2d, blur: BlurPool) -> bool:
        """True if one convolution of the composed kernel is clearly less work than both layers."""
        size = conv.kernel_size[0]
        composed = size + conv.stride[0] * (blur.size - 1)
        return blur.size > 1 and 4 * composed**2 < 3 * blur.stride**2 * size**2

    def forward(self, x: Tensor) -> Tensor:
        conv, blur = self.conv, self.blur
        (padding, _), (step, _) = conv.padding, conv.stride
        convolved = [(n + 2 * padding - conv.kernel_size[0]) // step + 1 for n in x.shape[-2:]]
        if min(convolved) < 2 * blur.size:  # hardly more than the frame
            return blur(conv(x))
        before, further = step * blur.before, step * (blur.after - blur.before)
        out = F.conv2d(
            F.pad(x, (0, further, 0, further)) if further else x,
            self.weight,
            conv.bias,
            stride=step * blur.stride,
            padding=padding + before,
        )
        for side, outputs in self.rows(x, convolved[0]):
            out[:, :, side] = outputs
        for side, outputs in self.columns(x.mT, convolved[1]):
            out[:, :, :, side] = outputs.mT
        for side, equal in self.rows.mirrored(convolved[0]):
            out[:, :, side] = out[:, :, equal]
        for side, equal in self.columns.mirrored(convolved[1]):
            out[:, :, :, side] = out[:, :, :, equal]
        return out


class _Side(NamedTuple):
    """One side of a frame, counted from the border."""

    equal: int | None  # index of the output that equals the outermost one
    kernels: Tensor  # (F, C', C, height, k), one for each other output

    @property
    def outputs(self) -> range:
        """Indices of the outputs that have kernels."""
        first = 0 if self.equal is None else 1
        return range(first, first + len(self.kernels))


class _Frame(nn.Module):
    """The first and last rows of a blurred convolution, where the filter is folded.

    Args:
        conv: the convolution.
        blur: the filter.
        weight: the convolution's weights. With transposed weights and images, rows are columns.
    """

    def __init__(self, conv: nn.Conv2d, blur: BlurPool, weight: Tensor) -> None:
        super().__init__()
        self.conv, self.blur = conv, blur
        self.first = self._side(blur.before, weight)
        # How far the last window reaches outside depends on the remainder of the stride.
        self.last = [
            self._side(blur.after - rest, weight, last=True)
            for rest in range(min(blur.stride, blur.after))
        ]
        row = binomial_row(blur.size).expand(conv.out_channels, 1, 1, -1)
        self.row = _like(row, conv.weight)

    def _side(self, before: int, weight: Tensor, *, last: bool = False) -> _Side:
        """The side whose first window begins ``before`` inputs outside."""
        blur, equal = self.blur, None
        filters = _folded(blur, before)
        if before == blur.size - 1 and before % blur.stride == 0 and before:
            # Reflected as a whole, the symmetric filter is the one that begins at the border.
            equal, filters = before // blur.stride, filters[1:]
        filters = filters[:, filters.any(dim=0)]
        kernels = _composed(weight, filters.flip(0, 1) if last else filters, self.conv.stride[0])
        values = _like(kernels.flatten(0, 1), self.conv.weight)
        return _Side(equal, values.unflatten(0, kernels.shape[:2]))

    def forward(self, x: Tensor, convolved: int) -> Iterator[tuple[slice, Tensor]]:
        """Yield slices of rows, and their values (N, C', F, W').

        ``convolved`` is the number of rows of the convolution. Rows of :meth:`mirrored` are left
        out.
        """
        conv = self.conv
        first, last = self._sides(convolved)
        if first.outputs:
            side = slice(first.outputs.start, first.outputs.stop)
            yield side, self._convolve(x, -conv.padding[0], first.kernels)
        if last is not None and last.outputs:
            # The last row of the strip is the last that the convolution can make.
            end = conv.stride[0] * (convolved - 1) + conv.kernel_size[0] - conv.padding[0]
            rows = self._convolve(x, end - last.kernels.shape[-2], last.kernels)
            yield slice(-last.outputs.stop, -last.outputs.start or None), rows

    def mirrored(self, convolved: int) -> Iterator[tuple[int, int]]:
        """Yield pairs of indices: a row, and the row that it is equal to."""
        first, last = self._sides(convolved)
        if first.equal is not None:
            yield 0, first.equal
        if last is not None and last.equal is not None:
            yield -1, -1 - last.equal

    def _sides(self, convolved: int) -> tuple[_Side, _Side | None]:
        blur = self.blur
        rest = (convolved + blur.before + blur.after - blur.size) % blur.stride
        return self.first, self.last[rest] if rest < len(self.last) else None

    def _convolve(self, x: Tensor, start: int, kernels: Tensor) -> Tensor:
        conv, blur = self.conv, self.blur
        frame, height = len(kernels), kernels.shape[-2]
        # Zeros where the strip reaches outside; negative padding cuts.
        strip = F.pad(x, (0, 0, -start, start + height - x.shape[-2]))
        bias = None if conv.bias is None else conv.bias.repeat(frame)
        rows = F.conv2d(
            strip, kernels.flatten(0, 1), bias, (1, conv.stride[1]), (0, conv.padding[1])
        )
        rows = rows.unflatten(1, (frame, -1)).squeeze(3).transpose(1, 2)
        padded = F.pad(rows, (blur.before, blur.after, 0, 0), mode="reflect")
        return F.conv2d(padded, self.row, stride=(1, blur.stride), groups=conv.out_channels)


def _folded(blur: BlurPool, before: int) -> Tensor:
    """Filters (windows, inputs) of the windows that reach outside, folded back at the border.

    The first window begins ``before`` inputs outside.
    """
    row = binomial_row(blur.size)
    windows = -(-before // blur.stride)
    folded = row.new_zeros(windows, blur.size + before)
    for window in range(windows):
        for tap, value in enumerate(row):
            folded[window, abs(blur.stride * window - before + tap)] += value
    return folded


def _composed(weight: Tensor, filters: Tensor, step: int) -> Tensor:
    """Kernels of ``weight`` (C', C, k, l) followed by each of the ``filters`` (F, R) over its rows.

    Neighbouring rows are ``step`` inputs apart; the result is (F, C', C, step (R - 1) + k, l).
    """
    outputs, inputs, size, width = weight.shape
    height = step * (filters.shape[1] - 1) + size
    kernels = weight.new_zeros(len(filters), outputs, inputs, height, width)
    for index, values in enumerate(filters.T):
        begin = step * index
        kernels[..., begin : begin + size, :] += values.view(-1, 1, 1, 1, 1) * weight
    return kernels


def _like(values: Tensor, weight: Tensor) -> Tensor:
    """Kernels (C', C, k, l) with the device, dtype and memory format of ``weight``."""
    last = weight.is_contiguous(memory_format=torch.channels_last)
    memory_format = torch.channels_last if last else torch.contiguous_format
    return values.to(weight).contiguous(memory_format=memory_format)


def _rewritten(module: nn.Module, change: Callable[[nn.Module, Children], Children]) -> nn.Module:
    """A copy of ``module`` whose children ``change`` has replaced; itself if none is replaced.

    Children are rewritten before their parents. ``module`` itself is not modified.
    """
    children = {
        name: None if child is None else _rewritten(child, change)
        for name, child in module._modules.items()
    }
    children = change(module, children)
    if all(child is module._modules[name] for name, child in children.items()):
        return module
    clone = copy.copy(module)
    clone._modules = children
    return clone


def _merge_pairs(module: nn.Module, children: Children) -> Children:
    children = dict(children)
    for first, second in _successions(module):
        pair = _merged_pair(children[first], children[second])
        if pair is not None:
            children[first], children[second] = nn.Identity(), pair
    return children


def _successions(module: nn.Module) -> list[tuple[str, str]]:
    """Pairs of names of children: the second alone takes the output of the first."""
    if isinstance(module, nn.Sequential | Chain):
        tapped = getattr(module, "taps", ())
        names = list(module._modules)
        return [pair for pair in itertools.pairwise(names) if pair[0] not in tapped]
    return list(getattr(module, "normalized", {}).items())


def _merged_pair(first: nn.Module | None, second: nn.Module | None) -> nn.Module | None:
    """One module that replaces both, or None if they cannot be merged."""
    if isinstance(first, nn.Sequential):
        last = _merged_pair(first[-1], second)
        return None if last is None else nn.Sequential(*first[:-1], last)
    if type(second) is BlurPool and SeparableMaxPool2d.applies_to(first):
        border = (second.before, second.after)
        return nn.Sequential(SeparableMaxPool2d(first, border), _unpadded(second))
    if type(first) is not nn.Conv2d:
        return None
    if type(second) is nn.BatchNorm2d and second.running_mean is not None:
        return fuse_conv_bn_eval(first, second).requires_grad_(False)
    if type(second) is not BlurPool or not _is_plain(first):
        return None
    if first.kernel_size == first.stride == (1, 1) and first.padding == (0, 0):
        # The filter sums to one and acts on channels alone, the convolution on positions alone.
        return nn.Sequential(_on_channels(second, first.in_channels), first)
    return BlurredConv2d(first, second) if BlurredConv2d.saves(first, second) else None


def _is_plain(conv: nn.Conv2d) -> bool:
    """True for square kernels and strides, no groups or dilation, and zero padding."""
    sides = (conv.kernel_size, conv.stride, conv.padding)
    return (
        conv.groups == 1
        and conv.dilation == (1, 1)
        and conv.padding_mode == "zeros"
        and all(isinstance(side, tuple) and side[0] == side[1] for side in sides)
    )


def _on_channels(blur: BlurPool, channels: int) -> BlurPool:
    other = copy.copy(blur)
    other.channels = channels
    other._buffers = {"kernel": blur.kernel[:1].repeat(channels, 1, 1, 1)}
    return other


def _unpadded(blur: BlurPool) -> BlurPool:
    other = copy.copy(blur)
    other.before = other.after = 0
    return other


def _speed_up(module: nn.Module, children: Children) -> Children:
    faster = (WinogradConv2d, SeparableMaxPool2d)
    if isinstance(module, faster):
        return children
    return {
        name: next((kind(child) for kind in faster if kind.applies_to(child)), child)
        for name, child in children.items()
    }


def _modules(module: nn.Module) -> list[nn.Module]:
    """``module`` and all below it, as ``modules()`` lists them, at a fraction of its cost."""
    found = [module]
    for parent in found:  # grows while it is read
        found += [child for child in parent._modules.values() if child is not None]
    return found


def _tensors(modules: list[nn.Module]) -> list[Tensor]:
    return [
        tensor
        for module in modules
        for tensor in (*module._parameters.values(), *module._buffers.values())
        if tensor is not None
    ]


def _can_merge(modules: list[nn.Module], tensors: list[Tensor]) -> bool:
    """True if the merged network can replace the modules, see :meth:`Fused.network`."""
    return not any(
        module.training
        or module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        for module in modules
    ) and not any(
        tensor.requires_grad or tensor.is_meta or type(tensor) not in _ORDINARY
        for tensor in tensors
    )
