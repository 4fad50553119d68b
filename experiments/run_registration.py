"""Measure whether the alignment of Registered does what it says, and where it fails.

python experiments/run_registration.py
python experiments/run_registration.py --parts human --responses user_study_responses.json

With --parts the page reports these parts alone; a later run without it measures what is missing
and reports all.
"""

from robust_lpips.cli import main
from robust_lpips.studies.registration import STUDY

if __name__ == "__main__":
    main(STUDY, __doc__)
