"""Photographs that ship inside scikit-image, by split.

Only files of the installed package are read, never through ``skimage.data``, whose functions may
download. Left out: drawings, charts, logos, pages of text; the right view of the motorcycle, which
would count the scene of the left one twice; and ``microaneurysms``, which is 102 pixels wide.
"""

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

# Split -> name -> file. Each split has four photographs in colour, then four in grey, and among
# them people or animals, things, textures, the sky, and science. Names have no "-", because file
# stems join name and number with one.
PHOTOGRAPHS = {
    "train": {
        "astronaut": "astronaut.png",
        "motorcycle": "motorcycle_left.png",
        "retina": "retina.jpg",
        "rocket": "rocket.jpg",
        "brick": "brick.png",
        "clock_motion": "clock_motion.png",
        "grass": "grass.png",
        "moon": "moon.png",
    },
    "val": {
        "chelsea": "chelsea.png",
        "coffee": "coffee.png",
        "hubble_deep_field": "hubble_deep_field.jpg",
        "ihc": "ihc.png",
        "camera": "camera.png",
        "cell": "cell.png",
        "coins": "coins.png",
        "gravel": "gravel.png",
    },
}


def photograph_path(file: str) -> Path:
    """Path of ``file`` in the installed scikit-image; FileNotFoundError if it is not there."""
    spec = find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"{file}: expected it inside scikit-image, which is not installed")
    path = Path(spec.submodule_search_locations[0], "data", file)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected this photograph inside scikit-image's wheel")
    return path


@cache
def photograph_digests() -> dict[str, str]:
    """SHA-256 of the file of each photograph, by name.

    Raises:
        FileNotFoundError: a photograph is not where scikit-image keeps it.
    """
    files = {name: file for split in PHOTOGRAPHS.values() for name, file in split.items()}
    return {
        name: hashlib.sha256(photograph_path(file).read_bytes()).hexdigest()
        for name, file in files.items()
    }


def load_photographs(split: str, smallest_side: int = 1) -> dict[str, np.ndarray]:
    """Photographs of a split by name, uint8 (H, W, 3), with sides of ``smallest_side`` or more.

    Grey photographs get three equal channels.

    Raises:
        FileNotFoundError: a photograph is not where scikit-image keeps it.
        ValueError: all photographs are smaller.
    """
    loaded = {}
    for name, file in PHOTOGRAPHS[split].items():
        with Image.open(photograph_path(file)) as image:
            if min(image.size) >= smallest_side:
                loaded[name] = np.asarray(image.convert("RGB"))
    if not loaded:
        raise ValueError(f"image_size: no photograph of {split!r} has a side of {smallest_side}")
    return loaded
