"""Hand-made metrics of structure, on top of scikit-image, piq, plenoptic and pyiqa.

Each takes two (N, 3, H, W) batches in [-1, 1], the reference first, and returns (N,) distances.
Similarity indices, which are 1 for identical images, are returned as 1 minus the index. The
libraries get images in [0, 1] and keep their defaults, unless a docstring says otherwise.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robust_lpips import inputs

Metric = Callable[[Tensor, Tensor], Tensor]

# Wang, Simoncelli and Bovik, Asilomar 2003, Sec. 3.2, finest scale first.
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_SSIM_WINDOW = 11
_VIF_LEAST = 41
# Of the red, green and blue channel, ITU-R BT.601.
_LUMINANCE_WEIGHTS = (0.299, 0.587, 0.114)
_CW_SSIM_LEVELS = 4
_CW_SSIM_ORIENTATIONS = 8
_CW_SSIM_SIDE = 64  # what a pyramid of four levels needs
_CW_SSIM_WINDOW = 7
# The paper's small constant K, in squared grey levels. Flat images have energies near 1e-24.
_CW_SSIM_CONSTANT = 1e-6
_NLPD_LEAST = 33  # five halvings leave the three pixels that padding by reflection needs
_MAD_LEAST = 16


def ssim(img0: Tensor, img1: Tensor) -> Tensor:
    """One minus the structural similarity of each pair of images: (N, C, H, W) twice to (N,).

    Images are in [-1, 1] and at least 11x11. The windows are those of Wang et al. (IEEE Trans.
    Image Processing 13(4), 2004): 11x11, Gaussian with a standard deviation of 1.5, without the
    sample correction; the index is averaged over the channels. Computed on the CPU by
    scikit-image, in float64 and without gradients; the result is on the images' device.
    """
    from skimage.metrics import structural_similarity

    pairs = zip(_as_arrays(img0), _as_arrays(img1), strict=True)
    values = [
        structural_similarity(
            a,
            b,
            data_range=1.0,
            channel_axis=0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for a, b in pairs
    ]
    return 1.0 - torch.tensor(values, dtype=torch.float64, device=img0.device)


def ms_ssim(img0: Tensor, img1: Tensor) -> Tensor:
    """One minus the multi-scale SSIM of piq.

    Images whose shorter side has at least 161 pixels get the five scales of Wang, Simoncelli and
    Bovik (Asilomar 2003). Smaller images get the finest of these that the 11x11 window fits into
    (3 from 41 pixels on, 4 from 81), with weights divided by their sum. At least 11x11.
    """
    import piq

    first, second = unit_pair(img0, img1, _SSIM_WINDOW)
    weights = _ms_ssim_weights(min(first.shape[-2:]))
    value = piq.multi_scale_ssim(
        second,
        first,
        scale_weights=None if weights is None else weights.to(first),
        reduction="none",
    )
    return 1.0 - value


def fsim(img0: Tensor, img1: Tensor) -> Tensor:
    """One minus the feature similarity of piq, in colour (FSIMc).

    L. Zhang, L. Zhang, Mou and D. Zhang, IEEE Trans. Image Processing 20(8), 2011.
    """
    import piq

    first, second = unit_pair(img0, img1)
    return 1.0 - piq.fsim(second, first, reduction="none")


def vsi(img0: Tensor, img1: Tensor) -> Tensor:
    """One minus the visual saliency-induced index of piq.

    L. Zhang, Shen and Li, IEEE Trans. Image Processing 23(10), 2014.
    """
    import piq

    first, second = unit_pair(img0, img1)
    return 1.0 - piq.vsi(second, first, reduction="none")


def gmsd(img0: Tensor, img1: Tensor) -> Tensor:
    """The gradient magnitude similarity deviation of piq, on luminance; 0 for identical images.

    Xue, Zhang, Mou and Bovik, IEEE Trans. Image Processing 23(2), 2014.
    """
    import piq

    first, second = unit_pair(img0, img1)
    return piq.gmsd(second, first, reduction="none")


def vif(img0: Tensor, img1: Tensor) -> Tensor:
    """One minus the visual information fidelity of piq, in the pixel domain, on luminance.

    Sheikh and Bovik, IEEE Trans. Image Processing 15(2), 2006. Not symmetric: the first image is
    the reference. The distance may be negative for an image of more contrast than the reference.
    At least 41x41.
    """
    import piq

    first, second = unit_pair(img0, img1, _VIF_LEAST)
    return 1.0 - piq.vif_p(second, first, reduction="none")


def cw_ssim(device: torch.device) -> Metric:
    """One minus the complex-wavelet SSIM, on luminance in whole grey levels; at least 33x33.

    Sampat, Wang, Gupta, Bovik and Markey, IEEE Trans. Image Processing 18(11), 2009, on the
    steerable pyramid of plenoptic: the coarsest of four levels, eight orientations, 7x7 windows,
    averaged with a Gaussian weight whose standard deviation is a quarter of the band's height.

    Parameters are those of pyiqa, whose values it matches to 1e-7 for even sides of at least 64
    pixels. The pyramid needs such sides: other images are reflected at their right and lower
    edges. pyiqa takes odd sides as they are, and differs there by up to 0.04. Identical images are
    at distance 0, and so are two flat ones, thanks to the paper's constant K, here 1e-6 squared
    grey levels. Gradients ignore the rounding to grey levels.
    """
    from plenoptic import process

    level = _CW_SSIM_LEVELS - 1  # counted from 0
    least = _CW_SSIM_SIDE // 2 + 1

    @lru_cache(maxsize=4)
    def pyramid(height: int, width: int) -> torch.nn.Module:
        with _numpy_random_state_kept():  # it draws an image of this size
            built = process.SteerablePyramidFreq(
                (height, width),
                height=_CW_SSIM_LEVELS,
                order=_CW_SSIM_ORIENTATIONS - 1,
                is_complex=True,
            )
        return built.to(device, torch.float64)

    def metric(img0: Tensor, img1: Tensor) -> Tensor:
        images = unit_pair(img0, img1, least)
        height, width = (max(side + side % 2, _CW_SSIM_SIDE) for side in img0.shape[-2:])
        grey = torch.cat([_grey_levels(reflected(image, height, width)) for image in images])
        bands = pyramid(height, width)(grey, [level])[level].squeeze(1)
        return _cw_ssim_distance(*bands.chunk(2))

    return metric


def nlpd(device: torch.device) -> Metric:
    """The normalized Laplacian pyramid distance of plenoptic, on luminance; at least 33x33.

    Laparra, Balle, Berardino and Simoncelli, Electronic Imaging 2016: the root mean square
    difference within each of six normalized scales, averaged over the scales; 0 for identical
    images, where it has no gradient. plenoptic blurs with a binomial filter and reflects the
    borders, while pyiqa follows the authors' MATLAB code: values of the two differ by up to 40 %,
    but order generated pairs of images alike (rank correlation 0.98 to 0.99).
    """
    from plenoptic import metric as plenoptic_metric

    def metric(img0: Tensor, img1: Tensor) -> Tensor:
        first, second = unit_pair(img0, img1, _NLPD_LEAST)
        # Rounding may have left the range by a little, of which the library would warn.
        grey = (_luminance(image).clamp(max=1.0) for image in (first, second))
        return plenoptic_metric.nlpd(*grey, epsilon=0.0).squeeze(1)

    return metric


def mad(device: torch.device) -> Metric:
    """The most apparent distortion of pyiqa, an optional package, averaged over the channels.

    Larson and Chandler, J. Electronic Imaging 19(1), 2010. Not symmetric: the first image is the
    reference. Differences that its model of detection finds invisible are at distance 0: faint
    ones, and any in dark photographs. The contrast filter of pyiqa is correct for square images
    only (it puts any pair of 64x61 pixels at 0): other images are reflected at their right or
    lower edge to a square. At least 16x16, the longer side less than twice the shorter.
    """
    distance = _pyiqa("mad", device)

    def metric(img0: Tensor, img1: Tensor) -> Tensor:
        first, second = unit_pair(img0, img1, _MAD_LEAST)
        side = max(first.shape[-2:])
        if side >= 2 * min(first.shape[-2:]):
            height, width = first.shape[-2:]
            raise ValueError(
                "img0 and img1 must have a longer side less than twice the shorter for mad; "
                f"got {height}x{width}"
            )
        return distance(reflected(second, side, side), reflected(first, side, side)).reshape(-1)

    return metric


def unit_pair(img0: Tensor, img1: Tensor, least: int = 1) -> tuple[Tensor, Tensor]:
    """Both images as float32 (N, 3, H, W) in [0, 1], from floating ones in [-1, 1].

    Raises:
        ValueError: for other shapes, types or ranges, or a side below ``least``.
    """
    images = {"img0": img0, "img1": img1}
    inputs.check_same_shape(**images)
    for name, image in images.items():
        inputs.as_batch(name, image, 1)
        height, width = image.shape[-2:]
        if image.ndim != 4 or min(height, width) < least:
            raise ValueError(
                f"{name} must have shape (N, 3, H, W) with H, W >= {least} for this metric; "
                f"got {tuple(image.shape)}"
            )
        inputs.value_range(name, image, -1.0, 1.0)
    # Rounding may have left the range by a little, which the libraries refuse.
    first, second = (((image.float() + 1.0) / 2.0).clamp(0.0, 1.0) for image in (img0, img1))
    return first, second


def reflected(images: Tensor, height: int, width: int) -> Tensor:
    """Images extended to (height, width) by reflection at the lower and right edge."""
    down, right = height - images.shape[-2], width - images.shape[-1]
    return F.pad(images, (0, right, 0, down), mode="reflect") if down or right else images


def _ms_ssim_weights(side: int) -> Tensor | None:
    """Weights of the scales that fit into a shorter side; None for the library's own five.

    At scale s, counted from 0, one pixel stands for 2**s.
    """
    scales = [s for s in range(len(MS_SSIM_WEIGHTS)) if side > (_SSIM_WINDOW - 1) * 2**s]
    if len(scales) == len(MS_SSIM_WEIGHTS):
        return None
    return torch.tensor([MS_SSIM_WEIGHTS[s] for s in scales])  # the library divides by the sum


def _luminance(images: Tensor) -> Tensor:
    """(N, 3, H, W) to (N, 1, H, W), in the same range."""
    weights = torch.tensor(_LUMINANCE_WEIGHTS).to(images).view(1, 3, 1, 1)
    return (images * weights).sum(dim=1, keepdim=True)


def _grey_levels(images: Tensor) -> Tensor:
    """Luminance of images in [0, 1] as whole numbers in [0, 255], float64, (N, 1, H, W)."""
    exact = 255.0 * _luminance(images.double())
    return exact + (exact.round() - exact).detach()


def _cw_ssim_distance(first: Tensor, second: Tensor) -> Tensor:
    """One minus the index of complex bands, (N, orientations, h, w) twice to (N,)."""
    products = _window_means(first * second.conj())
    # By the same multiplication, so that identical images are at exactly 0.
    energies = _window_means((first * first.conj()).real + (second * second.conj()).real)
    index = (2.0 * products.abs() + _CW_SSIM_CONSTANT) / (energies + _CW_SSIM_CONSTANT)
    sigma = first.shape[-2] / 4.0
    down, across = (_gaussian(side, sigma).to(index) for side in index.shape[-2:])
    # The weights' sum is 1 up to rounding, so the distances are averaged rather than the indices.
    distances = torch.einsum("nohw,h,w->no", 1.0 - index, down, across)
    return distances.mean(dim=1).clamp(min=0.0)


def _window_means(bands: Tensor) -> Tensor:
    """Means over the windows that lie within the bands."""
    if bands.is_complex():
        return torch.complex(_window_means(bands.real), _window_means(bands.imag))
    return F.avg_pool2d(bands, _CW_SSIM_WINDOW, stride=1)


def _gaussian(side: int, sigma: float) -> Tensor:
    """Centred weights of sum 1, float64, (side,)."""
    offsets = torch.arange(side, dtype=torch.float64) - (side - 1) / 2.0
    weights = torch.exp(-offsets.square() / (2.0 * sigma**2))
    return weights / weights.sum()


@contextlib.contextmanager
def _numpy_random_state_kept() -> Iterator[None]:
    """Undo what the library draws from numpy's global random state."""
    state = np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _pyiqa(name: str, device: torch.device) -> Metric:
    """A metric of pyiqa, which takes a distorted image in [0, 1] and its reference."""
    import pyiqa

    with _quiet():
        return pyiqa.create_metric(name, device=device)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the line that pyiqa prints for each metric."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(before)


def _as_arrays(images: Tensor) -> np.ndarray:
    """Images as float64 in [0, 1], because SSIM compares means, which depend on where 0 is."""
    return (images.detach().double().cpu().numpy() + 1.0) / 2.0
