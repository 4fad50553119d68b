"""Train a metric: its 1x1 weights alone, all of a trained network, or all from scratch.

python experiments/train.py                              # AlexNet, on the embedded sample set
python experiments/train.py --target vgg16-shift-tolerant --learning-rate 1e-3 --dropout 0
python experiments/train.py --mode lin --init imagenet --data-root /data/bapps
python experiments/train.py --output runs/x              # again: resumes where it stopped
torchrun --nproc_per_node=2 -- experiments/train.py      # each batch shared by two processes
"""

from robust_lpips.cli import main
from robust_lpips.studies.training import STUDY

if __name__ == "__main__":
    main(STUDY, __doc__)
