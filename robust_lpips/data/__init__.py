"""Data sets of image patches: BAPPS's layout, and a sample set built from bundled photographs."""

from robust_lpips.data.bapps import JNDDataset, TwoAFCDataset
from robust_lpips.data.sample import sample_dataset

__all__ = ["JNDDataset", "TwoAFCDataset", "sample_dataset"]
