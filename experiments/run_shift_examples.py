"""Show what one pixel does to metrics: distances that jump, and verdicts that turn.

python experiments/run_shift_examples.py
python experiments/run_shift_examples.py --image mine.png --image other.jpg
"""

import argparse

from robust_lpips.cli import (
    add_metric_arguments,
    add_run_arguments,
    positive_int,
    print_page,
)
from robust_lpips.studies.shift_examples import (
    DEFAULT_K,
    DEFAULT_METRICS,
    DEFAULT_N,
    Settings,
    run,
)

DEFAULT_OUTPUT = "runs/shift-examples"


def main() -> None:
    """Measure, write the results, and print the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_metric_arguments(parser, DEFAULT_METRICS)
    parser.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="PATH",
        help="an image of your own as a reference, in place of photographs; may be given several "
        "times",
    )
    parser.add_argument(
        "--k",
        type=positive_int,
        default=DEFAULT_K,
        help="examples of photographs, and triplets shown at most (%(default)s)",
    )
    parser.add_argument(
        "--n",
        type=positive_int,
        default=DEFAULT_N,
        help="triplets of the sample set to look through for flips (%(default)s)",
    )
    parser.add_argument(
        "--image-size",
        type=positive_int,
        default=64,
        help="side of crops and patches in pixels (%(default)s)",
    )
    add_run_arguments(parser, output=DEFAULT_OUTPUT)
    arguments = parser.parse_args()
    settings = Settings(
        images=tuple(arguments.image),
        k=arguments.k,
        n=arguments.n,
        image_size=arguments.image_size,
        seed=arguments.seed,
    )
    print_page(run, settings, DEFAULT_OUTPUT, parser, arguments)


if __name__ == "__main__":
    main()
