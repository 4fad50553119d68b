"""Run an ablation table of the shift-tolerant LPIPS paper and print it next to the published one.

python experiments/run_ablation.py                       # AlexNet, on the embedded sample set
python experiments/run_ablation.py --table backbones     # VGG-16, ResNet-18 and SqueezeNet
python experiments/run_ablation.py --table beyond        # designs beyond the paper, not trained
python experiments/run_ablation.py --table all           # every table, one after the other
python experiments/run_ablation.py --preset paper --data-root /data/bapps --image-size 256
python experiments/run_ablation.py --shard 1/4           # a quarter of the rows
python experiments/run_ablation.py --engine ray          # the rows on a Ray cluster

An interrupted run resumes where it stopped, inside an epoch too (on Ray, at the training of a
row).

Shards are for arrays of jobs on one output folder, which all of them see: --shard i/n does the
i-th of n parts, counted from 0 or from 1, and all n may run at once, each one once. The one that
finds every part finished writes the report; so does a later run without --shard. Shards with the
same --jobs on the same kind of machine give the numbers of one run.

Ray's nodes need this package, and BAPPS at the same path, but no shared disk: results come back to
the output folder here. The cluster is that of RAY_ADDRESS, or one that is started here.
"""

from robust_lpips.cli import main_of
from robust_lpips.studies import ablation, beyond

if __name__ == "__main__":
    main_of({**ablation.STUDIES, "beyond": beyond.STUDY}, "--table", __doc__, together=True)
