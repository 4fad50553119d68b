"""Correlate metrics with scores of image quality: SRCC, PLCC and KRCC, with intervals.

python experiments/run_iqa.py                                         # graded severities, no people
python experiments/run_iqa.py --dataset tid2013 --data-root /data/tid2013
python experiments/run_iqa.py --dataset csv --data-root pairs.csv --scores higher-is-better

A CSV has the columns reference, distorted, score and optionally subset; paths are relative to it.
"""

import argparse
from pathlib import Path

from robust_lpips.cli import (
    add_metric_arguments,
    add_run_arguments,
    positive_int,
    print_page,
    usage_errors,
)
from robust_lpips.studies.iqa import DATASETS, DEFAULT_METRICS, GRADED, Settings, run

SCORES = {"higher-is-better": True, "higher-is-worse": False}


def main() -> None:
    """Measure, write the results, and print the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_metric_arguments(parser, DEFAULT_METRICS)
    parser.add_argument("--dataset", choices=DATASETS, default=GRADED, help="(%(default)s)")
    parser.add_argument("--data-root", type=Path, help="folder of the set, or the CSV")
    parser.add_argument("--scores", choices=SCORES, help="what the scores of a CSV mean")
    parser.add_argument(
        "--image-size",
        type=positive_int,
        default=Settings.image_size,
        help="side of the crops of graded severities in pixels (%(default)s)",
    )
    parser.add_argument(
        "--crops",
        type=positive_int,
        default=Settings.crops,
        help="of each photograph, for graded severities (%(default)s)",
    )
    add_run_arguments(parser, output="runs/iqa-DATASET")
    arguments = parser.parse_args()
    root = arguments.data_root
    with usage_errors(parser):
        settings = Settings(
            dataset=arguments.dataset,
            data_root=None if root is None else str(root.expanduser().resolve()),
            higher_is_better=SCORES.get(arguments.scores),
            image_size=arguments.image_size,
            crops=arguments.crops,
            seed=arguments.seed,
        )
    print_page(run, settings, f"runs/iqa-{settings.dataset}", parser, arguments)


if __name__ == "__main__":
    main()
