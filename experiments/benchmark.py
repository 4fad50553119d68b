"""Measure speed beside the released packages, in the same run.

python experiments/benchmark.py --suite training
"""

import argparse
from pathlib import Path

from robust_lpips.cli import available_device, command_line, default_device, positive_int
from robust_lpips.studies.benchmark import SUITES, run, write_report


def main() -> None:
    """Measure, write the results, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suite", choices=SUITES, default="training", help="(%(default)s)")
    parser.add_argument("--device", type=available_device, default=default_device())
    parser.add_argument(
        "--steps", type=positive_int, default=10, help="steps a round (%(default)s)"
    )
    parser.add_argument("--rounds", type=positive_int, default=5, help="(%(default)s)")
    parser.add_argument("--output", type=Path, help="folder of the results (runs/benchmark-SUITE)")
    arguments = parser.parse_args()
    device = str(arguments.device)
    table = run(arguments.suite, device, arguments.steps, arguments.rounds)
    output = arguments.output or Path("runs") / f"benchmark-{arguments.suite}"
    print(write_report(table, arguments.suite, output, device, command_line()))


if __name__ == "__main__":
    main()
