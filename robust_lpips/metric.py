"""RobustLPIPS: the distance between two images, from the features of a backbone."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_lpips import inputs
from robust_lpips import weights as released
from robust_lpips.backbones import BackboneConfig, build_backbone
from robust_lpips.fusion import Fused

DEFAULT_NET = "alexnet-shift-tolerant"

# Mean and standard deviation of ImageNet for images in [-1, 1] (LPIPS v0.1).
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


class RobustLPIPS(nn.Module):
    """Perceptual distance between images, learnt, and tolerant of small shifts.

    LPIPS (Zhang et al., CVPR 2018) over a backbone that is protected against aliasing
    (Ghildyal and Liu, ECCV 2022). Features of both images are divided by their norm over
    channels; their squared differences are weighted per channel, averaged over positions and
    summed over layers.

    The metric has no training mode: it stays in evaluation mode inside a module whose ``train()``
    is called, and its parameters do not require gradients, so that it can serve as a loss as it
    is. Gradients with respect to the images are finite, for identical images too.

    Args:
        net: a name of :func:`robust_lpips.weights.names` (``"alexnet-shift-tolerant"``,
            ``"vgg16-shift-tolerant"``, ``"alexnet"``, ...) or a :class:`BackboneConfig`. May be
            omitted: the released shift-tolerant AlexNet, or the configuration saved in ``weights``.
        weights: ``"released"`` for the weights of that name; another such name; the path of a
            checkpoint, written by this package or in the layout of the released ones; or ``None``
            for random weights.
        linear: weight channels by the learnt 1x1 layers (True) or sum them unweighted, which
            gives twice the cosine distance (False). Default: True with weights, False with
            ``weights=None``.
        validate: check the values of images, which costs a pass over them (and, on a GPU, a
            synchronisation). Shapes are always checked.

    Attributes:
        config: the :class:`BackboneConfig`.
        backbone: the feature extractor.
        lin: the 1x1 weights, one (C_l,) parameter per layer; empty with ``linear=False``.

    Raises:
        ValueError: unknown name, or a :class:`BackboneConfig` without weights.
        FileNotFoundError: weights that are not found; the message lists where they were sought.

    Example:
        >>> metric = RobustLPIPS()
        >>> black, white = torch.full((1, 3, 64, 64), -1.0), torch.full((1, 3, 64, 64), 1.0)
        >>> metric(black, white).shape
        torch.Size([1])
    """

    def __init__(
        self,
        net: str | BackboneConfig | None = None,
        weights: str | Path | None = "released",
        *,
        linear: bool | None = None,
        validate: bool = True,
    ) -> None:
        super().__init__()
        checkpoint = released.resolve(net, weights, default=DEFAULT_NET)
        self.config = checkpoint.config
        self.linear = checkpoint.has_linear if linear is None else linear
        self.validate = validate
        self.backbone = build_backbone(self.config)
        channels = self.backbone.taps.values() if self.linear else ()
        # Equal weights: untrained, the ranking is that of the unweighted distance.
        self.lin = nn.ParameterList(torch.full((c,), 1.0 / c) for c in channels)
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1), persistent=False)
        self._load(checkpoint)
        # Convolutions and blurs are faster so, on CPUs by half; the state dict is the same.
        self.backbone.to(memory_format=torch.channels_last)
        self.requires_grad_(False)
        self.eval()
        self._fused: Fused | None = Fused(self.backbone)

    def requires_grad_(self, requires_grad: bool = True) -> RobustLPIPS:
        """Set ``requires_grad`` of all parameters; layers are merged only if none requires it."""
        self.backbone.requires_grad_(requires_grad)  # raises its revision; torch sets flags alone
        return super().requires_grad_(requires_grad)

    def train(self, mode: bool = True) -> RobustLPIPS:
        """Keep evaluation mode, whatever ``mode`` is; training switches ``backbone`` alone."""
        return super().train(False)

    @overload
    def forward(
        self,
        img0: Tensor,
        img1: Tensor,
        *,
        normalize: bool = ...,
        spatial: bool = ...,
        per_layer: Literal[False] = ...,
        validate: bool | None = ...,
    ) -> Tensor: ...

    @overload
    def forward(
        self,
        img0: Tensor,
        img1: Tensor,
        *,
        normalize: bool = ...,
        spatial: bool = ...,
        per_layer: Literal[True],
        validate: bool | None = ...,
    ) -> tuple[Tensor, Tensor]: ...

    def forward(
        self,
        img0: Tensor,
        img1: Tensor,
        *,
        normalize: bool = False,
        spatial: bool = False,
        per_layer: bool = False,
        validate: bool | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Distance of each pair of images; smaller is more alike.

        Args:
            img0: (N, 3, H, W) or (3, H, W). Floating in [-1, 1], in [0, 1] with
                ``normalize=True``, or ``uint8`` in 0..255.
            img1: the same shape.
            normalize: floating images are in [0, 1].
            spatial: return the map of distances instead of its mean.
            per_layer: also return the contribution of each layer.
            validate: overrides the metric's own setting for this call.

        Returns:
            (N,) distances; with ``spatial`` (N, 1, H, W), every layer resized bilinearly. With
            ``per_layer`` a pair of that and the contributions of the layers, (N, L), or
            (N, L, H, W) with ``spatial``, which sum to it.

        Raises:
            ValueError: for images of other shapes, types, ranges or devices than above, for
                images too small for the backbone, and for NaN.
        """
        images = self.checked_pair(img0, img1, normalize=normalize, validate=validate)
        size = images[0].shape[-2:] if spatial else None
        layers = [
            self._layers(*self._extract_pair(pair, normalize), size=size)
            for pair in self._pieces(images)
        ]
        layers = torch.cat(layers)
        total = layers.sum(dim=1, keepdim=spatial)
        return (total, layers) if per_layer else total

    def checked_pair(
        self,
        img0: Tensor,
        img1: Tensor,
        *,
        normalize: bool = False,
        validate: bool | None = None,
    ) -> list[Tensor]:
        """Both images as (N, 3, H, W), checked as :meth:`forward` checks them."""
        images = [
            inputs.as_batch(name, image, self.backbone.min_size)
            for name, image in (("img0", img0), ("img1", img1))
        ]
        inputs.check_same_shape(img0=images[0], img1=images[1])
        self._check_devices(images)
        if self.validate if validate is None else validate:
            self._check_values(images, normalize)
        return images

    def features(self, images: Tensor, *, normalize: bool = False) -> tuple[Tensor, ...]:
        """Unit-normalised features of each tap, to be used in many calls of :meth:`distance`.

        Args:
            images: (N, 3, H, W) or (3, H, W), as :meth:`forward` takes them; values are not
                checked.
            normalize: floating images are in [0, 1].

        Returns:
            One (N, C_l, H_l, W_l) tensor per tap.
        """
        images = inputs.as_batch("images", images, self.backbone.min_size)
        return tuple(self._extract(images, normalize))

    def distance(
        self,
        features0: Sequence[Tensor],
        features1: Sequence[Tensor],
        *,
        dropout: float = 0.0,
    ) -> Tensor:
        """Distance (N,) between two results of :meth:`features`.

        ``dropout`` is the share of squared differences set to zero at random, for training
        (0.5 in Zhang et al., CVPR 2018).
        """
        return self._layers(features0, features1, size=None, dropout=dropout).sum(dim=1)

    def layer_distances(self, features0: Sequence[Tensor], features1: Sequence[Tensor]) -> Tensor:
        """Contribution of each layer to :meth:`distance`: (N, L), summing to it."""
        return self._layers(features0, features1, size=None)

    def fuse(self) -> RobustLPIPS:
        """Merge layers now, also for :func:`torch.compile` and CUDA graphs.

        In inference layers are merged by default (:func:`robust_lpips.fusion.merge`), and merged
        again after ``backbone`` has changed: weights loaded, moved, cast or written in place,
        layers or parameters replaced. Call ``fuse()`` again after changes that torch does not
        record: writes through ``weight.data[...]`` or a NumPy view, changed settings of a layer,
        and steps of a ``fused=True`` optimizer, unless ``requires_grad_`` of the metric or of
        ``backbone`` is called after them, as :func:`robust_lpips.training.fit` does.

        A compiled metric uses the plain layers, with the present weights, unless ``fuse()`` was
        called on it. Then it uses the layers merged in that call. Loading, moving, casting and
        replacing bring the plain layers back; after writing in place call ``fuse()`` again. A CUDA
        graph must be captured again after any of these. Before compiling for a CPU, call the metric
        once on images of the intended size: this prepares fast convolutions.

        Exported and traced programs use the plain layers, and so do compiled deep copies of the
        metric until ``fuse()`` is called on them. Layers are not merged while a weight requires
        gradients, nor if weights are inference tensors (created under
        :func:`torch.inference_mode`): torch does not count writes to them. State dict and
        parameters are not affected.
        """
        self._fused = Fused(self.backbone, in_graphs=True)
        self._fused.network()
        return self

    def unfuse(self) -> RobustLPIPS:
        """Compute the layers of ``backbone`` one by one until :meth:`fuse` is called."""
        self._fused = None
        return self

    @property
    def fused(self) -> bool:
        """True unless :meth:`unfuse` was called last: layers are merged in inference."""
        return self._fused is not None

    def compilable(self) -> RobustLPIPS:
        """The metric in the form that :func:`torch.compile` handles best.

        A copy that shares the weights and has its layers merged by :meth:`fuse`, so that this
        metric stays free to change; this metric itself after :meth:`unfuse`.
        """
        return copy.copy(self).fuse() if self.fused else self

    def extra_repr(self) -> str:
        return f"{self.config}, linear={self.linear}"

    def _load(self, checkpoint: released.Checkpoint) -> None:
        """Copy the weights of ``checkpoint``, or raise ValueError if they do not fit."""
        state = checkpoint.tensors(linear=self.linear)
        if state is None:
            return
        try:
            self.load_state_dict(state)
        except RuntimeError as error:
            message = f"{checkpoint.source} does not fit {checkpoint.config}: {error}"
            raise ValueError(message) from error

    def _check_devices(self, images: list[Tensor]) -> None:
        for name, image in zip(("img0", "img1"), images, strict=True):
            inputs.check_device(name, image, self.shift.device)

    def _check_values(self, images: list[Tensor], normalize: bool) -> None:
        if inputs.in_graph():
            return
        low = 0.0 if normalize else -1.0
        floating = [
            inputs.value_range(name, image, low, 1.0)[0]
            for name, image in zip(("img0", "img1"), images, strict=True)
            if image.is_floating_point()
        ]
        if floating and not normalize:
            # The caller's line is behind this method, its caller, forward and two of nn.Module.
            inputs.warn_if_unit_range(min(floating), stacklevel=7)

    def _pieces(self, images: list[Tensor]) -> Iterable[Sequence[Tensor]]:
        """Yield both images in batches of a size that is computed fast."""
        if not _in_parts(images):
            return [images]
        # The constant is of maps with half the sides of the image.
        number = max(
            1, inputs.chunk_size(images[0], self.shift.device) * self.config.first_stride // 2
        )
        pieces = -(-len(images[0]) // number)
        return zip(*(image.chunk(pieces) for image in images), strict=True)

    def _extract_pair(self, pair: Sequence[Tensor], normalize: bool) -> Sequence[Iterable[Tensor]]:
        """Iterators over the features of both images, which :meth:`_layers` reads layer by layer.

        Features of a layer are freed before the next one is computed, and both images use weights
        while these are in the cache.
        """
        first, second = pair
        if not _in_parts(pair) or len(first) > 1 or first.dtype != second.dtype:
            return [self._extract(image, normalize) for image in pair]
        if torch.equal(first, second):  # at distance 0 to the last bit
            return [tuple(self._extract(first, normalize))] * 2
        # Torch convolves a single image by another algorithm, which takes half as long again.
        together = self._extract(torch.cat([first, second]), normalize)
        return list(zip(*(tap.chunk(2) for tap in together), strict=True))

    def _extract(self, images: Tensor, normalize: bool) -> Iterator[Tensor]:
        """Yield the unit-normalised features of each tap."""
        scale, offset = 1.0 / self.scale, -self.shift / self.scale
        if images.dtype == torch.uint8:
            scale, offset = scale / 127.5, offset - scale
        elif normalize:
            scale, offset = 2.0 * scale, offset - scale
        network, images = self._network(), torch.addcmul(offset, images.to(scale.dtype), scale)
        # Hooks of the backbone run only if it is called.
        taps = network(images) if network is self.backbone else network.iter_features(images)
        for features in taps:
            # Under autocast the norm would be in half precision; features are raised from it.
            with torch.autocast(self.shift.device.type, enabled=False):
                features = unit_norm(features)
            yield features

    def _network(self) -> nn.Module:
        fused = self._fused
        # A replica of this module on another device has a backbone of its own.
        if fused is None or fused.backbone is not self.backbone:
            return self.backbone
        # A traced graph must serve other sizes, for which merged layers take other branches.
        if torch.jit.is_tracing() or torch.compiler.is_exporting():
            return self.backbone
        return fused.network(graph=inputs.in_graph())

    def _layers(
        self,
        features0: Iterable[Tensor],
        features1: Iterable[Tensor],
        *,
        size: tuple[int, int] | None,
        dropout: float = 0.0,
    ) -> Tensor:
        """Contribution of each layer: (N, L), or (N, L, *size) if a size is given."""
        weights = list(self.lin) or [None] * len(self.backbone.taps)
        layers = []
        for f0, f1, weight in zip(features0, features1, weights, strict=True):
            with torch.autocast(self.shift.device.type, enabled=False):
                value = _compare(f0, f1, weight, dropout)
                if size is None:
                    layers.append(value.mean(dim=(2, 3)))
                else:
                    layers.append(F.interpolate(value, size, mode="bilinear", align_corners=False))
        return torch.cat(layers, dim=1)


def _compare(f0: Tensor, f1: Tensor, weight: Tensor | None, dropout: float) -> Tensor:
    """Weighted squared differences (N, 1, H, W) of two features (N, C, H, W)."""
    difference = F.mse_loss(f0, f1, reduction="none")  # one pass, where subtracting takes two
    if dropout > 0.0:  # asked in Python: a compiler may have made it symbolic
        # On a CPU F.dropout takes several times as long to draw its mask.
        difference = difference * torch.rand_like(difference).sub_(dropout).ceil_()
    return weigh(difference, weight) / (1.0 - dropout)


def _in_parts(images: Sequence[Tensor]) -> bool:
    """True if splitting or joining batches of images is possible and saves time."""
    # With gradients all maps are kept anyway; a traced graph has no loop over batches.
    eager = not inputs.in_graph() and not torch.is_grad_enabled()
    return eager and images[0].device.type == "cpu"


def weigh(difference: Tensor, weight: Tensor | None) -> Tensor:
    """The sum over channels, weighted if ``weight`` (C,) is given: (N, C, H, W) to (N, 1, H, W)."""
    if weight is None:
        return difference.sum(dim=1, keepdim=True)
    # Channels are last in memory already: no weighted copy is made, forward or backward.
    return (difference.movedim(1, -1) @ weight.to(difference.dtype)).unsqueeze(1)


def unit_norm(features: Tensor) -> Tensor:
    """Features divided by their Euclidean norm over channels (Zhang et al., CVPR 2018, Sec. 3).

    Shapes: (N, C, H, W) to the same. Half precision is raised to float32, in which the sum of
    squares cannot overflow. Where all channels are 0 the result is 0, and gradients are finite.
    """
    # Gradients of half precision pass through float16, whose largest value is 65504.
    eps = 1e-4 if features.dtype == torch.float16 else 1e-10
    if features.dtype in (torch.float16, torch.bfloat16):
        features = features.float()
    # The gradient of this norm is 0, not infinite, where all channels are 0.
    norm = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    # One reciprocal per position: the gradient of a division takes five passes over all features.
    return features * (norm + eps).reciprocal()
