import io

import numpy as np
import pytest
from PIL import Image
from skimage import data

from robust_lpips.distortions import (
    CATEGORIES,
    TRADITIONAL,
    Composition,
    apply,
    random_distortion,
    traditional,
)

NAMES = list(TRADITIONAL)
LADDER = (0, 0.05, 0.25, 0.5, 0.75, 1)
WARPS = ("shift", "affine_warp", "homography", "linear_warp", "cubic_warp")


def crop(photo: np.ndarray, top: int, left: int, side: int = 64) -> np.ndarray:
    if photo.ndim == 2:
        photo = np.stack([photo] * 3, axis=-1)
    return np.ascontiguousarray(photo[top : top + side, left : left + side])


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    """64x64 patches, four in colour and two grey."""
    return [
        crop(data.astronaut(), 60, 180),
        crop(data.coffee(), 150, 250),
        crop(data.chelsea(), 90, 150),
        crop(data.rocket(), 200, 300),
        crop(data.camera(), 100, 200),
        crop(data.coins(), 50, 60),
    ]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def mse(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.mean((a.astype(float) - b) ** 2))


def unquantised(name: str, image: np.ndarray, severity: float, seed: int = 0) -> np.ndarray:
    """The distortion before it is clipped and rounded: float in, float out."""
    return TRADITIONAL[name].__wrapped__(image, severity, rng(seed))


def sampled_at(name: str, side: int, severity: float, seed: int = 0) -> np.ndarray:
    """Where each pixel of the central half comes from, less where it is: (3, side/2, side/2, 2).

    Splines reproduce a ramp, so an image of coordinates tells what was sampled. One entry a
    colour channel.
    """
    center = slice(side // 4, side - side // 4)
    fields = []
    for axis in (0, 1):
        ramp = np.repeat(np.indices((side, side))[axis, ..., None].astype(float), 3, axis=-1)
        fields.append((unquantised(name, ramp, severity, seed) - ramp)[center, center])
    return np.moveaxis(np.stack(fields, axis=-1), 2, 0)


# ---------------------------------------------------------------- every distortion


def test_the_list_is_that_of_bapps():
    assert {category: len(names) for category, names in CATEGORIES.items()} == {
        "photometric": 4,
        "noise": 6,
        "blur": 2,
        "spatial": 7,
        "compression": 1,
    }
    assert [name for names in CATEGORIES.values() for name in names] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_severity_0_is_the_identity_and_draws_nothing(name, photos):
    for photo in photos:
        generator = rng()
        result = apply(name, photo, 0, generator)
        np.testing.assert_array_equal(result, photo)
        assert not np.shares_memory(result, photo)
        assert generator.random() == rng().random()


@pytest.mark.parametrize("shape", [(16, 16), (16, 25), (33, 17), (64, 64), (256, 256)])
@pytest.mark.parametrize("name", NAMES)
def test_shape_and_dtype_are_kept_and_the_input_untouched(name, shape):
    image = data.astronaut()[100 : 100 + shape[0], 150 : 150 + shape[1]]  # a view, not contiguous
    before = image.copy()
    result = apply(name, image, 0.8, rng())
    assert result.shape == (*shape, 3)
    assert result.dtype == np.uint8
    assert (result != before).any()
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("name", NAMES)
def test_seed_decides(name, photos):
    results = [apply(name, photos[0], 0.6, rng(seed)) for seed in range(8)]
    again = [apply(name, photos[0], 0.6, rng(seed)) for seed in range(8)]
    np.testing.assert_array_equal(results, again)
    kinds = len({result.tobytes() for result in results})
    assert kinds == 1 if name in ("gaussian_blur", "bilateral_filter", "jpeg") else kinds > 1


@pytest.mark.parametrize("name", NAMES)
def test_error_grows_with_severity(name, photos):
    errors = np.array(
        [
            [[mse(apply(name, photo, s, rng(seed)), photo) for s in LADDER] for seed in range(4)]
            for photo in photos
        ]
    ).mean(axis=(0, 1))
    assert errors[0] == 0
    assert (np.diff(errors) > 0).all(), errors
    assert errors[1] < 50  # near threshold: above 31 dB
    assert 100 < errors[-1] < 6000  # plain to see, and not yet another picture


@pytest.mark.parametrize("name", [*CATEGORIES["spatial"], *CATEGORIES["blur"], "contrast"])
def test_a_flat_image_stays_flat(name):
    image = np.full((64, 64, 3), 200, dtype=np.uint8)
    np.testing.assert_array_equal(apply(name, image, 1, rng(3)), image)


@pytest.mark.parametrize(
    ("argument", "image", "severity", "generator"),
    [
        ("image", np.zeros((64, 64, 3), np.float32), 0.5, rng()),
        ("image", np.zeros((64, 64), np.uint8), 0.5, rng()),
        ("image", np.zeros((64, 64, 4), np.uint8), 0.5, rng()),
        ("image", np.zeros((3, 64, 64), np.uint8), 0.5, rng()),
        ("image", np.zeros((2, 64, 64, 3), np.uint8), 0.5, rng()),
        ("image", np.zeros((64, 15, 3), np.uint8), 0.5, rng()),
        ("image", [[0]], 0.5, rng()),
        ("severity", np.zeros((64, 64, 3), np.uint8), -0.01, rng()),
        ("severity", np.zeros((64, 64, 3), np.uint8), 1.01, rng()),
        ("severity", np.zeros((64, 64, 3), np.uint8), float("nan"), rng()),
        ("severity", np.zeros((64, 64, 3), np.uint8), "0.5", rng()),
        ("rng", np.zeros((64, 64, 3), np.uint8), 0.5, 0),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_bad_arguments_are_named(name, argument, image, severity, generator):
    with pytest.raises(ValueError, match=f"^{argument}: expected .*, got "):
        TRADITIONAL[name](image, severity, generator)


@pytest.mark.parametrize("name", ["jpg", "", None, ["jpeg"]])
def test_an_unknown_name_gets_the_known_ones(name):
    with pytest.raises(ValueError, match=r"lightness_shift, .*, jpeg"):
        apply(name, np.zeros((64, 64, 3), np.uint8), 0.5, rng())


@pytest.mark.parametrize("name", NAMES)
def test_docstring_has_a_line_of_its_own_and_the_contract(name):
    lines = TRADITIONAL[name].__doc__.splitlines()
    assert lines[0].endswith(".")
    assert lines[1] == ""
    assert "uint8 (H, W, 3)" in TRADITIONAL[name].__doc__


# ---------------------------------------------------------------- photometric

GREY = np.full((32, 32, 3), 128, dtype=np.uint8)


def test_lightness_shift_is_a_constant_of_either_sign():
    levels = {
        int(v) for s in range(8) for v in np.unique(apply("lightness_shift", GREY, 0.8, rng(s)))
    }
    assert levels == {128 - 61, 128 + 61}  # 0.8 * 0.3 * 255 = 61.2


@pytest.mark.parametrize("seed", range(5))
def test_color_shift_keeps_luma_and_has_the_stated_length(seed, photos):
    image = photos[0] / 255
    offset = (unquantised("color_shift", image, 1, seed) - image)[0, 0]
    assert offset @ [0.299, 0.587, 0.114] == pytest.approx(0, abs=1e-6)
    i, q = offset @ [0.596, -0.274, -0.322], offset @ [0.211, -0.523, 0.312]
    assert np.hypot(i, q) == pytest.approx(0.15, rel=0.01)


def test_contrast_keeps_the_mean_and_scales_the_deviation(photos):
    image = photos[0] / 255
    gains = set()
    for seed in range(8):
        result = unquantised("contrast", image, 1, seed)
        assert result.mean() == pytest.approx(image.mean())
        gains.add(round(result.std() / image.std(), 6))
    assert gains == {0.4, 2.5}


def test_saturation_ends_in_grey_or_more_vivid_and_keeps_luma(photos):
    image = photos[0] / 255
    luma = image @ [0.299, 0.587, 0.114]
    spreads = set()
    for seed in range(8):
        result = unquantised("saturation", image, 1, seed)
        np.testing.assert_allclose(result @ [0.299, 0.587, 0.114], luma, atol=1e-6)
        spreads.add(round(float(np.ptp(result, axis=-1).mean() / np.ptp(image, axis=-1).mean()), 3))
    assert spreads == {0, 2.5}


@pytest.mark.parametrize("seed", range(4))
def test_saturation_leaves_grey_photographs_alone(seed, photos):
    np.testing.assert_array_equal(apply("saturation", photos[4], 1, rng(seed)), photos[4])


# ---------------------------------------------------------------- noise


def noise(name: str, seed: int, side: int = 128, severity: float = 0.5) -> np.ndarray:
    """What is added to mid-grey, in levels; far enough from black and white not to be clipped."""
    image = np.full((side, side, 3), 128, dtype=np.uint8)
    return apply(name, image, severity, rng(seed)).astype(float) - 128


def spectral_slope(samples: np.ndarray) -> float:
    """Slope of log power over log frequency of (n, H, W), radially averaged, 0.05 to 0.5."""
    power = np.abs(np.fft.fft2(samples)) ** 2
    frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n) for n in samples.shape[1:])))
    edges = np.linspace(0.05, 0.5, 16)
    bins = np.digitize(frequency, edges)
    x = [frequency[bins == i].mean() for i in range(1, 16)]
    y = [power.mean(axis=0)[bins == i].mean() for i in range(1, 16)]
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


@pytest.mark.parametrize(
    ("name", "slope"),
    [
        ("uniform_white_noise", 0),
        ("gaussian_white_noise", 0),
        ("pink_noise", -1),
        ("blue_noise", 1),
    ],
)
def test_spectrum_has_its_slope(name, slope):
    samples = np.concatenate([np.moveaxis(noise(name, seed), -1, 0) for seed in range(4)])
    assert spectral_slope(samples) == pytest.approx(slope, abs=0.06)


def test_colored_noise_lies_between_violet_and_brown():
    slopes = [
        spectral_slope(np.moveaxis(noise("gaussian_colored_noise", s), -1, 0)) for s in range(40)
    ]
    assert -2.15 < min(slopes) < -1.6
    assert 1.6 < max(slopes) < 2.15
    assert abs(np.mean(slopes)) < 0.6  # uniform on [-2, 2]: standard error 0.18


@pytest.mark.parametrize("name", [n for n in CATEGORIES["noise"] if n != "checkerboard"])
def test_noise_has_mean_0_the_stated_deviation_and_independent_channels(name):
    for seed in range(3):
        samples = noise(name, seed)
        assert samples.mean() == pytest.approx(0, abs=0.5)
        assert samples.std() == pytest.approx(0.15 * 0.5 * 255, rel=0.02)
        if name != "gaussian_colored_noise":  # brown noise has few degrees of freedom
            correlation = np.corrcoef(samples.reshape(-1, 3).T)
            assert np.abs(correlation - np.eye(3)).max() < 0.1


def test_uniform_and_gaussian_noise_differ_in_kurtosis():
    for name, kurtosis in (("uniform_white_noise", 1.8), ("gaussian_white_noise", 3)):
        samples = noise(name, 0)
        assert (samples**4).mean() / (samples**2).mean() ** 2 == pytest.approx(kurtosis, abs=0.1)


def test_checkerboard_has_cells_of_1_2_or_4_pixels():
    cells = set()
    for seed in range(20):
        board = noise("checkerboard", seed, side=32, severity=1)
        first = board[0, 0, 0]
        assert abs(first) == pytest.approx(0.12 * 255, abs=0.6)
        cell = int(np.argmax(board[0, :, 0] * first < 0))
        rows, columns = np.indices((32, 32)) // cell
        np.testing.assert_array_equal(
            np.sign(board) * np.sign(first),
            np.repeat(np.where((rows + columns) % 2, -1, 1)[..., None], 3, axis=-1),
        )
        cells.add(cell)
    assert cells == {1, 2, 4}


# ---------------------------------------------------------------- blur


@pytest.mark.parametrize("side", [64, 256])
@pytest.mark.parametrize("severity", [0.5, 1])
def test_gaussian_blur_spreads_a_point_in_proportion_to_the_patch(side, severity):
    image = np.zeros((side, side, 3))
    image[side // 2, side // 2] = 1
    result = unquantised("gaussian_blur", image, severity)[..., 1]
    offset = np.indices((side, side)) - side // 2
    assert result.sum() == pytest.approx(1)
    for axis in offset:
        assert np.sqrt((result * axis**2).sum()) == pytest.approx(
            (0.005 + 0.025 * severity) * side, rel=0.02
        )


def bilateral_by_definition(image: np.ndarray, space: float, luma: float) -> np.ndarray:
    """Of a grey (H, W) image, pixel by pixel over a square window of three deviations."""
    radius = int(3 * space + 0.5)
    padded = np.pad(image, radius, mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * radius + 1,) * 2)
    down, right = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    weights = np.exp(
        -(down**2 + right**2) / (2 * space**2)
        - (windows - image[..., None, None]) ** 2 / (2 * luma**2)
    )
    return (weights * windows).sum(axis=(2, 3)) / weights.sum(axis=(2, 3))


@pytest.mark.parametrize("severity", [0.25, 0.5, 1])
def test_bilateral_filter_agrees_with_its_definition_on_grey(severity, photos):
    for grey in photos[4:]:
        expected = bilateral_by_definition(
            grey[..., 0] / 255, (0.01 + 0.03 * severity) * 64, 0.05 + 0.2 * severity
        )
        result = apply("bilateral_filter", grey, severity, rng()) / 255
        # What remains is rounding and the interpolation between luma levels.
        assert np.abs(result - expected[..., None]).max() < 2 / 255


def test_bilateral_filter_keeps_an_edge_that_a_blur_does_not():
    image = np.full((64, 64, 3), 20, dtype=np.uint8)
    image[:, 32:] = 235
    assert mse(apply("bilateral_filter", image, 0.5, rng()), image) < 0.5
    assert mse(apply("gaussian_blur", image, 0.5, rng()), image) > 50


# ---------------------------------------------------------------- spatial


def test_a_whole_pixel_move_is_a_crop_with_reflected_borders(photos):
    image = photos[0] / 255
    result = traditional._move(image, np.reshape([3, -2], (2, 1, 1)))  # 3 down, 2 to the left
    np.testing.assert_allclose(result[3:, :-2], image[:-3, 2:], atol=1e-9)
    np.testing.assert_allclose(result[:3, :-2], image[2::-1, 2:], atol=1e-9)
    np.testing.assert_allclose(result[3:, -2:], image[:-3, :-3:-1], atol=1e-9)


def test_a_move_by_half_a_pixel_does_not_blur():
    columns = np.broadcast_to(np.arange(64.0)[:, None], (64, 64, 3))
    result = traditional._move(np.cos(2 * np.pi * columns / 8), np.reshape([0, 0.5], (2, 1, 1)))
    expected = np.cos(2 * np.pi * (columns - 0.5) / 8)
    # Linear interpolation would be off by 1 - cos(pi / 8) = 0.08.
    np.testing.assert_allclose(result[:, 16:48], expected[:, 16:48], atol=0.01)


@pytest.mark.parametrize("side", [64, 256])
@pytest.mark.parametrize("severity", [0.25, 1])
@pytest.mark.parametrize("seed", [0, 1])
def test_shift_is_constant_and_an_eighth_of_the_side(side, severity, seed):
    field = sampled_at("shift", side, severity, seed)
    np.testing.assert_allclose(field, np.broadcast_to(field[0, 0, 0], field.shape), atol=1e-3)
    assert np.linalg.norm(field[0, 0, 0]) == pytest.approx(severity * side / 8, rel=1e-3)


def test_shift_goes_every_way():
    quadrants = {
        tuple(np.sign(sampled_at("shift", 64, 1, seed)[0, 0, 0]).astype(int)) for seed in range(20)
    }
    assert quadrants == {(-1, -1), (-1, 1), (1, -1), (1, 1)}


@pytest.mark.parametrize("name", [*WARPS, "ghosting", "chromatic_aberration"])
def test_moves_are_in_proportion_to_the_patch_and_to_severity(name):
    small, large = (sampled_at(name, side, 1, seed=2) for side in (64, 256))
    # Pixel centres of the two grids differ by a fraction of a pixel: compare means of 4x4 blocks.
    blocks = large.reshape(3, 32, 4, 32, 4, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(blocks / 256, small / 64, atol=0.006)
    assert np.abs(small).max() > 1
    if name != "homography":  # the others' fields are linear in severity
        half = sampled_at(name, 64, 0.5, seed=2)
        np.testing.assert_allclose(2 * half, small, atol=1e-2)


@pytest.mark.parametrize("name", WARPS)
def test_warps_do_not_fold(name):
    for seed in range(10):
        field = sampled_at(name, 64, 1, seed)[0]
        dy, dx = np.gradient(field, axis=0), np.gradient(field, axis=1)
        jacobian = (1 + dy[..., 0]) * (1 + dx[..., 1]) - dy[..., 1] * dx[..., 0]
        assert jacobian.min() > 0.05


def straightness(points: np.ndarray) -> float:
    """Largest distance of (n, 2) points from their line of best fit."""
    centered = points - points.mean(axis=0)
    return float(np.abs(centered @ np.linalg.svd(centered)[2][1]).max())


def affine_residual(field: np.ndarray) -> float:
    height, width, _ = field.shape
    grid = np.indices((height, width)).reshape(2, -1).T
    design = np.c_[grid, np.ones(len(grid))]
    values = field.reshape(-1, 2)
    return float(np.abs(values - design @ np.linalg.lstsq(design, values)[0]).max())


@pytest.mark.parametrize(
    ("name", "affine", "straight"),
    [
        ("affine_warp", True, True),
        ("homography", False, True),
        ("linear_warp", False, False),
        ("cubic_warp", False, False),
    ],
)
def test_each_warp_is_of_its_kind(name, affine, straight):
    for seed in range(4):
        field = sampled_at(name, 256, 1, seed)[0]
        points = field + np.moveaxis(np.indices(field.shape[:2]), 0, -1)
        lines = [points[0], points[77], points[:, 0], points[:, 51], np.einsum("iij->ij", points)]
        assert (affine_residual(field) < 0.01) == affine
        assert (max(map(straightness, lines)) < 0.01) == straight


def test_linear_warp_has_kinks_where_cubic_warp_is_smooth():
    linear, cubic = (
        np.abs(np.diff(sampled_at(name, 256, 1, 0)[0], n=2, axis=0)).max()
        for name in ("linear_warp", "cubic_warp")
    )
    assert linear > 5 * cubic


def test_ghosting_is_half_and_half_at_most(photos):
    for seed in range(4):
        field = sampled_at("ghosting", 64, 1, seed)
        assert 64 / 32 <= np.linalg.norm(field[0, 0, 0]) <= 64 / 16  # half of 1/16 .. 1/8
    image = photos[0] / 255
    full, half = (unquantised("ghosting", image, s) for s in (1, 0.5))
    np.testing.assert_allclose(full - image, 2 * (half - image), atol=1e-12)


def test_chromatic_aberration_moves_red_and_blue_apart_and_leaves_green(photos):
    red, green, blue = sampled_at("chromatic_aberration", 64, 1)
    np.testing.assert_allclose(red, -blue, atol=1e-2)
    assert np.linalg.norm(red[8, 8]) == pytest.approx(2, rel=1e-2)
    assert (green == 0).all()
    result = apply("chromatic_aberration", photos[0], 1, rng())
    np.testing.assert_array_equal(result[..., 1], photos[0][..., 1])


# ---------------------------------------------------------------- compression


@pytest.mark.parametrize(("severity", "quality"), [(1e-6, 95), (0.25, 54), (0.5, 31), (1, 10)])
def test_jpeg_is_pillows_at_the_documented_quality(severity, quality, photos):
    for photo in photos:
        buffer = io.BytesIO()
        Image.fromarray(photo).save(buffer, format="JPEG", quality=quality)
        expected = np.asarray(Image.open(buffer))
        np.testing.assert_array_equal(apply("jpeg", photo, severity, rng()), expected)


# ---------------------------------------------------------------- composition


def test_composition_is_its_steps_in_order(photos):
    composition = Composition((("gaussian_blur", 0.5), ("jpeg", 0.8)), seed=3)
    blurred = apply("gaussian_blur", photos[0], 0.5, rng())
    np.testing.assert_array_equal(composition(photos[0]), apply("jpeg", blurred, 0.8, rng()))
    swapped = Composition(composition.steps[::-1], seed=3)
    assert (swapped(photos[0]) != composition(photos[0])).any()
    assert str(composition) == "gaussian_blur(0.50)+jpeg(0.80)"


def test_composition_is_deterministic_and_the_seed_counts(photos):
    steps = (("pink_noise", 0.42), ("shift", 0.3))
    first = Composition(steps, seed=1)
    np.testing.assert_array_equal(first(photos[0]), first(photos[0]))
    np.testing.assert_array_equal(first(photos[0]), Composition(steps, seed=1)(photos[0]))
    assert (first(photos[0]) != Composition(steps, seed=2)(photos[0])).any()
    assert first == Composition(steps, seed=1)
    assert hash(first) == hash(Composition(steps, seed=1))


def test_a_step_does_not_hang_on_the_steps_before_it(photos):
    after_noise = Composition((("pink_noise", 1e-9), ("shift", 0.5)), seed=1)
    after_nothing = Composition((("pink_noise", 0), ("shift", 0.5)), seed=1)
    np.testing.assert_array_equal(after_noise(photos[0]), after_nothing(photos[0]))


def test_steps_draw_independently():
    image = np.full((128, 128, 3), 128, dtype=np.uint8)
    for seed in range(3):
        both = Composition((("gaussian_white_noise", 0.4), ("blue_noise", 0.4)), seed)(image)
        # Variances add; were both made of the same numbers, this would be nearly twice as much.
        assert both.var() == pytest.approx(2 * (0.15 * 0.4 * 255) ** 2, rel=0.05)


def test_random_distortion_draws_one_or_two_of_all_kinds():
    generator = rng(0)
    drawn = [random_distortion(generator) for _ in range(2000)]
    lengths = np.array([len(composition.steps) for composition in drawn])
    assert set(lengths) == {1, 2}
    assert (lengths == 2).mean() == pytest.approx(0.5, abs=0.05)  # 4.5 standard errors
    assert all(len(dict(composition.steps)) == len(composition.steps) for composition in drawn)
    steps = [step for composition in drawn for step in composition.steps]
    counts = [sum(name == known for name, _ in steps) for known in NAMES]
    assert min(counts) > 0.6 * len(steps) / len(NAMES)
    severities = np.sort([severity for _, severity in steps])
    assert np.abs(severities - np.linspace(0, 1, len(severities))).max() < 0.04  # uniform
    pairs = np.array([[s for _, s in c.steps] for c in drawn if len(c.steps) == 2])
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 0.15
    assert len({composition.seed for composition in drawn}) == 2000


def test_random_distortion_follows_its_generator(photos):
    draws = [[random_distortion(generator) for _ in range(5)] for generator in (rng(7), rng(7))]
    assert draws[0] == draws[1]
    for composition in draws[0]:
        result = composition(photos[0])
        assert (result.shape, result.dtype) == ((64, 64, 3), np.uint8)


def test_random_distortion_of_some_names():
    generator = rng(0)
    names = CATEGORIES["blur"]
    drawn = [random_distortion(generator, names) for _ in range(50)]
    assert {name for composition in drawn for name, _ in composition.steps} == set(names)
    single = [random_distortion(generator, ["jpeg"]) for _ in range(20)]
    assert all([name for name, _ in composition.steps] == ["jpeg"] for composition in single)


@pytest.mark.parametrize("names", [[], ["jpeg", "jpeg"], ["jpeg", "none"], "jpeg"])
def test_random_distortion_refuses_bad_names(names):
    with pytest.raises(ValueError, match=r"^names?: expected"):
        random_distortion(rng(), names)


def test_random_distortion_refuses_a_seed_for_a_generator():
    with pytest.raises(ValueError, match=r"^rng: expected"):
        random_distortion(0)


@pytest.mark.parametrize(
    ("argument", "steps", "seed"),
    [
        ("steps", (), 0),
        ("name", (("jpg", 0.5),), 0),
        ("severity", (("jpeg", 1.5),), 0),
        ("seed", (("jpeg", 0.5),), -1),
        ("seed", (("jpeg", 0.5),), 0.5),
    ],
)
def test_composition_refuses_bad_fields(argument, steps, seed):
    with pytest.raises(ValueError, match=f"^{argument}: expected"):
        Composition(steps, seed)
