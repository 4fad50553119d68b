"""Small trees in BAPPS's layout."""

import numpy as np
from PIL import Image

PARTS = {"2afc": ("ref", "p0", "p1", "judge"), "jnd": ("p0", "p1", "same")}


def pixels(seed, size=16):
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def write_subset(root, subset, n=2, task="2afc", split="val", size=16, seed=0):
    """Write n samples; image j of sample i is pixels(seed + 10 * i + j), its label i / n."""
    folder = root / task / split / subset
    for j, part in enumerate(PARTS[task]):
        (folder / part).mkdir(parents=True)
        for i in range(n):
            stem = folder / part / f"{i:06d}"
            if part in ("judge", "same"):
                np.save(f"{stem}.npy", np.array([i / n], dtype=np.float32))
            else:
                Image.fromarray(pixels(seed + 10 * i + j, size)).save(f"{stem}.png")
    return folder
