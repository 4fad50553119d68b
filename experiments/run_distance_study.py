"""Compare the cosine distance of plain networks with learnt 1x1 weights, tap by tap.

python experiments/run_distance_study.py                         # on the embedded sample set
python experiments/run_distance_study.py --arch alexnet --data-root /data/bapps

AlexNet and VGG-16, their first 2 or 4 taps or all, pretrained on ImageNet and untrained. Rows
whose pretrained weights are unavailable are left out, and the page names them.
"""

from robust_lpips.cli import main
from robust_lpips.studies.distance import STUDY

if __name__ == "__main__":
    main(STUDY, __doc__)
