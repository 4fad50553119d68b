"""Command lines of studies, generated from their settings, and that of downloads."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import Field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch

from robust_lpips.comparison import metric_names
from robust_lpips.data.download import DATASETS, download
from robust_lpips.studies.base.runner import ENGINES, Execution, finish, unfinished, write_report
from robust_lpips.studies.base.settings import Settings, value_type
from robust_lpips.studies.base.study import Plan, Study
from robust_lpips.tasks.engines import WHOLE, Shard
from robust_lpips.tasks.machine import is_first_process
from robust_lpips.tasks.ray_engine import import_ray


def main(study: Study, description: str | None, arguments: Sequence[str] | None = None) -> None:
    """Run a study as its command line says, and print its page.

    Args:
        study: study to run.
        description: text of the help.
        arguments: the command line. Default: that of the process.
    """
    parser = _parser(description)
    add_options(parser, [study])
    _run(parser, study, parser.parse_args(arguments))


def main_of(
    studies: Mapping[str, Study],
    option: str,
    description: str | None,
    *,
    together: bool = False,
    arguments: Sequence[str] | None = None,
) -> None:
    """Run one of several studies, or all, and print their pages.

    Args:
        studies: the studies by the value of the option; the first one is the default.
        option: name of the option that chooses, with its dashes, as ``"--table"``.
        description: text of the help.
        together: the option may be ``all``: every study, each in a folder of its own in the output
            folder; options of some of the studies hold for those alone.
        arguments: the command line. Default: that of the process.
    """
    choices = [*studies, *(["all"] if together else [])]
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    choice = chooser.add_argument(option, dest="chosen", choices=choices, default=choices[0])
    chosen = chooser.parse_known_args(arguments)[0].chosen
    choice.help = f"(%(default)s; further options here are those of {chosen})"
    which = studies if chosen == "all" else {chosen: studies[chosen]}
    parser = _parser(description, chooser)
    add_options(parser, list(which.values()))
    parsed = parser.parse_args(arguments)
    with usage_errors(parser):
        # All settings before the first run: what is refused is refused at once.
        for study in which.values():
            settings_from(study.settings, parsed)
    for name, study in which.items():
        _run(parser, study, parsed, name if len(which) > 1 else "")


def download_main(description: str | None, arguments: Sequence[str] | None = None) -> None:
    """Download the named data sets one after the other, or list all.

    Args:
        description: text of the help.
        arguments: the command line. Default: that of the process.
    """
    parser = _parser(description)
    names = ", ".join(DATASETS)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {names}")
    parser.add_argument("--root", type=Path, help="folder that the data goes into")
    parser.add_argument("--list", action="store_true", help="list the data sets and their sources")
    parsed = parser.parse_args(arguments)
    if parsed.list:
        for dataset in DATASETS.values():
            print(f"{dataset.name}: {dataset.note}")
            for archive in dataset.archives:
                digest = "no digest published" if archive.md5 is None else f"MD5 {archive.md5}"
                print(f"    {archive.url} ({digest})")
        return
    if not parsed.names or parsed.root is None:
        parser.error("expected names of data sets and --root, or --list")
    if unknown := [name for name in parsed.names if name not in DATASETS]:
        parser.error(f"NAME must be some of {names}; got {', '.join(unknown)}")
    for name in parsed.names:
        try:
            folder = download(name, parsed.root)
        except (ValueError, OSError) as error:
            raise SystemExit(f"{name}: {error}") from error
        print(f"{name}: in {folder}")


def add_options(parser: argparse.ArgumentParser, studies: Sequence[Study]) -> None:
    """Add the options of settings, metrics and execution; those of one name once."""
    known: set[str] = set()
    if len(studies) > 1:
        every = [each for study in studies for each in fields(study.settings)]
        known = {each.name for each in every if each.metadata.get("alone")}
    for settings in dict.fromkeys(study.settings for study in studies):
        known |= _add_settings(parser, settings, known)
    if metrics := next(filter(None, (study.metrics for study in studies)), ()):
        names = metric_names()
        parser.add_argument(
            "--metrics",
            nargs="+",
            choices=names,
            metavar="NAME",
            help=f"some of {', '.join(names)} (default: {' '.join(metrics)})",
        )
        parser.add_argument(
            "--metric",
            action="append",
            type=own_metric,
            default=[],
            metavar="MODULE:FACTORY",
            help="a metric of your own, too: factory() returns a callable of two (N, 3, H, W) "
            "batches in [-1, 1] that returns (N,) distances; may be given several times",
        )
    _add_execution(parser, studies)


def settings_from(settings: type[Settings], parsed: argparse.Namespace) -> Settings:
    """Settings from the options that :func:`add_options` added.

    Raises:
        ValueError: if values are out of range or do not fit together.
    """
    return settings(**_given(settings, parsed))


def metrics_from(study: Study, parsed: argparse.Namespace) -> tuple[str, ...]:
    """Metrics of ``--metrics``, by default the study's, and those of ``--metric``, each once."""
    if not study.metrics:
        return ()
    named = parsed.metrics or study.default_metrics(settings_from(study.settings, parsed))
    return tuple(dict.fromkeys([*named, *parsed.metric]))


@contextmanager
def usage_errors(parser: argparse.ArgumentParser) -> Iterator[None]:
    """Turn an error about arguments into the parser's message, which ends the program."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        parser.error(" ".join(str(error).split()))


def own_metric(text: str) -> str:
    """``package.module:factory``, for ``type=`` of an argument."""
    module, _, factory = text.partition(":")
    if not (module and factory.isidentifier()):
        raise argparse.ArgumentTypeError(f"must be package.module:factory; got {text!r}")
    return text


def existing_path(text: str) -> Path:
    """Path of a file or folder that exists, for ``type=`` of an argument."""
    path = Path(text).expanduser()
    if not path.exists():
        raise argparse.ArgumentTypeError(f"no such file or folder: {text!r}")
    return path.resolve()


def available_device(text: str) -> str:
    """The CPU or an available GPU of CUDA, for ``type=`` of an argument."""
    try:
        torch.empty(0, device=text)
        device = torch.device(text)
    # Torch built without CUDA asserts that there is one.
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise argparse.ArgumentTypeError(f"no such device: {text!r} ({reason})") from None
    if device.type not in ("cpu", "cuda"):  # scores are computed in float64, which others lack
        raise argparse.ArgumentTypeError(f"must be cpu or cuda; got {text!r}")
    return str(device)


def command_line() -> str:
    """Command that started this experiment, as it is typed at the repository's root."""
    script = f"experiments/{Path(sys.argv[0]).name}"
    launcher = ["python"]
    if "TORCHELASTIC_RUN_ID" in os.environ:
        # The dashes, because torchrun takes --n for an abbreviation of its own options.
        launcher = ["torchrun", f"--nproc_per_node={os.environ['LOCAL_WORLD_SIZE']}", "--"]
    return shlex.join([*launcher, script, *sys.argv[1:]])


def _run(
    parser: argparse.ArgumentParser, study: Study, parsed: argparse.Namespace, folder: str = ""
) -> None:
    """Run one study; ``folder``: name of its own folder in the folder that ``--output`` names."""
    with usage_errors(parser):
        settings = settings_from(study.settings, parsed)
        plan = Plan(settings, metrics_from(study, parsed), parsed.device)
        output = parsed.output / folder if parsed.output else study.output_folder(settings)
        results = finish(study, plan, output, Execution(parsed.jobs, parsed.shard, parsed.engine))
    if results is not None:
        print(write_report(study, results, command_line()))
        print(f"Written to {output}")
    elif is_first_process() and (missing := unfinished(study, plan, output)):
        print(f"{study.name}: this shard is finished. Left to others, in {output}:")
        print("\n".join(f"  {name}" for name in missing))


def _parser(description: str | None, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        description=description,
        parents=parents,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _add_settings(parser: Any, settings: Any, known: Set[str]) -> set[str]:
    """Add one option per field that is not ``known``, and return the names of all fields.

    A field that is a dataclass becomes a group of options, whose defaults are its own values.
    """
    names = {each.name for each in fields(settings)}
    for each in fields(settings):
        default = getattr(settings, each.name)
        if each.name in known:
            continue
        if is_dataclass(default):
            group = parser.add_argument_group(each.name, each.metadata.get("help"))
            names |= _add_settings(group, default, known)
        else:
            _add_option(parser, settings, each, default)
    return names


def _add_option(parser: Any, settings: Any, each: Field, default: Any) -> None:
    kind, several = value_type(settings, each)
    option = "--" + each.name.replace("_", "-")
    text = each.metadata.get("help", "").replace("%", "%%")
    text = text.replace("SAMPLE_N", str(getattr(settings, "sample_n", "")))
    # Of an option that is left out nothing is kept: studies run together differ in defaults.
    if kind is bool and default is False:
        parser.add_argument(option, action="store_true", default=argparse.SUPPRESS, help=text)
        return
    # None has no spelling: it is the value where the option is left out.
    choices = [value for value in each.metadata.get("choices") or () if value is not None]
    if default not in (None, ()):
        text += f" ({' '.join(map(str, default)) if several else default})"
    parser.add_argument(
        option,
        type=each.metadata.get("parse") or {Path: existing_path, bool: _yes_or_no}.get(kind, kind),
        nargs="+" if several else None,
        # Given several times, the values of all. These would also be added to a default.
        action="extend" if several else "store",
        choices=choices or None,
        default=argparse.SUPPRESS,
        metavar=each.metadata.get("metavar"),
        help=text.strip(),
    )


def _yes_or_no(text: str) -> bool:
    if text not in ("yes", "no"):
        raise argparse.ArgumentTypeError(f"must be yes or no; got {text!r}")
    return text == "yes"


def _given(settings: Any, parsed: argparse.Namespace) -> dict[str, Any]:
    """Values of the fields whose options were given; ``settings``: a class or an instance."""
    values = {}
    for each in fields(settings):
        default = getattr(settings, each.name)
        if is_dataclass(default):
            values[each.name] = replace(default, **_given(default, parsed))
        elif hasattr(parsed, each.name):
            value = getattr(parsed, each.name)
            values[each.name] = tuple(value) if isinstance(value, list) else value
    return values


def _add_execution(parser: argparse.ArgumentParser, studies: Sequence[Study]) -> None:
    """Where to compute, and where results go."""
    folder = studies[0].name if len(studies) == 1 else "STUDY"
    group = parser.add_argument_group("execution", "where to compute, and where results go")
    group.add_argument(
        "--device",
        type=available_device,
        default="cuda" if torch.cuda.is_available() else "cpu",
        help="cpu, cuda, cuda:1, ... (%(default)s)",
    )
    group.add_argument(
        "--output", type=Path, help=f"folder of the results (runs/, named after {folder})"
    )
    group.add_argument(
        "--jobs",
        type=int,
        help="tasks at a time, which share the cores evenly (default: the study's own choice)",
    )
    group.add_argument(
        "--shard",
        type=_shard,
        default=WHOLE,
        metavar="I/N",
        help="only the I-th of N parts of the tasks; counted from 0 or from 1 (everything)",
    )
    group.add_argument(
        "--engine",
        type=_installed_engine,
        choices=ENGINES,
        default="local",
        help="processes of this machine, or a Ray cluster (%(default)s)",
    )


def _shard(text: str) -> Shard:
    try:
        index, count = map(int, text.split("/"))
        return Shard(index, count)
    except ValueError:
        said = f"must be I/N, with N from 1 and I from 0 to N; got {text!r}"
        raise argparse.ArgumentTypeError(said) from None


def _installed_engine(text: str) -> str:
    if text == "ray":
        try:
            import_ray()
        except ModuleNotFoundError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
    return text
