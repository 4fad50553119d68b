"""How people and metrics answer to shifts of 0 .. 9 pixels: shares of "the same", and distances.

python experiments/run_user_study.py                               # people: the published table
python experiments/run_user_study.py --responses answers.json      # people: answers, evaluated here
"""

import argparse
from pathlib import Path

from robust_lpips.cli import (
    add_metric_arguments,
    available_device,
    command_line,
    default_device,
    metric_choice,
    natural_int,
    positive_int,
    usage_errors,
)
from robust_lpips.studies.user_study import DEFAULT_METRICS, DEFAULT_N, Settings, run

DEFAULT_OUTPUT = Path("runs/user-study")


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
    parser.add_argument("--seed", type=natural_int, default=0, help="(%(default)s)")
    parser.add_argument(
        "--device",
        type=available_device,
        default=default_device(),
        help="cpu, cuda, cuda:1, ... (%(default)s)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=DEFAULT_OUTPUT,
        help="folder of the results (%(default)s)",
    )
    arguments = parser.parse_args()
    settings = Settings(
        responses=None if arguments.responses is None else str(arguments.responses),
        n=arguments.n,
        image_size=arguments.image_size,
        seed=arguments.seed,
    )
    with usage_errors(parser):
        page = run(
            settings,
            arguments.output,
            metric_choice(arguments),
            device=arguments.device,
            command=command_line(),
        )
    print(page)


if __name__ == "__main__":
    main()
