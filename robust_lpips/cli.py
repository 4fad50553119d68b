"""What the command lines of the experiments share."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

import torch


def add_data_arguments(parser: argparse.ArgumentParser, output: str) -> None:
    """Add ``--data-root``, ``--image-size``, ``--device`` and ``--output`` to ``parser``.

    ``output`` says what the last is where it is not given; it and ``data_root`` are None then.
    """
    parser.add_argument(
        "--data-root",
        type=existing_folder,
        help="folder of BAPPS, which holds 2afc (default: the sample set, built on first use)",
    )
    parser.add_argument(
        "--image-size", type=positive_int, default=64, help="side of the patches in pixels (64)"
    )
    parser.add_argument(
        "--device",
        type=available_device,
        default=default_device(),
        help="cpu, cuda, cuda:1, ... (%(default)s)",
    )
    parser.add_argument("--output", type=Path, help=f"folder of the results ({output})")


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
    """A device that tensors can be put on, for ``type=`` of an argument."""
    try:
        torch.empty(0, device=text)
        return torch.device(text)
    # Torch built without CUDA asserts that there is one.
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise argparse.ArgumentTypeError(f"no such device: {text!r} ({reason})") from None


def default_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def command_line() -> str:
    """The command that started this experiment, as it is typed at the repository's root."""
    script = f"experiments/{Path(sys.argv[0]).name}"
    return shlex.join(["python", script, *sys.argv[1:]])


def _whole_number(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"must be a whole number from {least}; got {text!r}")
    return number
