"""Correlate metrics with scores of image quality: SRCC, PLCC and KRCC, with intervals.

python experiments/run_iqa.py                                         # graded severities, no people
python experiments/run_iqa.py --dataset tid2013 --data-root /data/tid2013
python experiments/run_iqa.py --dataset csv --data-root pairs.csv --scores higher-is-better

A CSV has the columns reference, distorted, score and optionally subset; paths are relative to it.
"""

from robust_lpips.cli import main
from robust_lpips.studies.iqa import STUDY

if __name__ == "__main__":
    main(STUDY, __doc__)
