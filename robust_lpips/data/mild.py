"""Photographs, mildly distorted: examples of what is hardly visible."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robust_lpips.data.bapps import read_image
from robust_lpips.data.photographs import load_photographs
from robust_lpips.data.sample import random_crop
from robust_lpips.distortions import Composition

# Each is hardly visible; examples take turns.
MILD = (("gaussian_white_noise", 0.1), ("jpeg", 0.3), ("contrast", 0.15), ("color_shift", 0.2))


def mildly_distorted(
    images: Sequence[Path] = (), n: int = 4, image_size: int = 64, seed: int = 0
) -> list[dict[str, Any]]:
    """References with the same distorted image as p0 and p1; distortions of :data:`MILD` in turns.

    Args:
        images: files that are the references, whole; none: crops of the validation photographs.
        n: number of crops, one per photograph in turns.
        image_size: side of the crops in pixels.
        seed: seed of crops and distortions.

    Returns:
        Triplets that :func:`robust_lpips.evaluation.measure` takes, of each ``ref, p0, p1``, uint8
        (3, H, W); ``sample``, a number from 001; ``judge``, 0.5, because nobody judged them; and
        the names ``image`` and ``distortion``.

    Raises:
        FileNotFoundError: if there is no such image.
        ValueError: if an image cannot be read or is smaller than 16 pixels.
    """
    items = []
    for i, (name, image) in enumerate(_references(images, n, image_size, seed)):
        distort = Composition((MILD[i % len(MILD)],), seed=seed)
        try:
            pair = image, distort(image)
        except ValueError as error:
            raise ValueError(f"image: {name}: {error}") from error
        ref, distorted = (torch.tensor(each).permute(2, 0, 1).contiguous() for each in pair)
        item = {"ref": ref, "p0": distorted, "p1": distorted, "judge": 0.5, "subset": "examples"}
        names = {"sample": f"{i + 1:03d}", "image": name, "distortion": str(distort)}
        items.append(item | names)
    return items


def _references(
    images: Sequence[Path], n: int, image_size: int, seed: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Names and uint8 (H, W, 3) images."""
    if images:
        for path in images:
            yield path.name, read_image(path).permute(1, 2, 0).numpy()
        return
    photographs = list(load_photographs("val", image_size).items())
    for i in range(n):
        name, photograph = photographs[i % len(photographs)]
        rng = np.random.default_rng([seed, i])
        yield name, random_crop(rng, photograph, image_size)[0]
