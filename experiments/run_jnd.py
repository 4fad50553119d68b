"""Measure how well metrics find the pairs of images that people take for the same (JND, mAP).

python experiments/run_jnd.py
python experiments/run_jnd.py --data-root bapps
python experiments/run_jnd.py --user-study 0_9_pix_shift --responses responses.json

Without data, photographs are shifted here, and people's answers to such shifts are the published
table of the study of small shifts.
"""

from robust_lpips.cli import main
from robust_lpips.studies.jnd import STUDY

if __name__ == "__main__":
    main(STUDY, __doc__)
