import numpy as np
import pytest
import torch

from robust_lpips.data import ShiftedPhotographs
from robust_lpips.data.photographs import load_photographs
from robust_lpips.data.shifted import References

SHARES = {0: 0.9, 1: 0.6, 4: 0.1}


def test_windows_lie_in_their_photograph_that_far_apart():
    dataset = ShiftedPhotographs(SHARES, image_size=40, crops=2, seed=3)
    photographs = load_photographs("val")
    assert len(dataset) == len(photographs) * 2 * 3
    for index in range(0, len(dataset), 7):
        item = dataset[index]
        shift = list(SHARES)[index % 3]
        pixels = photographs[item["sample"].rpartition("-")[0]]
        p0, p1 = (item[part].permute(1, 2, 0).numpy() for part in ("p0", "p1"))
        assert p0.shape == p1.shape == (40, 40, 3)
        views = np.lib.stride_tricks.sliding_window_view(pixels[..., 0], (40, 40))
        places = np.argwhere(views[:, :, 0, 0] == p0[0, 0, 0])
        tops = [
            (top, left)
            for top, left in places
            if np.array_equal(pixels[top : top + 40, left : left + 40], p0)
        ]
        assert any(
            np.array_equal(pixels[top : top + 40, left + shift : left + shift + 40], p1)
            for top, left in tops
        )
        assert item["same"] == SHARES[shift]


def test_names_are_different_and_begin_with_the_photograph():
    dataset = ShiftedPhotographs(SHARES, image_size=32, crops=2)
    names = [dataset[i]["sample"] for i in range(len(dataset))]
    assert len(set(names)) == len(names)
    assert {name.rpartition("-")[0] for name in names} == set(load_photographs("val"))


def test_places_depend_on_the_seed_and_fewer_are_a_part_of_more():
    few, more, other = (
        ShiftedPhotographs(SHARES, 32, crops, seed) for crops, seed in ((1, 0), (3, 0), (1, 1))
    )
    assert torch.equal(few[3]["p0"], more[9]["p0"])  # the second photograph's first crop
    assert not torch.equal(few[3]["p0"], other[3]["p0"])


def test_no_window_is_blank():
    dataset = ShiftedPhotographs({0: 1.0}, image_size=64)
    # The sky of stars has places of hardly any contrast.
    assert min(dataset[i]["p0"].float().std() for i in range(len(dataset))) > 4


def test_ends():
    dataset = ShiftedPhotographs(SHARES, 32, 1)
    with pytest.raises(IndexError):
        dataset[len(dataset)]
    assert len(list(dataset)) == len(dataset)


def test_windows_have_to_fit():
    with pytest.raises(ValueError, match="no photograph"):
        ShiftedPhotographs(SHARES, image_size=100_000)


def test_the_label_is_named_and_its_values_are_given():
    dataset = ShiftedPhotographs({0: 0.0, 5: 5.0}, 32, 1, label="score")
    assert [dataset[i]["score"] for i in range(4)] == [0.0, 5.0, 0.0, 5.0]
    assert "same" not in dataset[0]
    with pytest.raises(ValueError, match="label must be one of 'same', 'score'; got 'judge'"):
        ShiftedPhotographs(SHARES, 32, 1, label="judge")


def test_photographs_take_turns_for_a_number_of_all():
    few, more, all_ = (ShiftedPhotographs(SHARES, 32, 2, n=n) for n in (3, 10, None))
    names = list(load_photographs("val"))
    assert [name for name, _ in few.windows] == names[:3]
    assert [name for name, _ in more.windows] == sorted([*names, *names[:2]], key=names.index)
    places = {name: [w for other, w in all_.windows if other == name] for name in names}
    for dataset in (few, more):
        for name, window in dataset.windows:
            assert any(np.array_equal(window, place) for place in places[name])


def test_references_are_their_own_patches():
    item = {name: torch.full((3, 4, 4), i) for i, name in enumerate(("ref", "p0", "p1"))}
    (alone,) = References([item | {"judge": 0.2, "sample": "a"}])
    assert torch.equal(alone["p0"], item["ref"])
    assert torch.equal(alone["p1"], item["ref"])
    assert (alone["judge"], alone["sample"]) == (0.2, "a")
