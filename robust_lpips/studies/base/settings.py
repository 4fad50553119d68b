"""Settings of studies: dataclasses whose fields carry help texts and limits of their options."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Collection
from dataclasses import Field, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar

from robust_lpips.provenance import file_digest
from robust_lpips.studies.base.source import Source, triplets


def option(
    default: Any,
    help: str,
    *,
    least: float | None = None,
    most: float | None = None,
    choices: Collection[Any] | None = None,
    claimed: bool = True,
    alone: bool = False,
    metavar: str | None = None,
    parse: Callable[[str], Any] | None = None,
) -> Any:
    """A field of a settings class, with what its command-line option needs.

    The option is the field's name with dashes. Its type comes from the annotation: ``int``,
    ``float``, ``str``, ``Path``, ``bool`` (a flag), each optionally ``| None``, a tuple of them
    (several values), or a nested frozen dataclass, each of whose fields becomes an option; another
    type needs ``parse``.

    Args:
        default: value where the option is left out.
        help: text of the command line's help.
        least: smallest value allowed.
        most: largest value allowed.
        choices: values allowed; of a tuple, values of its items.
        claimed: results depend on it, so that a folder holds results of one value only.
        alone: the option is not offered where several studies run together.
        metavar: name of the value in the command line's help.
        parse: makes a value from its text on the command line; as ``type=`` of argparse.
    """
    limits = {"least": least, "most": most, "choices": None if choices is None else tuple(choices)}
    words = {"help": help, "metavar": metavar, "parse": parse}
    return field(default=default, metadata=limits | words | {"claimed": claimed, "alone": alone})


@dataclass(frozen=True)
class Settings:
    """Base class of the settings of a study; checks the limits of its options.

    Raises:
        ValueError: if a value is out of its range or not among its choices.
    """

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            for item in value if isinstance(value, tuple) else (value,):
                if item is not None:
                    _check(each, item)

    def claim(self) -> dict[str, Any]:
        """Values that results depend on: a folder holds those of one claim only.

        A file is represented by the digest of its bytes.
        """
        return {name: _claimed(value) for name, value in self._claimed_values().items()}

    def record(self) -> dict[str, Any]:
        """The same for records: paths by their last part, nothing that is None or empty."""
        return {
            name: _named(value)
            for name, value in self._claimed_values().items()
            if value not in (None, ()) and not is_dataclass(value)
        }

    def _claimed_values(self) -> dict[str, Any]:
        claimed = (each.name for each in fields(self) if each.metadata.get("claimed", True))
        return {name: getattr(self, name) for name in claimed}


@dataclass(frozen=True)
class DataSettings(Settings):
    """The 2AFC triplets of a study: BAPPS, or the embedded sample set.

    Attributes:
        split: part of the data, ``"train"`` or ``"val"``.
        sample_n: triplets of the sample set where ``n`` is None.

    Raises:
        ValueError: if a value is out of range, or patches are too small for the largest shift.
    """

    data_root: Path | None = option(
        None, "folder of BAPPS, which holds 2afc (default: the sample set, built on first use)"
    )
    n: int | None = option(
        None,
        "number of triplets, evenly spaced ones of BAPPS (default: all of BAPPS, SAMPLE_N of the "
        "sample set)",
        least=1,
    )
    image_size: int = option(64, "side of the patches in pixels", least=1)
    max_shift: int = option(3, "largest shift in pixels; it decides the crop", least=1)

    split: ClassVar[str] = "val"
    sample_n: ClassVar[int] = 240

    def __post_init__(self) -> None:
        super().__post_init__()
        check_max_shift(self.max_shift, self.image_size)

    def source(self) -> Source:
        """The triplets; the sample set is built where it is missing."""
        n = self.sample_n if self.n is None and self.data_root is None else self.n
        return triplets(self.data_root, self.split, n, self.image_size)

    def folder(self, name: str) -> str:
        """Name of an output folder that says which triplets: NAME-DATA-SIZE."""
        data = "sample" if self.data_root is None else "bapps"
        return f"{name}-{data}-{self.image_size}px"


@dataclass(frozen=True)
class TripletSettings(DataSettings):
    """Settings of studies on 2AFC triplets, with the seed of random weights."""

    seed: int = option(0, "seed of random weights and of the intervals", least=0)


def check_max_shift(max_shift: int, image_size: int) -> None:
    """Raise ValueError unless patches of that side, in pixels, can be shifted that far."""
    if not 1 <= max_shift < image_size:
        raise ValueError(
            f"max_shift must be from 1 and below image_size, {image_size}; got {max_shift}"
        )


def value_type(settings: Any, each: Field) -> tuple[type, bool]:
    """Type of values of a field of a dataclass (or an instance), and True where it is a tuple.

    Of ``kind | None`` and of ``tuple[kind, ...]`` the type is ``kind``.
    """
    owner = settings if isinstance(settings, type) else type(settings)
    hint = typing.get_type_hints(owner)[each.name]
    if isinstance(hint, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    first, *_ = [*typing.get_args(hint), None]
    if typing.get_origin(hint) is typing.Literal:
        return type(first), False
    several = typing.get_origin(hint) is tuple
    return (first if several else hint), several


def _check(each: Field, value: Any) -> None:
    least, most, choices = map(each.metadata.get, ("least", "most", "choices"))
    if least is not None and not value >= least:
        raise ValueError(f"{each.name} must be at least {least:g}; got {value}")
    if most is not None and not value <= most:
        raise ValueError(f"{each.name} must be at most {most}; got {value}")
    if choices is not None and value not in choices:
        allowed = ", ".join(map(str, choices))
        raise ValueError(f"{each.name} must be one of {allowed}; got {value!r}")


def _claimed(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_claimed(item) for item in value]
    if isinstance(value, Path):
        # A file may change under its name; the content of folders is in the keys of distances.
        return file_digest(value) if value.is_file() else str(value.expanduser().resolve())
    if is_dataclass(value):
        return {each.name: _claimed(getattr(value, each.name)) for each in fields(value)}
    return value


def _named(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_named(item) for item in value]
    return value.name if isinstance(value, Path) else value
