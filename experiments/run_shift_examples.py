"""Show what one pixel does to metrics: distances that jump, and verdicts that turn.

python experiments/run_shift_examples.py
python experiments/run_shift_examples.py --image mine.png --image other.jpg
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
from robust_lpips.studies.shift_examples import (
    DEFAULT_K,
    DEFAULT_METRICS,
    DEFAULT_N,
    Settings,
    run,
)

DEFAULT_OUTPUT = Path("runs/shift-examples")


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
        images=tuple(arguments.image),
        k=arguments.k,
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
