"""What the command lines of the experiments share."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import torch

from robust_lpips.backbones import BackboneConfig
from robust_lpips.backbones.config import ALLOWED
from robust_lpips.comparison import metric_names


def add_data_arguments(parser: argparse.ArgumentParser, output: str) -> None:
    """Add ``--data-root``, ``--sample``, ``--image-size``, ``--device`` and ``--output``.

    ``output`` says what the last is where it is not given; it and ``data_root`` are None then.
    """
    data = parser.add_mutually_exclusive_group()
    data.add_argument("--data-root", type=existing_folder, help="folder of BAPPS, which holds 2afc")
    data.add_argument(
        "--sample",
        action="store_true",
        help="the sample set, built on first use, in place of BAPPS (the default)",
    )
    parser.add_argument(
        "--image-size", type=positive_int, default=64, help="side of the patches in pixels (64)"
    )
    _add_place_arguments(parser, output)


def add_run_arguments(parser: argparse.ArgumentParser, output: str) -> None:
    """Add ``--seed``, ``--device`` and ``--output``, as :func:`add_data_arguments` does."""
    parser.add_argument("--seed", type=natural_int, default=0, help="(%(default)s)")
    _add_place_arguments(parser, output)


def add_metric_arguments(parser: argparse.ArgumentParser, default: Sequence[str]) -> None:
    """Add ``--metrics`` and ``--metric``; :func:`metric_choice` reads them."""
    names = metric_names()
    parser.add_argument(
        "--metrics",
        nargs="+",
        choices=names,
        default=list(default),
        metavar="NAME",
        help=f"some of {', '.join(names)} (default: {' '.join(default)})",
    )
    add_own_metric_argument(parser)


def add_own_metric_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--metric``, which takes metrics of the user's own, as a list."""
    parser.add_argument(
        "--metric",
        action="append",
        type=own_metric,
        default=[],
        metavar="MODULE:FACTORY",
        help="a metric of your own, too: factory() gives a callable of two (N, 3, H, W) batches "
        "in [-1, 1] that returns (N,) distances; may be given several times",
    )


def metric_choice(arguments: argparse.Namespace) -> list[str]:
    """The metrics that the options of :func:`add_metric_arguments` name, each once."""
    return list(dict.fromkeys([*arguments.metrics, *arguments.metric]))


def print_page(
    run: Callable[..., str],
    settings: object,
    output: str,
    parser: argparse.ArgumentParser,
    arguments: argparse.Namespace,
) -> None:
    """Run a study of metrics as its options say, and print its page.

    Args:
        run: takes settings, a folder, names of metrics, ``device`` and ``command``, and returns
            the page; its ValueError and FileNotFoundError end the program as wrong usage does.
        settings: of the study.
        output: the folder where ``--output`` is not given.
        parser: of the options.
        arguments: what it read; those of :func:`add_metric_arguments` and
            :func:`add_run_arguments` among them.
    """
    with usage_errors(parser):
        page = run(
            settings,
            arguments.output or Path(output),
            metric_choice(arguments),
            device=arguments.device,
            command=command_line(),
        )
    print(page)


def own_metric(text: str) -> str:
    """``package.module:factory``, for ``type=`` of an argument."""
    module, _, factory = text.partition(":")
    if not (module and factory.isidentifier()):
        raise argparse.ArgumentTypeError(f"must be package.module:factory; got {text!r}")
    return text


def add_backbone_arguments(parser: argparse.ArgumentParser) -> None:
    """Add an option for every field of BackboneConfig; :func:`backbone_config` reads them."""
    group = parser.add_argument_group("backbone", "what the network is: see BackboneConfig")
    for field in fields(BackboneConfig):
        option = "--" + field.name.replace("_", "-")
        if isinstance(field.default, bool):
            group.add_argument(option, action="store_true", default=field.default)
            continue
        # None has no spelling: it is what stands where the option is left out.
        values = [value for value in ALLOWED[field.name] if value is not None]
        default = "the architecture's" if field.default is None else "%(default)s"
        group.add_argument(
            option,
            type=type(values[0]),
            choices=values,
            default=field.default,
            help=f"({default})",
        )


def backbone_config(arguments: argparse.Namespace) -> BackboneConfig:
    """What the options of :func:`add_backbone_arguments` say.

    Raises:
        ValueError: they do not go together.
    """
    names = [field.name for field in fields(BackboneConfig)]
    return BackboneConfig(**{name: getattr(arguments, name) for name in names})


@contextmanager
def usage_errors(parser: argparse.ArgumentParser) -> Iterator[None]:
    """Turn an error about arguments into the parser's message, which ends the program."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))


def positive_int(text: str) -> int:
    """A whole number from 1, for ``type=`` of an argument."""
    return _whole_number(text, least=1)


def natural_int(text: str) -> int:
    """A whole number from 0, for ``type=`` of an argument."""
    return _whole_number(text, least=0)


def existing_folder(text: str) -> Path:
    """The path of a folder that is there, for ``type=`` of an argument."""
    path = Path(text).expanduser()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"no such folder: {text!r}")
    return path


def available_device(text: str) -> torch.device:
    """The CPU or a GPU of CUDA that is there, for ``type=`` of an argument."""
    try:
        torch.empty(0, device=text)
        device = torch.device(text)
    # Torch built without CUDA asserts that there is one.
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise argparse.ArgumentTypeError(f"no such device: {text!r} ({reason})") from None
    if device.type not in ("cpu", "cuda"):  # scores are computed in float64, which others lack
        raise argparse.ArgumentTypeError(f"must be cpu or cuda; got {text!r}")
    return device


def default_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def command_line() -> str:
    """The command that started this experiment, as it is typed at the repository's root."""
    script = f"experiments/{Path(sys.argv[0]).name}"
    launcher = ["python"]
    if "TORCHELASTIC_RUN_ID" in os.environ:
        launcher = ["torchrun", f"--nproc_per_node={os.environ['LOCAL_WORLD_SIZE']}"]
    return shlex.join([*launcher, script, *sys.argv[1:]])


def _add_place_arguments(parser: argparse.ArgumentParser, output: str) -> None:
    """Where to compute, and where results go."""
    parser.add_argument(
        "--device",
        type=available_device,
        default=default_device(),
        help="cpu, cuda, cuda:1, ... (%(default)s)",
    )
    parser.add_argument("--output", type=Path, help=f"folder of the results ({output})")


def _whole_number(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"must be a whole number from {least}; got {text!r}")
    return number
