"""The triplets of a run: BAPPS where it is, else the sample set."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset, Subset

from robust_lpips.data import TwoAFCDataset, packed, sample_dataset


def triplets(data_root: str | Path | None, split: str, n: int | None, image_size: int) -> Dataset:
    """Triplets to train on or to measure on; the sample set is built where it is not there yet.

    They are decoded once for all runs, see :func:`decoded_once`.

    Args:
        data_root: folder of BAPPS; None: the sample set of seed 0.
        split: ``"train"`` or ``"val"``; of BAPPS every subset that is present.
        n: how many; of BAPPS evenly spaced ones, so that subsets are in proportion. None, or
            more than there are: all of BAPPS.
        image_size: side of the patches in pixels.

    Raises:
        ValueError: ``n`` below 1, or None for the sample set, which has no end.
        FileNotFoundError: no BAPPS there.
    """
    return decoded_once(_on_disk(data_root, split, n, image_size))


def check_max_shift(max_shift: int, image_size: int) -> None:
    """Raises ValueError unless patches of that side, in pixels, can be shifted so far."""
    if not 1 <= max_shift < image_size:
        raise ValueError(
            f"max_shift must be from 1 and below image_size, {image_size}; got {max_shift}"
        )


def decoded_once(dataset: Dataset) -> Dataset:
    """``dataset`` packed in the cache (:func:`robust_lpips.data.packed`).

    Where the cache cannot take it, the dataset itself, with a warning.
    """
    try:
        return packed(dataset)
    except FileNotFoundError:  # a file of the dataset itself
        raise
    except OSError as error:
        warnings.warn(
            f"{error}; images are decoded anew each time they are read", UserWarning, stacklevel=3
        )
        return dataset


@functools.cache
def count(data_root: str | Path | None, split: str, n: int | None, image_size: int) -> int:
    """How many :func:`triplets` gives: listed once, because BAPPS has very many files."""
    return len(_on_disk(data_root, split, n, image_size))


def evenly_spaced(dataset: Dataset, n: int | None) -> Dataset:
    """``n`` items from the first to the last; all where ``n`` is None or there are not more.

    Raises:
        ValueError: ``n`` below 1.
    """
    if n is not None and n < 1:
        raise ValueError(f"n must be at least 1; got {n}")
    if n is None or n >= len(dataset):
        return dataset
    return Subset(dataset, np.linspace(0, len(dataset) - 1, n).round().astype(int).tolist())


def _on_disk(data_root: str | Path | None, split: str, n: int | None, image_size: int) -> Dataset:
    """What :func:`triplets` gives, as files."""
    if data_root is None:
        return sample_dataset(split=split, n=n, image_size=image_size)
    return evenly_spaced(TwoAFCDataset(data_root, split, image_size=image_size), n)
