"""Loaders for image quality data sets: a reference, a distorted image, and people's score.

CSIQ (Larson and Chandler, J. Electronic Imaging 2010), TID2013 (Ponomarenko et al., Signal
Processing: Image Communication 2015), LIVE release 2 (Sheikh et al., IEEE Trans. Image Processing
2006) and KADID-10k (Lin et al., QoMEX 2019) in their published layouts, any other set from a CSV,
and graded severities, which need neither people's scores nor a download.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from robust_lpips.data.bapps import PathLike, read_image
from robust_lpips.data.photographs import load_photographs

# Types by the number in the middle of a file's name.
TID2013_TYPES = (
    "additive-gaussian-noise",
    "color-component-noise",
    "spatially-correlated-noise",
    "masked-noise",
    "high-frequency-noise",
    "impulse-noise",
    "quantization-noise",
    "gaussian-blur",
    "image-denoising",
    "jpeg",
    "jpeg2000",
    "jpeg-transmission-errors",
    "jpeg2000-transmission-errors",
    "non-eccentricity-pattern-noise",
    "local-blockwise-distortions",
    "mean-shift",
    "contrast-change",
    "color-saturation-change",
    "multiplicative-gaussian-noise",
    "comfort-noise",
    "lossy-compression-of-noisy-images",
    "color-quantization-with-dither",
    "chromatic-aberrations",
    "sparse-sampling",
)
KADID10K_TYPES = (
    "gaussian-blur",
    "lens-blur",
    "motion-blur",
    "color-diffusion",
    "color-shift",
    "color-quantization",
    "color-saturation-1",
    "color-saturation-2",
    "jpeg2000",
    "jpeg",
    "white-noise",
    "color-component-noise",
    "impulse-noise",
    "multiplicative-noise",
    "denoise",
    "brighten",
    "darken",
    "mean-shift",
    "jitter",
    "non-eccentricity-patch",
    "pixelate",
    "quantization",
    "color-block",
    "high-sharpen",
    "contrast-change",
)
# Number of images by type, originals included, in the order of dmos.mat.
LIVE_TYPES = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}

# Folders of images by the type's name in the workbook of CSIQ, where the two differ.
_CSIQ_FOLDERS = {"noise": "awgn", "jpeg 2000": "jpeg2000"}
_CSIQ_LABELS = ("csiq_label.txt", "csiq.DMOS.xlsx")
_LIVE_SCORES = ("dmos_realigned.mat", "dmos.mat")

# Distortions of :mod:`robust_lpips.distortions.traditional` that change grey photographs as well.
GRADED_TYPES = (
    "gaussian_blur",
    "gaussian_white_noise",
    "pink_noise",
    "jpeg",
    "contrast",
    "lightness_shift",
    "color_shift",
    "ghosting",
    "shift",
    "affine_warp",
    "cubic_warp",
    "chromatic_aberration",
)
SEVERITIES = (0.2, 0.4, 0.6, 0.8, 1.0)


class ScoredPair(NamedTuple):
    """Files of one pair, and its published score."""

    reference: Path
    distorted: Path
    score: float
    subset: str
    sample: str


class IQADataset(Dataset):
    """Pairs of a reference and a distorted image, and people's score of the latter.

    An item is a dict of ``p0``, the reference, and ``p1``, the distorted image, uint8 tensors
    (3, H, W) whose size may differ between pairs; ``score``, the published float; ``subset``, the
    type of distortion if it is known, else the set's name; and ``sample``, the name of the pair.

    The constructors :meth:`csiq`, :meth:`tid2013`, :meth:`live`, :meth:`kadid10k` and
    :meth:`from_csv` find files regardless of case, ignore files without a score, and raise

    - FileNotFoundError if the folder, its scores or images are missing; the message names the
      first missing image and their number,
    - ValueError if scores cannot be read, are not numbers, or a pair has two scores.

    Args:
        name: name of the set.
        samples: one :class:`ScoredPair` per item, in the same order.
        higher_is_better: True if a higher score is a better image (MOS), False for most DMOS.
    """

    def __init__(self, name: str, samples: Sequence[ScoredPair], higher_is_better: bool) -> None:
        self.name = name
        self.samples = list(samples)
        self.higher_is_better = higher_is_better
        _check_samples(name, self.samples)
        self._references = {pair.sample: pair.reference.stem.lower() for pair in self.samples}

    @classmethod
    def csiq(cls, root: PathLike) -> IQADataset:
        """CSIQ: DMOS in [0, 1], higher is worse.

        ``src_imgs/<name>.png``, ``dst_imgs/<type>/<name>.<TYPE>.<level>.png``, and the scores:
        ``csiq_label.txt`` (lines of a file's name and its score) or else the published
        ``csiq.DMOS.xlsx``, for which openpyxl is needed (ImportError).
        """
        root = _folder(root)
        labels, sheet = (root / name for name in _CSIQ_LABELS)
        if not labels.is_file() and not sheet.is_file():
            raise FileNotFoundError(f"{root}: expected {' or '.join(_CSIQ_LABELS)} in it")
        scores = _csiq_text(labels) if labels.is_file() else _csiq_sheet(sheet)
        files = _Files(root)
        pairs = []
        for distorted, score in scores:
            # <name>.<TYPE>.<level>.png; folders are called as the types, in small letters.
            name, kind, *_ = distorted.rsplit(".", 3)
            subset = kind.lower()
            path = files.path(f"dst_imgs/{subset}", distorted)
            reference = files.path("src_imgs", f"{name}.png")
            pairs.append(ScoredPair(reference, path, score, subset, path.stem))
        files.check()
        return cls("CSIQ", pairs, higher_is_better=False)

    @classmethod
    def tid2013(cls, root: PathLike) -> IQADataset:
        """TID2013: MOS in [0, 9], higher is better.

        ``reference_images/I01.BMP``, ``distorted_images/i01_01_1.bmp`` (reference, type, level)
        and ``mos_with_names.txt`` (lines of a score and a file's name).
        """
        root = _folder(root)
        files = _Files(root)
        pairs = []
        for score, distorted in _lines(root / "mos_with_names.txt"):
            stem = distorted.rpartition(".")[0].lower()
            reference, subset = _numbered(distorted, TID2013_TYPES)
            pairs.append(
                ScoredPair(
                    files.path("reference_images", f"{reference}.bmp"),
                    files.path("distorted_images", distorted),
                    _number(score, distorted),
                    subset,
                    stem,
                )
            )
        files.check()
        return cls("TID2013", pairs, higher_is_better=True)

    @classmethod
    def live(cls, root: PathLike) -> IQADataset:
        """LIVE release 2: DMOS, higher is worse; originals among the distorted are left out.

        ``refimgs/``, ``jp2k/``, ``jpeg/``, ``wn/``, ``gblur/`` and ``fastfading/``, each with
        ``img<k>.bmp``; ``refnames_all.mat``; and ``dmos_realigned.mat``, the scores that Sheikh et
        al. (2006) evaluate on, or ``dmos.mat`` if that is missing.
        """
        root = _folder(root)
        scores, originals, references = _live_scores(root)
        images = [(kind, k) for kind, count in LIVE_TYPES.items() for k in range(1, count + 1)]
        files = _Files(root)
        pairs = [
            ScoredPair(
                files.path("refimgs", reference),
                files.path(kind, f"img{k}.bmp"),
                float(score),
                kind,
                f"{kind}-img{k}",
            )
            for (kind, k), score, original, reference in zip(
                images, scores, originals, references, strict=True
            )
            if not original
        ]
        files.check()
        return cls("LIVE", pairs, higher_is_better=False)

    @classmethod
    def kadid10k(cls, root: PathLike) -> IQADataset:
        """KADID-10k: scores in [1, 5], in a column named ``dmos``; higher is better.

        ``images/I01.png``, ``images/I01_01_01.png`` (reference, type, level) and ``dmos.csv`` with
        the columns ``dist_img``, ``ref_img`` and ``dmos``.
        """
        root = _folder(root)
        files = _Files(root)
        pairs = []
        for distorted, reference, score in _csv(root / "dmos.csv", ("dist_img", "ref_img", "dmos")):
            _, subset = _numbered(distorted, KADID10K_TYPES)
            pairs.append(
                ScoredPair(
                    files.path("images", reference),
                    files.path("images", distorted),
                    _number(score, distorted),
                    subset,
                    distorted.rpartition(".")[0],
                )
            )
        files.check()
        return cls("KADID-10k", pairs, higher_is_better=True)

    @classmethod
    def from_csv(cls, path: PathLike, higher_is_better: bool) -> IQADataset:
        """Any other set: a CSV with the columns ``reference, distorted, score`` (and ``subset``).

        Paths are relative to the CSV's folder. The name of the set is the file's stem.
        """
        path = Path(path).expanduser()
        files = _Files(path.parent)
        pairs = [
            ScoredPair(
                files.path(*os.path.split(reference)),
                files.path(*os.path.split(distorted)),
                _number(score, distorted),
                subset or path.stem,
                distorted,
            )
            for reference, distorted, score, subset in _csv(
                path, ("reference", "distorted", "score"), optional="subset"
            )
        ]
        files.check()
        return cls(path.stem, pairs, higher_is_better)

    def reference_of(self, sample: str) -> str:
        """Stem of a sample's reference; pairs that share one are not independent."""
        return self._references[sample]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | float | str]:
        pair = self.samples[index]
        images = {"p0": read_image(pair.reference), "p1": read_image(pair.distorted)}
        if images["p0"].shape != images["p1"].shape:
            sizes = [f"{image.shape[1]}x{image.shape[2]}" for image in images.values()]
            raise ValueError(
                f"{pair.distorted}: expected the size of {pair.reference}, {sizes[0]}; "
                f"got {sizes[1]}"
            )
        return images | {"score": pair.score, "subset": pair.subset, "sample": pair.sample}

    def __repr__(self) -> str:
        better = "better" if self.higher_is_better else "worse"
        return f"{type(self).__name__}({self.name}: {len(self)} pairs; higher scores are {better})"


class GradedSeverities(Dataset):
    """Crops of photographs, distorted in known ways at increasing severities; nobody scored them.

    Items are those of :class:`IQADataset` with the negative severity as ``score``, so that higher
    is better. For one crop and type only the strength changes with the severity: direction, sign
    and pattern stay. The severities of different types are not comparable. The photographs are
    scikit-image's, of the validation split.

    Args:
        image_size: side of the crops in pixels.
        crops: number of crops per photograph.
        seed: of the positions of the crops and of the distortions.
        types: keys of :data:`robust_lpips.distortions.traditional.TRADITIONAL`.
        severities: in (0, 1], ascending.

    Raises:
        ValueError: ``crops`` is below 1, types are unknown or missing, severities are out of range
            or not ascending, or all photographs are smaller than the crops.
    """

    name = "graded severities"
    higher_is_better = True

    def __init__(
        self,
        image_size: int = 96,
        crops: int = 1,
        seed: int = 0,
        types: Sequence[str] = GRADED_TYPES,
        severities: Sequence[float] = SEVERITIES,
    ) -> None:
        from robust_lpips.distortions.traditional import TRADITIONAL

        unknown = [kind for kind in types if kind not in TRADITIONAL]
        if unknown or not types:
            raise ValueError(f"types must be some of {', '.join(TRADITIONAL)}; got {list(types)}")
        if crops < 1:
            raise ValueError(f"crops must be at least 1; got {crops!r}")
        rising = all(a < b for a, b in zip((0, *severities), (*severities, 2), strict=True))
        if not severities or not rising or severities[-1] > 1:
            raise ValueError(
                f"severities must be ascending numbers in (0, 1]; got {list(severities)}"
            )
        self.seed = seed
        photographs = load_photographs("val", image_size)
        self._crops = {
            (name, crop): _crop(image, image_size, np.random.default_rng([seed, i, crop]))
            for i, (name, image) in enumerate(photographs.items())
            for crop in range(crops)
        }
        self._cells = [
            (name, crop, kind, severity)
            for kind in types
            for name, crop in self._crops
            for severity in severities
        ]

    def reference_of(self, sample: str) -> str:
        """Name of a sample's photograph."""
        return sample.partition("-")[0]

    def __len__(self) -> int:
        return len(self._cells)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | float | str]:
        from robust_lpips.distortions import traditional

        name, crop, kind, severity = self._cells[index]
        reference = self._crops[name, crop]
        # Independent of the severity, which changes the strength alone.
        rng = np.random.default_rng([self.seed, crop, *kind.encode(), 0, *name.encode()])
        distorted = traditional.apply(kind, reference, severity, rng)
        images = {
            part: torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
            for part, image in (("p0", reference), ("p1", distorted))
        }
        sample = f"{name}-{crop}-{severity:g}"
        return images | {"score": -float(severity), "subset": kind, "sample": sample}


# --- Files -------------------------------------------------------------------------------------


@dataclass
class _Files:
    """Look-up of files below a root, regardless of case, that records missing files."""

    root: Path
    _names: dict[str, dict[str, str]] = field(default_factory=dict)
    _missing: list[Path] = field(default_factory=list)

    def path(self, folder: str, name: str) -> Path:
        """Path of a file; if it is missing, :meth:`check` raises later."""
        where = self.root / folder
        if folder not in self._names:
            listed = os.listdir(where) if where.is_dir() else []
            self._names[folder] = {entry.lower(): entry for entry in sorted(listed)}
        found = self._names[folder].get(name.lower())
        if found is None:
            self._missing.append(where / name)
        # If two files differ in case only, the exact name decides.
        exact = where / name
        return exact if found is None or exact.is_file() else where / found

    def check(self) -> None:
        """Raise FileNotFoundError if any file was missing."""
        missing = list(dict.fromkeys(self._missing))
        if missing:
            raise FileNotFoundError(
                f"{missing[0]}: no such file, which the scores name ({len(missing)} such)"
            )


def _folder(root: PathLike) -> Path:
    path = Path(root).expanduser()
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such folder")
    return path


def _text(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected the scores in it")
    return path.read_text(encoding="utf-8-sig")


def _lines(path: Path) -> list[tuple[str, str]]:
    """Pairs of words, one per line that is not empty."""
    lines = [line.split() for line in _text(path).splitlines() if line.strip()]
    for line in lines:
        if len(line) != 2:
            raise ValueError(f"{path}: expected two words a line; got {' '.join(line)!r}")
    return [(first, second) for first, second in lines]


def _csv(path: Path, columns: tuple[str, ...], optional: str | None = None) -> Iterable[list[str]]:
    """Values of each row as text; last the optional column, empty if it is missing."""
    import csv

    reader = csv.DictReader(_text(path).splitlines(), skipinitialspace=True)
    names = [name.strip() for name in reader.fieldnames or ()]
    if missing := [column for column in columns if column not in names]:
        raise ValueError(
            f"{path}: expected the columns {', '.join(columns)}; missing: {', '.join(missing)}"
        )
    reader.fieldnames = names
    rows = []
    for row in reader:
        values = [row[column] for column in columns]
        if any(not value for value in values):
            raise ValueError(f"{path}: expected {', '.join(columns)} in line {reader.line_num}")
        extra = [] if optional is None else [row.get(optional) or ""]
        rows.append([value.strip() for value in values + extra])
    return rows


def _number(text: object, name: str) -> float:
    try:
        number = float(text)
    except (TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number):
        raise ValueError(f"score of {name}: expected a finite number; got {text!r}")
    return number


def _numbered(distorted: str, types: Sequence[str]) -> tuple[str, str]:
    """Reference and type of a file named ``<reference>_<type>_<level>.<suffix>``."""
    reference, *numbers = distorted.rpartition(".")[0].split("_")
    if len(numbers) != 2 or not numbers[0].isdigit() or not 1 <= int(numbers[0]) <= len(types):
        raise ValueError(
            f"{distorted}: expected a file's name <reference>_<type>_<level>, "
            f"its type from 1 to {len(types)}"
        )
    return reference, types[int(numbers[0]) - 1]


def _check_samples(name: str, samples: Sequence[ScoredPair]) -> None:
    if not samples:
        raise ValueError(f"{name}: expected scores, but there are none")
    seen = set()
    for pair in samples:
        if pair.sample in seen:
            raise ValueError(f"{name}: {pair.sample} has two scores")
        seen.add(pair.sample)
        if not np.isfinite(pair.score):
            raise ValueError(
                f"{name}: score of {pair.sample} must be a finite number; got {pair.score}"
            )


# --- CSIQ --------------------------------------------------------------------------------------


def _csiq_text(path: Path) -> list[tuple[str, float]]:
    scores = []
    for name, score in _lines(path):
        # There are copies with the suffix, and copies without.
        name = f"{name.removesuffix('.png')}.png"
        if name.count(".") < 3:
            raise ValueError(f"{path}: expected names <name>.<TYPE>.<level>.png; got {name!r}")
        scores.append((name, _number(score, name)))
    return scores


def _csiq_sheet(path: Path) -> list[tuple[str, float]]:
    """File names and scores from the sheet ``all_by_image`` of the published workbook."""
    import pandas as pd

    try:
        sheets = pd.read_excel(path, sheet_name=None, header=None)
    except ImportError as error:
        raise ImportError(
            f"{path}: openpyxl is needed to read it (pip install openpyxl); "
            f"{_CSIQ_LABELS[0]} is read without"
        ) from error
    columns = ("image", "dst_type", "dst_lev", "dmos")
    # The table starts below a few lines of text, and the workbook has other tables.
    for cells in sheets.values():
        for top in range(min(len(cells), 20)):
            head = [str(cell).strip().lower() for cell in cells.iloc[top]]
            if all(column in head for column in columns):
                table = cells.iloc[top + 1 :, [head.index(column) for column in columns]].dropna()
                return [_csiq_row(*row) for row in table.itertuples(index=False)]
    raise ValueError(f"{path}: expected a sheet with the columns {', '.join(columns)}")


def _csiq_row(image: object, kind: object, level: object, dmos: object) -> tuple[str, float]:
    # A name that is a number, such as 1600, may be read as 1600.0.
    image = int(image) if isinstance(image, float) and image.is_integer() else image
    folder = str(kind).strip().lower()
    folder = _CSIQ_FOLDERS.get(folder, folder)
    name = f"{str(image).strip()}.{folder}.{int(level)}.png"
    return name, _number(dmos, name)


# --- LIVE --------------------------------------------------------------------------------------


def _live_scores(root: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Scores, flags of the originals, and names of the references, in the order of images."""
    path = next((root / name for name in _LIVE_SCORES if (root / name).is_file()), None)
    if path is None:
        raise FileNotFoundError(f"{root}: expected {' or '.join(_LIVE_SCORES)} in it")
    content = _matlab(path)
    scores = next((content[name] for name in ("dmos_new", "dmos") if name in content), None)
    if scores is None:
        raise ValueError(f"{path}: expected dmos_new or dmos in it")
    # The realigned scores come with or without the flags, which are the same in both files.
    flags = content if "orgs" in content else _matlab(root / "dmos.mat")
    if "orgs" not in flags:
        raise ValueError(f"{path}: expected orgs in it")
    names = root / "refnames_all.mat"
    references = _matlab(names).get("refnames_all")
    if references is None:
        raise ValueError(f"{names}: expected refnames_all in it")
    scores, originals = np.ravel(scores), np.ravel(flags["orgs"])
    references = [str(np.ravel(cell)[0]) for cell in np.ravel(references)]
    count = sum(LIVE_TYPES.values())
    for name, values in (("scores", scores), ("orgs", originals), ("refnames_all", references)):
        if len(values) != count:
            raise ValueError(f"{root}: expected {count} {name}; got {len(values)}")
    return scores, originals == 1, references


def _matlab(path: Path) -> dict[str, np.ndarray]:
    from scipy.io import loadmat

    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected the scores in it")
    return loadmat(path)


# --- Graded severities -------------------------------------------------------------------------


def _crop(image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    top, left = (int(rng.integers(side - size + 1)) for side in image.shape[:2])
    return image[top : top + size, left : left + size].copy()


# Constructors by name on the command line; each takes the folder of the set.
IQA_DATASETS: dict[str, Callable[[PathLike], IQADataset]] = {
    "csiq": IQADataset.csiq,
    "tid2013": IQADataset.tid2013,
    "live": IQADataset.live,
    "kadid10k": IQADataset.kadid10k,
}
