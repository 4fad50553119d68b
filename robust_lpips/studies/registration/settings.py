"""What the parts of the study of registration are measured on."""

from __future__ import annotations

from dataclasses import dataclass

from robust_lpips.data.photographs import PHOTOGRAPHS
from robust_lpips.registration import least_side

# The default radius of Registered, and one that spans the shifts people were asked about.
RADIUS = 3
WIDE_RADIUS = 9

_LEAST_SIZE = least_side(WIDE_RADIUS)


@dataclass(frozen=True)
class Settings:
    """What is measured on.

    Attributes:
        answers: file of people's answers, see
            :func:`robust_lpips.data.user_study.read_responses`; None: the counts of
            :data:`robust_lpips.registered.SAME`.
        split: photographs, ``"train"`` or ``"val"``.
        n: windows in each cell of the estimates, and at each shift.
        examples: windows that are optimised, and pairs in each case of the failures.
        steps: of each optimisation.
        splits: of the answers in halves.
        image_size: side of what is compared, in pixels.
        seed: of windows, distortions, shifts, halves and intervals.

    Raises:
        ValueError: anything else.
    """

    answers: str | None = None
    split: str = "val"
    n: int = 64
    examples: int = 8
    steps: int = 150
    splits: int = 200
    image_size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if self.split not in PHOTOGRAPHS:
            known = ", ".join(map(repr, PHOTOGRAPHS))
            raise ValueError(f"split must be one of {known}; got {self.split!r}")
        least = {"n": 1, "examples": 1, "steps": 1, "splits": 1, "image_size": _LEAST_SIZE}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ValueError(f"{name} must be at least {value}; got {getattr(self, name)}")

    @property
    def note(self) -> str:
        """Where windows come from, for captions."""
        size = f"{self.image_size}x{self.image_size} px"
        return f"windows of {size} of photographs of split {self.split}, seed {self.seed}"
