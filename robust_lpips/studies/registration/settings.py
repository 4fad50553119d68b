"""Settings of the study of registration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from robust_lpips.data.alignment import WIDE_RADIUS
from robust_lpips.data.photographs import PHOTOGRAPHS
from robust_lpips.registration import least_side
from robust_lpips.studies.base import Settings, option

PARTS = ("estimates", "human", "descent", "failures")

# Tables and images of a part, by name.
Measured = tuple[Mapping[str, pd.DataFrame], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class RegistrationSettings(Settings):
    """Settings of the study of registration.

    Raises:
        ValueError: if a value is out of range.
    """

    parts: tuple[str, ...] = option(
        PARTS, "parts of the study to measure and to report", choices=PARTS, claimed=False
    )
    responses: Path | None = option(
        None,
        "people's answers by stimulus, the JSON file released with the study of small shifts "
        "(default: their counts at each shift)",
    )
    split: str = option("val", "photographs", choices=PHOTOGRAPHS)
    n: int = option(64, "windows in each cell of the estimates and at each shift", least=1)
    examples: int = option(8, "windows that are optimised, and pairs of each failure", least=1)
    steps: int = option(150, "steps of each optimisation", least=1)
    splits: int = option(200, "random splits of the answers into halves", least=1)
    image_size: int = option(
        64, "side of the compared images in pixels", least=least_side(WIDE_RADIUS)
    )
    seed: int = option(
        0, "seed of windows, distortions, shifts, weights, splits and intervals", least=0
    )

    @property
    def note(self) -> str:
        """Origin of the windows, for captions."""
        size = f"{self.image_size}x{self.image_size} px"
        return f"windows of {size} of photographs of split {self.split}, seed {self.seed}"
