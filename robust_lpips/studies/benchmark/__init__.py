"""Speed and memory next to the released packages: the same work, in the same run."""

from robust_lpips.studies.base import Study
from robust_lpips.studies.benchmark import distance, imports, memory, precision, protocol, training

SUITES: dict[str, Study] = {
    "distance": distance.SUITE,
    "protocol": protocol.SUITE,
    "precision": precision.SUITE,
    "training": training.SUITE,
    "memory": memory.SUITE,
    "import": imports.SUITE,
}
