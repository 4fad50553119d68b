"""Measure how often metrics choose as people did on CLIC, and how often a shift flips a choice.

python experiments/run_clic.py
python experiments/run_clic.py --data-root clic

Without data, the sample set stands in for CLIC, which nobody judged: accuracy is agreement with
the released VGG-16 metric there.
"""

from robust_lpips.cli import main
from robust_lpips.studies.clic import STUDY

if __name__ == "__main__":
    main(STUDY, __doc__)
