"""Suite ``protocol``: 2AFC and rank flips of images on disk, next to the released procedure."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.functional import InterpolationMode, normalize, resize, to_tensor

from robust_lpips.backbones import BackboneConfig
from robust_lpips.data import TwoAFCDataset, packed, sample_dataset
from robust_lpips.data.bapps import Triplet
from robust_lpips.evaluation import measure as measure_distances
from robust_lpips.evaluation import summarize
from robust_lpips.metric import RobustLPIPS
from robust_lpips.studies.base import Settings, option
from robust_lpips.studies.base.machine import multiply_accumulates
from robust_lpips.studies.base.source import METRIC
from robust_lpips.studies.base.timing import compare, in_turns, seconds_of
from robust_lpips.studies.benchmark import peers
from robust_lpips.studies.benchmark.capability import peaks
from robust_lpips.studies.benchmark.suite import Measured, suite
from robust_lpips.studies.benchmark.verdicts import (
    MAX_SHIFT,
    SCORES,
    differing_verdicts,
    mean_scores,
)

NET = "alexnet-shift-tolerant"
PEER = "stlpips-pytorch"
DISK_SIZE, IMAGE_SIZE = 256, 64
BATCH = 50
# Processes that decode, of both sides. On a CPU they would take the cores that compute.
WORKERS = {"cpu": 0, "cuda": 4}
PARTS = ("ref", "p0", "p1")

_TEXT = f"""{{n}} triplets of {DISK_SIZE}x{DISK_SIZE} PNGs on disk, in the system's cache, at \
{IMAGE_SIZE}x{IMAGE_SIZE} px: accuracy and r_rf at 1-{MAX_SHIFT} px with the released \
shift-tolerant AlexNet, float32, batches of {BATCH}. On both sides the same number of worker \
processes decode: none on a CPU, {WORKERS["cuda"]} on a GPU. {METRIC}

Released: the procedure as it is described, five passes over the data set, one for the full \
patches and one for each shift from 0 to {MAX_SHIFT}. In each every image is read from its file, \
resized by torchvision (bicubic) and cropped, and d0 = net(ref, p0) and d1 = net(ref, p1) are \
computed in `torch.inference_mode()`. Ours: `summarize(measure(metric, packed(dataset)))`. Cold is \
with nothing packed, packing included, which decodes in as many threads as compute; warm is with \
the pack of an earlier run.

`ratio`: how many times as fast ours is, the median over {{rounds}} rounds, in which all take \
turns; in brackets the extremes. `ours (%)`, `released (%)`: share of the matrix multiply's rate, \
by the multiply-adds of the plain network on the twelve different patches of a triplet, though the \
released procedure computes twenty. `verdicts that differ`: of the {MAX_SHIFT + 2} views of every \
triplet, those at which d0 < d1 holds on one side only. Scores are ours / released."""


@dataclass(frozen=True)
class ProtocolSettings(Settings):
    """Settings of suite ``protocol``."""

    n: int = option(500, "triplets of the sample set", least=1)
    rounds: int = option(3, "turns of each side", least=1)


@dataclass
class ReleasedPass(Dataset):
    """The triplets as one pass of the released procedure reads them.

    Attributes:
        samples: those of a :class:`TwoAFCDataset`.
        shift: shift of the distorted patches' window in pixels; None: the full patches.
    """

    samples: Sequence[Triplet]
    shift: int | None

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Tensor | float]:
        sample = self.samples[index]
        item = {part: self._window(part, getattr(sample, part)) for part in PARTS}
        return item | {"judge": np.load(sample.judge, allow_pickle=False).item()}

    def _window(self, part: str, path: str) -> Tensor:
        with Image.open(path) as image:
            resized = resize(image.convert("RGB"), IMAGE_SIZE, InterpolationMode.BICUBIC)
        patch = normalize(to_tensor(resized), (0.5,) * 3, (0.5,) * 3)
        if self.shift is None:
            return patch
        left = 0 if part == "ref" else self.shift
        return patch[..., left : left + patch.shape[-1] - MAX_SHIFT]


def measure(settings: ProtocolSettings, device: str) -> Measured:
    """One row per mode, ``cold`` and ``warm``: speed, scores of both sides, differing verdicts.

    Raises:
        ImportError: if the released package is missing.
    """
    built, missing = peers.build({PEER: peers.shift_tolerant_peers(NET)[PEER]}, device)
    if missing:
        raise ImportError(missing[PEER])
    ((peer, net),) = built.items()
    root = sample_dataset(n=settings.n, image_size=DISK_SIZE).roots[0]
    dataset = TwoAFCDataset(root, image_size=IMAGE_SIZE)
    metric = RobustLPIPS(NET).to(device)
    fastest = peaks(device)
    tables: dict[str, pd.DataFrame] = {}
    with tempfile.TemporaryDirectory() as folder:
        sides = _sides(metric, net, dataset, Path(folder), device, tables)
        seconds = in_turns(sides, settings.rounds, "protocol")
    scores = {
        f"{side}_{name}": score
        for side in ("ours", "released")
        for name, score in mean_scores(tables[side]).items()
    }
    verdicts = differing_verdicts(tables["ours"], tables["released"])
    rows = []
    for mode in ("cold", "warm"):
        rates = compare(seconds[mode], seconds["released"], len(dataset))
        rows.append(
            {
                "case": NET,
                "mode": mode,
                "peer": peer,
                "triplets": len(dataset),
                "unit": "triplet",
                "workers": _workers(device),
                **rates,
                "seconds": np.median(seconds[mode]),
                "released_seconds": np.median(seconds["released"]),
                **fastest.shares(rates, triplet_multiply_accumulates(metric.config)),
                **scores,
                "verdicts_differ": verdicts,
            }
        )
    return Measured(pd.DataFrame(rows), peaks=fastest)


def released_distances(net: nn.Module, samples: Sequence[Triplet], device: str) -> pd.DataFrame:
    """Distances by the released procedure, as :func:`robust_lpips.evaluation.measure` gives them.

    Args:
        net: released network, a callable of two batches.
        samples: those of a :class:`TwoAFCDataset`.
        device: device that computes.
    """
    tables = []
    for shift in (None, *range(MAX_SHIFT + 1)):
        distances = list(_passed(net, ReleasedPass(samples, shift), device))
        d0, d1, judge = map(np.concatenate, zip(*distances, strict=True))
        names = [(sample.subset, sample.sample) for sample in samples]
        table = pd.DataFrame(names, columns=["subset", "sample"])
        view = "full" if shift is None else f"shift-{shift}"
        tables.append(table.assign(view=view, d0=d0, d1=d1, judge=judge))
    return pd.concat(tables, ignore_index=True)


def triplet_multiply_accumulates(config: BackboneConfig) -> int:
    """Multiply-accumulates of the different patches of a triplet: three whole, and all windows."""
    window = multiply_accumulates(config, IMAGE_SIZE, IMAGE_SIZE - MAX_SHIFT)
    windows = 1 + 2 * (MAX_SHIFT + 1)
    return 3 * multiply_accumulates(config, IMAGE_SIZE) + windows * window


def _sides(
    metric: RobustLPIPS,
    net: nn.Module,
    dataset: TwoAFCDataset,
    folder: Path,
    device: str,
    tables: dict[str, pd.DataFrame],
) -> dict[str, Callable[[], float]]:
    """The sides that take turns; each leaves its distances in ``tables``."""

    def ours(place: Path) -> None:
        tables["ours"] = measure_distances(
            metric,
            packed(dataset, place, progress=False),
            MAX_SHIFT,
            batch_size=BATCH,
            device=device,
            num_workers=_workers(device),
            progress=False,
        )
        summarize(tables["ours"])

    def cold() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as fresh:
            ours(Path(fresh))

    def released() -> None:
        tables["released"] = released_distances(net, dataset.samples, device)

    warm_place = folder / "warm"
    # Neither side is slowed by what is done for the first time.
    ours(warm_place)
    released_distances(net, dataset.samples[:BATCH], device)
    works = {"cold": cold, "warm": partial(ours, warm_place), "released": released}
    return {name: partial(seconds_of, work, device) for name, work in works.items()}


@torch.inference_mode()
def _passed(
    net: nn.Module, triplets: ReleasedPass, device: str
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Both distances and the judgment of each batch."""
    kind = torch.device(device).type
    loader = DataLoader(triplets, BATCH, num_workers=_workers(device), pin_memory=kind == "cuda")
    for batch in loader:
        ref, p0, p1 = (batch[part].to(device, non_blocking=True) for part in PARTS)
        distances = (net(ref, p).double().cpu().numpy() for p in (p0, p1))
        yield *distances, batch["judge"].numpy()


def _workers(device: str) -> int:
    return WORKERS[torch.device(device).type]


def _cells(table: pd.DataFrame) -> pd.DataFrame:
    """The table with each score of both sides in one cell."""
    texts = table.map(lambda value: f"{value:.2f}" if isinstance(value, float) else value)
    cells = {name: texts[f"ours_{name}"] + " / " + texts[f"released_{name}"] for name in SCORES}
    return table.assign(**cells)


SUITE = suite("protocol", ProtocolSettings, measure, _TEXT, "sample set val", _cells)
