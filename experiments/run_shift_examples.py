"""Show what one pixel does to metrics: distances that jump, and verdicts that a shift reverses.

python experiments/run_shift_examples.py
python experiments/run_shift_examples.py --image mine.png other.jpg
"""

from robust_lpips.cli import main
from robust_lpips.studies.shift_examples import STUDY

if __name__ == "__main__":
    main(STUDY, __doc__)
