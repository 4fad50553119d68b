"""Run an ablation table of the shift-tolerant LPIPS paper and print it beside the published one.

python experiments/run_ablation.py                       # AlexNet, on the embedded sample set
python experiments/run_ablation.py --table backbones     # VGG-16, ResNet-18 and SqueezeNet
python experiments/run_ablation.py --table all           # every table, one after the other
python experiments/run_ablation.py --preset paper --data-root /data/bapps --image-size 256
python experiments/run_ablation.py --shard 1/4           # a quarter of the rows
python experiments/run_ablation.py --engine ray          # the rows on a Ray cluster

A run that was interrupted goes on where it stopped, inside an epoch too (on Ray, at the training
of a row).

Shards are for arrays of jobs on one output folder, which all of them see: --shard i/n does the
i-th of n parts, counted from 0 or from 1, and all n may run at once, each one once. The one that
finds every part finished writes the report; so does a later run without --shard. Shards with the
same --jobs on the same kind of machine give the numbers of one run.

Ray's nodes need this package and BAPPS at the same path, but no shared disk: results come back to
the output folder here. The cluster is that of RAY_ADDRESS, or one that is started here.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from robust_lpips.cli import (
    add_data_arguments,
    add_own_metric_argument,
    command_line,
    natural_int,
    positive_int,
    usage_errors,
)
from robust_lpips.studies.ablation import ENGINES, WHOLE, Shard, chosen_rows, run, unfinished
from robust_lpips.studies.cluster import import_ray
from robust_lpips.studies.report import write_report
from robust_lpips.studies.rows import TABLES
from robust_lpips.studies.study import PRESETS, Study, preset_for

ALL = "all"


def parse_arguments() -> tuple[argparse.Namespace, list[Study]]:
    """The command line, and the tables that it asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", choices=[*TABLES, ALL], default="alexnet", help="(%(default)s)")
    parser.add_argument("--preset", choices=PRESETS, default="quick", help="(%(default)s)")
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="only these rows (all)")
    parser.add_argument("--seeds", nargs="+", type=natural_int, help="(those of the preset)")
    add_own_metric_argument(parser)
    add_data_arguments(
        parser, output="runs/ablation-TABLE-PRESET-DATA-SIZE; with --table all, OUTPUT/TABLE"
    )
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
        "--jobs",
        type=positive_int,
        help="rows at a time, which share the cores evenly (one a CPU core; one on a GPU)",
    )
    parser.add_argument(
        "--shard",
        type=shard,
        default=WHOLE,
        metavar="I/N",
        help="only the I-th of N parts of the rows; from 0 or from 1 (everything)",
    )
    parser.add_argument(
        "--engine",
        type=installed_engine,
        choices=ENGINES,
        default="local",
        help="processes of this machine, or a Ray cluster (%(default)s)",
    )
    arguments = parser.parse_args()
    with usage_errors(parser):
        return arguments, studies(arguments)


def row_and_path(text: str) -> tuple[str, Path]:
    """``ROW=PATH``, for ``type=`` of an argument."""
    row, _, path = text.partition("=")
    if not Path(path).is_file():
        raise argparse.ArgumentTypeError(f"must be ROW=PATH of a checkpoint; got {text!r}")
    return row, Path(path).resolve()


def shard(text: str) -> Shard:
    """``I/N``, for ``type=`` of an argument."""
    try:
        index, count = map(int, text.split("/"))
        return Shard(index, count)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be I/N, with N from 1 and I from 0 to N; got {text!r}"
        ) from None


def installed_engine(text: str) -> str:
    """An engine whose package is installed, for ``type=`` of an argument."""
    if text == "ray":
        try:
            import_ray()
        except ModuleNotFoundError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
    return text


def studies(arguments: argparse.Namespace) -> list[Study]:
    """The one table that the command line names, or every one.

    Raises:
        ValueError: arguments that do not go together.
    """
    if arguments.table != ALL:
        study = study_of(arguments.table, arguments)
        chosen_rows(study, arguments.rows)
        return [study]
    for name in ("rows", "weights"):
        if getattr(arguments, name):
            raise ValueError(f"--{name} names rows of one table: not allowed with --table {ALL}")
    return [study_of(table, arguments) for table in TABLES]


def study_of(table: str, arguments: argparse.Namespace) -> Study:
    """What the command line asks of one table."""
    preset = preset_for(table, arguments.preset)
    data = "sample" if arguments.data_root is None else "bapps"
    output = Path("runs") / f"ablation-{table}-{preset.name}-{data}-{arguments.image_size}px"
    if arguments.output is not None:
        output = arguments.output / table if arguments.table == ALL else arguments.output
    return Study(
        table=table,
        preset=preset,
        output=output,
        data_root=None if arguments.data_root is None else arguments.data_root.resolve(),
        image_size=arguments.image_size,
        max_shift=arguments.max_shift,
        weights=dict(arguments.weights),
        device=str(arguments.device),
        metrics=tuple(arguments.metric),
    )


def report(study: Study, arguments: argparse.Namespace) -> None:
    """Do what is left to do of a table, write the results, and print the page."""
    tasks = run(
        study,
        arguments.rows,
        arguments.seeds,
        arguments.jobs,
        shard=arguments.shard,
        engine=arguments.engine,
    )
    if missing := unfinished(study, tasks):
        print_missing(study, missing)
        return
    print(write_report(study, tasks, command_line()))
    print(
        f"Written to {study.output}: summary.csv, summary.md, summary.png, differences.csv, rows/"
    )


def print_missing(study: Study, missing: Sequence[str]) -> None:
    """Say what the report of a shard waits for."""
    print(f"{study.table}: this shard is finished. Left to others, in {study.output}:")
    print("\n".join(f"  {name}" for name in missing))


def main() -> None:
    """Run one table, or all."""
    arguments, tables = parse_arguments()
    for study in tables:
        report(study, arguments)


if __name__ == "__main__":
    main()
