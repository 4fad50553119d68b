"""Train a metric: its 1x1 weights alone, all of a trained network, or all from scratch.

python experiments/train.py                              # AlexNet, on the embedded sample set
python experiments/train.py --target vgg16-shift-tolerant --learning-rate 1e-3 --dropout 0
python experiments/train.py --mode lin --init imagenet --data-root /data/bapps
python experiments/train.py --output runs/x --resume     # beside the arguments it began with
torchrun --nproc_per_node=2 experiments/train.py         # each batch shared by two processes
"""

import argparse
from pathlib import Path

from robust_lpips.cli import (
    add_backbone_arguments,
    add_data_arguments,
    backbone_config,
    command_line,
    natural_int,
    positive_int,
    usage_errors,
)
from robust_lpips.comparison import metric_names
from robust_lpips.studies.training import DEFAULT_TRIPLETS, Settings, check_output, run
from robust_lpips.training import PRECISIONS, Recipe, launch
from robust_lpips.training.initialization import INITS

PAPERS = Recipe()
MODES = ("lin", "tune", "scratch")  # not "head", which is for studying a distance as it is
JUDGE = "judge"
DEFAULT_OUTPUT = Path("runs/train")


def argument_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_backbone_arguments(parser)
    add_data_arguments(parser, output=str(DEFAULT_OUTPUT))
    for split in ("train", "val"):
        counts = [DEFAULT_TRIPLETS[data][split] or "all" for data in ("sample", "bapps")]
        parser.add_argument(
            f"--{split}-triplets",
            type=positive_int,
            metavar="N",
            help="({} of the sample set, {} of BAPPS)".format(*counts),
        )
    add_recipe_arguments(parser)
    parser.add_argument("--precision", choices=PRECISIONS, default="32", help="(32)")
    parser.add_argument("--seed", type=natural_int, default=0, help="(%(default)s)")
    parser.add_argument("--resume", action="store_true", help="go on with what --output holds")
    parser.add_argument(
        "--checkpoint-every",
        type=positive_int,
        default=200,
        metavar="STEPS",
        help="write a checkpoint after so many, beside the end of each epoch (%(default)s)",
    )
    return parser


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """How to train; the defaults are the papers'."""
    parser.add_argument("--mode", choices=MODES, default=PAPERS.mode, help="(%(default)s)")
    parser.add_argument(
        "--init",
        type=initial_weights,
        default="random",
        help=f"starting weights: {', '.join(INITS)}, or a file (%(default)s; needed to tune)",
    )
    parser.add_argument(
        "--target",
        type=target,
        default=JUDGE,
        metavar="judge|METRIC",
        help=f"what to train to: judgments, package.module:factory, or a metric of "
        f"{', '.join(metric_names())} (judge)",
    )
    parser.add_argument("--epochs", type=positive_int, default=PAPERS.epochs, help="(%(default)s)")
    parser.add_argument(
        "--decay-epochs",
        type=natural_int,
        help=f"how many of the last lower the rate ({PAPERS.decay_epochs} of {PAPERS.epochs})",
    )
    parser.add_argument(
        "--batch-size",
        type=positive_int,
        default=PAPERS.batch_size,
        help="triplets a step, over all processes (%(default)s)",
    )
    for name in ("learning_rate", "dropout"):
        parser.add_argument(
            "--" + name.replace("_", "-"),
            type=float,
            default=getattr(PAPERS, name),
            help="(%(default)s)",
        )


def initial_weights(text: str) -> str:
    """A name of starting weights, or the path of a file, for ``type=`` of an argument."""
    if text in INITS:
        return text
    path = Path(text).expanduser()
    if not path.is_file():
        raise argparse.ArgumentTypeError(
            f"must be one of {', '.join(INITS)}, or a file; got {text!r}"
        )
    return str(path.resolve())


def target(text: str) -> str:
    """What to train to, for ``type=`` of an argument."""
    if text == JUDGE or text in metric_names() or ":" in text:
        return text
    names = ", ".join((JUDGE, "package.module:factory", *metric_names()))
    raise argparse.ArgumentTypeError(f"must be one of {names}; got {text!r}")


def recipe(arguments: argparse.Namespace) -> Recipe:
    """How to train, as the command line says."""
    decay_epochs = arguments.decay_epochs
    if decay_epochs is None:
        decay_epochs = arguments.epochs * PAPERS.decay_epochs // PAPERS.epochs
    return Recipe(
        target="judge" if arguments.target == JUDGE else "teacher",
        epochs=arguments.epochs,
        decay_epochs=decay_epochs,
        learning_rate=arguments.learning_rate,
        batch_size=arguments.batch_size,
        dropout=arguments.dropout,
        mode=arguments.mode,
    )


def settings(arguments: argparse.Namespace) -> Settings:
    """What to train, as the command line says."""
    root = arguments.data_root
    default = DEFAULT_TRIPLETS["sample" if root is None else "bapps"]
    return Settings(
        config=backbone_config(arguments),
        recipe=recipe(arguments),
        init=arguments.init,
        teacher=None if arguments.target == JUDGE else arguments.target,
        data_root=None if root is None else str(root.resolve()),
        train_triplets=arguments.train_triplets or default["train"],
        val_triplets=arguments.val_triplets or default["val"],
        image_size=arguments.image_size,
        precision=arguments.precision,
        seed=arguments.seed,
    )


def main() -> None:
    """Train what is left to train, write the results, and print the report."""
    parser = argument_parser()
    arguments = parser.parse_args()
    output = arguments.output or DEFAULT_OUTPUT
    with usage_errors(parser):
        chosen = settings(arguments)
        check_output(output, arguments.resume)
    report = run(
        chosen,
        output,
        launch(arguments.device, arguments.precision),
        resume=arguments.resume,
        checkpoint_every=arguments.checkpoint_every,
        command=command_line(),
    )
    if report is not None:
        print(report)


if __name__ == "__main__":
    main()
