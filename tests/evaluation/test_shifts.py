import doctest

import numpy as np
import pytest
import torch

from robust_lpips.evaluation import FULL, ShiftViews, parse_view, shifts, view_name

DIRECTIONS = [(dx, dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1) if (dx, dy) != (0, 0)]


def numbered(height: int = 7, width: int = 9) -> torch.Tensor:
    """Every pixel another number, so that a wrong column cannot pass for the right one."""
    values = torch.arange(2 * 3 * height * width, dtype=torch.float32)
    return (values / len(values)).reshape(2, 3, height, width)


def test_docstrings_hold():
    assert doctest.testmod(shifts).failed == 0


def test_windows_are_those_of_the_protocol():
    images, largest = numbered(), 3
    views = ShiftViews(largest)
    width = images.shape[-1]
    assert views.shifts == (0, 1, 2, 3)
    assert torch.equal(views.reference(images), images[..., 0 : width - largest])
    for n in range(largest + 1):
        expected = images[..., n : width - largest + n]
        assert torch.equal(views.distorted(images, n), expected)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_every_direction_moves_the_window_by_real_pixels(direction):
    # Pixel (x, y) of the window at n is pixel (x + n dx, y + n dy) of the reference's window.
    images, largest = numbered(), 2
    dx, dy = direction
    views = ShiftViews(largest, direction)
    height, width = images.shape[-2:]
    left, top = (largest if way < 0 else 0 for way in (dx, dy))
    rows, columns = height - largest * abs(dy), width - largest * abs(dx)
    assert views.reference(images).shape == (2, 3, rows, columns)
    for n in views.shifts:
        window = views.distorted(images, n)
        for y in range(rows):
            for x in range(columns):
                pixel = images[..., int(top + y + n * dy), int(left + x + n * dx)]
                assert torch.equal(window[..., y, x], pixel)


def test_a_flipped_image_moved_the_other_way_is_the_same():
    images = numbered()
    for shift in (0, 0.5, 1, 1.5, 2):
        right = ShiftViews(2, (1, 0), 0.5).distorted(images, shift)
        left = ShiftViews(2, (-1, 0), 0.5).distorted(images.flip(-1), shift).flip(-1)
        torch.testing.assert_close(right, left, rtol=0, atol=1e-5)


def test_whole_pixels_are_exact_whatever_the_step():
    images = torch.rand(2, 3, 16, 16)
    for step in (0.1, 0.25, 0.5):
        for shift in (0, 1, 2):
            fine, plain = ShiftViews(2, step=step), ShiftViews(2)
            assert shift in fine.shifts
            assert torch.equal(fine.distorted(images, shift), plain.distorted(images, shift))


def cubic(t: float, a: float = -0.75) -> np.ndarray:
    """Weights of the four pixels around a position t past the second (torch's kernel)."""
    near = [(a + 2) * x**3 - (a + 3) * x**2 + 1 for x in (t, 1 - t)]
    far = [a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a for x in (1 + t, 2 - t)]
    return np.array([far[0], near[0], near[1], far[1]])


@pytest.mark.parametrize("shift", [0.25, 0.5, 1.75])
@pytest.mark.parametrize("axis", [-1, -2])
def test_between_pixels_is_bicubic(shift, axis):
    images = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(1)) - 0.5
    direction = (1, 0) if axis == -1 else (0, 1)
    window = ShiftViews(2, direction, 0.25).distorted(images, shift).movedim(axis, -1).numpy()
    line = np.pad(images.movedim(axis, -1).numpy(), [(0, 0)] * 3 + [(1, 1)], mode="edge")
    weights = cubic(shift % 1)
    # With the edge repeated once, the tap before pixel i has index i.
    expected = sum(w * line[..., int(shift) + k :][..., :10] for k, w in enumerate(weights))
    np.testing.assert_allclose(window, expected, atol=2e-5)


def test_between_pixels_stays_in_range():
    images = (torch.arange(16) % 4 < 2).float().mul(2).sub(1).expand(1, 3, 16, 16)
    window = ShiftViews(1, step=0.5).distorted(images, 0.5)
    assert window.min() == -1
    assert window.max() == 1


def test_names():
    assert [view_name(n) for n in (0, 0.5, 2.0)] == ["shift-0", "shift-0.5", "shift-2"]
    assert parse_view(FULL) is None
    for n in ShiftViews(3, step=0.1).shifts:
        assert parse_view(view_name(n)) == n
    for wrong in ("shift", "shift-", "shift--1", "shift-1.0", "shift-01", "Full", "shift-1e1"):
        with pytest.raises(ValueError, match="view must be"):
            parse_view(wrong)


def test_tenths_add_up():
    assert ShiftViews(1, step=0.1).shifts == tuple(i / 10 for i in range(11))
    assert ShiftViews(0).shifts == ()
    assert ShiftViews(4, step=2).shifts == (0, 2, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_shift": -1}, "max_shift"),
        ({"max_shift": 1.5}, "max_shift"),
        ({"direction": (0, 0)}, "direction"),
        ({"direction": (2, 0)}, "direction"),
        ({"step": 0}, "step"),
        ({"step": -1}, "step"),
        ({"step": 2}, "step"),
        ({"step": float("nan")}, "step"),
    ],
)
def test_bad_geometry(arguments, message):
    with pytest.raises(ValueError, match=message):
        ShiftViews(**arguments)


def test_images_too_small_and_shifts_outside():
    images = torch.zeros(1, 3, 4, 9)
    with pytest.raises(ValueError, match="height, 4; got 4"):
        ShiftViews(4, (0, 1)).reference(images)
    with pytest.raises(ValueError, match="width, 9; got 9"):
        ShiftViews(9).distorted(images, 0)
    assert ShiftViews(8).reference(images).shape == (1, 3, 4, 1)
    for shift in (-1, 4):
        with pytest.raises(ValueError, match="shift must be"):
            ShiftViews(3).distorted(images, shift)
