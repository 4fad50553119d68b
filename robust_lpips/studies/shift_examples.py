"""Examples of what one pixel does: distances that jump, and verdicts that turn.

As the examples of Ghildyal and Liu, ECCV 2022: a mildly distorted image is compared with its
reference as it is and shifted by a pixel; and of two distorted patches a metric finds another one
closer once both are shifted by a pixel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from robust_lpips.data.bapps import read_image
from robust_lpips.data.photographs import load_photographs
from robust_lpips.data.sample import random_crop
from robust_lpips.distortions import Composition
from robust_lpips.evaluation import ShiftViews, view_name
from robust_lpips.evaluation.distances import TripletTable
from robust_lpips.evaluation.scores import rank_flips
from robust_lpips.plots import plot_shift_examples
from robust_lpips.studies.folder import claim
from robust_lpips.studies.measured import measure_all
from robust_lpips.studies.published import published
from robust_lpips.studies.triplets import triplets
from robust_lpips.tables import to_markdown, write_csv, write_text

DEFAULT_METRICS = (
    "alexnet-untrained",
    "alexnet-shift-tolerant",
    "vgg16-shift-tolerant",
    "l2",
    "ssim",
)
DEFAULT_K = 4
# Triplets to choose from: some two minutes of two CPU cores for the default metrics.
DEFAULT_N = 100
# Hardly visible each; examples take turns.
MILD = (
    ("gaussian_white_noise", 0.1),
    ("jpeg", 0.3),
    ("contrast", 0.15),
    ("color_shift", 0.2),
)
_VIEWS = ShiftViews(max_shift=1)
_SHIFTS = (0, 1)


@dataclass(frozen=True)
class Settings:
    """What is shown.

    Attributes:
        images: files of one's own to be the references of the examples, whole; none: crops of the
            validation photographs.
        k: how many examples of photographs, and how many triplets at most.
        n: triplets of the sample set that are looked through for flips.
        image_size: side of crops and patches in pixels.
        seed: of crops, distortions and random weights.
    """

    images: tuple[str, ...] = ()
    k: int = DEFAULT_K
    n: int = DEFAULT_N
    image_size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("k", "n"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")


class Example(NamedTuple):
    """A reference and itself, mildly distorted: uint8 (3, H, W) both."""

    name: str
    distortion: str
    reference: Tensor
    distorted: Tensor


class Shown(NamedTuple):
    """Tables of what is shown, and its images: uint8 (3, H, W), by example and by sample."""

    examples: pd.DataFrame
    triplets: pd.DataFrame
    example_images: dict[int, list[Tensor]]
    triplet_images: dict[str, list[Tensor]]


def run(
    settings: Settings,
    output: str | Path,
    metrics: Sequence[str] = DEFAULT_METRICS,
    *,
    device: torch.device | str = "cpu",
    command: str | None = None,
) -> str:
    """Measure what is not yet measured, write tables and picture, and return the page.

    Into ``output`` go ``examples.csv`` (:func:`example_table`), ``triplets.csv``
    (:func:`triplet_table` of those shown), ``shift_examples`` as ``.md`` and ``.png``, and the
    distances, which are read and not measured again where they are there already.

    Args:
        settings: what is shown.
        output: a folder, new or of an earlier run under the same settings.
        metrics: as :func:`robust_lpips.comparison.load_metric` takes them. The triplets shown are
            the first on which the verdict of the first that can be measured flips.
        device: where to compute.
        command: what made the tables, to be printed with them.

    Raises:
        FileNotFoundError: no such image.
        ValueError: an image that cannot be read or is smaller than 16 pixels, no metric can be
            measured, or ``output`` holds results of other settings.
    """
    output = Path(output)
    examples = make_examples(settings)
    # Files may change under their names.
    digests = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in settings.images]
    claim(output, asdict(settings) | {"images": digests})
    options = {"device": device, "seed": settings.seed}
    pairs = measure_all(metrics, _Pairs(examples), output / "examples", batch_size=1, **options)
    dataset = triplets(None, "val", settings.n, settings.image_size)
    judged = measure_all(metrics, dataset, output / "triplets", max_shift=1, **options)
    verdicts = triplet_table(judged.tables)
    chosen = first_flips(verdicts, next(iter(judged.tables)), settings.k)
    shown = Shown(
        example_table(pairs.tables, examples),
        verdicts[verdicts["sample"].isin(chosen)].reset_index(drop=True),
        {i: [each.reference, each.distorted] for i, each in enumerate(examples, start=1)},
        _images(dataset, chosen),
    )
    write_csv(shown.examples, output / "examples.csv")
    write_csv(shown.triplets, output / "triplets.csv")
    plot_shift_examples(
        shown.examples,
        shown.triplets,
        {name: _pixels(images) for name, images in shown.example_images.items()},
        {name: _pixels(images) for name, images in shown.triplet_images.items()},
        output / "shift_examples.png",
        f"What one pixel does\n{_plot_note(settings, shown, verdicts)}",
    )
    page = _page(settings, shown, verdicts, pairs.left_out | judged.left_out, command)
    write_text(output / "shift_examples.md", page)
    return page


def make_examples(settings: Settings) -> list[Example]:
    """The references, each with a distortion of :data:`MILD`, in turns.

    Raises:
        FileNotFoundError: no such image.
        ValueError: an image that cannot be read or is smaller than 16 pixels.
    """
    examples = []
    for i, (name, image) in enumerate(_references(settings)):
        distort = Composition((MILD[i % len(MILD)],), seed=settings.seed)
        try:
            distorted = distort(image)
        except ValueError as error:
            raise ValueError(f"images: {name}: {error}") from error
        examples.append(Example(name, str(distort), _tensor(image), _tensor(distorted)))
    return examples


def example_table(tables: Mapping[str, pd.DataFrame], examples: Sequence[Example]) -> pd.DataFrame:
    """Distances of the examples, with the distorted image as it is and shifted by a pixel.

    Args:
        tables: distances by metric, of each example at both shifts.
        examples: of :func:`make_examples`.

    Returns:
        A row an example and metric: ``example`` (from 1), ``image, distortion, metric``; and
        ``no_shift, shift_1px``, in the metric's own unit.
    """
    rows = []
    for number, example in enumerate(examples, start=1):
        for metric, table in tables.items():
            own = table[table["sample"] == f"{number:03d}"].set_index("subset")["distance"]
            distances = [own[view_name(shift)] for shift in _SHIFTS]
            rows.append((number, example.name, example.distortion, metric, *distances))
    columns = ["example", "image", "distortion", "metric", "no_shift", "shift_1px"]
    return pd.DataFrame(rows, columns=columns)


def triplet_table(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Verdicts of metrics before and after a shift of one pixel.

    Args:
        tables: distances by metric, of the same triplets, with shifts 0 and 1.

    Returns:
        A row a triplet and metric: ``sample, metric``; ``d0, d1``, the distances of p0 and p1, and
        ``closer``, which one is closer; ``d0_shifted, d1_shifted, closer_shifted``, the same with
        both a pixel to the side, in the same window; ``flips``. p1 is closer where they are equal.
    """
    parts = []
    for metric, distances in tables.items():
        table = TripletTable.from_tidy(distances)
        before, after = (table.shifted[float(shift)] for shift in _SHIFTS)
        part = pd.DataFrame({"sample": table.triplets["sample"].to_numpy(), "metric": metric})
        for end, (d0, d1) in (("", before), ("_shifted", after)):
            part[f"d0{end}"], part[f"d1{end}"] = d0, d1
            part[f"closer{end}"] = np.where(np.asarray(d0) < np.asarray(d1), "p0", "p1")
        parts.append(part.assign(flips=rank_flips(*before, *after)))
    table = pd.concat(parts, ignore_index=True)
    order = {sample: i for i, sample in enumerate(table["sample"].unique())}
    return table.sort_values(
        "sample", key=lambda samples: samples.map(order), kind="stable", ignore_index=True
    )


def first_flips(verdicts: pd.DataFrame, metric: str, k: int) -> list[str]:
    """The first ``k`` samples on which the metric's verdict flips, fewer where there are fewer."""
    flips = verdicts[(verdicts["metric"] == metric) & verdicts["flips"]]
    return flips["sample"].head(k).tolist()


class _Pairs(Dataset):
    """Every example's windows at every shift."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(_SHIFTS) * len(self.examples)

    def __getitem__(self, index: int) -> dict[str, Tensor | float | str]:
        number, shift = divmod(index, len(_SHIFTS))
        example = self.examples[number]
        return {
            "p0": _VIEWS.reference(example.reference),
            "p1": _VIEWS.distorted(example.distorted, shift),
            "score": float(shift),
            "subset": view_name(shift),
            "sample": f"{number + 1:03d}",
        }


def _references(settings: Settings) -> Iterable[tuple[str, np.ndarray]]:
    """Names and uint8 (H, W, 3) images."""
    if settings.images:
        for path in settings.images:
            yield Path(path).name, read_image(path).permute(1, 2, 0).numpy()
        return
    photographs = list(load_photographs("val", settings.image_size).items())
    for i in range(settings.k):
        name, photograph = photographs[i % len(photographs)]
        rng = np.random.default_rng([settings.seed, i])
        yield name, random_crop(rng, photograph, settings.image_size)[0]


def _images(dataset: Dataset, samples: Sequence[str]) -> dict[str, list[Tensor]]:
    """Reference, p0 and p1 of the samples, in their order."""
    items = (dataset[i] for i in range(len(dataset)))
    found = {
        item["sample"]: [item[part] for part in ("ref", "p0", "p1")]
        for item in items
        if item["sample"] in samples
    }
    return {sample: found[sample] for sample in samples}


def _tensor(image: np.ndarray) -> Tensor:
    return torch.tensor(image).permute(2, 0, 1).contiguous()


def _pixels(images: Iterable[Tensor]) -> list[np.ndarray]:
    return [image.permute(1, 2, 0).numpy() for image in images]


def _plot_note(settings: Settings, shown: Shown, verdicts: pd.DataFrame) -> str:
    first = verdicts["metric"].iloc[0]
    size = f"{settings.image_size}x{settings.image_size} px"
    left = "images given" if settings.images else f"crops of {size} of validation photographs"
    right = (
        f"the first {len(shown.triplet_images)} triplets of the sample set ({size}) on which "
        f"{first} flips: chosen for that"
    )
    return (
        f"left: {left}; right: {right}; distances in each metric's own unit, seed {settings.seed}"
    )


def _page(
    settings: Settings,
    shown: Shown,
    verdicts: pd.DataFrame,
    left_out: Mapping[str, str],
    command: str | None,
) -> str:
    size = f"{settings.image_size}x{settings.image_size} px"
    whose = "the images given, whole" if settings.images else f"photographs, crops of {size}"
    made = f" Made by `{command}`." if command else ""
    parts = [
        "# What one pixel does",
        f"References: {whose}; triplets: sample set val, {size}. The distorted "
        "image is compared in a window one pixel narrower than the image, at the reference's "
        "place (no shift) and one pixel to its right; nothing is padded. Distances are in each "
        f"metric's own unit. Seed {settings.seed}.{made}",
        "## A mild distortion, and the same shifted by a pixel: measured",
        "ratio: the distance with the shift over that without.",
        to_markdown(_example_cells(shown.examples)),
        "## Verdicts that a pixel turns: measured",
        *_triplet_section(settings, shown, verdicts),
        "## Published",
        "The examples of Ghildyal and Liu, ECCV 2022, on their images; not measured here.",
        to_markdown(published("shift_examples"), {"no_shift": ".3f", "shift_1px": ".3f"}),
    ]
    if left_out:
        parts += ["## Left out", "\n".join(f"- {n}: {why}" for n, why in left_out.items())]
    return "\n\n".join(parts) + "\n"


def _example_cells(examples: pd.DataFrame) -> pd.DataFrame:
    cells = examples.copy()
    for name in ("no_shift", "shift_1px"):
        cells[name] = [f"{value:.3g}" for value in examples[name]]
    ratio = examples["shift_1px"] / examples["no_shift"].where(examples["no_shift"] > 0)
    cells["ratio"] = ratio.map("{:.3g}".format, na_action="ignore")
    return cells.rename(columns={"no_shift": "no shift", "shift_1px": "1 px"})


def _triplet_section(settings: Settings, shown: Shown, verdicts: pd.DataFrame) -> list[str]:
    first = verdicts["metric"].iloc[0]
    flips = verdicts.groupby("metric", sort=False)["flips"].agg(["sum", "size"])
    counts = ", ".join(f"{name} {n} of {size}" for name, (n, size) in flips.T.items())
    if shown.triplets.empty:
        return [f"On none of {settings.n} triplets the verdict of {first} flips: none is shown."]
    return [
        f"The first {len(shown.triplet_images)} of {settings.n} triplets on which the verdict of "
        f"{first} flips at 1 px. They are chosen because that metric flips there: they show flips "
        "and do not measure how often one metric flips beside another. Over all triplets looked "
        f"through flip: {counts}. closer: which of p0 and p1 the metric finds closer to the "
        "reference.",
        to_markdown(_triplet_cells(shown.triplets)),
    ]


def _triplet_cells(table: pd.DataFrame) -> pd.DataFrame:
    def pair(end: str) -> list[str]:
        return [f"{d0:.3g}, {d1:.3g}" for d0, d1 in table[[f"d0{end}", f"d1{end}"]].to_numpy()]

    return pd.DataFrame(
        {
            "sample": table["sample"],
            "metric": table["metric"],
            "d0, d1": pair(""),
            "closer": table["closer"],
            "d0, d1 at 1 px": pair("_shifted"),
            "closer at 1 px": table["closer_shifted"],
            "verdict": np.where(table["flips"], "**flips**", "stays"),
        }
    )
