"""Image registration: estimation of the translation between two images, and their alignment."""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from robust_lpips import inputs

# Above this radius correlations are computed by Fourier transforms: their time does not grow.
DIRECT_RADIUS = 6

# Least width of the common part at the largest shift.
_MIN_OVERLAP = 14

# ITU-R BT.601. Position is estimated from luminance, because distortions often change colours.
_LUMINANCE = (0.299, 0.587, 0.114)

# Standard deviation, for images in [-1, 1], below which an image counts as flat: less than one of
# 255 steps.
_FLAT = 0.004

# Side of the neighbourhood whose mean is subtracted: it removes lighting and low-frequency noise,
# which say little about position. This and the next constants were chosen on training photographs.
_NEIGHBOURHOOD = 7

# Prior: log-likelihood subtracted per pixel of a shift, so that the shortest of equally likely
# shifts wins. Evidence: log-likelihood by which a shift has to exceed no shift.
_PRIOR = 1.0
_MIN_EVIDENCE = 7.0

# Fractions of a pixel below this are within the error of the estimate.
_MIN_FRACTION = 0.05

# Pixels searched beyond the radius, so that a peak at the radius has neighbours.
_BEYOND = 1

# Maximum number of pixels that count as observations: errors of JPEG and filters are not noise that
# more pixels would average out. And the share of the variance that always remains unexplained.
_MOST_OBSERVATIONS = 64**2
_UNEXPLAINED = 1e-4


def estimate_translation(
    img0: Tensor, img1: Tensor, radius: int = 3, *, subpixel: bool = False
) -> Tensor:
    """Estimate the translation of ``img1`` relative to ``img0``.

    The score of a shift is the normalised cross-correlation, over the common part, of luminance
    minus its local mean, which is hardly affected by brightness, contrast and lighting. All
    whole-pixel shifts within the radius are compared. A shift is accepted only if its correlation
    exceeds that of no shift by more than chance explains, so images without texture, or of pure
    noise, are not moved.

    Args:
        img0: (N, 3, H, W) or (3, H, W), floating or uint8.
        img1: the same shape.
        radius: the largest shift along each axis, in whole pixels, at least 1. Images must have
            sides of at least ``radius + 21`` pixels.
        subpixel: refine by the parabola through the correlations around the best one.

    Returns:
        (N, 2) floating (rows, columns) in pixels, without gradients: ``img0[y, x]`` corresponds to
        ``img1[y + rows, x + columns]``.

    Raises:
        ValueError: ``img0``, ``img1`` or ``radius`` other than above.
    """
    with torch.no_grad(), torch.autocast(img0.device.type, enabled=False):
        first, second = _structures(img0, img1, radius)
        centre = first.new_zeros(len(first), 2)
        return _most_likely(first, second, radius, centre, subpixel)


def estimate_tile_translations(
    img0: Tensor, img1: Tensor, radius: int = 3, *, tile: int = 64, subpixel: bool = False
) -> Tensor:
    """Estimate the translation of each tile, for images whose misalignment varies.

    Tiles have one size and are evenly spaced; they overlap if a side is not a multiple of it. A
    tile gets the shift of the whole image unless its own correlations give evidence of another,
    by the same criterion as in :func:`estimate_translation`.

    Args:
        img0: as in :func:`estimate_translation`.
        img1: the same shape.
        radius: the largest shift along each axis, in whole pixels.
        tile: side of the tiles in pixels; smaller images are one tile.
        subpixel: refine between pixels.

    Returns:
        (N, rows, columns, 2): the result of :func:`estimate_translation` for each tile.

    Raises:
        ValueError: images or a radius that :func:`estimate_translation` rejects, or tiles too small
            for the radius.
    """
    if tile < least_side(radius):
        raise ValueError(
            f"tile must be at least {least_side(radius)} pixels for radius {radius}; got {tile}"
        )
    with torch.no_grad(), torch.autocast(img0.device.type, enabled=False):
        overall = estimate_translation(img0, img1, radius, subpixel=subpixel)
        pair = _structures(img0, img1, radius)
        # Subtracting local means shortened both axes by a border; tiles are shorter by the same.
        slices = [_tile_slices(side, tile) for side in img0.shape[-2:]]
        slices = [[slice(s.start, s.stop - _NEIGHBOURHOOD + 1) for s in axis] for axis in slices]
        first, second = (_tiles(image, *slices) for image in pair)
        rows, columns = first.shape[1:3]
        centre = overall.repeat_interleave(rows * columns, 0)
        own = _most_likely(first.flatten(0, 2), second.flatten(0, 2), radius, centre, subpixel)
        return own.unflatten(0, (-1, rows, columns))


def least_side(radius: int) -> int:
    """Least side, in pixels, of images for a search within that radius."""
    return radius + _BEYOND + _MIN_OVERLAP + _NEIGHBOURHOOD - 1


def largest_radius(side: int) -> int:
    """Largest radius of a search in images of that side, in pixels; inverts :func:`least_side`."""
    return side - least_side(0)


def correlations(first: Tensor, second: Tensor, radius: int) -> Tensor:
    """Normalised cross-correlations of the common part of two images at every shift.

    Args:
        first: (N, H, W) floating.
        second: the same shape.
        radius: the largest shift along each axis, from 1.

    Returns:
        (N, 2 radius + 1, 2 radius + 1) in [-1, 1], for shifts of ``second`` from -radius to radius
        rows and columns; 0 where the common part is flat in either image.
    """
    first, second = (image - image.mean(dim=(1, 2), keepdim=True) for image in (first, second))
    products = _direct if radius <= DIRECT_RADIUS else _by_fourier
    cross = products(first, F.pad(second, (radius,) * 4), radius)
    count, *own = (_overlap_sums(x, radius) for x in (torch.ones_like(first[:1]), first, first**2))
    other = [_overlap_sums(x, radius).flip(1, 2) for x in (second, second**2)]
    covariance = cross / count - own[0] * other[0] / count**2
    deviations = [
        (power / count - (total / count) ** 2).clamp_min(0.0).sqrt()
        for total, power in (own, other)
    ]
    textured = (deviations[0] > _FLAT) & (deviations[1] > _FLAT)
    found = covariance / (deviations[0] * deviations[1])
    return torch.where(textured, found, 0.0).clamp(-1.0, 1.0)


def align(img0: Tensor, img1: Tensor, translation: Tensor) -> tuple[Tensor, Tensor]:
    """Both images cut to their common part, and extended by reflection to their former size.

    The whole-pixel part of a shift is a crop. Of the remaining fraction, each image is moved by
    half, by bicubic interpolation, so that both are smoothed equally. Images with shift 0 keep
    their values.

    Args:
        img0: (N, C, H, W).
        img1: the same shape.
        translation: (N, 2), the result of :func:`estimate_translation`.

    Returns:
        Two (N, C, H, W), differentiable in both images.

    Raises:
        ValueError: shifts of more than half of a side.
    """
    whole = translation.round()
    rest = translation - whole
    offsets = whole.long()
    if offsets.abs().amax() > min(img0.shape[-2:]) // 2:
        raise ValueError(
            f"translation must be at most half of the sides, {img0.shape[-2]}x{img0.shape[-1]}; "
            f"got {translation.abs().amax().item():g}"
        )
    if offsets.any():
        img0, img1 = _overlap(img0, img1, offsets)
    if rest.any():
        moving = rest.any(dim=1).nonzero()[:, 0]
        half = rest[moving] / 2
        img0 = img0.index_put((moving,), translate(img0[moving], -half))
        img1 = img1.index_put((moving,), translate(img1[moving], half))
    return img0, img1


def align_inside(
    img0: Tensor, img1: Tensor, translation: Tensor, radius: int
) -> tuple[Tensor, Tensor]:
    """The inside of ``img0``, ``radius`` pixels from its border, and the matching part of ``img1``.

    The compared pixels of ``img0`` do not depend on the shift. So the result is the same, to the
    last bit, for every window of a scene that ``img1`` shows, within the radius.

    Args:
        img0: (N, C, H, W).
        img1: the same shape.
        translation: (N, 2), whole pixels up to ``radius`` plus fractions, which are divided between
            both images as in :func:`align`.
        radius: in pixels.

    Returns:
        Two (N, C, H - 2 radius, W - 2 radius), differentiable in both images.
    """
    whole = translation.round()
    img0, img1 = align(img0, img1, translation - whole)
    height, width = (side - 2 * radius for side in img0.shape[-2:])
    first = img0[..., radius : radius + height, radius : radius + width]
    begin = whole.long() + radius
    rows = begin[:, :1] + torch.arange(height, device=img1.device)
    columns = begin[:, 1:] + torch.arange(width, device=img1.device)
    return first, _gathered(img1, rows, columns)


def align_tiles(
    img0: Tensor, img1: Tensor, translations: Tensor, *, tile: int = 64
) -> tuple[Tensor, Tensor]:
    """Align with a shift that varies, interpolated linearly between the centres of the tiles.

    Pairs whose tiles all have the same shift are aligned by :func:`align`. Of other pairs ``img1``
    is resampled by bicubic interpolation, with reflection at its border, and ``img0`` is unchanged.

    Args:
        img0: (N, C, H, W).
        img1: the same shape.
        translations: (N, rows, columns, 2), the result of :func:`estimate_tile_translations`.
        tile: side of the tiles for which they were estimated, in pixels.

    Returns:
        Two (N, C, H, W), differentiable in both images.
    """
    overall = translations[:, 0, 0]
    varies = (translations != overall[:, None, None]).flatten(1).any(dim=1)
    first, second = align(img0, img1, torch.where(varies[:, None], 0.0, overall))
    if varies.any():
        down, across = (_between_tiles(side, tile).to(translations) for side in img1.shape[-2:])
        field = torch.einsum("yr,nrcd,xc->nyxd", down, translations[varies], across)
        warped = _resampled(img1[varies], field)
        second = second.index_put((varies.nonzero()[:, 0],), warped)
    return first, second


def translate(images: Tensor, translation: Tensor) -> Tensor:
    """Sample images (N, C, H, W) at a shift (N, 2) in pixels, by bicubic interpolation.

    Outside, the images are extended by reflection.
    """
    field = translation.to(images.device)[:, None, None].expand(-1, *images.shape[-2:], -1)
    return _resampled(images, field)


def _structures(img0: Tensor, img1: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Luminance (N, H, W) minus its local mean of both images, after checking them."""
    if not isinstance(radius, int) or isinstance(radius, bool) or radius < 1:
        raise ValueError(f"radius must be a whole number from 1; got {radius!r}")
    least = least_side(radius)
    images = {"img0": img0, "img1": img1}
    batches = {}
    for name, image in images.items():
        batch = inputs.as_batch(name, image, 1)
        if min(batch.shape[-2:]) < least:
            raise ValueError(
                f"{name} must be at least {least}x{least} for radius {radius}; "
                f"got {batch.shape[-2]}x{batch.shape[-1]}"
            )
        batches[name] = batch
    inputs.check_same_shape(**batches)
    first, second = map(_structure, batches.values())
    return first, second


def _structure(images: Tensor) -> Tensor:
    scale = 1 / 127.5 if images.dtype == torch.uint8 else 1.0
    weights = torch.tensor(_LUMINANCE, dtype=torch.float32, device=images.device) * scale
    luminance = torch.einsum("nchw,c->nhw", images.float(), weights)
    means = luminance[:, None]
    for size in ((_NEIGHBOURHOOD, 1), (1, _NEIGHBOURHOOD)):
        means = F.avg_pool2d(means, size, 1)
    # Only pixels whose neighbourhood is inside: the mean of others would not move with the image.
    border = _NEIGHBOURHOOD // 2
    return luminance[:, border:-border, border:-border] - means[:, 0]


def _direct(template: Tensor, image: Tensor, radius: int) -> Tensor:
    """Sums of products of (N, h, w) with the windows of (N, H, W): (N, 2r + 1, 2r + 1)."""
    return F.conv2d(image[None], template[:, None], groups=len(image))[0]


def _by_fourier(template: Tensor, image: Tensor, radius: int) -> Tensor:
    """The sums of :func:`_direct` by Fourier transforms; padding keeps windows from wrapping."""
    placed = F.pad(template, (radius,) * 4)
    spectrum = torch.fft.rfft2(placed).conj() * torch.fft.rfft2(image)
    sums = torch.fft.irfft2(spectrum, s=image.shape[1:])
    shifts = torch.arange(-radius, radius + 1, device=image.device)
    return sums[:, shifts][:, :, shifts]


def _overlap_sums(images: Tensor, radius: int) -> Tensor:
    """Sums (N, 2r + 1, 2r + 1) of images (N, H, W) over the common part at each shift."""
    for axis in (1, 2):
        shifts = torch.arange(-radius, radius + 1, device=images.device)
        upto = F.pad(images.cumsum(axis), (1, 0) if axis == 2 else (0, 0, 1, 0))
        begin, end = (-shifts).clamp_min(0), images.shape[axis] - shifts.clamp_min(0)
        images = upto.index_select(axis, end) - upto.index_select(axis, begin)
    return images


def _most_likely(
    first: Tensor, second: Tensor, radius: int, centre: Tensor, subpixel: bool
) -> Tensor:
    """The best shift (N, 2) where there is enough evidence for it, else ``centre`` (N, 2)."""
    searched = radius + _BEYOND
    found = correlations(first, second, searched)
    side, pixels = found.shape[-1], math.prod(n - searched for n in first.shape[1:])
    whole = torch.arange(side, device=found.device, dtype=found.dtype) - searched
    shifts = torch.cartesian_prod(whole, whole)
    lengths = (shifts - centre.round()[:, None]).norm(dim=-1)
    likelihood = _log_likelihood(found.flatten(1), pixels) - _PRIOR * lengths
    outside = shifts.abs().amax(dim=1) == searched  # no parabola there
    best = likelihood.masked_fill(outside, -torch.inf).argmax(dim=1)
    nearest = lengths.argmin(dim=1)
    gain = likelihood.gather(1, torch.stack((best, nearest), dim=1)).diff(dim=1).neg()[:, 0]
    chosen = torch.where((gain > _MIN_EVIDENCE)[:, None], shifts[best], centre)
    if subpixel:
        offsets, gain = _parabolas(found, best, pixels)
        refined = (gain > _MIN_EVIDENCE) & (offsets.abs().amax(dim=1) > _MIN_FRACTION)
        refined &= (chosen == shifts[best]).all(dim=1) | (best == nearest)
        chosen = torch.where(refined[:, None], shifts[best] + offsets, chosen)
    return chosen.clamp(-radius, radius)


def _log_likelihood(correlation: Tensor, pixels: int) -> Tensor:
    """Log-likelihood -n/2 log(1 - r^2) of a linear regression of n pixels with correlation r."""
    left = 1.0 - correlation.clamp(min=0.0).square() + _UNEXPLAINED
    return -min(pixels, _MOST_OBSERVATIONS) / 2 * left.log()


def _parabolas(found: Tensor, best: Tensor, pixels: int) -> tuple[Tensor, Tensor]:
    """Vertices of the parabolas through the best correlations and their neighbours.

    Returns the offsets (N, 2) of the vertices from the best shifts, and the gains (N,) in
    log-likelihood.
    """
    side, flat = found.shape[-1], found.flatten(1)
    offsets, top = [], 0.0
    for step in (side, 1):
        around = torch.stack((best - step, best, best + step), dim=1)
        left, middle, right = flat.gather(1, around).unbind(dim=1)
        curvature = (2 * middle - left - right).clamp_min(1e-12)
        offsets.append(((right - left) / (2 * curvature)).clamp(-0.5, 0.5))
        top = top + (right - left) * offsets[-1] / 4
    likelihood = [_log_likelihood(r.clamp(max=1.0), pixels) for r in (middle, middle + top)]
    return torch.stack(offsets, dim=1), likelihood[1] - likelihood[0]


def _tiles(images: Tensor, rows: list[slice], columns: list[slice]) -> Tensor:
    """Tiles (N, rows, columns, h, w) of images (N, H, W)."""
    return torch.stack(
        [torch.stack([images[:, y, x] for x in columns], dim=1) for y in rows], dim=1
    )


def _tile_slices(side: int, tile: int) -> list[slice]:
    """Slices of the tiles along an axis: evenly spaced, overlapping if necessary."""
    size, count = min(tile, side), math.ceil(side / tile)
    begins = [round(i * (side - size) / max(1, count - 1)) for i in range(count)]
    return [slice(begin, begin + size) for begin in begins]


def _between_tiles(side: int, tile: int) -> Tensor:
    """Weights (side, tiles) of linear interpolation between the centres of tiles along an axis."""
    centres = [(where.start + where.stop - 1) / 2 for where in _tile_slices(side, tile)]
    places, weights = torch.arange(side), torch.zeros(side, len(centres))
    weights[:, -1] = 1.0
    for index, (one, other) in enumerate(itertools.pairwise(centres)):
        share = ((places - one) / (other - one)).clamp(0.0, 1.0)
        here = (places < other) & ((places >= one) | (index == 0))
        weights[here] = 0.0
        weights[here, index], weights[here, index + 1] = 1.0 - share[here], share[here]
    return weights


def _overlap(img0: Tensor, img1: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Common part at whole-pixel shifts (N, 2), extended by reflection to the former size."""
    places = []
    for axis, length in enumerate(img0.shape[-2:]):
        shift = offsets[:, axis, None]
        low, high = (-shift).clamp_min(0), length - 1 - shift.clamp_min(0)
        index = torch.arange(length, device=img0.device).expand(len(img0), -1)
        index = torch.where(index < low, 2 * low - index, index)
        index = torch.where(index > high, 2 * high - index, index)
        places.append((index, index + shift))
    (rows0, rows1), (columns0, columns1) = places
    return _gathered(img0, rows0, columns0), _gathered(img1, rows1, columns1)


def _gathered(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Images (N, C, H, W) at rows (N, H') and columns (N, W'): (N, C, H', W')."""
    numbers = torch.arange(len(images), device=images.device)[:, None, None]
    last = images.permute(0, 2, 3, 1)[numbers, rows[:, :, None], columns[:, None]]
    return last.permute(0, 3, 1, 2)


def _resampled(images: Tensor, field: Tensor) -> Tensor:
    """Sample images (N, C, H, W) at shifts (N, H, W, 2) in pixels, reflected at the border."""
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device)[:, None] + field[..., 0]
    columns = torch.arange(width, device=images.device) + field[..., 1]
    grid = torch.stack((2 * columns / (width - 1) - 1, 2 * rows / (height - 1) - 1), dim=-1)
    # Half precision cannot represent the positions of pixels.
    values = images if images.dtype == torch.float64 else images.float()
    found = F.grid_sample(
        values, grid.to(values.dtype), mode="bicubic", padding_mode="reflection", align_corners=True
    )
    # Bicubic interpolation overshoots at edges.
    lowest, highest = (bound.detach() for bound in torch.aminmax(values.flatten(1), dim=1))
    found = found.clamp(lowest.view(-1, 1, 1, 1), highest.view(-1, 1, 1, 1))
    return (found if images.is_floating_point() else found.round()).to(images.dtype)
