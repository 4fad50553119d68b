"""Does the alignment of Registered do what it says, and where does it fail?

python experiments/run_registration.py
python experiments/run_registration.py --parts human --answers user_study_responses.json
"""

import argparse
from functools import partial
from pathlib import Path

from robust_lpips.cli import (
    add_metric_arguments,
    add_run_arguments,
    positive_int,
    print_page,
    usage_errors,
)
from robust_lpips.data.photographs import PHOTOGRAPHS
from robust_lpips.studies.registration import DEFAULT_METRICS, PARTS, run
from robust_lpips.studies.registration.settings import Settings

DEFAULT_OUTPUT = "runs/registration"


def main() -> None:
    """Measure, write the results, and print the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_metric_arguments(parser, DEFAULT_METRICS)
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=list(PARTS),
        default=list(PARTS),
        metavar="NAME",
        help=f"some of {', '.join(PARTS)} (default: all)",
    )
    parser.add_argument(
        "--answers",
        type=Path,
        metavar="FILE",
        help="people's answers by stimulus, the JSON file released with the study (default: their "
        "counts at each shift)",
    )
    parser.add_argument(
        "--split", choices=list(PHOTOGRAPHS), default="val", help="photographs (%(default)s)"
    )
    for name, text in {
        "n": "windows in each cell and at each shift",
        "examples": "windows that are optimised, and pairs of each failure",
        "steps": "of each optimisation",
        "image-size": "side of what is compared in pixels",
    }.items():
        default = getattr(Settings, name.replace("-", "_"))
        parser.add_argument(
            f"--{name}", type=positive_int, default=default, help=f"{text} (%(default)s)"
        )
    add_run_arguments(parser, output=DEFAULT_OUTPUT)
    arguments = parser.parse_args()
    with usage_errors(parser):
        settings = Settings(
            answers=None if arguments.answers is None else str(arguments.answers),
            split=arguments.split,
            n=arguments.n,
            examples=arguments.examples,
            steps=arguments.steps,
            image_size=arguments.image_size,
            seed=arguments.seed,
        )
    print_page(partial(run, parts=arguments.parts), settings, DEFAULT_OUTPUT, parser, arguments)


if __name__ == "__main__":
    main()
