"""Generated pairs of images, and the values that pyiqa gives them.

``python tests/comparison/generated_pairs.py`` writes ``data/pyiqa.json`` anew with the installed
pyiqa, which the tests that read the file do not need.
"""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

VALUES = Path(__file__).parent / "data" / "pyiqa.json"
SEED = 0
# pyiqa's CW-SSIM needs at least 64 pixels a side.
SIZES = ((64, 64), (96, 96), (96, 64), (65, 67), (97, 72))


def smoothed(image, sigma):
    return ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="reflect")


def stretched(image):
    return (image - image.min()) / (image.max() - image.min())


def references(rng, height, width):
    """Noise, noise smoothed twice, and gradients: (height, width, 3) in [0, 1]."""
    noise = rng.random((3, height, width, 3))
    down, across = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)
    return [
        noise[0],
        stretched(smoothed(noise[1], 1.5)),
        stretched(smoothed(noise[2], 4)),
        np.stack([across, down, (down + across) / 2], axis=-1),
    ]


def distortions(rng, image):
    """The image with noise, blurred, of less contrast, shifted, and another image instead."""
    pattern = rng.standard_normal(image.shape)
    return [
        image + 0.02 * pattern,
        image + 0.1 * pattern,
        smoothed(image, 0.8),
        smoothed(image, 2),
        0.5 + 0.7 * (image - 0.5),
        np.roll(image, 1, axis=1),
        rng.random(image.shape),
    ]


def generated_pairs(height, width):
    """References and distorted images, float32 (28, 3, height, width) in [0, 1].

    Values are multiples of 1/256, which a change of range to [-1, 1] and back leaves exact.
    """
    rng = np.random.default_rng([SEED, height, width])
    pairs = [
        (reference, distorted)
        for reference in references(rng, height, width)
        for distorted in distortions(rng, reference)
    ]
    return tuple(
        torch.tensor(np.rint(256 * np.clip(side, 0, 1)) / 256, dtype=torch.float32).movedim(-1, 1)
        for side in map(np.stack, zip(*pairs, strict=True))
    )


def stored_values():
    """What is stored: the values of each metric, by ``"heightxwidth"``."""
    return json.loads(VALUES.read_text(encoding="utf-8"))


def write_values():
    import pyiqa

    content = {"pyiqa": version("pyiqa"), "seed": SEED}
    for name in ("cw_ssim", "nlpd"):
        metric = pyiqa.create_metric(name, device=torch.device("cpu"))
        content[name] = {}
        for height, width in SIZES:
            reference, distorted = generated_pairs(height, width)
            values = metric(distorted, reference).reshape(-1).tolist()
            content[name][f"{height}x{width}"] = [float(f"{value:.12g}") for value in values]
    VALUES.parent.mkdir(exist_ok=True)
    VALUES.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_values()
