"""Data sets of judged images: BAPPS, image quality sets, and samples from bundled photographs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from torch import Tensor

from robust_lpips.data.bapps import JNDDataset, PathLike, TwoAFCDataset
from robust_lpips.data.clic import CLICDataset
from robust_lpips.data.iqa import IQA_DATASETS, GradedSeverities, IQADataset
from robust_lpips.data.packed import PackedDataset, packed, packed_or_read
from robust_lpips.data.sample import JUDGE, Judge, judge_distances, judged_dataset
from robust_lpips.data.shifted import ShiftedPhotographs
from robust_lpips.data.subsets import evenly_spaced
from robust_lpips.data.user_study import UserStudyPairs, read_responses

__all__ = [
    "IQA_DATASETS",
    "CLICDataset",
    "GradedSeverities",
    "IQADataset",
    "JNDDataset",
    "Judge",
    "PackedDataset",
    "ShiftedPhotographs",
    "TwoAFCDataset",
    "UserStudyPairs",
    "evenly_spaced",
    "judge_distances",
    "packed",
    "packed_or_read",
    "read_responses",
    "sample_dataset",
]


def sample_dataset(
    root: PathLike | None = None,
    split: str = "val",
    n: int = 600,
    image_size: int = 64,
    seed: int = 0,
    *,
    judge: Judge | Callable[[Tensor, Tensor], Tensor] | None = None,
) -> TwoAFCDataset:
    """2AFC triplets of distorted photographs, built once and then read from disk.

    The patches are crops of photographs that ship inside scikit-image (nothing is downloaded);
    p0 and p1 are drawn independently, each one distortion or a composition of two. The same
    arguments and library versions give the same bytes, and a smaller ``n`` gives the beginning of
    a larger set. No photograph is in both splits. Samples are named ``<photograph>-<number>``.

    **No people judged them.** ``judge`` is the verdict of a metric: 1.0 if it finds p1 closer to
    ref, else 0.0.

    Args:
        root: the folder to build in, under a name that states the arguments. Default: the user's
            cache (:func:`robust_lpips._cache.cache_dir`).
        split: ``"train"`` or ``"val"``.
        n: number of triplets, from 1.
        image_size: side of the patches in pixels, from 32 up to the largest photograph.
        seed: from 0.
        judge: the metric that judges: a callable of two float32 (N, 3, S, S) batches in [-1, 1]
            that returns (N,) distances, see :meth:`Judge.of`, or a :class:`Judge`. Its name is part
            of the folder's name, so that sets of different judges are never mixed. Default: the
            released VGG-16 shift-tolerant metric.

    Returns:
        The :class:`TwoAFCDataset` over the set, of the one subset ``"traditional"``.

    Raises:
        TypeError: ``judge`` is a callable whose code does not identify it.
        ValueError: an argument is out of the range above, ``judge`` has the name of the default
            judge, or it returns distances of another shape or that are not finite.
        FileNotFoundError: a photograph is not where scikit-image keeps it, or the weights of the
            default judge are unavailable.

    Example:
        >>> def l1(img0, img1):
        ...     return (img0 - img1).abs().mean((1, 2, 3))
        >>> dataset = sample_dataset(n=50, judge=l1)  # doctest: +SKIP
    """
    if judge is None:
        judge = Judge(JUDGE, _ReleasedMetric(), "the released VGG-16 shift-tolerant metric")
    elif not isinstance(judge, Judge):
        judge = Judge.of(judge)
    elif judge.name == JUDGE:
        raise ValueError(f"judge: the name {JUDGE!r} belongs to the default judge")
    return judged_dataset(root, split, n, image_size, seed, judge)


class _ReleasedMetric:
    """Distances of the default judge, which is loaded when the first batch is judged."""

    @cached_property
    def metric(self):
        # The one import of the metric in this package, late: a set that exists is only read.
        from robust_lpips.metric import RobustLPIPS

        # Without fusion: the distances on disk do not depend on optimizations.
        return RobustLPIPS(JUDGE).unfuse()

    def __call__(self, ref: Tensor, p0: Tensor, p1: Tensor) -> tuple[Tensor, Tensor]:
        first, second, third = map(self.metric.features, (ref, p0, p1))
        return self.metric.distance(first, second), self.metric.distance(first, third)
