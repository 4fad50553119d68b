"""Compare the cosine distance of plain networks with learnt 1x1 weights, tap by tap.

python experiments/run_distance_study.py                         # on the embedded sample set
python experiments/run_distance_study.py --arch alexnet --data-root /data/bapps

AlexNet and VGG-16, their first 2 or 4 taps or all, pretrained on ImageNet and untrained. Rows
whose pretrained weights cannot be had are left out, and the page says which.
"""

import argparse
from pathlib import Path

from robust_lpips.cli import add_data_arguments, command_line, natural_int, positive_int
from robust_lpips.studies.distance import ARCHITECTURES, TRUNKS, VARIANTS, Settings, run
from robust_lpips.studies.pool import available_cores


def main() -> None:
    """Run what is left to do, write the results, and print the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arch", nargs="+", choices=ARCHITECTURES, default=ARCHITECTURES)
    parser.add_argument("--trunk", nargs="+", choices=TRUNKS, default=list(TRUNKS))
    add_data_arguments(parser, output="runs/distance-DATA-SIZE")
    defaults = Settings()
    for name in ("train-triplets", "val-triplets", "epochs", "batch-size", "max-shift"):
        default = getattr(defaults, name.replace("-", "_"))
        parser.add_argument(f"--{name}", type=positive_int, default=default, help="(%(default)s)")
    for name in ("learning-rate", "dropout"):
        default = getattr(defaults, name.replace("-", "_"))
        parser.add_argument(f"--{name}", type=float, default=default, help="(%(default)s)")
    parser.add_argument("--seed", type=natural_int, default=0, help="(%(default)s)")
    parser.add_argument("--jobs", type=positive_int, help="rows at a time (one a CPU core)")
    arguments = parser.parse_args()
    root = arguments.data_root
    settings = Settings(
        data_root=None if root is None else str(root.resolve()),
        train_triplets=arguments.train_triplets,
        val_triplets=arguments.val_triplets,
        image_size=arguments.image_size,
        max_shift=arguments.max_shift,
        epochs=arguments.epochs,
        learning_rate=arguments.learning_rate,
        batch_size=arguments.batch_size,
        dropout=arguments.dropout,
        seed=arguments.seed,
    )
    name = f"distance-{settings.dataset_name}-{settings.image_size}px"
    jobs = arguments.jobs or (available_cores() if arguments.device.type == "cpu" else 1)
    page = run(
        settings,
        arguments.output or Path("runs") / name,
        [v for v in VARIANTS if v.arch in arguments.arch and v.trunk in arguments.trunk],
        device=str(arguments.device),
        jobs=jobs,
        command=command_line(),
    )
    print(page)


if __name__ == "__main__":
    main()
