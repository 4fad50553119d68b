"""Suite ``protocol``: 2AFC and rank flips of images on disk, beside the released procedure."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from robust_lpips.backbones import BackboneConfig
from robust_lpips.data import TwoAFCDataset, packed, sample_dataset
from robust_lpips.data.bapps import Triplet
from robust_lpips.evaluation import measure as measure_distances
from robust_lpips.evaluation import summarize
from robust_lpips.metric import RobustLPIPS
from robust_lpips.studies.benchmark.peers import build, shift_tolerant_peers
from robust_lpips.studies.benchmark.rates import network_operations, peaks
from robust_lpips.studies.benchmark.suite import Result, Settings
from robust_lpips.studies.benchmark.timing import compare, seconds_of, turn_about
from robust_lpips.tables import with_interval

NET = "alexnet-shift-tolerant"
PEER = "stlpips-pytorch"
DISK_SIZE, IMAGE_SIZE = 256, 64
MAX_SHIFT = 3
BATCH = 50
# Processes that decode, of both sides. On a CPU they would take the cores that compute.
WORKERS = {"cpu": 0, "cuda": 4}
PARTS = ("ref", "p0", "p1")

_TEXT = """{triplets} triplets of {disk}x{disk} PNGs on disk, in the system's cache, at \
{size}x{size}: 2AFC and r_rf at 1-{shift} px with the released shift-tolerant AlexNet, float32, \
batches of {batch}, {workers} worker processes on both sides. Nobody judged these patches: 2AFC is \
agreement with the released VGG-16 metric, not with people.

Released: the procedure as it is described, five passes over the data set, one for the full \
patches and one for each shift from 0 to {shift}; in each every image is read from its file, \
resized by torchvision (bicubic), cropped, and d0 = net(ref, p0) and d1 = net(ref, p1) computed \
in `torch.inference_mode()`. Ours: `summarize(measure(metric, packed(dataset)))`; cold with \
nothing packed, packing included, which decodes in as many threads as compute; warm with what a \
run before packed.

`ratio`: how many times as fast ours is, the median over {rounds} rounds, in which all take turns; \
in brackets the extremes. `ours (%)`, `released (%)`: share of the matrix multiply's rate, by the \
multiply-adds of the plain network on the twelve different patches of a triplet, though the \
released procedure computes twenty. `verdicts that differ`: of the {views} views of every \
triplet, those at which d0 < d1 holds on one side alone."""


class ReleasedPass(Dataset):
    """The triplets as one pass of the released procedure reads them.

    Args:
        samples: of a :class:`TwoAFCDataset`.
        shift: of the distorted patches' window in pixels; None: the full patches.
    """

    def __init__(self, samples: Sequence[Triplet], shift: int | None) -> None:
        from torchvision import transforms

        self.samples = samples
        self.shift = shift
        self.transform = transforms.Compose(
            [
                transforms.Resize(IMAGE_SIZE, transforms.InterpolationMode.BICUBIC),
                transforms.ToTensor(),
                transforms.Normalize((0.5,) * 3, (0.5,) * 3),
            ]
        )

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Tensor | float]:
        sample = self.samples[index]
        item = {part: self._window(part, getattr(sample, part)) for part in PARTS}
        return item | {"judge": np.load(sample.judge, allow_pickle=False).item()}

    def _window(self, part: str, path: str) -> Tensor:
        with Image.open(path) as image:
            patch = self.transform(image.convert("RGB"))
        if self.shift is None:
            return patch
        left = 0 if part == "ref" else self.shift
        return patch[..., left : left + patch.shape[-1] - MAX_SHIFT]


def measure(settings: Settings) -> Result:
    """A row a mode, ``cold`` and ``warm``: speed, scores of both sides, verdicts that differ."""
    built, left_out = build({PEER: shift_tolerant_peers(NET)[PEER]}, settings.device)
    if left_out:
        raise ImportError(f"suite protocol needs {PEER}: {left_out[PEER]}")
    ((peer, net),) = built.items()
    root = sample_dataset(n=settings.triplets, image_size=DISK_SIZE).roots[0]
    dataset = TwoAFCDataset(root, image_size=IMAGE_SIZE)
    metric = RobustLPIPS(NET).to(settings.device)
    fastest = peaks(settings.device)
    tables: dict[str, pd.DataFrame] = {}
    with tempfile.TemporaryDirectory() as folder:
        sides = _sides(metric, net, dataset, Path(folder), settings.device, tables)
        seconds = turn_about(sides, settings.rounds, "protocol")
    operations = triplet_operations(metric.config)
    scores = _scores(tables["ours"], "ours") | _scores(tables["released"], "released")
    rows = []
    for mode in ("cold", "warm"):
        row = {"case": NET, "mode": mode, "peer": peer, "triplets": len(dataset)}
        row |= {"unit": "triplet", "workers": _workers(settings.device)}
        row |= compare(seconds[mode], seconds["released"], len(dataset))
        row |= {
            "seconds": np.median(seconds[mode]),
            "released_seconds": np.median(seconds["released"]),
            "ours_share": fastest.share(row["ours"] * operations),
            "released_share": fastest.share(row["released"] * operations),
        }
        verdicts = differing_verdicts(tables["ours"], tables["released"])
        rows.append(row | scores | {"verdicts_differ": verdicts})
    table = pd.DataFrame(rows)
    text = _TEXT.format(
        triplets=len(dataset),
        disk=DISK_SIZE,
        size=IMAGE_SIZE,
        shift=MAX_SHIFT,
        batch=BATCH,
        workers=_workers(settings.device),
        rounds=settings.rounds,
        views=MAX_SHIFT + 2,
    )
    return Result(table, _shown(table), text, _FORMATS, peaks=fastest)


def released_distances(net: nn.Module, samples: Sequence[Triplet], device: str) -> pd.DataFrame:
    """What the released procedure measures: the tidy table that ``evaluation.measure`` gives."""
    tables = []
    for shift in (None, *range(MAX_SHIFT + 1)):
        distances = list(_passed(net, ReleasedPass(samples, shift), device))
        d0, d1, judge = map(np.concatenate, zip(*distances, strict=True))
        names = [(sample.subset, sample.sample) for sample in samples]
        table = pd.DataFrame(names, columns=["subset", "sample"])
        view = "full" if shift is None else f"shift-{shift}"
        tables.append(table.assign(view=view, d0=d0, d1=d1, judge=judge))
    return pd.concat(tables, ignore_index=True)


def differing_verdicts(ours: pd.DataFrame, released: pd.DataFrame) -> int:
    """At how many views of how many samples d0 < d1 holds in one of two tables alone.

    Raises:
        ValueError: they are not of the same samples and views.
    """
    keys = ["subset", "sample", "view"]
    both = ours.merge(released, on=keys, suffixes=("_ours", "_released"), validate="one_to_one")
    if not len(ours) == len(released) == len(both):
        raise ValueError(
            f"tables must have the same samples and views; got {len(ours)} and {len(released)} "
            f"rows, of which {len(both)} are in both"
        )
    verdicts = (both["d0_ours"] < both["d1_ours"], both["d0_released"] < both["d1_released"])
    return int(np.not_equal(*verdicts).sum())


def triplet_operations(config: BackboneConfig) -> int:
    """Of the different patches of a triplet: three whole, and of each shift its windows."""
    window = network_operations(config, IMAGE_SIZE, IMAGE_SIZE - MAX_SHIFT)
    windows = 1 + 2 * (MAX_SHIFT + 1)
    return 3 * network_operations(config, IMAGE_SIZE, IMAGE_SIZE) + windows * window


def _sides(
    metric: RobustLPIPS,
    net: nn.Module,
    dataset: TwoAFCDataset,
    folder: Path,
    device: str,
    tables: dict[str, pd.DataFrame],
) -> dict[str, partial]:
    """What takes turns; each leaves what it measured in ``tables``."""

    def ours(place: Path) -> None:
        data = packed(dataset, place, progress=False)
        table = measure_distances(
            metric,
            data,
            MAX_SHIFT,
            batch_size=BATCH,
            device=device,
            num_workers=_workers(device),
            progress=False,
        )
        summarize(table)
        tables["ours"] = table

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


def _scores(table: pd.DataFrame, side: str) -> dict[str, float]:
    mean = summarize(table).iloc[-1]
    names = ["two_afc", *(f"rrf_{shift}" for shift in range(1, MAX_SHIFT + 1))]
    return {f"{side}_{name}": float(mean[name]) for name in names}


_FORMATS = {
    "released (s)": ".2f",
    "ours (s)": ".2f",
    "ours (triplets/s)": ".1f",
    "ours (%)": ".0f",
    "released (%)": ".0f",
}


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    ratios = table[["ratio", "ratio_low", "ratio_high"]].to_numpy()
    shown = pd.DataFrame(
        {
            "ours": table["mode"],
            "released package": table["peer"],
            "released (s)": table["released_seconds"],
            "ours (s)": table["seconds"],
            "ratio": [with_interval(*values, digits=2) for values in ratios],
            "ours (triplets/s)": table["ours"],
            "ours (%)": table["ours_share"],
            "released (%)": table["released_share"],
        }
    )
    labels = {"two_afc": "2AFC"}
    labels |= {f"rrf_{shift}": f"r_rf {shift}" for shift in range(1, MAX_SHIFT + 1)}
    for name, label in labels.items():
        pairs = zip(table[f"ours_{name}"], table[f"released_{name}"], strict=True)
        shown[f"{label}, ours / released"] = [f"{a:.2f} / {b:.2f}" for a, b in pairs]
    return shown.assign(**{"verdicts that differ": table["verdicts_differ"]})
