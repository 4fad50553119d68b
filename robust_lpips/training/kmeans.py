"""Initial filters from images: k-means of whitened patches, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_lpips.backbones import AdaptiveBlurPool
from robust_lpips.metric import RobustLPIPS

# Mean output of each channel, beta in Krähenbühl et al.: slightly more than half of the values
# pass the ReLU. The default of their released code.
BETA = 0.1

# Relative size below which a value is rounding error of float32.
_ROUNDING = 1e-6
# Three iterations capture 99 % of the variance of the leading components in all layers of AlexNet.
_SUBSPACE_ITERATIONS = 3


@torch.no_grad()
def kmeans_initialize(
    metric: RobustLPIPS,
    images: Tensor,
    *,
    seed: int = 0,
    patches: int = 10_000,
    iterations: int = 10,
) -> None:
    """Set the filters of ``metric.backbone`` by k-means of its inputs (Krähenbühl et al., 2016).

    Each convolution, in the order of execution, is set before it runs: patches of its input, drawn
    at positions where it is applied, are whitened and clustered by spherical k-means (Coates and
    Ng, 2012), and the centroids are the filters. Each filter is then scaled so that its output
    over the patches has standard deviation 1, and its bias, if any, is set so that the mean is
    ``BETA``.

    As in the authors' code, a layer of k filters is whitened in the k leading principal
    components. Their scaling between layers, which equalizes learning rates, is left out: the
    distance divides features by their norm, and Adam's steps do not depend on the scale of
    gradients. Batch normalisation and convolutions that predict filters
    (:class:`~robust_lpips.backbones.AdaptiveBlurPool`) are not changed.

    The same seed gives the same filters; torch's global generator is not used.

    Args:
        metric: its backbone is changed in place.
        images: (N, 3, H, W), as :meth:`RobustLPIPS.features` takes them. They are one batch: twice
            the largest feature of all images must fit into memory.
        seed: of patches and clusters.
        patches: largest number of patches per layer.
        iterations: number of iterations of k-means.

    Raises:
        ValueError: a layer has more filters than there are patches of its input, or its input is
            constant. Earlier layers have been changed.

    Sources:
        Krähenbühl, Doersch, Donahue and Darrell, "Data-dependent Initializations of Convolutional
        Neural Networks", ICLR 2016. Coates and Ng, "Learning Feature Representations with
        K-means", 2012.
    """
    generator = torch.Generator().manual_seed(seed)

    def initialize(name: str, layer: nn.Conv2d, inputs: tuple[Tensor]) -> None:
        sample = _sample_patches(layer, *inputs, patches, generator)
        _check_patches(sample, name, layer.out_channels)
        mean = sample.mean(dim=0)
        centred = sample.sub_(mean)  # in place: it may be the largest tensor of all
        filters = _cluster(centred, layer.out_channels, iterations, generator)
        _set_normalized(layer, filters, centred, mean)

    with ExitStack() as hooks:
        for name, layer in _convolutions(metric.backbone):
            hook = layer.register_forward_pre_hook(partial(initialize, name))
            hooks.enter_context(hook)
        metric.features(images)


def _convolutions(backbone: nn.Module) -> Iterator[tuple[str, nn.Conv2d]]:
    """Convolutions that extract features, by name."""
    predictors = {
        module.conv for module in backbone.modules() if isinstance(module, AdaptiveBlurPool)
    }
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d) and module not in predictors:
            yield name, module


def _sample_patches(layer: nn.Conv2d, x: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw up to ``count`` different patches that ``layer`` is applied to, (P, D), in float32.

    D is the number of weights of a filter; ``x`` is the input, (N, C, H, W).
    """
    vertical, horizontal = layer.padding
    padded = F.pad(x, (horizontal, horizontal, vertical, vertical))
    windows = padded
    for axis, size, stride in zip((2, 3), layer.kernel_size, layer.stride, strict=True):
        windows = windows.unfold(axis, size, stride)
    windows = windows.movedim(1, 3)  # a view: (N, H', W', C, *kernel_size)
    positions = windows.shape[:3]
    chosen = _draw(positions.numel(), count, generator).to(x.device)
    return windows[torch.unravel_index(chosen, positions)].flatten(1).float()


def _check_patches(patches: Tensor, name: str, filters: int) -> None:
    if len(patches) < filters:
        raise ValueError(
            f"images and patches must give at least {filters} patches of the input of {name}, one "
            f"for each of its filters; got {len(patches)}"
        )
    variance, mean = torch.var_mean(patches, dim=0)
    # False for NaN, too.
    if not variance.sum() > _ROUNDING**2 * mean.square().sum():
        raise ValueError(
            f"images must be finite and vary; got some for which the input of {name} is the same "
            "everywhere, or NaN"
        )


def _cluster(centred: Tensor, k: int, iterations: int, generator: torch.Generator) -> Tensor:
    """Filters (k, D) that respond to ``centred`` (P, D) like the centroids to its whitened form."""
    whitening = _whitening(centred, k, generator)
    centroids = _spherical_kmeans(centred @ whitening, k, iterations, generator)
    return centroids @ whitening.T


def _whitening(centred: Tensor, components: int, generator: torch.Generator) -> Tensor:
    """Matrix (D, c) that maps ``centred`` (P, D) to uncorrelated variables of variance 1.

    The variables span the ``components`` leading principal components, without those of zero
    variance. They are found by subspace iteration (Halko, Martinsson and Tropp, SIAM Review 2011,
    Sec. 4.5), because the full eigenvalue problem of VGG-16's 4608 weights takes minutes. If D is
    at most ``components``, all components are found.
    """
    dimensions = centred.shape[1]
    start = torch.randn(dimensions, min(components, dimensions), generator=generator)
    basis = torch.linalg.qr(start.to(centred.device)).Q
    for _ in range(_SUBSPACE_ITERATIONS):
        basis = torch.linalg.qr(centred.T @ (centred @ basis)).Q
    projected = centred @ basis
    variances, rotation = torch.linalg.eigh(projected.T @ projected / len(projected))
    kept = variances > _ROUNDING * variances[-1]
    return basis @ rotation[:, kept] / variances[kept].sqrt()


def _spherical_kmeans(
    points: Tensor, k: int, iterations: int, generator: torch.Generator
) -> Tensor:
    """Unit-length centroids (k, c) of ``points`` (P, c), clustered by direction.

    A cluster that loses all of its points restarts from a random point.
    """
    points = F.normalize(points)
    centroids = points[_draw(len(points), k, generator)]
    for _ in range(iterations):
        members = F.one_hot((points @ centroids.T).argmax(dim=1), k)
        # A product, because scattered additions on GPUs have no fixed order.
        sums = members.T.to(points) @ points
        empty = members.sum(dim=0) == 0
        sums[empty] = points[_draw(len(points), int(empty.sum()), generator)]
        centroids = F.normalize(sums)
    return centroids


def _set_normalized(layer: nn.Conv2d, filters: Tensor, centred: Tensor, mean: Tensor) -> None:
    """Give ``layer`` the (k, D) filters, normalised over the patches ``centred + mean``."""
    deviation = (centred @ filters.T).std(dim=0, correction=0)
    filters = filters / deviation.unsqueeze(1)
    layer.weight.copy_(filters.view_as(layer.weight))
    if layer.bias is not None:
        layer.bias.copy_(BETA - filters @ mean)


def _draw(n: int, count: int, generator: torch.Generator) -> Tensor:
    """Draw up to ``count`` different indices below ``n``, in random order."""
    return torch.randperm(n, generator=generator)[:count]
