"""The sample set: triplets that can be built anywhere, laid out as BAPPS is, judged by a metric.

No people judged these patches. It serves to train small and to see that nothing broke.
"""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from operator import index as as_integer
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from tqdm import tqdm

from robust_lpips import distortions
from robust_lpips._cache import cache_dir
from robust_lpips.data.bapps import PathLike, TwoAFCDataset
from robust_lpips.data.packed import PackedDataset
from robust_lpips.data.photographs import PHOTOGRAPHS, load_photographs

# Raise it whenever the same arguments would give other files: cached sets are then rebuilt.
RECIPE = 1

SUBSET = "traditional"
JUDGE = "vgg16-shift-tolerant"
DISTANCES_FILE = "judge_distances.csv"
MANIFEST_FILE = "sample.json"

MIN_IMAGE_SIZE = 32
MAX_CROP_ENLARGEMENT = 3
# Standard deviation, in grey levels, below which a crop counts as blank.
BLANK_CROP_STD = 6.0
# How often to draw until a crop is not blank, or a distortion changes something.
REDRAWS = 20
# Patches of 64x64 the judge sees at once; of larger ones fewer, so that memory stays the same.
JUDGE_BATCH = 50


class Crop(NamedTuple):
    """A square of a photograph, in its pixels."""

    left: int
    top: int
    side: int
    flipped: bool

    def __str__(self) -> str:
        square = f"{self.side}x{self.side}+{self.left}+{self.top}"
        return f"{square} flipped" if self.flipped else square


class SampleTriplet(NamedTuple):
    """One triplet of uint8 (S, S, 3) patches, and how it came about."""

    sample: str
    photograph: str
    crop: Crop
    ref: np.ndarray
    p0: np.ndarray
    p1: np.ndarray
    p0_distortion: str
    p1_distortion: str


def sample_dataset(
    root: PathLike | None = None,
    split: str = "val",
    n: int = 600,
    image_size: int = 64,
    seed: int = 0,
) -> TwoAFCDataset:
    """2AFC triplets of distorted photographs, built once and then read from disk.

    The patches are crops of photographs that ship inside scikit-image (nothing is downloaded);
    p0 and p1 are drawn independently, each one distortion or a composition of two. The files are
    the same bytes for the same arguments and library versions, and a smaller ``n`` gives a part of
    a larger one. No photograph is in both splits. Samples are named ``<photograph>-<number>``.

    **No people judged them.** ``judge`` is the verdict of the released VGG-16 shift-tolerant
    metric: 1.0 where it finds p1 closer to ref, else 0.0.

    Args:
        root: the folder to build in, under a name that states the arguments. Default: the user's
            cache (:func:`robust_lpips._cache.cache_dir`).
        split: ``"train"`` or ``"val"``.
        n: number of triplets, from 1.
        image_size: side of the patches in pixels, from 32 up to the largest photograph.
        seed: from 0.

    Returns:
        The :class:`TwoAFCDataset` over it, of the one subset ``"traditional"``.

    Raises:
        ValueError: an argument outside of what is listed above.
        FileNotFoundError: a photograph is not where scikit-image keeps it, or the judge's weights
            cannot be found.
    """
    recipe = _recipe(split, n, image_size, seed)
    parent = cache_dir() if root is None else Path(root).expanduser()
    folder = parent / _folder_name(recipe)
    if not _is_complete(folder, recipe):
        parent.mkdir(parents=True, exist_ok=True)
        # Built aside and renamed when done: what bears the final name is always whole.
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=parent) as aside:
            built = Path(aside, "set")
            _build(built, recipe)
            _install(built, folder, recipe)
    return TwoAFCDataset(folder, split=split, image_size=recipe["image_size"])


def judge_distances(dataset: TwoAFCDataset | PackedDataset) -> pd.DataFrame | None:
    """The distances that the sample set's judge measured, a row for each sample of ``dataset``.

    Returns:
        Columns subset, sample, view (always ``"full"``), d0, d1, judge, in the order of
        ``dataset.samples``. None where ``dataset`` is no sample set, or reads its patches at
        another size than they were judged at.

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
        if manifest is None or not path.is_file():
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
    """Triplet number ``i`` of a sample set: a function of its arguments alone.

    ``photographs`` maps names to uint8 (H, W, 3) no smaller than ``image_size``.
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
    """``ref`` under a random distortion that changes it, and what that was."""
    for _ in range(REDRAWS):
        distortion = distortions.random_distortion(rng)
        patch = distortion(ref)
        if not np.array_equal(patch, ref):
            break
    return patch, str(distortion)


def random_crop(
    rng: np.random.Generator, photograph: np.ndarray, image_size: int
) -> tuple[np.ndarray, Crop]:
    """A random square of ``photograph`` (H, W, 3), as uint8 (image_size, image_size, 3).

    Its side is from ``image_size`` to three times that, as far as the photograph goes; it is
    resampled with Pillow's bicubic filter, which low-passes before it shrinks, and flipped half
    of the time. Blank squares are drawn again; if all tries are blank, the least blank is kept.
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
    """The square ``crop`` of ``photograph`` (H, W, 3) as uint8 (image_size, image_size, 3)."""
    rows = slice(crop.top, crop.top + crop.side)
    columns = slice(crop.left, crop.left + crop.side)
    square = Image.fromarray(np.ascontiguousarray(photograph[rows, columns]))
    patch = np.asarray(square.resize((image_size, image_size), Image.Resampling.BICUBIC))
    return np.ascontiguousarray(patch[:, ::-1]) if crop.flipped else patch


def _recipe(split: str, n: int, image_size: int, seed: int) -> dict:
    """The checked arguments, as they are written into the manifest."""
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
    return {"recipe": RECIPE, "split": split, **numbers}


def _folder_name(recipe: Mapping) -> str:
    return "sample-v{recipe}-{split}-n{n}-{image_size}px-seed{seed}".format_map(recipe)


def _read_manifest(folder: Path) -> dict | None:
    """What ``sample.json`` in ``folder`` says; None where there is none that can be read."""
    try:
        manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) and "recipe" in manifest else None


def _is_complete(folder: Path, recipe: Mapping) -> bool:
    """Whether ``folder`` is the sample set of that recipe."""
    manifest = _read_manifest(folder)
    return manifest is not None and recipe.items() <= manifest.items()


def _install(built: Path, folder: Path, recipe: Mapping) -> None:
    """Give ``built`` its final name, unless another process was faster."""
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
    """Move ``folder`` away: into ``rubbish`` where an older recipe of ours made it, else aside."""
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
            f"{folder} was not the sample set of that name: the set is built anew, and what was "
            f"there is kept in {away / 'old'}",
            UserWarning,
            stacklevel=4,
        )


def _build(folder: Path, recipe: Mapping) -> None:
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
    judge = _Judge()
    with tqdm(total=n, desc=f"building the {split} sample set", unit="triplet") as progress:
        for start in range(0, n, batch_size):
            triplets = [draw(i) for i in range(start, min(n, start + batch_size))]
            for triplet, (d0, d1) in zip(triplets, judge(triplets), strict=True):
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
        **recipe,
        "subset": SUBSET,
        "photographs": sorted(photographs),
        "judge": JUDGE,
        "judged_by": (
            "nobody: judge is the verdict of the released VGG-16 shift-tolerant metric on these "
            "patches, 1 where it finds p1 closer to ref than p0, else 0"
        ),
        "versions": {name: version(name) for name in ("numpy", "pillow", "scikit-image", "torch")},
    }
    text = json.dumps(manifest, indent=2) + "\n"
    (folder / MANIFEST_FILE).write_text(text, encoding="utf-8", newline="\n")


class _Judge:
    """The released metric that stands in for people; loaded once."""

    def __init__(self) -> None:
        from robust_lpips.metric import RobustLPIPS

        # Layer by layer, so that the numbers on disk do not depend on what makes it faster.
        self.metric = RobustLPIPS(JUDGE).unfuse()

    @torch.inference_mode()
    def __call__(self, triplets: list[SampleTriplet]) -> list[tuple[float, float]]:
        """The distances (d0, d1) of each triplet."""
        ref, p0, p1 = (
            self.metric.features(
                torch.from_numpy(np.stack([getattr(t, part) for t in triplets])).movedim(3, 1)
            )
            for part in ("ref", "p0", "p1")
        )
        d0, d1 = self.metric.distance(ref, p0), self.metric.distance(ref, p1)
        return [(_rounded(a), _rounded(b)) for a, b in zip(d0.tolist(), d1.tolist(), strict=True)]


def _rounded(distance: float) -> float:
    """To six digits, as it is written: so the verdict follows from the distances read again."""
    return float(f"{distance:.6g}")


def _write_triplet(subset: Path, triplet: SampleTriplet, verdict: float) -> None:
    for part in ("ref", "p0", "p1"):
        Image.fromarray(getattr(triplet, part)).save(subset / part / f"{triplet.sample}.png")
    np.save(subset / "judge" / f"{triplet.sample}.npy", np.array([verdict]))


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    table.to_csv(path, index=False, lineterminator="\n", encoding="utf-8")
