"""Data sets of judged images: BAPPS, image quality sets, and samples from bundled photographs."""

from robust_lpips.data.bapps import JNDDataset, TwoAFCDataset
from robust_lpips.data.clic import CLICDataset
from robust_lpips.data.iqa import IQA_DATASETS, GradedSeverities, IQADataset
from robust_lpips.data.packed import PackedDataset, packed
from robust_lpips.data.sample import sample_dataset
from robust_lpips.data.shifted import ShiftedPhotographs
from robust_lpips.data.user_study import UserStudyPairs, read_responses

__all__ = [
    "IQA_DATASETS",
    "CLICDataset",
    "GradedSeverities",
    "IQADataset",
    "JNDDataset",
    "PackedDataset",
    "ShiftedPhotographs",
    "TwoAFCDataset",
    "UserStudyPairs",
    "packed",
    "read_responses",
    "sample_dataset",
]
