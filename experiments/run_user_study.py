"""How people and metrics answer to shifts of 0 .. 9 pixels: shares of "the same", and distances.

python experiments/run_user_study.py                               # people: the published table
python experiments/run_user_study.py --responses answers.json      # people: answers, evaluated here
"""

import argparse
from pathlib import Path

from robust_lpips.cli import (
    add_metric_arguments,
    add_run_arguments,
    positive_int,
    print_page,
)
from robust_lpips.studies.user_study import DEFAULT_METRICS, DEFAULT_N, Settings, run

DEFAULT_OUTPUT = "runs/user-study"


def main() -> None:
    """Measure, write the results, and print the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_metric_arguments(parser, DEFAULT_METRICS)
    parser.add_argument(
        "--responses",
        type=Path,
        metavar="FILE",
        help="people's answers by stimulus, the JSON file released with the study (default: the "
        "published table)",
    )
    parser.add_argument(
        "--n",
        type=positive_int,
        default=DEFAULT_N,
        help="crops of photographs that metrics are asked about (%(default)s)",
    )
    parser.add_argument(
        "--image-size",
        type=positive_int,
        default=64,
        help="side of what is compared in pixels (%(default)s)",
    )
    add_run_arguments(parser, output=DEFAULT_OUTPUT)
    arguments = parser.parse_args()
    settings = Settings(
        responses=None if arguments.responses is None else str(arguments.responses),
        n=arguments.n,
        image_size=arguments.image_size,
        seed=arguments.seed,
    )
    print_page(run, settings, DEFAULT_OUTPUT, parser, arguments)


if __name__ == "__main__":
    main()
