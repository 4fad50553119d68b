"""Plot how metrics answer to shifts of 0 .. 9 pixels: the distance they charge, and r_rf."""

import argparse

from robust_lpips.cli import (
    add_data_arguments,
    add_metric_arguments,
    command_line,
    metric_choice,
    natural_int,
    positive_int,
)
from robust_lpips.studies.sensitivity import DEFAULT_METRICS, DEFAULT_N, Settings, report, run

DEFAULT_OUTPUT = "runs/shift-sensitivity"


def main() -> None:
    """Measure, write the results, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_metric_arguments(parser, DEFAULT_METRICS)
    add_data_arguments(parser, output=DEFAULT_OUTPUT)
    parser.add_argument("--split", default="val", help="part of the data (%(default)s)")
    parser.add_argument(
        "--n",
        type=positive_int,
        default=DEFAULT_N,
        help="triplets of the sample set; of BAPPS every one is taken (%(default)s)",
    )
    parser.add_argument(
        "--max-shift",
        type=positive_int,
        default=9,
        help="largest shift in pixels; it decides the crop (%(default)s)",
    )
    parser.add_argument("--seed", type=natural_int, default=0, help="(%(default)s)")
    arguments = parser.parse_args()
    root = arguments.data_root
    settings = Settings(
        data_root=None if root is None else str(root.resolve()),
        split=arguments.split,
        n=arguments.n,
        image_size=arguments.image_size,
        max_shift=arguments.max_shift,
        seed=arguments.seed,
    )
    table = run(
        settings,
        arguments.output or DEFAULT_OUTPUT,
        metric_choice(arguments),
        device=arguments.device,
        command=command_line(),
    )
    print(report(table, settings))


if __name__ == "__main__":
    main()
