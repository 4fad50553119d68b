"""Run an ablation table of the shift-tolerant LPIPS paper and print it beside the published one.

python experiments/run_ablation.py                       # AlexNet, on the embedded sample set
python experiments/run_ablation.py --table backbones     # VGG-16, ResNet-18 and SqueezeNet
python experiments/run_ablation.py --table beyond        # designs beyond the paper, untrained
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

The table beyond trains nothing: it measures what registration, tolerant features, jitter and other
filters make of released networks. With --table all it comes last, once the others are finished.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from robust_lpips.studies.rows import TABLES

from robust_lpips.cli import (
    add_data_arguments,
    add_own_metric_argument,
    command_line,
    natural_int,
    positive_int,
    usage_errors,
)
from robust_lpips.studies import beyond, beyond_rows
from robust_lpips.studies.ablation import ENGINES, WHOLE, Shard, chosen_rows, run, unfinished
from robust_lpips.studies.cluster import import_ray
from robust_lpips.studies.report import write_report
from robust_lpips.studies.study import PRESETS, Study, preset_for

ALL, BEYOND = "all", "beyond"
DEFAULT_PRESET, DEFAULT_ENGINE = "quick", "local"
# Options of the trained tables alone.
TRAINING = ("preset", "seeds", "weights", "jobs", "shard", "engine", "metric")


def parse_arguments() -> tuple[argparse.Namespace, list[Study]]:
    """The command line, and the trained tables that it asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--table", choices=[*TABLES, BEYOND, ALL], default="alexnet", help="(%(default)s)"
    )
    parser.add_argument("--preset", choices=PRESETS, help=f"({DEFAULT_PRESET})")
    parser.add_argument(
        "--rows",
        nargs="+",
        metavar="ROW",
        help="only these rows (all); of beyond with the networks that they start from: "
        f"{', '.join(beyond_rows.ROWS)}",
    )
    parser.add_argument(
        "--n",
        type=positive_int,
        help=f"validation triplets of the table beyond ({beyond.DEFAULT_N})",
    )
    parser.add_argument("--seeds", nargs="+", type=natural_int, help="(those of the preset)")
    add_own_metric_argument(parser)
    add_data_arguments(
        parser,
        output="runs/ablation-TABLE-PRESET-DATA-SIZE, of beyond without PRESET; "
        "with --table all, OUTPUT/TABLE",
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
        metavar="I/N",
        help="only the I-th of N parts of the rows; from 0 or from 1 (everything)",
    )
    parser.add_argument(
        "--engine",
        type=installed_engine,
        choices=ENGINES,
        help=f"processes of this machine, or a Ray cluster ({DEFAULT_ENGINE})",
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
    """The one trained table that the command line names, every one, or for ``beyond`` none.

    Raises:
        ValueError: arguments that do not go together.
    """
    if arguments.table == BEYOND:
        for name in TRAINING:
            if getattr(arguments, name):
                raise ValueError(
                    f"--{name} is of trained tables: not allowed with --table {BEYOND}"
                )
        beyond_rows.chosen(arguments.rows)
        beyond_settings(arguments)
        return []
    if arguments.n is not None and arguments.table != ALL:
        raise ValueError(f"--n is of --table {BEYOND}: not allowed with --table {arguments.table}")
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
    preset = preset_for(table, arguments.preset or DEFAULT_PRESET)
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


def report(study: Study, arguments: argparse.Namespace) -> bool:
    """Do what is left to do of a table; if that was all, write the results and print the page.

    Returns:
        Whether the table is finished.
    """
    tasks = run(
        study,
        arguments.rows,
        arguments.seeds,
        arguments.jobs,
        shard=arguments.shard or WHOLE,
        engine=arguments.engine or DEFAULT_ENGINE,
    )
    if missing := unfinished(study, tasks):
        print_missing(study, missing)
        return False
    print(write_report(study, tasks, command_line()))
    print(
        f"Written to {study.output}: summary.csv, summary.md, summary.png, differences.csv, rows/"
    )
    return True


def print_missing(study: Study, missing: Sequence[str]) -> None:
    """Say what the report of a shard waits for."""
    print(f"{study.table}: this shard is finished. Left to others, in {study.output}:")
    print("\n".join(f"  {name}" for name in missing))


def beyond_settings(arguments: argparse.Namespace) -> beyond.Settings:
    """What the command line asks of the table ``beyond``."""
    return beyond.Settings(
        data_root=None if arguments.data_root is None else str(arguments.data_root.resolve()),
        n=arguments.n or beyond.DEFAULT_N,
        image_size=arguments.image_size,
        max_shift=arguments.max_shift,
    )


def report_beyond(arguments: argparse.Namespace) -> None:
    """Do what is left to do of the table ``beyond``, and print the page."""
    settings = beyond_settings(arguments)
    output = Path("runs") / f"ablation-{BEYOND}-{settings.kind}-{settings.image_size}px"
    if arguments.output is not None:
        output = arguments.output / BEYOND if arguments.table == ALL else arguments.output
    page = beyond.run(
        settings, output, arguments.rows, device=arguments.device, command=command_line()
    )
    print(page)
    print(f"Written to {output}: summary.csv, summary.md, pareto.png, rows/")


def main() -> None:
    """Run one table, or all."""
    arguments, tables = parse_arguments()
    finished = [report(study, arguments) for study in tables]
    if arguments.table in (BEYOND, ALL) and all(finished):
        report_beyond(arguments)


if __name__ == "__main__":
    main()
