"""Measure how often metrics choose as people did on CLIC, and how often a shift turns a choice.

python experiments/run_clic.py
python experiments/run_clic.py --data-root clic

Without data, the sample set stands in for CLIC, which nobody judged: accuracy is agreement with
the released VGG-16 metric there.
"""

import argparse

from robust_lpips.cli import (
    add_metric_arguments,
    add_run_arguments,
    existing_folder,
    positive_int,
    print_page,
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
    add_run_arguments(parser, output="runs/clic-DATA")
    arguments = parser.parse_args()
    root = arguments.data_root
    settings = Settings(
        data_root=None if root is None else str(root.resolve()),
        n=arguments.n,
        max_shift=arguments.max_shift,
        seed=arguments.seed,
    )
    print_page(run, settings, f"runs/clic-{settings.data}", parser, arguments)


if __name__ == "__main__":
    main()
