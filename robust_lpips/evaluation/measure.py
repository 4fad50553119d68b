"""Distances of a metric on judged images, in one tidy table with all views of all triplets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torch.utils.data import DataLoader, Dataset, default_collate
from tqdm.auto import tqdm

from robust_lpips.evaluation.distances import PAIRS, SCORED, TRIPLETS, Columns, few, kind_of
from robust_lpips.evaluation.precision import Precision, check_precision, computing_in
from robust_lpips.evaluation.shifts import FULL, ShiftViews, view_name
from robust_lpips.inputs import chunk_size

# Image fields of the items of each kind of data set.
_IMAGES = {TRIPLETS: ("ref", "p0", "p1"), PAIRS: ("p0", "p1"), SCORED: ("p0", "p1")}

# Function of a batch of two or three images: (V, D, N) distances of the first to the others.
Distances = Callable[[list[Tensor]], Tensor]


class _BatchDistances(NamedTuple):
    """Distances and fields of a batch of n items."""

    kind: Columns
    fields: dict[str, list[Any]]  # names and people's judgments
    views: list[str]
    distances: np.ndarray  # (V, D, n)


@runtime_checkable
class FeatureMetric(Protocol):
    """A metric in two steps, so that features of an image are reused in several comparisons.

    ``distance(features(img0), features(img1))`` must equal ``metric(img0, img1)``.
    """

    def features(self, images: Tensor, /) -> Any:
        """Features of (N, 3, H, W) images in [-1, 1]: a tensor, or tuples, lists or dicts of them.

        The first axis of each tensor has length N.
        """

    def distance(self, features0: Any, features1: Any, /) -> Tensor:
        """(N,) distances between two results of :meth:`features`."""


@runtime_checkable
class Compilable(Protocol):
    """A metric that provides another form of itself for :func:`torch.compile`."""

    def compilable(self) -> Callable[[Tensor, Tensor], Tensor] | FeatureMetric:
        """An equivalent metric to compile; it may share the weights of this one."""


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
    precision: Precision = "float32",
    compile: bool = False,
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
            distances; smaller is more alike. With a :class:`FeatureMetric` the features of a
            reference are computed twice per triplet (whole and cropped), not once per distance.
        dataset: map-style. Items are dicts with ``subset`` and ``sample`` (str), uint8 (3, H, W)
            images, and people's judgment. Either ``ref``, ``p0``, ``p1`` and ``judge`` (2AFC), or
            ``p0``, ``p1`` and ``same`` (JND), both shares of people in [0, 1], with all images of
            one size; or ``p0``, ``p1`` and ``score``, any number, where the size may differ
            between pairs. Pairs have no views.
        max_shift: S, in pixels; 0: ``full`` only.
        direction: (dx, dy), each -1, 0 or 1: direction in which the distorted window moves.
        step: difference between successive shifts in pixels; between pixels the distorted patches
            are resampled bicubically, which blurs them.
        batch_size: number of items loaded at a time. On a CPU, large images are computed in
            smaller batches; on a GPU, several views of small images are computed together.
        device: device of the computation; a metric that is a module is moved there. Default: the
            device of the metric's parameters, or the CPU if it has none.
        num_workers: number of processes that load images.
        precision: ``"float32"``, the precision of reported numbers, is strict, see
            :func:`~robust_lpips.evaluation.precision.computing_in`. ``"tf32"`` (NVIDIA GPUs),
            ``"bfloat16"`` and ``"float16"`` (autocast) are faster if the hardware supports them,
            and change the ranking of triplets that are nearly tied.
        compile: compile the metric with :func:`torch.compile`, on GPUs into CUDA graphs; a
            :class:`Compilable` metric decides what is compiled. It takes about a minute, for each
            size of batch.
        progress: True to show a progress bar; or a function that is called after each batch with
            its number of items.

    Returns:
        For triplets one row per view and item, ``subset, sample, view, d0, d1, judge``, with
        d0 = metric(ref, p0) and d1 = metric(ref, p1); for pairs one row per item,
        ``subset, sample, distance`` and ``same`` or ``score``. Distances are float64, which holds
        float32 values exactly.

    Raises:
        TypeError: the metric is not callable, or an item is not a dict.
        ValueError: the precision is unknown or the device does not support it; shifts do not fit
            the images; the data set is empty; items have other fields; or the metric returns
            another shape or numbers that are not finite (the message names the sample).

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
    check_precision(precision, device)
    loader = DataLoader(
        dataset,
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=_collate,
        pin_memory=device.type == "cuda",
    )
    with (
        torch.inference_mode(),
        _evaluation_mode(metric),
        computing_in(precision, device),
    ):
        distances = _distances_of(metric, views, device, compile)
        measured = _measure_batches(distances, loader, views, device)
        return _table(_reported(measured, loader, progress), len(dataset))


def _reported(
    measured: Iterator[_BatchDistances],
    loader: DataLoader,
    progress: bool | Callable[[int], None],
) -> Iterator[_BatchDistances]:
    """Yield the batches, and report each to the user or the caller."""
    if not callable(progress):
        yield from tqdm(
            measured, desc="measure", unit="batch", total=len(loader), disable=not progress
        )
        return
    for batch in measured:
        yield batch
        progress(len(batch.fields["sample"]))


def _measure_batches(
    distances: Distances,
    batches: Iterable[tuple[Columns, dict[str, Any]]],
    views: ShiftViews,
    device: torch.device,
) -> Iterator[_BatchDistances]:
    """Measure each batch and check its distances."""
    columns: Columns | None = None
    for kind, batch in batches:
        if columns not in (None, kind):
            raise ValueError("dataset must hold items of one kind: triplets, pairs or scored pairs")
        columns = kind
        names = [f"{s}/{n}" for s, n in zip(batch["subset"], batch["sample"], strict=True)]
        stacks = zip(*(batch.pop(name) for name in _IMAGES[kind]), strict=True)
        parts = _parts(stacks, device)
        found = [distances([_to_float(image, device) for image in part]) for part in parts]
        # The only synchronization with a GPU.
        values = torch.cat(found, dim=-1).double().cpu().numpy()
        shown = [FULL, *map(view_name, views.shifts)] if kind == TRIPLETS else [FULL]
        yield _BatchDistances(kind, batch, shown, _checked(values, shown, names))


def _parts(stacks: Iterable[Sequence[Tensor]], device: torch.device) -> Iterator[Sequence[Tensor]]:
    """Split stacks of images into parts of the fastest size."""
    for stack in stacks:
        parts = -(-len(stack[0]) // chunk_size(stack[0], device)) if device.type == "cpu" else 1
        yield from zip(*(images.chunk(parts) for images in stack), strict=True)


def _distances_of(
    metric: Callable[[Tensor, Tensor], Tensor] | FeatureMetric,
    views: ShiftViews,
    device: torch.device,
    compiled: bool,
) -> Distances:
    """Build the function that gives the distances of all views of a batch."""
    if compiled and isinstance(metric, Compilable):
        metric = metric.compilable()
    if isinstance(metric, FeatureMetric):
        features, distance = metric.features, metric.distance
    else:
        # A plain callable is a feature metric whose features are the images themselves.
        features, distance = (lambda images: images), metric
    function = partial(_distances, features, distance, views)
    if not compiled:
        return function
    mode = "reduce-overhead" if device.type == "cuda" else "default"
    return _Compiled(function, torch.compile(function, dynamic=False, mode=mode))


class _Compiled:
    """A compiled function whose first call is not compiled, so that layers can prepare."""

    def __init__(self, function: Distances, compiled: Distances) -> None:
        self._next = iter((function,))
        self._compiled = compiled

    def __call__(self, images: list[Tensor]) -> Tensor:
        # A copy: the next call of a CUDA graph writes to the same memory.
        return next(self._next, self._compiled)(images).clone()


def _distances(
    features: Callable[[Tensor], Any],
    distance: Callable[[Any, Any], Tensor],
    views: ShiftViews,
    images: list[Tensor],
) -> Tensor:
    """Distances (V, D, N): per view, D = 2 of ref to p0 and to p1, or D = 1 of a pair."""
    if len(images) == 2:
        return _compared(features, distance, images)[None]
    ref, *distorted = images
    found = [_compared(features, distance, images)]
    if views.shifts:
        moved = [views.distorted(image, shift) for shift in views.shifts for image in distorted]
        found.append(_compared(features, distance, [views.reference(ref), *moved]))
    return torch.cat(found).unflatten(0, (-1, 2))


def _compared(
    features: Callable[[Tensor], Any],
    distance: Callable[[Any, Any], Tensor],
    images: list[Tensor],
) -> Tensor:
    """Distances of the first of the images to each of the others, (len(images) - 1, N)."""
    found = _features(features, images)
    first = next(found)
    return torch.stack([_of_shape(distance(first, other), images[0]) for other in found])


def _features(features: Callable[[Tensor], Any], images: list[Tensor]) -> Iterator[Any]:
    """Features of each of the images; on a GPU of all small images at once."""
    device = images[0].device
    # All or one at a time, on CPUs always one: rounding in convolutions may depend on the batch
    # and on the position in it, and equal images must have equal distances.
    if device.type == "cpu" or len(images) * len(images[0]) > chunk_size(images[0], device):
        return map(features, images)
    return _together(features, images)


def _together(features: Callable[[Tensor], Any], images: list[Tensor]) -> Iterator[Any]:
    """Features of each of the images, computed at once."""
    found = features(torch.cat(images))
    for part in range(len(images)):
        yield tree_map(partial(_part, part=part, parts=len(images)), found)


def _part(features: Tensor, part: int, parts: int) -> Tensor:
    return features.chunk(parts)[part]


def _table(measured: Iterable[_BatchDistances], count: int) -> pd.DataFrame:
    """Join the batches of ``count`` items to the tidy table, view after view."""
    fields: dict[str, list[Any]] = {}
    distances = np.empty((0, 0, count))
    begin = 0
    for batch in measured:
        if not begin:
            # Allocated once: small arrays kept from all batches would fragment the memory.
            distances = np.empty((*batch.distances.shape[:2], count))
        end = begin + batch.distances.shape[-1]
        distances[..., begin:end] = batch.distances
        begin = end
        for name, values in batch.fields.items():
            fields.setdefault(name, []).extend(values)
    tables = []
    for view, values in zip(batch.views, distances, strict=True):
        table = dict(zip(batch.kind.distances, values, strict=True)) | fields | {"view": view}
        tables.append(pd.DataFrame(table)[list(batch.kind.all)])
    return pd.concat(tables, ignore_index=True)


def _of_shape(distance: Any, images: Tensor) -> Tensor:
    """Check that a metric returned one distance per image."""
    shape = tuple(distance.shape) if isinstance(distance, Tensor) else type(distance).__name__
    if shape != (len(images),):
        raise ValueError(
            f"metric must return a tensor of shape ({len(images)},), one distance per image; "
            f"got {shape}"
        )
    return distance


def _checked(values: np.ndarray, views: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Distances (V, D, N), or ValueError that names the samples without finite ones."""
    broken = ~np.isfinite(values)
    if broken.any():
        view = int(broken.any(axis=(1, 2)).argmax())
        here = broken[view].any(axis=0)
        raise ValueError(
            f"metric returned {values[view][broken[view]][0]} at view {views[view]!r} of "
            f"{few(np.asarray(names)[here])}"
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
    """Set all modules to evaluation mode; afterwards restore the mode of each."""
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
    """Kind and fields of a batch of checked items; images as stacks of one size each."""
    kinds = {_kind(item) for item in items}
    if len(kinds) > 1:
        raise ValueError("dataset must hold items of one kind: triplets, pairs or scored pairs")
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
                    f"{item['subset']}/{item['sample']} next to {tuple(shape)}"
                )


def _kind(item: Any) -> Columns:
    """Kind of an item, after a check of its fields."""
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
