"""Measure speed and memory next to the released packages, in the same run.

python experiments/benchmark.py --suite distance
python experiments/benchmark.py --suite protocol --n 500
python experiments/benchmark.py --suite precision
python experiments/benchmark.py --suite training
python experiments/benchmark.py --suite memory --n 20000    # and a tenth of them
python experiments/benchmark.py --suite import

Every run measures anew.
"""

from robust_lpips.cli import main_of
from robust_lpips.studies.benchmark import SUITES

if __name__ == "__main__":
    main_of(SUITES, "--suite", __doc__)
