"""Traditional distortions of the BAPPS data set, and their random compositions.

Source: Zhang, Isola, Efros, Shechtman, Wang, "The Unreasonable Effectiveness of Deep Features as a
Perceptual Metric", CVPR 2018: the list is that of Table 2 ("Traditional"), compositions are as in
its section on distortions. The paper gives no parameters; the strengths here are our choice, from
near the visibility threshold to clearly visible with recognisable content.

Every distortion is `(image, severity, rng) -> image`:

- `severity` 0 returns a copy of the image and draws nothing, so it is the identity also for JPEG
  and the blurs; above 0 these start from their weakest setting, the others from zero.
- `rng` decides the kind (direction, sign, pattern), `severity` only the strength: the same seed at
  increasing severities gives the same distortion, more strongly.
- Lengths (blurs, moves, warps) are fractions of the patch's shorter side, so patches of 64 and of
  256 pixels look similar. White noise, checkerboard and JPEG depend on the pixel grid and do not
  scale.
- On a grey photograph (three equal channels) `saturation` has no effect; `color_shift` tints it,
  and `chromatic_aberration` and the noises, drawn per channel, add colour.
"""

import inspect
import io
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import wraps
from numbers import Integral, Real

import numpy as np
from PIL import Image
from scipy import ndimage
from skimage.color import rgb2gray, rgb2yiq, yiq2rgb

Distortion = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]

_MIN_SIDE = 16
_NOISE_STD = 0.15  # of the full scale, at severity 1
_WARP_NODES = 5  # control points per side of the grid

_CONTRACT = """\
image: uint8 (H, W, 3), H and W at least 16; severity: in [0, 1], 0 is the identity;
rng: the only source of randomness. Returns a new uint8 (H, W, 3) array.
Raises ValueError if an argument has another type, shape or range."""


def _check_arguments(image: np.ndarray, severity: float, rng: np.random.Generator) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        given = getattr(image, "dtype", type(image).__name__)
        raise ValueError(f"image: expected a numpy array of dtype uint8, got {given}")
    if image.ndim != 3 or image.shape[2] != 3 or min(image.shape[:2]) < _MIN_SIDE:
        raise ValueError(
            f"image: expected shape (H, W, 3) with H, W >= {_MIN_SIDE}, got {image.shape}"
        )
    _check_severity(severity)
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"rng: expected a numpy.random.Generator, got {type(rng).__name__}")


def _check_severity(severity: float) -> None:
    if not isinstance(severity, Real) or not 0 <= severity <= 1:  # NaN fails the comparison
        raise ValueError(f"severity: expected a number in [0, 1], got {severity!r}")


def _check_name(name: str) -> None:
    if not isinstance(name, str) or name not in TRADITIONAL:
        raise ValueError(f"name: expected one of {', '.join(TRADITIONAL)}; got {name!r}")


def _to_uint8(image: np.ndarray) -> np.ndarray:
    return np.rint(image.clip(0, 1) * 255).astype(np.uint8)


def _distortion(function: Distortion) -> Distortion:
    """Wrap a function of float images, displayable in [0, 1], as a checked uint8 distortion."""

    @wraps(function)
    def public(image: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
        _check_arguments(image, severity, rng)
        if severity == 0:
            return image.copy()
        return _to_uint8(function(image / 255, float(severity), rng))

    public.__doc__ = f"{inspect.getdoc(function)}\n\n{_CONTRACT}"
    return public


def _sign(rng: np.random.Generator) -> float:
    return float(rng.choice((-1.0, 1.0)))


def _directions(rng: np.random.Generator, rows: int = 1, columns: int = 1) -> np.ndarray:
    """Random unit vectors (down, right), one per cell: (2, rows, columns)."""
    angle = rng.uniform(0, 2 * math.pi, (rows, columns))
    return np.stack([np.sin(angle), np.cos(angle)])


def _side(image: np.ndarray) -> int:
    return min(image.shape[:2])


# ---------------------------------------------------------------- photometric


@_distortion
def lightness_shift(image: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Add up to 0.3 of the full scale to every channel, or subtract it."""
    return image + _sign(rng) * 0.3 * severity


@_distortion
def color_shift(image: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Add a random colour of luma 0, of length up to 0.15 in the I-Q plane of YIQ."""
    i, q = 0.15 * severity * _directions(rng).ravel()
    return image + yiq2rgb(np.array([0.0, i, q]))


@_distortion
def contrast(image: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Stretch the values about the patch's mean by up to 2.5, or shrink them by that factor."""
    mean = image.mean()
    return mean + (image - mean) * 2.5 ** (_sign(rng) * severity)


@_distortion
def saturation(image: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Scale the chroma (I, Q of YIQ) down to 0, or up to 2.5 times; luma is unchanged."""
    gain = 1 - severity if _sign(rng) < 0 else 1 + 1.5 * severity
    return yiq2rgb(rgb2yiq(image) * [1, gain, gain])


# ---------------------------------------------------------------- noise


def _colored_noise(shape: tuple[int, ...], exponent: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise of mean 0, deviation 1 and spectral density frequency ** -exponent."""
    height, width, _ = shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = 1
    gain = frequency ** (-exponent / 2)
    gain[0, 0] = 0  # a constant is no noise
    spectrum = np.fft.rfft2(rng.standard_normal(shape), axes=(0, 1)) * gain[..., None]
    noise = np.fft.irfft2(spectrum, s=(height, width), axes=(0, 1))
    return noise / noise.std()


@_distortion
def uniform_white_noise(image: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Add uniform noise, independent per pixel and channel, of standard deviation up to 0.15."""
    half_width = math.sqrt(3) * _NOISE_STD * severity
    return image + half_width * rng.uniform(-1, 1, image.shape)


@_distortion
def gaussian_white_noise(
    image: np.ndarray, severity: float, rng: np.random.Generator
) -> np.ndarray:
    """Add Gaussian noise, independent per pixel and channel, of standard deviation up to 0.15."""
    return image + _NOISE_STD * severity * rng.standard_normal(image.shape)


@_distortion
def pink_noise(image: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise of spectral density 1 / f, standard deviation up to 0.15."""
    return image + _NOISE_STD * severity * _colored_noise(image.shape, 1, rng)


@_distortion
def blue_noise(image: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise of spectral density f, standard deviation up to 0.15."""
    return image + _NOISE_STD * severity * _colored_noise(image.shape, -1, rng)


@_distortion
def gaussian_colored_noise(
    image: np.ndarray, severity: float, rng: np.random.Generator
) -> np.ndarray:
    """Add noise of density f ** -b, deviation up to 0.15, b random in -2 (violet) .. 2 (brown)."""
    exponent = rng.uniform(-2, 2)
    return image + _NOISE_STD * severity * _colored_noise(image.shape, exponent, rng)


@_distortion
def checkerboard(image: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Add a checkerboard of up to +-0.12 with cells of 1, 2 or 4 pixels, as upsampling leaves."""
    cell = 2 ** rng.integers(3)
    rows, columns = np.indices(image.shape[:2]) // cell
    board = 1 - 2 * ((rows + columns) % 2)
    return image + _sign(rng) * 0.12 * severity * board[..., None]


# ---------------------------------------------------------------- blur


@_distortion
def gaussian_blur(image: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Blur with a Gaussian of standard deviation 0.5 to 3 % of the shorter side."""
    sigma = (0.005 + 0.025 * severity) * _side(image)
    return ndimage.gaussian_filter(image, (sigma, sigma, 0))


@_distortion
def bilateral_filter(image: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth within edges: deviations 1 to 4 % of the shorter side and 0.05 to 0.25 of luma."""
    return _bilateral(image, (0.01 + 0.03 * severity) * _side(image), 0.05 + 0.2 * severity)


def _bilateral(image: np.ndarray, sigma_space: float, sigma_luma: float) -> np.ndarray:
    """Bilateral filter guided by luma, as interpolated Gaussian blurs at a few luma levels.

    Source: Durand and Dorsey, "Fast Bilateral Filtering", SIGGRAPH 2002. Its time does not grow
    with the square of the window, unlike that of `skimage.restoration.denoise_bilateral`, whose
    spatial weights are moreover not centred on the pixel in version 0.26.
    """
    luma = rgb2gray(image)
    step = sigma_luma / 2
    levels = np.arange(luma.min(), luma.max() + step, step)[:, None, None]
    distance = luma - levels  # (levels, H, W)
    weights = np.exp(-0.5 * (distance / sigma_luma) ** 2)[..., None]
    values = np.concatenate([image, np.ones_like(luma)[..., None]], axis=-1)
    sums = ndimage.gaussian_filter(weights * values, (0, sigma_space, sigma_space, 0), truncate=3)
    nearness = (1 - np.abs(distance) / step).clip(0)[..., None]  # linear interpolation
    return (nearness * sums[..., :3] / sums[..., 3:]).sum(axis=0)


# ---------------------------------------------------------------- spatial


def _move(image: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Move the content by `offset` pixels (down, right), (2, 1, 1) or (2, H, W).

    Interpolation is by cubic splines, because linear interpolation blurs; borders are reflected.
    """
    at = np.indices(image.shape[:2]) - offset
    channels = [
        ndimage.map_coordinates(channel, at, order=3, mode="reflect")
        for channel in np.moveaxis(image, -1, 0)
    ]
    return np.stack(channels, axis=-1)


def _centered_grid(image: np.ndarray) -> np.ndarray:
    """Coordinates (down, right) from the patch's centre: (2, H, W)."""
    height, width = image.shape[:2]
    return np.indices((height, width)) - np.reshape([height - 1, width - 1], (2, 1, 1)) / 2


@_distortion
def shift(image: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Move the content by up to 1/8 of the shorter side in a random direction."""
    return _move(image, severity * _side(image) / 8 * _directions(rng))


@_distortion
def affine_warp(image: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Rotate, scale and shear about the centre: identity plus a matrix of norm up to 0.25."""
    matrix = rng.standard_normal((2, 2))
    matrix *= 0.25 * severity / np.linalg.norm(matrix)
    return _move(image, np.tensordot(matrix, _centered_grid(image), 1))


@_distortion
def homography(image: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Change the perspective: each corner moves by up to 1/8 of the shorter side."""
    grid = _centered_grid(image)
    corners = grid[:, [0, 0, -1, -1], [0, -1, 0, -1]].T
    targets = corners + severity * _side(image) / 8 * _directions(rng, columns=4)[:, 0].T
    # Two equations per corner for the eight free entries: matrix @ (y, x, 1) ~ (v, u, 1).
    equations = []
    for (y, x), (v, u) in zip(corners, targets, strict=True):
        equations.append([y, x, 1, 0, 0, 0, -v * y, -v * x])
        equations.append([0, 0, 0, y, x, 1, -u * y, -u * x])
    matrix = np.append(np.linalg.solve(equations, targets.ravel()), 1).reshape(3, 3)
    v, u, scale = np.tensordot(matrix, np.concatenate([grid, np.ones_like(grid[:1])]), 1)
    return _move(image, grid - np.stack([v, u]) / scale)


def _mesh_warp(
    image: np.ndarray, severity: float, rng: np.random.Generator, order: int
) -> np.ndarray:
    """Move 5 by 5 control points in random directions, with splines of `order` in between."""
    moves = severity * _side(image) / 20 * _directions(rng, _WARP_NODES, _WARP_NODES)
    zoom = np.divide(image.shape[:2], _WARP_NODES)
    offset = [ndimage.zoom(move, zoom, order=order, mode="mirror") for move in moves]
    return _move(image, np.stack(offset))


@_distortion
def linear_warp(image: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Move 5 by 5 control points by up to 1/20 of the shorter side, linear in between."""
    return _mesh_warp(image, severity, rng, order=1)


@_distortion
def cubic_warp(image: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Move 5 by 5 control points by up to 1/20 of the shorter side, cubic splines in between."""
    return _mesh_warp(image, severity, rng, order=3)


@_distortion
def ghosting(image: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Blend with a copy moved by 1/16 to 1/8 of the shorter side, of weight up to 1/2."""
    offset = _side(image) * rng.uniform(1 / 16, 1 / 8) * _directions(rng)
    return image + 0.5 * severity * (_move(image, offset) - image)


@_distortion
def chromatic_aberration(
    image: np.ndarray, severity: float, rng: np.random.Generator
) -> np.ndarray:
    """Move red and blue in opposite directions by up to 1/32 of the shorter side each.

    A lens magnifies the colours differently, which in a small patch of its image is a translation.
    """
    offset = severity * _side(image) / 32 * _directions(rng)
    red, blue = _move(image[..., :1], offset), _move(image[..., 2:], -offset)
    return np.concatenate([red, image[..., 1:2], blue], axis=-1)


# ---------------------------------------------------------------- compression


@_distortion
def jpeg(image: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Compress with Pillow at quality round(95 * (10 / 95) ** severity): 95 down to 10."""
    buffer = io.BytesIO()
    Image.fromarray(_to_uint8(image)).save(
        buffer, "JPEG", quality=round(95 * (10 / 95) ** severity)
    )
    return np.asarray(Image.open(buffer)) / 255


# ---------------------------------------------------------------- registry and composition

_BY_CATEGORY: dict[str, tuple[Distortion, ...]] = {
    "photometric": (lightness_shift, color_shift, contrast, saturation),
    "noise": (
        uniform_white_noise,
        gaussian_white_noise,
        pink_noise,
        blue_noise,
        gaussian_colored_noise,
        checkerboard,
    ),
    "blur": (gaussian_blur, bilateral_filter),
    "spatial": (
        shift,
        affine_warp,
        homography,
        linear_warp,
        cubic_warp,
        ghosting,
        chromatic_aberration,
    ),
    "compression": (jpeg,),
}

CATEGORIES: Mapping[str, tuple[str, ...]] = {
    category: tuple(function.__name__ for function in functions)
    for category, functions in _BY_CATEGORY.items()
}
TRADITIONAL: Mapping[str, Distortion] = {
    function.__name__: function for functions in _BY_CATEGORY.values() for function in functions
}


def apply(name: str, image: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Distort an image by the distortion of that name.

    name: a key of `TRADITIONAL`; the other arguments and the result are those of the distortions.
    Raises ValueError on an unknown name (the message lists all) and on other invalid arguments.
    """
    _check_name(name)
    return TRADITIONAL[name](image, severity, rng)


@dataclass(frozen=True)
class Composition:
    """Sequence of distortions with fixed randomness: the same image gives the same bytes.

    steps: (name, severity), at least one; seed: a non-negative integer.
    Raises ValueError if an argument is out of range or a name is unknown.
    """

    steps: tuple[tuple[str, float], ...]
    seed: int

    def __post_init__(self) -> None:
        if not self.steps:
            raise ValueError("steps: expected at least one (name, severity), got none")
        for name, severity in self.steps:
            _check_name(name)
            _check_severity(severity)
        if not isinstance(self.seed, Integral) or self.seed < 0:
            raise ValueError(f"seed: expected an integer >= 0, got {self.seed!r}")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Distort a uint8 (H, W, 3) image; returns a new one. ValueError as the distortions."""
        for index, (name, severity) in enumerate(self.steps):
            # One generator per step, so that a step's pattern does not depend on earlier steps.
            image = apply(name, image, severity, np.random.default_rng([self.seed, index]))
        return image

    def __str__(self) -> str:
        return "+".join(f"{name}({severity:.2f})" for name, severity in self.steps)


def random_distortion(rng: np.random.Generator, names: Iterable[str] | None = None) -> Composition:
    """Draw one distortion or a sequence of two different ones, with probability 1/2 each.

    names: names to draw from, all by default; a single name is never repeated in a sequence.
    Severities are independent and uniform in [0, 1).
    Raises ValueError on an unknown, a repeated or no name, and if `rng` is not a Generator.
    """
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"rng: expected a numpy.random.Generator, got {type(rng).__name__}")
    pool = list(TRADITIONAL) if names is None else list(names)
    if not pool or len(set(pool)) < len(pool):
        raise ValueError(f"names: expected at least one name, none of them twice; got {pool}")
    for name in pool:
        _check_name(name)
    length = min(int(rng.integers(1, 3)), len(pool))
    drawn = rng.choice(len(pool), size=length, replace=False)
    steps = tuple((pool[index], float(rng.random())) for index in drawn)
    return Composition(steps, seed=int(rng.integers(2**32)))
