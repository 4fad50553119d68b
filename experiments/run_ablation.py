"""Run an ablation table of the shift-tolerant LPIPS paper and print it beside the published one.

python experiments/run_ablation.py                       # AlexNet, on the embedded sample set
python experiments/run_ablation.py --table blur-placement
python experiments/run_ablation.py --preset paper --data-root /data/bapps --image-size 256
"""

import argparse
from pathlib import Path

from robust_lpips.cli import add_data_arguments, command_line, natural_int, positive_int
from robust_lpips.studies.ablation import PRESETS, Study, run
from robust_lpips.studies.pool import available_cores
from robust_lpips.studies.report import write_report
from robust_lpips.studies.rows import TABLES


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", choices=TABLES, default="alexnet", help="(%(default)s)")
    parser.add_argument("--preset", choices=PRESETS, default="quick", help="(%(default)s)")
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="only these rows (all)")
    parser.add_argument("--seeds", nargs="+", type=natural_int, help="(those of the preset)")
    add_data_arguments(parser, output="runs/ablation-TABLE-PRESET-DATA-SIZE")
    parser.add_argument(
        "--max-shift", type=positive_int, default=3, help="largest shift in pixels (%(default)s)"
    )
    parser.add_argument(
        "--weights",
        nargs="+",
        type=row_and_path,
        default=[],
        metavar="ROW=PATH",
        help="measure these checkpoints instead of training those rows",
    )
    parser.add_argument(
        "--jobs", type=positive_int, help="rows at a time (one a CPU core; one on a GPU)"
    )
    return parser.parse_args()


def row_and_path(text: str) -> tuple[str, Path]:
    """``ROW=PATH``, for ``type=`` of an argument."""
    row, _, path = text.partition("=")
    if not Path(path).is_file():
        raise argparse.ArgumentTypeError(f"must be ROW=PATH of a checkpoint; got {text!r}")
    return row, Path(path).resolve()


def main() -> None:
    """Run what is left to do, write the results, and print the page."""
    arguments = parse_arguments()
    data = "sample" if arguments.data_root is None else "bapps"
    name = f"ablation-{arguments.table}-{arguments.preset}-{data}-{arguments.image_size}px"
    study = Study(
        table=arguments.table,
        preset=arguments.preset,
        output=arguments.output or Path("runs") / name,
        data_root=None if arguments.data_root is None else arguments.data_root.resolve(),
        image_size=arguments.image_size,
        max_shift=arguments.max_shift,
        weights=dict(arguments.weights),
        device=str(arguments.device),
    )
    jobs = arguments.jobs or (available_cores() if arguments.device.type == "cpu" else 1)
    tasks = run(study, arguments.rows, arguments.seeds or study.size.seeds, jobs)
    print(write_report(study, tasks, command_line()))
    print(
        f"Written to {study.output}: summary.csv, summary.md, summary.png, differences.csv, rows/"
    )


if __name__ == "__main__":
    main()
