"""The sample set: triplets of bundled photographs in BAPPS's layout, judged by a metric.

No people judged these patches. The set serves for small trainings and for regression checks. The
metric that judges is an argument: nothing here imports one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import types
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from operator import index as as_integer
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from robust_lpips import distortions
from robust_lpips._cache import cache_dir
from robust_lpips.data.bapps import PathLike, TwoAFCDataset
from robust_lpips.data.fingerprint import add_content
from robust_lpips.data.packed import PackedDataset
from robust_lpips.data.photographs import PHOTOGRAPHS, load_photographs

# Raise this number whenever the same arguments give other files: cached sets are then rebuilt.
RECIPE = 1

SUBSET = "traditional"
# Name of the judge that every sample set has unless another one is given.
JUDGE = "vgg16-shift-tolerant"
DISTANCES_FILE = "judge_distances.csv"
MANIFEST_FILE = "sample.json"

MIN_IMAGE_SIZE = 32
MAX_CROP_ENLARGEMENT = 3
# Standard deviation, in grey levels, below which a crop counts as blank.
BLANK_CROP_STD = 6.0
# Largest number of draws for a crop that is not blank, or a distortion that changes the patch.
REDRAWS = 20
# Patches of 64x64 per batch of the judge; fewer if they are larger, for equal memory.
JUDGE_BATCH = 50


class Crop(NamedTuple):
    """Square of a photograph, in the photograph's pixels."""

    left: int
    top: int
    side: int
    flipped: bool

    def __str__(self) -> str:
        square = f"{self.side}x{self.side}+{self.left}+{self.top}"
        return f"{square} flipped" if self.flipped else square


class SampleTriplet(NamedTuple):
    """One triplet of uint8 (S, S, 3) patches, with the crop and the distortions that made it."""

    sample: str
    photograph: str
    crop: Crop
    ref: np.ndarray
    p0: np.ndarray
    p1: np.ndarray
    p0_distortion: str
    p1_distortion: str


@dataclass(frozen=True)
class Judge:
    """A metric whose verdicts stand in for people's judgments.

    Attributes:
        name: identifies the metric in the folder name and in the manifest of the sets that it
            judges: letters, digits, ``.``, ``_`` and ``-``. Metrics that differ need names that
            differ; a cached set is found by the name alone.
        distances: callable of three uint8 (N, 3, S, S) batches ``ref``, ``p0`` and ``p1``, values
            in 0..255, on the CPU. It returns d0, the distances of ``ref`` to ``p0``, and d1, those
            of ``ref`` to ``p1``, (N,) each; smaller is more alike.
        description: the metric in a few words, for the manifest. Default: its name.

    Raises:
        ValueError: ``name`` has other characters.
        TypeError: ``distances`` is not callable.
    """

    name: str
    distances: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
    description: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"\w[\w.-]*", self.name, re.ASCII):
            raise ValueError(
                "name of the judge must consist of letters, digits, '.', '_' and '-' and not begin "
                f"with '.' or '-'; got {self.name!r}"
            )
        if not callable(self.distances):
            raise TypeError(
                f"distances of the judge must be callable; got {type(self.distances).__name__}"
            )

    @classmethod
    def of(cls, metric: Callable[[Tensor, Tensor], Tensor]) -> Judge:
        """The judge that a metric makes, named after what it computes.

        Args:
            metric: a module, or a function without a closure, of two float32 (N, 3, S, S) batches
                in [-1, 1] that returns (N,) distances. Its name holds a digest of its weights and
                description, or of its code, so that sets of different metrics are never mixed.

        Raises:
            TypeError: if ``metric`` is another kind of callable, whose code does not identify it.
        """
        return cls(_identity(metric), partial(_compared, metric))


def _identity(metric: Callable) -> str:
    """Name of a metric that tells it from others."""
    digest = hashlib.sha256()
    if isinstance(metric, nn.Module):
        name = type(metric).__name__
        add_content(digest, (repr(metric), dict(metric.state_dict())))
    elif isinstance(metric, types.FunctionType) and metric.__closure__ is None:
        name, code = metric.__name__.strip("<>"), metric.__code__
        add_content(digest, (metric.__module__, code.co_code, repr(code.co_consts), code.co_names))
    else:
        raise TypeError(
            "judge must be a module, a function without a closure, or a Judge, which has a name; "
            f"got {type(metric).__name__}"
        )
    return f"{name}-{digest.hexdigest()[:16]}"


def _compared(metric: Callable, *images: Tensor) -> list[Tensor]:
    """Distances of the first of uint8 batches to each of the others."""
    ref, *others = (image.float() / 127.5 - 1.0 for image in images)
    with torch.inference_mode():
        return [metric(ref, other) for other in others]


def judged_dataset(
    root: PathLike | None, split: str, n: int, image_size: int, seed: int, judge: Judge
) -> TwoAFCDataset:
    """Read or build the sample set, see :func:`robust_lpips.data.sample_dataset`.

    Sets of different judges are kept in different folders; the default judge's name is left out
    of its folder's name.
    """
    recipe = _recipe(split, n, image_size, seed, judge)
    parent = cache_dir() if root is None else Path(root).expanduser()
    folder = parent / _folder_name(recipe)
    if not _is_complete(folder, recipe):
        parent.mkdir(parents=True, exist_ok=True)
        # Built next to its place and renamed when complete: the final name is never a part.
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=parent) as temporary:
            built = Path(temporary, "set")
            _build(built, recipe, judge)
            _install(built, folder, recipe)
    return TwoAFCDataset(folder, split=split, image_size=recipe["image_size"])


def judge_distances(
    dataset: TwoAFCDataset | PackedDataset, judge: str = JUDGE
) -> pd.DataFrame | None:
    """Read the distances that the judge of a sample set measured.

    Args:
        dataset: any data set.
        judge: name of the judge whose distances are wanted.

    Returns:
        One row per sample, in the order of ``dataset.samples``, with the columns subset, sample,
        view (always ``"full"``), d0, d1, judge. None if ``dataset`` is not a sample set, has
        another judge, or reads its patches at another size than they were judged at.

    Raises:
        ValueError: the table lacks a sample of ``dataset``.
    """
    if not isinstance(dataset, TwoAFCDataset | PackedDataset):
        return None
    if dataset.task != TwoAFCDataset.task:
        return None
    tables = []
    for root in dataset.roots:
        manifest = _read_manifest(root)
        path = root / "2afc" / dataset.split / SUBSET / DISTANCES_FILE
        if manifest is None or manifest.get("judge") != judge or not path.is_file():
            return None
        if dataset.image_size not in (None, manifest.get("image_size")):
            return None
        table = pd.read_csv(path, dtype={"subset": str, "sample": str, "view": str})
        wanted = [sample.sample for sample in dataset.samples if sample.root == root]
        if missing := set(wanted) - set(table["sample"]):
            raise ValueError(f"{path}: expected a row for {min(missing)}, found none")
        tables.append(table.set_index("sample").loc[wanted].reset_index()[list(table.columns)])
    return pd.concat(tables, ignore_index=True)


def draw_triplet(
    i: int, split: str, image_size: int, seed: int, photographs: Mapping[str, np.ndarray]
) -> SampleTriplet:
    """Draw triplet number ``i`` of a sample set, which depends on the arguments alone.

    ``photographs`` maps names to uint8 (H, W, 3) arrays with sides of ``image_size`` or more.
    """
    key = (sorted(PHOTOGRAPHS).index(split), image_size, i)
    # One stream each: how much randomness one draw consumes does not change the others.
    streams = np.random.SeedSequence(seed, spawn_key=key).spawn(3)
    crop_rng, rng0, rng1 = map(np.random.default_rng, streams)
    names = list(photographs)
    name = names[crop_rng.integers(len(names))]
    ref, crop = random_crop(crop_rng, photographs[name], image_size)
    p0, distortion0 = _distorted(rng0, ref)
    p1, distortion1 = _distorted(rng1, ref)
    return SampleTriplet(f"{name}-{i:06d}", name, crop, ref, p0, p1, distortion0, distortion1)


def _distorted(rng: np.random.Generator, ref: np.ndarray) -> tuple[np.ndarray, str]:
    """Apply a random distortion that changes ``ref``; return the patch and the description."""
    for _ in range(REDRAWS):
        distortion = distortions.random_distortion(rng)
        patch = distortion(ref)
        if not np.array_equal(patch, ref):
            break
    return patch, str(distortion)


def random_crop(
    rng: np.random.Generator, photograph: np.ndarray, image_size: int
) -> tuple[np.ndarray, Crop]:
    """Cut a random square of ``photograph`` (H, W, 3), as uint8 (image_size, image_size, 3).

    The side is between ``image_size`` and three times that, or the photograph's shorter side if
    that is less. The square is resampled with Pillow's bicubic filter, which low-passes before it
    shrinks, and flipped with probability 1/2. Blank squares are drawn again; if all draws are
    blank, the one of the largest contrast is kept.
    """
    height, width = photograph.shape[:2]
    largest = min(height, width, MAX_CROP_ENLARGEMENT * image_size)
    best = None
    for _ in range(REDRAWS):
        side = int(rng.integers(image_size, largest, endpoint=True))
        left = int(rng.integers(0, width - side, endpoint=True))
        top = int(rng.integers(0, height - side, endpoint=True))
        crop = Crop(left, top, side, flipped=bool(rng.random() < 0.5))
        patch = cut(photograph, crop, image_size)
        spread = float(patch.mean(axis=2).std())
        if best is None or spread > best[0]:
            best = (spread, patch, crop)
        if spread >= BLANK_CROP_STD:
            break
    _, patch, crop = best
    return patch, crop


def cut(photograph: np.ndarray, crop: Crop, image_size: int) -> np.ndarray:
    """Cut the square ``crop`` of ``photograph`` (H, W, 3) as uint8 (image_size, image_size, 3)."""
    rows = slice(crop.top, crop.top + crop.side)
    columns = slice(crop.left, crop.left + crop.side)
    square = Image.fromarray(np.ascontiguousarray(photograph[rows, columns]))
    patch = np.asarray(square.resize((image_size, image_size), Image.Resampling.BICUBIC))
    return np.ascontiguousarray(patch[:, ::-1]) if crop.flipped else patch


def _recipe(split: str, n: int, image_size: int, seed: int, judge: Judge) -> dict:
    """Check the arguments and name everything that decides the files."""
    if split not in PHOTOGRAPHS:
        raise ValueError(f"split must be one of {', '.join(map(repr, PHOTOGRAPHS))}; got {split!r}")
    least = {"n": 1, "image_size": MIN_IMAGE_SIZE, "seed": 0}
    numbers = {}
    for name, value in {"n": n, "image_size": image_size, "seed": seed}.items():
        try:
            numbers[name] = as_integer(value)
        except TypeError:
            raise ValueError(f"{name} must be an integer; got {value!r}") from None
        if numbers[name] < least[name]:
            raise ValueError(f"{name} must be at least {least[name]}; got {value!r}")
    return {"recipe": RECIPE, "split": split, **numbers, "judge": judge.name}


def _folder_name(recipe: Mapping) -> str:
    name = "sample-v{recipe}-{split}-n{n}-{image_size}px-seed{seed}".format_map(recipe)
    return name if recipe["judge"] == JUDGE else f"{name}-judge-{recipe['judge']}"


def _read_manifest(folder: Path) -> dict | None:
    """Content of ``sample.json`` in ``folder``; None if it is missing or unreadable."""
    try:
        manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) and "recipe" in manifest else None


def _is_complete(folder: Path, recipe: Mapping) -> bool:
    """True if ``folder`` is the sample set of that recipe."""
    manifest = _read_manifest(folder)
    return manifest is not None and recipe.items() <= manifest.items()


def _install(built: Path, folder: Path, recipe: Mapping) -> None:
    """Rename ``built`` to ``folder``, unless another process has built the same set there."""
    while True:
        try:
            built.rename(folder)
            return
        except OSError:
            if _is_complete(folder, recipe):
                return
            if not os.path.lexists(folder):
                raise
        _make_way(folder, rubbish=built.parent)


def _make_way(folder: Path, rubbish: Path) -> None:
    """Move ``folder`` into ``rubbish`` if an older recipe made it, else to a name next to it."""
    manifest = _read_manifest(folder)
    outdated = manifest is not None and manifest["recipe"] != RECIPE
    prefix = f"{folder.name}-replaced-"
    away = Path(tempfile.mkdtemp(prefix=prefix, dir=rubbish if outdated else folder.parent))
    try:
        folder.rename(away / "old")
    except FileNotFoundError:  # another process has moved it
        away.rmdir()
        return
    if not outdated:
        warnings.warn(
            f"{folder} was not the sample set of that name: the set is built again, and the "
            f"previous content is kept in {away / 'old'}",
            UserWarning,
            stacklevel=5,
        )


def _build(folder: Path, recipe: Mapping, judge: Judge) -> None:
    """Write the sample set of ``recipe`` into the new folder ``folder``."""
    split, n, image_size = recipe["split"], recipe["n"], recipe["image_size"]
    photographs = load_photographs(split, smallest_side=image_size)
    subset = folder / "2afc" / split / SUBSET
    for part in ("ref", "p0", "p1", "judge"):
        (subset / part).mkdir(parents=True)

    draw = partial(
        draw_triplet,
        split=split,
        image_size=image_size,
        seed=recipe["seed"],
        photographs=photographs,
    )
    rows, distances = [], []
    batch_size = max(1, JUDGE_BATCH * 64**2 // image_size**2)
    with tqdm(total=n, desc=f"building the {split} sample set", unit="triplet") as progress:
        for start in range(0, n, batch_size):
            triplets = [draw(i) for i in range(start, min(n, start + batch_size))]
            for triplet, d0, d1 in zip(triplets, *_judged(triplets, judge), strict=True):
                verdict = 1.0 if d1 < d0 else 0.0
                _write_triplet(subset, triplet, verdict)
                rows.append(
                    {
                        "sample": triplet.sample,
                        "photograph": triplet.photograph,
                        "crop": str(triplet.crop),
                        "p0": triplet.p0_distortion,
                        "p1": triplet.p1_distortion,
                    }
                )
                distances.append((SUBSET, triplet.sample, "full", d0, d1, verdict))
            progress.update(len(triplets))

    columns = ["subset", "sample", "view", "d0", "d1", "judge"]
    _write_csv(folder / "triplets.csv", pd.DataFrame(rows))
    _write_csv(subset / DISTANCES_FILE, pd.DataFrame(distances, columns=columns))
    manifest = {
        **{name: value for name, value in recipe.items() if name != "judge"},
        "subset": SUBSET,
        "photographs": sorted(photographs),
        "judge": judge.name,
        "judged_by": (
            f"nobody: judge is the verdict of {judge.description or judge.name} on these "
            "patches, 1 where it finds p1 closer to ref than p0, else 0"
        ),
        "versions": {name: version(name) for name in ("numpy", "pillow", "scikit-image", "torch")},
    }
    text = json.dumps(manifest, indent=2) + "\n"
    (folder / MANIFEST_FILE).write_text(text, encoding="utf-8", newline="\n")


@torch.inference_mode()
def _judged(triplets: list[SampleTriplet], judge: Judge) -> list[list[float]]:
    """Distances d0 and d1 of the triplets, checked and rounded as they are written."""
    images = (
        torch.from_numpy(np.stack([getattr(t, part) for t in triplets])).movedim(3, 1)
        for part in ("ref", "p0", "p1")
    )
    d0, d1 = judge.distances(*images)
    for name, distance in {"d0": d0, "d1": d1}.items():
        given = getattr(distance, "shape", type(distance).__name__)
        if given != (len(triplets),):
            raise ValueError(
                f"judge {judge.name!r} must return {name} of shape ({len(triplets)},); got {given}"
            )
        if not torch.isfinite(distance).all():
            raise ValueError(f"judge {judge.name!r} must return finite distances; got {distance}")
    return [[_rounded(value) for value in distance.tolist()] for distance in (d0, d1)]


def _rounded(distance: float) -> float:
    """Round to six digits, as written, so that the file's distances imply the file's verdict."""
    return float(f"{distance:.6g}")


def _write_triplet(subset: Path, triplet: SampleTriplet, verdict: float) -> None:
    for part in ("ref", "p0", "p1"):
        Image.fromarray(getattr(triplet, part)).save(subset / part / f"{triplet.sample}.png")
    np.save(subset / "judge" / f"{triplet.sample}.npy", np.array([verdict]))


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    table.to_csv(path, index=False, lineterminator="\n", encoding="utf-8")
