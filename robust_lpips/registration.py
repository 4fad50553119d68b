"""How far apart two images lie, estimated, and what of them shows the same once that is undone."""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from robust_lpips import inputs

# Above this radius correlations are computed by Fourier transforms: their time does not grow.
DIRECT_RADIUS = 6

# What both show has to be at least this wide, at the largest shift.
_MIN_OVERLAP = 14

# ITU-R BT.601. Structure, which tells position, is in luminance; colours often change.
_LUMINANCE = (0.299, 0.587, 0.114)

# Standard deviation, of images in [-1, 1], below which there is nothing to find: less than one of
# 255 steps.
_FLAT = 0.004

# Side of the neighbourhood whose mean is taken off: what is broader tells little about position,
# and lighting and coloured noise are. Chosen, as what follows, on the training photographs.
_NEIGHBOURHOOD = 7

# What a shift costs a pixel of its length, in units of log-likelihood: of shifts that are as likely
# the shortest is taken. And by how much it has to be more likely than none.
_PRIOR = 1.0
_MIN_EVIDENCE = 7.0

# Fractions of a pixel below this are within the error of the estimate.
_MIN_FRACTION = 0.05

# So many pixels further than asked for is searched: a peak at the radius has neighbours then.
_BEYOND = 1

# The most pixels that count as observations: what JPEG and filters leave is not noise that more
# pixels would average out. And the share of the variance that never is explained.
_MOST_OBSERVATIONS = 64**2
_UNEXPLAINED = 1e-4


def estimate_translation(
    img0: Tensor, img1: Tensor, radius: int = 3, *, subpixel: bool = False
) -> Tensor:
    """The shift by which ``img1`` is to be read to show what ``img0`` shows.

    Normalised cross-correlation of what both show, at all whole-pixel shifts within the radius, of
    luminance less its local mean, which changes of brightness, contrast and lighting hardly affect.
    Before a shift is believed, its correlation has to exceed that of no shift by more than chance
    would make it: images without texture, or of pure noise, stay where they are.

    Args:
        img0: (N, 3, H, W) or (3, H, W), floating or uint8.
        img1: the same shape.
        radius: the largest shift along each axis, in whole pixels, from 1; sides have to be
            ``radius + 21`` pixels or more.
        subpixel: refine by the parabola through the correlations around the best one.

    Returns:
        (N, 2) floating (rows, columns) in pixels: ``img0[y, x]`` is like
        ``img1[y + rows, x + columns]``. Without gradients.

    Raises:
        ValueError: images or radius other than above.
    """
    with torch.no_grad(), torch.autocast(img0.device.type, enabled=False):
        first, second = _structures(img0, img1, radius)
        centre = first.new_zeros(len(first), 2)
        return _most_likely(first, second, radius, centre, subpixel)


def estimate_tile_translations(
    img0: Tensor, img1: Tensor, radius: int = 3, *, tile: int = 64, subpixel: bool = False
) -> Tensor:
    """The shifts of the parts of images whose misalignment varies.

    Tiles of one size, evenly spread and overlapping where the sides are no multiples. A tile's
    shift is that of the whole image unless its own correlations tell otherwise, as
    :func:`estimate_translation` has it for no shift.

    Args:
        img0: as :func:`estimate_translation` takes it.
        img1: the same shape.
        radius: the largest shift along each axis, in whole pixels.
        tile: side of the tiles in pixels; smaller images are one tile.
        subpixel: refine between pixels.

    Returns:
        (N, rows, columns, 2): of each tile, as :func:`estimate_translation`.

    Raises:
        ValueError: images or radius other than it takes; tiles that are too small for the radius.
    """
    if tile < least_side(radius):
        raise ValueError(
            f"tile must be at least {least_side(radius)} pixels for radius {radius}; got {tile}"
        )
    with torch.no_grad(), torch.autocast(img0.device.type, enabled=False):
        overall = estimate_translation(img0, img1, radius, subpixel=subpixel)
        pair = _structures(img0, img1, radius)
        # A tile's structure is as much smaller as that of the whole image is.
        slices = [_tile_slices(side, tile) for side in img0.shape[-2:]]
        slices = [[slice(s.start, s.stop - _NEIGHBOURHOOD + 1) for s in axis] for axis in slices]
        first, second = (_tiles(image, *slices) for image in pair)
        rows, columns = first.shape[1:3]
        centre = overall.repeat_interleave(rows * columns, 0)
        own = _most_likely(first.flatten(0, 2), second.flatten(0, 2), radius, centre, subpixel)
        return own.unflatten(0, (-1, rows, columns))


def least_side(radius: int) -> int:
    """The least side, in pixels, of images whose shift is sought within that radius."""
    return radius + _BEYOND + _MIN_OVERLAP + _NEIGHBOURHOOD - 1


def largest_radius(side: int) -> int:
    """The largest radius within which images of that side, in pixels, allow a search; see above."""
    return side - least_side(0)


def correlations(first: Tensor, second: Tensor, radius: int) -> Tensor:
    """Normalised cross-correlations of what two images share at every shift.

    Args:
        first: (N, H, W) floating.
        second: the same shape.
        radius: the largest shift along each axis, from 1.

    Returns:
        (N, 2 radius + 1, 2 radius + 1) in [-1, 1], rows and columns from -radius to radius, by
        which ``second`` is read; 0 where what is shared is flat in either.
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
    """Both images cut to what both show, and brought back to their size by reflection.

    Whole pixels are moved as they are. What is left of a shift is shared: either image is moved by
    half of it, by bicubic interpolation, so that both are smoothed alike. Images that need not move
    are the same values.

    Args:
        img0: (N, C, H, W).
        img1: the same shape.
        translation: (N, 2), as :func:`estimate_translation` gives it.

    Returns:
        Two (N, C, H, W). Gradients go back to both images.

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
    """The inside of ``img0``, ``radius`` pixels from its border, and what of ``img1`` is like it.

    Which pixels of ``img0`` are compared does not depend on the shift. So, whatever window of a
    scene ``img1`` is, within the radius, the result is the same to the last bit.

    Args:
        img0: (N, C, H, W).
        img1: the same shape.
        translation: (N, 2), as :func:`align` takes it, of whole pixels up to ``radius`` and
            fractions, which are shared as there.
        radius: in pixels.

    Returns:
        Two (N, C, H - 2 radius, W - 2 radius). Gradients go back to both images.
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
    """:func:`align` with a shift that varies: between the tiles' centres it is interpolated.

    Where all tiles of a pair have one shift that is :func:`align`; else ``img1`` is resampled by
    bicubic interpolation, reflected where it ends, and ``img0`` stays as it is.

    Args:
        img0: (N, C, H, W).
        img1: the same shape.
        translations: (N, rows, columns, 2), as :func:`estimate_tile_translations` gives them.
        tile: side of the tiles that they are of.

    Returns:
        Two (N, C, H, W). Gradients go back to both images.
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
    """Images (N, C, H, W) read at a shift (N, 2) in pixels, by bicubic interpolation.

    Outside they are continued by reflection.
    """
    field = translation.to(images.device)[:, None, None].expand(-1, *images.shape[-2:], -1)
    return _resampled(images, field)


def _structures(img0: Tensor, img1: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Both images checked, as (N, H, W) luminance in units of [-1, 1] less its local mean."""
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
    # Only pixels whose neighbourhood is inside: of others the mean would not move with the image.
    border = _NEIGHBOURHOOD // 2
    return luminance[:, border:-border, border:-border] - means[:, 0]


def _direct(template: Tensor, image: Tensor, radius: int) -> Tensor:
    """Sums of products of (N, h, w) with the windows of (N, H, W): (N, 2r + 1, 2r + 1)."""
    return F.conv2d(image[None], template[:, None], groups=len(image))[0]


def _by_fourier(template: Tensor, image: Tensor, radius: int) -> Tensor:
    """As :func:`_direct`. No window wraps around: the template is ``radius`` inside the image."""
    placed = F.pad(template, (radius,) * 4)
    spectrum = torch.fft.rfft2(placed).conj() * torch.fft.rfft2(image)
    sums = torch.fft.irfft2(spectrum, s=image.shape[1:])
    shifts = torch.arange(-radius, radius + 1, device=image.device)
    return sums[:, shifts][:, :, shifts]


def _overlap_sums(images: Tensor, radius: int) -> Tensor:
    """Sums (N, 2r + 1, 2r + 1) of (N, H, W) over what an image moved so far shares with them."""
    for axis in (1, 2):
        shifts = torch.arange(-radius, radius + 1, device=images.device)
        upto = F.pad(images.cumsum(axis), (1, 0) if axis == 2 else (0, 0, 1, 0))
        begin, end = (-shifts).clamp_min(0), images.shape[axis] - shifts.clamp_min(0)
        images = upto.index_select(axis, end) - upto.index_select(axis, begin)
    return images


def _most_likely(
    first: Tensor, second: Tensor, radius: int, centre: Tensor, subpixel: bool
) -> Tensor:
    """The best shift (N, 2) where it is believed, else ``centre`` (N, 2)."""
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
    """Of a regression: with correlation r, 1 - r^2 of the variance is left unexplained, and n
    observations have the log-likelihood -n/2 log(1 - r^2).
    """
    left = 1.0 - correlation.clamp(min=0.0).square() + _UNEXPLAINED
    return -min(pixels, _MOST_OBSERVATIONS) / 2 * left.log()


def _parabolas(found: Tensor, best: Tensor, pixels: int) -> tuple[Tensor, Tensor]:
    """Where the parabolas through the best correlations have their tops, (N, 2) from there.

    And by how much they are more likely: (N,).
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
    """Images (N, H, W) cut into tiles of one size: (N, rows, columns, h, w)."""
    return torch.stack(
        [torch.stack([images[:, y, x] for x in columns], dim=1) for y in rows], dim=1
    )


def _tile_slices(side: int, tile: int) -> list[slice]:
    """Where the tiles of an axis lie: evenly spread, overlapping where they have to."""
    size, count = min(tile, side), math.ceil(side / tile)
    begins = [round(i * (side - size) / max(1, count - 1)) for i in range(count)]
    return [slice(begin, begin + size) for begin in begins]


def _between_tiles(side: int, tile: int) -> Tensor:
    """Weights (side, tiles) of linear interpolation between the centres of an axis's tiles."""
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
    """What both show at whole shifts (N, 2), continued by reflection to the size that they had."""
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
    """Images (N, C, H, W) read at shifts (N, H, W, 2) in pixels, reflected where they end."""
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device)[:, None] + field[..., 0]
    columns = torch.arange(width, device=images.device) + field[..., 1]
    grid = torch.stack((2 * columns / (width - 1) - 1, 2 * rows / (height - 1) - 1), dim=-1)
    # Half precision cannot tell the places of pixels.
    values = images if images.dtype == torch.float64 else images.float()
    found = F.grid_sample(
        values, grid.to(values.dtype), mode="bicubic", padding_mode="reflection", align_corners=True
    )
    # Bicubic interpolation overshoots at edges.
    lowest, highest = (bound.detach() for bound in torch.aminmax(values.flatten(1), dim=1))
    found = found.clamp(lowest.view(-1, 1, 1, 1), highest.view(-1, 1, 1, 1))
    return (found if images.is_floating_point() else found.round()).to(images.dtype)
