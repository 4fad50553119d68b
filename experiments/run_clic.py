"""Measure how often metrics choose as people did on CLIC, and how often a shift turns a choice.

python experiments/run_clic.py
python experiments/run_clic.py --data-root clic

Without data, the sample set stands in for CLIC, which nobody judged: accuracy is agreement with
the released VGG-16 metric there.
"""

import argparse
from pathlib import Path

from robust_lpips.cli import (
    add_metric_arguments,
    available_device,
    command_line,
    default_device,
    existing_folder,
    metric_choice,
    natural_int,
    positive_int,
    usage_errors,
)
from robust_lpips.studies.clic import DEFAULT_METRICS, DEFAULT_N, Settings, run


def main() -> None:
    """Measure, write the results, and print the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_metric_arguments(parser, DEFAULT_METRICS)
    parser.add_argument(
        "--data-root", type=existing_folder, help="folder of CLIC's images and of its CSV"
    )
    parser.add_argument(
        "--n",
        type=positive_int,
        help=f"triplets; of CLIC evenly spaced ones (all of CLIC, {DEFAULT_N} of the sample set)",
    )
    parser.add_argument(
        "--max-shift",
        type=positive_int,
        default=3,
        help="largest shift in pixels; it decides the crop (%(default)s)",
    )
    parser.add_argument("--seed", type=natural_int, default=0, help="(%(default)s)")
    parser.add_argument("--device", type=available_device, default=default_device())
    parser.add_argument("--output", type=Path, help="folder of the results (runs/clic-DATA)")
    arguments = parser.parse_args()
    root = arguments.data_root
    settings = Settings(
        data_root=None if root is None else str(root.resolve()),
        n=arguments.n,
        max_shift=arguments.max_shift,
        seed=arguments.seed,
    )
    with usage_errors(parser):
        page = run(
            settings,
            arguments.output or Path("runs") / f"clic-{settings.data}",
            metric_choice(arguments),
            device=arguments.device,
            command=command_line(),
        )
    print(page)


if __name__ == "__main__":
    main()
