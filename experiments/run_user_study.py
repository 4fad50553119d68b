"""Compare people and metrics at shifts of 0 to 9 pixels: shares of "the same", and distances.

python experiments/run_user_study.py                               # people: the published table
python experiments/run_user_study.py --responses responses.json    # people: answers, evaluated here
"""

from robust_lpips.cli import main
from robust_lpips.studies.user_study import STUDY

if __name__ == "__main__":
    main(STUDY, __doc__)
