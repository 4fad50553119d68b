"""Distances of a metric on judged images: every view of every triplet, in one tidy table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate
from tqdm.auto import tqdm

from robust_lpips.evaluation.distances import PAIRS, SCORED, TRIPLETS, Columns, few, kind_of
from robust_lpips.evaluation.shifts import FULL, ShiftViews, view_name

# What the items of each kind of dataset hold; the table's columns follow from it.
_IMAGES = {TRIPLETS: ("ref", "p0", "p1"), PAIRS: ("p0", "p1"), SCORED: ("p0", "p1")}

# A batch's kind, its names and what people said, and by view its one or two arrays of distances.
Measured = tuple[Columns, dict[str, list[Any]], dict[str, list[np.ndarray]]]


@runtime_checkable
class FeatureMetric(Protocol):
    """A metric in two steps, so that features of an image that is compared often are kept.

    ``distance(features(img0), features(img1))`` has to equal ``metric(img0, img1)``.
    """

    def features(self, images: Tensor, /) -> Any:
        """Features of (N, 3, H, W) images in [-1, 1]."""

    def distance(self, features0: Any, features1: Any, /) -> Tensor:
        """(N,) distances between two results of :meth:`features`."""


def measure(
    metric: Callable[[Tensor, Tensor], Tensor] | FeatureMetric,
    dataset: Dataset | Sequence[Mapping[str, Any]],
    max_shift: int = 3,
    *,
    direction: tuple[int, int] = (1, 0),
    step: float = 1.0,
    batch_size: int = 50,
    device: torch.device | str | None = None,
    num_workers: int = 0,
    progress: bool | Callable[[int], None] = True,
) -> pd.DataFrame:
    """Distances of ``metric`` on every view of every item of ``dataset``.

    Views are ``full``, the patches as they are, and ``shift-0`` ... ``shift-S``: windows of the
    reference and of the distorted patches that lie 0 ... S = ``max_shift`` pixels apart, see
    :class:`~robust_lpips.evaluation.shifts.ShiftViews` (Ghildyal and Liu, ECCV 2022). S decides
    the windows' size, so tables of different S differ at the same shift; the direction is not
    written in the table.

    Args:
        metric: any callable of two (N, 3, H, W) float32 batches in [-1, 1] that returns (N,)
            distances, smaller being more alike. Of a :class:`FeatureMetric` the reference's
            features are computed twice a triplet (whole and cropped), not once a distance.
        dataset: map-style. Items are dicts: ``subset`` and ``sample`` (str); uint8 (3, H, W)
            images, and what people said. Either ``ref``, ``p0``, ``p1`` and ``judge`` (2AFC), or
            ``p0``, ``p1`` and ``same`` (JND), both shares of people in [0, 1] and all images of
            one size; or ``p0``, ``p1`` and ``score``, any number, where pairs may differ in size
            and those of one size that follow each other are compared together. Pairs have no
            views.
        max_shift: S, in pixels; 0: ``full`` only.
        direction: (dx, dy), each -1, 0 or 1: which way the distorted patches' window moves.
        step: distance of the shifts in pixels; between pixels the distorted patches are resampled
            bicubically, which itself blurs them.
        batch_size: items at a time.
        device: where to compute; a metric that is a module is moved there. Default: where the
            metric's parameters are, the CPU if it has none.
        num_workers: processes that load images.
        progress: show a progress bar; or a function, told after each batch how many items it had.

    Returns:
        For triplets a row a view and item, ``subset, sample, view, d0, d1, judge``, with
        d0 = metric(ref, p0) and d1 = metric(ref, p1); for pairs a row an item,
        ``subset, sample, distance`` and ``same`` or ``score``. Distances are float64: those of a
        float32 metric keep their values.

    Raises:
        TypeError: the metric is not callable, or an item is not a dict.
        ValueError: shifts that do not fit the images; an empty dataset; items other than above;
            a metric that returns another shape, or numbers that are not finite. The message
            names the sample.

    Example:
        >>> grey = torch.full((3, 8, 8), 120, dtype=torch.uint8)
        >>> item = {"ref": grey, "p0": grey + 51, "p1": grey, "judge": 0.8}
        >>> dataset = [item | {"subset": "traditional", "sample": "000000"}]
        >>> table = measure(lambda a, b: (a - b).abs().mean((1, 2, 3)), dataset, progress=False)
        >>> table[["view", "d0", "d1", "judge"]].round(3)
              view   d0   d1  judge
        0     full  0.4  0.0    0.8
        1  shift-0  0.4  0.0    0.8
        2  shift-1  0.4  0.0    0.8
        3  shift-2  0.4  0.0    0.8
        4  shift-3  0.4  0.0    0.8
    """
    if not callable(metric) and not isinstance(metric, FeatureMetric):
        raise TypeError(f"metric must be callable; got {type(metric).__name__}")
    views = ShiftViews(max_shift, direction, step)
    if len(dataset) == 0:
        raise ValueError("dataset is empty")
    if device is None:
        device = _device_of(metric)
    else:
        device = torch.device(device)
        if isinstance(metric, nn.Module):
            metric.to(device)
    loader = DataLoader(
        dataset,
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=_collate,
        pin_memory=device.type == "cuda",
    )
    with torch.inference_mode(), _evaluation_mode(metric):
        return _table(_reported(_measure_batches(metric, loader, views, device), loader, progress))


def _reported(
    measured: Iterator[Measured],
    loader: DataLoader,
    progress: bool | Callable[[int], None],
) -> Iterator[Measured]:
    """Pass batches on, telling the user or the caller of each."""
    if not callable(progress):
        yield from tqdm(
            measured, desc="measure", unit="batch", total=len(loader), disable=not progress
        )
        return
    for kind, batch, distances in measured:
        yield kind, batch, distances
        progress(len(batch["sample"]))


def _measure_batches(
    metric: Callable[[Tensor, Tensor], Tensor] | FeatureMetric,
    batches: Iterable[tuple[Columns, dict[str, Any]]],
    views: ShiftViews,
    device: torch.device,
) -> Iterator[Measured]:
    """What each batch gives, checked."""
    columns: Columns | None = None
    for kind, batch in batches:
        if columns not in (None, kind):
            raise ValueError("dataset mixes kinds of items, such as triplets and pairs")
        columns = kind
        names = [f"{s}/{n}" for s, n in zip(batch["subset"], batch["sample"], strict=True)]
        found: dict[str, list[list[np.ndarray]]] = {}
        for group in zip(*(batch.pop(name) for name in _IMAGES[kind]), strict=True):
            here, names = names[: len(group[0])], names[len(group[0]) :]
            images = [_to_float(image, device) for image in group]
            for view, distances in _distances(metric, images, views):
                arrays = [_checked(distance, view, here) for distance in distances]
                found.setdefault(view, []).append(arrays)
        yield kind, batch, {view: _joined(arrays) for view, arrays in found.items()}


def _distances(
    metric: Callable[[Tensor, Tensor], Tensor] | FeatureMetric,
    images: list[Tensor],
    views: ShiftViews,
) -> Iterator[tuple[str, list[Tensor]]]:
    """Each view's distances: of ref to p0 and to p1, or of p0 to p1 where there is no ref."""
    if isinstance(metric, FeatureMetric):
        features, distance = metric.features, metric.distance
    else:
        # A plain callable is a feature metric whose features are the images themselves.
        features, distance = (lambda images: images), metric
    if len(images) == 2:
        yield FULL, [distance(*map(features, images))]
        return
    ref, *distorted = images
    reference = features(ref)
    yield FULL, [distance(reference, features(image)) for image in distorted]
    if views.shifts:
        reference = features(views.reference(ref))
    for shift in views.shifts:
        moved = (views.distorted(image, shift) for image in distorted)
        yield view_name(shift), [distance(reference, features(image)) for image in moved]


def _table(measured: Iterable[Measured]) -> pd.DataFrame:
    """The tidy table, view after view, from what each batch gave."""
    fields: dict[str, list[Any]] = {}
    distances: dict[str, list[list[np.ndarray]]] = {}
    for kind, batch, found in measured:
        columns = kind
        for name, values in batch.items():
            fields.setdefault(name, []).extend(values)
        for view, arrays in found.items():
            distances.setdefault(view, []).append(arrays)
    tables = []
    for view, arrays in distances.items():
        table = dict(zip(columns.distances, _joined(arrays), strict=True)) | fields | {"view": view}
        tables.append(pd.DataFrame(table)[list(columns.all)])
    return pd.concat(tables, ignore_index=True)


def _joined(arrays: list[list[np.ndarray]]) -> list[np.ndarray]:
    """The one or two arrays of distances of several parts, each as one."""
    return [np.concatenate(parts) for parts in zip(*arrays, strict=True)]


def _checked(distance: Any, view: str, names: list[str]) -> np.ndarray:
    """A metric's answer as (N,) float64, or ValueError naming the samples."""
    shape = tuple(distance.shape) if isinstance(distance, Tensor) else type(distance).__name__
    if shape != (len(names),):
        raise ValueError(
            f"metric must return a tensor of shape ({len(names)},), one distance an image; "
            f"got {shape} at view {view!r} of {few(names)}"
        )
    values = distance.double().cpu().numpy()
    broken = ~np.isfinite(values)
    if broken.any():
        raise ValueError(
            f"metric returned {values[broken][0]} at view {view!r} of "
            f"{few(np.asarray(names)[broken])}"
        )
    return values


def _to_float(images: Tensor, device: torch.device) -> Tensor:
    return images.to(device, non_blocking=True).float() / 127.5 - 1.0


def _device_of(metric: object) -> torch.device:
    if isinstance(metric, nn.Module):
        for tensor in (*metric.parameters(), *metric.buffers()):
            return tensor.device
    return torch.device("cpu")


@contextmanager
def _evaluation_mode(metric: object) -> Iterator[None]:
    """Switch off dropout and the like; afterwards each module is in the mode it was in."""
    modules = list(metric.modules()) if isinstance(metric, nn.Module) else []
    training = [module.training for module in modules]
    try:
        for module in modules:
            module.training = False
        yield
    finally:
        for module, mode in zip(modules, training, strict=True):
            module.training = mode


def _collate(items: list[Any]) -> tuple[Columns, dict[str, Any]]:
    """A batch of checked items, and which kind they are; images as stacks of one size each."""
    kinds = {_kind(item) for item in items}
    if len(kinds) > 1:
        raise ValueError("dataset mixes kinds of items, such as triplets and pairs")
    kind = kinds.pop()
    images = _IMAGES[kind]
    names = ("subset", "sample")
    batch = {name: [str(item[name]) for item in items] for name in names}
    batch[kind.share] = [float(item[kind.share]) for item in items]
    groups = [items]
    if kind is SCORED:
        groups = [list(group) for _, group in groupby(items, lambda item: item["p0"].shape)]
    for group in groups:
        _check_sizes(group, images)
    stacks = {
        name: [default_collate([item[name] for item in group]) for group in groups]
        for name in images
    }
    return kind, batch | stacks


def _check_sizes(items: Sequence[Mapping[str, Any]], images: Sequence[str]) -> None:
    """Raise ValueError unless all images are of one size."""
    shape = items[0][images[0]].shape
    for item in items:
        for name in images:
            if item[name].shape != shape:
                raise ValueError(
                    f"images must be of one size; got {tuple(item[name].shape)} for {name!r} of "
                    f"{item['subset']}/{item['sample']} beside {tuple(shape)}"
                )


def _kind(item: Any) -> Columns:
    """Which kind of item it is, its fields checked."""
    if not isinstance(item, Mapping):
        raise TypeError(f"dataset items must be dicts; got {type(item).__name__}")
    kind = kind_of(item)
    missing = {*_IMAGES[kind], kind.share, "subset", "sample"} - set(item)
    if missing:
        raise ValueError(
            "dataset items must have subset, sample and ref, p0, p1, judge; p0, p1, same; or "
            "p0, p1, score; "
            f"missing: {', '.join(sorted(missing))}"
        )
    for name in _IMAGES[kind]:
        image = item[name]
        if (
            not isinstance(image, Tensor)
            or image.dtype != torch.uint8
            or image.ndim != 3
            or image.shape[0] != 3
        ):
            given = (
                f"{image.dtype} {tuple(image.shape)}"
                if isinstance(image, Tensor)
                else type(image).__name__
            )
            raise ValueError(
                f"{name!r} of {item['subset']}/{item['sample']} must be a uint8 tensor of shape "
                f"(3, H, W); got {given}"
            )
    return kind
