"""Find out which layers of a network flip rankings when images are shifted.

python experiments/run_layer_flips.py
python experiments/run_layer_flips.py --table alexnet --networks vanilla blurpool-pad2-s1 alexnet
python experiments/run_layer_flips.py --networks mine=runs/training-alexnet/best.pt

A network is a row of a table of the ablation, untrained; a released metric; or LABEL=PATH of a
checkpoint.
"""

from robust_lpips.cli import main
from robust_lpips.studies.layers import STUDY

if __name__ == "__main__":
    main(STUDY, __doc__)
