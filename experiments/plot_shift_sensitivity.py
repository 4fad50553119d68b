"""Plot distances of metrics between an image and itself shifted by 0 .. 9 pixels, and r_rf.

python experiments/plot_shift_sensitivity.py
python experiments/plot_shift_sensitivity.py --data-root bapps
"""

from robust_lpips.cli import main
from robust_lpips.studies.sensitivity import STUDY

if __name__ == "__main__":
    main(STUDY, __doc__)
