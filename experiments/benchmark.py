"""Measure speed and memory beside the released packages, in the same run.

python experiments/benchmark.py --suite distance
python experiments/benchmark.py --suite protocol --triplets 500
python experiments/benchmark.py --suite precision
python experiments/benchmark.py --suite training
python experiments/benchmark.py --suite memory --triplets 20000    # and a tenth of them
python experiments/benchmark.py --suite import
"""

import argparse
from pathlib import Path

from robust_lpips.cli import (
    available_device,
    command_line,
    default_device,
    positive_int,
    usage_errors,
)
from robust_lpips.studies.benchmark import SUITES, run, write_report


def main() -> None:
    """Measure, write the results, and print the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suite", choices=SUITES, default="distance", help="(%(default)s)")
    parser.add_argument("--device", type=available_device, default=default_device())
    parser.add_argument(
        "--steps", type=positive_int, help="timed steps a round, of distance and training"
    )
    parser.add_argument("--rounds", type=positive_int, help="turns of each side; not of memory")
    parser.add_argument(
        "--triplets", type=positive_int, help="how many, of protocol, precision and memory"
    )
    parser.add_argument("--output", type=Path, help="folder of the results (runs/benchmark-SUITE)")
    arguments = parser.parse_args()
    device = str(arguments.device)
    with usage_errors(parser):
        result = run(
            arguments.suite,
            device,
            steps=arguments.steps,
            rounds=arguments.rounds,
            triplets=arguments.triplets,
        )
    output = arguments.output or Path("runs") / f"benchmark-{arguments.suite}"
    print(write_report(result, arguments.suite, output, device, command_line()))


if __name__ == "__main__":
    main()
