"""Compare metrics: accuracy, rank flips under shifts of 1 to 3 pixels, and which differences hold.

python experiments/run_comparison.py                              # on the embedded sample set
python experiments/run_comparison.py --data-root /data/bapps      # on BAPPS val, people's judgments
python experiments/run_comparison.py --metric my_package.my_module:make_metric
python experiments/run_comparison.py --distances a.csv.gz --distances b.csv.gz

--distances takes tables that were computed elsewhere: subset, sample, view, d0, d1, judge, or files
(or a folder of them) as the code of the shift-tolerant LPIPS paper writes them. Alone, nothing is
measured; with --metrics or --metric they have to be of the same triplets.
"""

import argparse
from pathlib import Path

from robust_lpips.cli import (
    add_data_arguments,
    add_metric_arguments,
    command_line,
    metric_choice,
    natural_int,
    positive_int,
    usage_errors,
)
from robust_lpips.studies.comparison import DEFAULT_N, Settings, run

DEFAULT_METRICS = (
    "l2",
    "l1",
    "psnr",
    "ssim",
    "ms-ssim",
    "cw-ssim",
    "fsim",
    "vsi",
    "gmsd",
    "nlpd",
    "vif",
    "dists",
    "pieapp-sparse",
    "pieapp-dense",
    "pim-1",
    "pim-5",
    "gti-cnn",
    "e-lpips",
    "alexnet",
    "vgg16",
    "squeezenet1_1",
    "alexnet-vanilla",
    "vgg16-vanilla",
    "alexnet-cosine",
    "alexnet-untrained",
    "alexnet-shift-tolerant",
    "vgg16-shift-tolerant",
)
DEFAULT_OUTPUT = "runs/comparison-DATA"


def main() -> None:
    """Measure, write the results, and print the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_metric_arguments(parser, DEFAULT_METRICS)
    parser.add_argument(
        "--distances",
        action="append",
        type=Path,
        default=[],
        metavar="PATH",
        help="a table of distances computed elsewhere; may be given several times",
    )
    add_data_arguments(parser, output=f"{DEFAULT_OUTPUT}, DATA: sample, bapps or files")
    parser.add_argument(
        "--n",
        type=positive_int,
        help=f"triplets, evenly spaced ones of BAPPS ({DEFAULT_N} of the sample set, all of BAPPS)",
    )
    parser.add_argument(
        "--max-shift", type=positive_int, default=3, help="largest shift in pixels (%(default)s)"
    )
    parser.add_argument("--seed", type=natural_int, default=0, help="(%(default)s)")
    # None: not given. Files alone are compared with each other.
    parser.set_defaults(metrics=None)
    arguments = parser.parse_args()
    if arguments.metrics is None:
        arguments.metrics = () if arguments.distances else DEFAULT_METRICS
    root = arguments.data_root
    settings = Settings(
        data_root=None if root is None else str(root.resolve()),
        n=arguments.n or (DEFAULT_N if root is None else None),
        image_size=arguments.image_size,
        max_shift=arguments.max_shift,
        seed=arguments.seed,
    )
    metrics = metric_choice(arguments)
    data = ("sample" if root is None else "bapps") if metrics else "files"
    with usage_errors(parser):
        page = run(
            settings,
            arguments.output or Path(DEFAULT_OUTPUT.replace("DATA", data)),
            metrics,
            arguments.distances,
            device=arguments.device,
            command=command_line(),
        )
    print(page)


if __name__ == "__main__":
    main()
