"""Find out which layers of a network flip rankings when images are shifted.

python experiments/run_layer_flips.py
python experiments/run_layer_flips.py --table alexnet --networks vanilla blurpool-pad2-s1 alexnet

A network is a row of a table of the ablation, untrained, a released metric, or LABEL=PATH of a
checkpoint.
"""

import argparse
from pathlib import Path

from robust_lpips.studies.rows import TABLES

from robust_lpips.cli import (
    add_data_arguments,
    command_line,
    natural_int,
    positive_int,
    usage_errors,
)
from robust_lpips.studies.layers import Settings, load_network, run

DEFAULT_NETWORKS = ("vgg16", "vgg16-blurpool-pad1", "vgg16-blurpool-pad2", "vgg16-shift-tolerant")
DEFAULT_OUTPUT = Path("runs/layer-flips")


def main() -> None:
    """Measure, write the results, and print the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", choices=TABLES, default="backbones", help="(%(default)s)")
    parser.add_argument(
        "--networks",
        nargs="+",
        metavar="NAME",
        default=DEFAULT_NETWORKS,
        help=f"rows of the table, released metrics, or files ({' '.join(DEFAULT_NETWORKS)})",
    )
    add_data_arguments(parser, output=str(DEFAULT_OUTPUT))
    defaults = Settings()
    for name in ("val-triplets", "max-shift"):
        default = getattr(defaults, name.replace("-", "_"))
        parser.add_argument(f"--{name}", type=positive_int, default=default, help="(%(default)s)")
    parser.add_argument("--seed", type=natural_int, default=0, help="(%(default)s)")
    arguments = parser.parse_args()
    root = arguments.data_root
    settings = Settings(
        data_root=None if root is None else str(root.resolve()),
        val_triplets=arguments.val_triplets,
        image_size=arguments.image_size,
        max_shift=arguments.max_shift,
        seed=arguments.seed,
    )
    with usage_errors(parser):
        networks = {
            name.partition("=")[0]: load_network(name, arguments.table, arguments.seed)
            for name in arguments.networks
        }
    output = arguments.output or DEFAULT_OUTPUT
    device = str(arguments.device)
    print(run(settings, networks, output, device=device, command=command_line()))


if __name__ == "__main__":
    main()
