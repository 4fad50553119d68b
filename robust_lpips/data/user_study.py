"""Loaders for the user study on small shifts (Ghildyal and Liu, ECCV 2022)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from torch.utils.data import Dataset

from robust_lpips.data.bapps import PathLike, read_image

SUBSET = "user-study"

# A stimulus holds both images of a pair side by side, with a gap between them.
SIDE = 256
GAP = 20

COLUMNS = ("image", "shift", "answer")
STIMULUS = re.compile(r"(?P<image>.+)_n-(?P<shift>0|[1-9]\d*)\.png")


class Stimulus(NamedTuple):
    """File of one pair, and the share of people who judged its images to be the same."""

    folder: Path
    subset: str
    sample: str
    path: str
    same: float


def read_responses(path: PathLike) -> pd.DataFrame:
    """Read the answers of the user study on small shifts, one per row.

    People saw an image next to the same image shifted by 0 to 9 pixels, and said whether the two
    are the same. The released file is a JSON object of the answers by stimulus:
    ``{"./0_9_pix_shift/00318_n-1.png": [0, 1, 1, 1], ...}``.

    Args:
        path: the file. Stimuli are named ``<image>_n-<shift>.png``, in any folder.

    Returns:
        Columns ``image``, the name; ``shift``, in pixels; and ``answer``, 1 for "they are the same"
        and 0 for "one appears shifted". Rows are in the order of the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no JSON object, no stimuli, a name of another form, a repeated stimulus, no
            answers, or an answer that is neither 0 nor 1.

    Source: Ghildyal and Liu, ECCV 2022, the study of human perception of small shifts.
    """
    path = Path(path)
    try:
        pairs = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_Pairs)
    except ValueError as error:  # bytes that are no text, too
        raise ValueError(f"{path}: expected JSON, cannot read it ({error})") from error
    if not isinstance(pairs, _Pairs) or not pairs:
        raise ValueError(f"{path}: expected an object of answers by stimulus")
    rows, seen = [], set()
    for name, answers in pairs:
        image, shift = _parsed(path, name)
        if (image, shift) in seen:
            raise ValueError(f"{path}: stimulus {name!r} comes twice")
        seen.add((image, shift))
        if not isinstance(answers, list) or isinstance(answers, _Pairs) or not answers:
            raise ValueError(f"{path}: answers to {name!r} must be a list of some; got {answers!r}")
        for answer in answers:
            if isinstance(answer, bool) or not isinstance(answer, int) or answer not in (0, 1):
                raise ValueError(f"{path}: answers to {name!r} must be 0 or 1; got {answer!r}")
            rows.append((image, shift, answer))
    return pd.DataFrame(rows, columns=list(COLUMNS))


class UserStudyPairs(Dataset):
    """Pairs of the user study on small shifts, and the share of people who judged them the same.

    A stimulus is one picture of 532x256 pixels that shows both images of a pair, 256x256 each, with
    20 columns between them; the notebook and the script released with the study cut it in this
    way. p0 is the left image and p1 the right one; the shifted one of the two is not documented.

    An item is a dict of ``p0`` and ``p1``, uint8 tensors (3, 256, 256); ``same``, a float in
    [0, 1]; ``subset``, always ``"user-study"``; and ``sample``, ``<image>_n-<shift>``, as in
    :class:`~robust_lpips.data.JNDDataset`.

    Args:
        folder: the folder of the stimuli ``<image>_n-<shift>.png``, ``0_9_pix_shift`` as released.
        responses: the table of :func:`read_responses`, or the file to read it from. Stimuli without
            answers are left out.

    Attributes:
        samples: one :class:`Stimulus` per item, in the order of the answers.
        folder: the folder of the stimuli.

    Raises:
        FileNotFoundError: the folder, or a stimulus that has answers, is missing.
        ValueError: answers that cannot be read, or a table with other columns or values; when an
            item is read, an image of another size, or one that cannot be decoded.

    Source: Ghildyal and Liu, ECCV 2022, table 9; stimuli and answers are linked from the folder
    ``n_pixel_shift_study/user_study`` of github.com/abhijay9/ShiftTolerant-LPIPS.
    """

    def __init__(self, folder: PathLike, responses: PathLike | pd.DataFrame) -> None:
        self.folder = Path(folder).expanduser()
        if not self.folder.is_dir():
            raise FileNotFoundError(f"{self.folder}: no such folder; expected the study's stimuli")
        if isinstance(responses, pd.DataFrame):
            _check_table(responses)
        else:
            responses = read_responses(responses)
        shares = responses.groupby(["image", "shift"], sort=False)["answer"].mean()
        self.samples = [self._stimulus(*key, float(same)) for key, same in shares.items()]

    def _stimulus(self, image: str, shift: int, same: float) -> Stimulus:
        sample = f"{image}_n-{shift}"
        path = self.folder / f"{sample}.png"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file, but there are answers to it")
        return Stimulus(self.folder, SUBSET, sample, str(path), same)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | float | str]:
        sample = self.samples[index]
        p0, p1 = _halves(sample.path)
        return {
            "p0": p0,
            "p1": p1,
            "same": sample.same,
            "subset": sample.subset,
            "sample": sample.sample,
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} samples; {self.folder})"


class _Pairs(list):
    """Names and values of a JSON object as a list, which keeps repeated names."""


def _parsed(path: Path, name: str) -> tuple[str, int]:
    """Image and shift of the stimulus ``name``."""
    match = STIMULUS.fullmatch(re.split(r"[/\\]", name)[-1])
    if match is None:
        raise ValueError(f"{path}: stimuli must be named <image>_n-<shift>.png; got {name!r}")
    return match["image"], int(match["shift"])


def _check_table(responses: pd.DataFrame) -> None:
    if missing := [name for name in COLUMNS if name not in responses.columns]:
        raise ValueError(f"responses lacks columns: {', '.join(missing)}")
    if responses.empty:
        raise ValueError("responses must have rows; got none")
    if not responses["answer"].isin([0, 1]).all():
        raise ValueError("responses must have answers of 0 and 1 alone")


def _halves(path: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Left and right image of a stimulus, uint8 (3, 256, 256) each."""
    picture = read_image(path)
    height, width = picture.shape[1:]
    if (height, width) != (SIDE, 2 * SIDE + GAP):
        raise ValueError(
            f"{path}: expected two images of {SIDE}x{SIDE} with {GAP} columns between them, "
            f"{2 * SIDE + GAP}x{SIDE} in all; got {width}x{height}"
        )
    return picture[..., :SIDE].contiguous(), picture[..., SIDE + GAP :].contiguous()
