"""The released procedure for 2AFC and rank flips: one pass over the data set per view."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.functional import InterpolationMode, normalize, resize, to_tensor

from robust_lpips.data.bapps import Triplet
from robust_lpips.evaluation.shifts import FULL, view_name

PARTS = ("ref", "p0", "p1")


@dataclass(frozen=True)
class ReleasedPass(Dataset):
    """Triplets as one pass of the procedure reads them: images in [-1, 1], each from its file.

    Attributes:
        samples: those of a :class:`robust_lpips.data.TwoAFCDataset`.
        image_size: side in pixels that images are resized to by torchvision (bicubic).
        max_shift: largest shift in pixels, by which shifted patches are cropped.
        shift: shift of the distorted patches' window in pixels; None: the full patches.
    """

    samples: Sequence[Triplet]
    image_size: int
    max_shift: int
    shift: int | None

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Tensor | float]:
        sample = self.samples[index]
        item = {part: self._window(part, getattr(sample, part)) for part in PARTS}
        return item | {"judge": np.load(sample.judge, allow_pickle=False).item()}

    def _window(self, part: str, path: str) -> Tensor:
        with Image.open(path) as image:
            resized = resize(image.convert("RGB"), self.image_size, InterpolationMode.BICUBIC)
        patch = normalize(to_tensor(resized), (0.5,) * 3, (0.5,) * 3)
        if self.shift is None:
            return patch
        left = 0 if part == "ref" else self.shift
        return patch[..., left : left + patch.shape[-1] - self.max_shift]


@torch.inference_mode()
def released_distances(
    net: Callable[[Tensor, Tensor], Tensor],
    samples: Sequence[Triplet],
    *,
    image_size: int,
    max_shift: int,
    batch_size: int,
    device: str = "cpu",
    num_workers: int = 0,
) -> pd.DataFrame:
    """Distances by the released procedure: the full patches, then one pass per shift from 0.

    Args:
        net: distance (N,) of two (N, 3, H, W) batches in [-1, 1].
        samples: those of a :class:`robust_lpips.data.TwoAFCDataset`.
        image_size, max_shift: see :class:`ReleasedPass`.
        batch_size: triplets per call of ``net``.
        device: device that computes.
        num_workers: processes that decode; 0: this one.

    Returns:
        The table of :func:`robust_lpips.evaluation.measure`.

    Source: Ghildyal and Liu, ECCV 2022.
    """
    pinned = torch.device(device).type == "cuda"
    names = [(sample.subset, sample.sample) for sample in samples]
    tables = []
    for shift in (None, *range(max_shift + 1)):
        triplets = ReleasedPass(samples, image_size, max_shift, shift)
        batches = []
        for batch in DataLoader(triplets, batch_size, num_workers=num_workers, pin_memory=pinned):
            ref, p0, p1 = (batch[part].to(device, non_blocking=True) for part in PARTS)
            distances = [net(ref, p).double().cpu() for p in (p0, p1)]
            batches.append(torch.stack([*distances, batch["judge"]], dim=1))
        table = pd.DataFrame(names, columns=["subset", "sample"])
        table["view"] = FULL if shift is None else view_name(shift)
        table[["d0", "d1", "judge"]] = torch.cat(batches).numpy()
        tables.append(table)
    return pd.concat(tables, ignore_index=True)
