"""Measure how well metrics find the pairs of images that people take for the same (JND, mAP).

python experiments/run_jnd.py
python experiments/run_jnd.py --data-root bapps
python experiments/run_jnd.py --user-study 0_9_pix_shift --responses responses.json

Without data, photographs are shifted here, and what people said of such shifts is the published
table of the study of small shifts.
"""

import argparse
from pathlib import Path

from robust_lpips.cli import (
    add_metric_arguments,
    add_run_arguments,
    existing_folder,
    positive_int,
    print_page,
    usage_errors,
)
from robust_lpips.studies.jnd import DEFAULT_CROPS, DEFAULT_METRICS, Settings, run


def main() -> None:
    """Measure, write the results, and print the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_metric_arguments(parser, DEFAULT_METRICS)
    data = parser.add_mutually_exclusive_group()
    data.add_argument("--data-root", type=existing_folder, help="folder of BAPPS, which holds jnd")
    data.add_argument(
        "--user-study", type=existing_folder, help="folder with the stimuli of the user study"
    )
    parser.add_argument("--responses", type=Path, help="file with the answers to these stimuli")
    parser.add_argument(
        "--image-size",
        type=positive_int,
        default=64,
        help="side of the patches in pixels; the user study's are 256 (%(default)s)",
    )
    parser.add_argument(
        "--crops",
        type=positive_int,
        default=DEFAULT_CROPS,
        help="places in each photograph, where photographs are shifted here (%(default)s)",
    )
    add_run_arguments(parser, output="runs/jnd-DATA")
    arguments = parser.parse_args()
    folders = {
        name: None if path is None else str(path.resolve())
        for name in ("data_root", "user_study", "responses")
        for path in [getattr(arguments, name)]
    }
    with usage_errors(parser):
        settings = Settings(
            **folders,
            image_size=arguments.image_size,
            crops=arguments.crops,
            seed=arguments.seed,
        )
    print_page(run, settings, f"runs/jnd-{settings.data}", parser, arguments)


if __name__ == "__main__":
    main()
