"""Registry of metrics by name: source, requirements, and loading."""

from __future__ import annotations

import http.client
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robust_lpips import weights
from robust_lpips.comparison import external, networks, pixels, structure

Metric = Callable[[Tensor, Tensor], Tensor]
Factory = Callable[[int, torch.device], Metric]

_EXTRA = 'pip install "robust-lpips[comparison]"'
_PYIQA_EXTRA = 'pip install "robust-lpips[pyiqa]"'
_OWN = "measure it elsewhere and pass --distances, or pass --metric module:factory"


class MetricUnavailable(FileNotFoundError):
    """A metric whose package or weights are missing; the message is one line with the remedy."""


@dataclass(frozen=True)
class Entry:
    """A registered metric.

    Attributes:
        name: the argument of :func:`load_metric`.
        title: the name in tables.
        source: authors, venue and year of the paper.
        needs: requirements other than this package: ``"nothing"``, ``"piq"``, ...
        factory: builds the metric, given a seed and a device.
        help: remedy if a package is missing.
    """

    name: str
    title: str
    source: str
    needs: str
    factory: Factory = field(repr=False, compare=False)
    help: str = _EXTRA


def metric_names() -> tuple[str, ...]:
    """List the registered names, hand-crafted metrics first."""
    return tuple(_entries())


def entry(name: str) -> Entry:
    """Registered metric of that name.

    Raises:
        ValueError: for an unknown name; the message lists the known ones.
    """
    entries = _entries()
    if name not in entries:
        raise ValueError(f"metric must be one of {', '.join(entries)}; got {name!r}")
    return entries[name]


def load_metric(name: str, device: torch.device | str | None = None, seed: int = 0) -> Metric:
    """Load a metric by name.

    Args:
        name: one of :func:`metric_names`, or ``"package.module:factory"`` for any other metric:
            the module is imported, from the current directory as well, and ``factory()`` must
            return a callable of the same kind.
        device: device of its weights, if it has any. Default: the CPU.
        seed: of random weights and samples; the global random state is restored.

    Returns:
        A callable of two floating (N, 3, H, W) batches in [-1, 1], the reference first, that
        returns (N,) finite distances; smaller is more alike. Each metric has its own unit.

    Raises:
        ValueError: the name is unknown, or a module or factory is unavailable or does not return a
            callable.
        MetricUnavailable: a package or weights are missing; the message is one line with the
            remedy.

    Example:
        >>> black, white = torch.full((1, 3, 16, 16), -1.0), torch.full((1, 3, 16, 16), 1.0)
        >>> load_metric("l2")(black, white)
        tensor([4.])
    """
    where = torch.device("cpu" if device is None else device)
    with torch.random.fork_rng(devices=[]):
        if ":" in name:
            metric = _with_one_line(f"{name} cannot be loaded", None, lambda: _imported(name))
        else:
            found = entry(name)
            metric = _with_one_line(
                f"{name} needs {found.needs}", found.help, lambda: found.factory(seed, where)
            )
    return metric.to(where) if isinstance(metric, nn.Module) else metric


def check_names(names: Sequence[str]) -> None:
    """Raise ValueError unless ``names`` are different names that :func:`load_metric` accepts."""
    known = metric_names()
    unknown = [name for name in names if ":" not in name and name not in known]
    if unknown or not names or len(set(names)) < len(names):
        raise ValueError(
            f"metrics must be different names of {', '.join(known)}, or module:factory; "
            f"got {', '.join(names) or 'none'}"
        )


def load_metrics(
    names: Sequence[str], device: torch.device | str | None = None, seed: int = 0
) -> tuple[dict[str, Metric], dict[str, str]]:
    """Load the available metrics of several names.

    Args:
        names: different names, as :func:`load_metric` accepts them.
        device: device of the weights. Default: the CPU.
        seed: of random weights and samples.

    Returns:
        The available metrics by name, and one line with the reason for each unavailable one, by
        name.

    Raises:
        ValueError: there are no names, repeated or unknown ones, or a module is unavailable.
    """
    check_names(names)
    tried = {name: _metric_or_reason(name, device, seed) for name in names}
    missing = {name: result for name, result in tried.items() if isinstance(result, str)}
    return {name: tried[name] for name in names if name not in missing}, missing


def _metric_or_reason(name: str, device: torch.device | str | None, seed: int) -> Metric | str:
    try:
        return load_metric(name, device, seed)
    except MetricUnavailable as error:
        return str(error)


def _with_one_line(what: str, help_: str | None, make: Callable[[], Metric]) -> Metric:
    """Call ``make``; convert missing packages, files and downloads to MetricUnavailable."""
    try:
        return make()
    except MetricUnavailable as error:
        raise MetricUnavailable(f"{what}: {_first_line(error)}") from error
    except ImportError as error:
        helps = f": {help_}" if help_ else ""
        raise MetricUnavailable(f"{what}{helps} ({_first_line(error)})") from error
    except FileNotFoundError as error:
        raise MetricUnavailable(f"{what}: {_first_line(error)}") from error
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise MetricUnavailable(
            f"{what}: {_first_line(error)}. What helps: load it once online, which keeps the "
            f"weights in {folder}"
        ) from error


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


def _imported(name: str) -> Metric:
    """Import ``module:attribute`` and call it."""
    module_name, _, attribute = name.partition(":")
    try:
        _make_current_directory_importable()
        module = importlib.import_module(module_name)
    except Exception as error:  # its code may raise anything
        raise ValueError(
            f"metric: {name!r}: cannot import {module_name!r}: "
            f"{type(error).__name__}: {_first_line(error)}"
        ) from error
    factory: Any = getattr(module, attribute, None)
    if not callable(factory):
        problem = "has no" if factory is None else "has no callable"
        raise ValueError(f"metric: {name!r}: {module_name!r} {problem} {attribute!r}")
    try:
        metric = factory()
    except (ImportError, OSError):  # packages or files that are missing make it unavailable
        raise
    except Exception as error:  # whatever its code raises
        raise ValueError(
            f"metric: {name!r}: {attribute}() failed with {type(error).__name__}: "
            f"{_first_line(error)}"
        ) from error
    if not callable(metric):
        raise ValueError(
            f"metric: {name!r}: {attribute}() must return a callable of two batches of images; "
            f"got {type(metric).__name__}"
        )
    return metric


def _make_current_directory_importable() -> None:
    """Append it to the path permanently, because factories and metrics may import later."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    importlib.invalidate_caches()


def _unavailable(reason: str, seed: int, device: torch.device) -> Metric:
    raise MetricUnavailable(f"{reason}; {_OWN}")


def _plain(metric: Metric, package: str | None, seed: int, device: torch.device) -> Metric:
    """Return ``metric`` after checking that the package it imports when called is installed."""
    if package is not None:
        importlib.import_module(package)
    return metric


def _on_device(make: Callable[[torch.device], Metric], seed: int, device: torch.device) -> Metric:
    return make(device)


def _with_seed(make: Callable[[int], Metric], seed: int, device: torch.device) -> Metric:
    return make(seed)


def _alone(make: Callable[[], Metric], seed: int, device: torch.device) -> Metric:
    return make()


_LPIPS = "Zhang, Isola, Efros, Shechtman and Wang, CVPR 2018"
_ST_LPIPS = "Ghildyal and Liu, ECCV 2022"
_PIEAPP = "Prashnani, Cai, Mostofi and Sen, CVPR 2018"
_PIM = "Bhardwaj, Fischer, Balle and Chinen, NeurIPS 2020"
_PIM_RELEASE = "pip install tensorflow git+https://github.com/google-research/perceptual-quality"
_PIQ_WEIGHTS = "piq and weights that it downloads"
_TRUNK = "ImageNet weights of torchvision"

# Title and paper of the released weights.
_RELEASED = {
    "alexnet-shift-tolerant": ("ST-LPIPS (AlexNet)", _ST_LPIPS),
    "vgg16-shift-tolerant": ("ST-LPIPS (VGG-16)", _ST_LPIPS),
    "alexnet-vanilla": ("LPIPS (AlexNet), retrained", _ST_LPIPS),
    "vgg16-vanilla": ("LPIPS (VGG-16), retrained", _ST_LPIPS),
    "vgg16-vanilla-kadid": ("LPIPS (VGG-16), KADID-10k", _ST_LPIPS),
    "vgg16-shift-tolerant-kadid": ("ST-LPIPS (VGG-16), KADID-10k", _ST_LPIPS),
    "alexnet": ("LPIPS (AlexNet)", _LPIPS),
    "vgg16": ("LPIPS (VGG-16)", _LPIPS),
    "squeezenet1_1": ("LPIPS (SqueezeNet)", _LPIPS),
}

# Released metrics that the extensions beyond the papers are applied to.
_BEYOND = ("alexnet-shift-tolerant", "vgg16-shift-tolerant", "alexnet-vanilla", "vgg16-vanilla")


@cache
def _entries() -> dict[str, Entry]:
    """All metrics by name, in the order of tables."""
    known = [*_handmade(), *_deep()]
    for name in weights.names():
        title, source = _RELEASED[name]
        make = partial(_alone, partial(networks.released, name))
        known.append(Entry(name, title, source, "released weights", make))
    for name in _BEYOND:
        known += _beyond(name, *_RELEASED[name])
    return {each.name: each for each in known}


def _beyond(name: str, title: str, source: str) -> Iterator[Entry]:
    """Extensions of the released metric of that name beyond its paper."""
    for suffix, what, make in (
        ("registered", "registered", partial(_alone, partial(networks.registered, name, None))),
        (
            "registered-human",
            "registered, shifts penalized",
            partial(_alone, partial(networks.registered, name, "human")),
        ),
        ("tolerant", "best matches", partial(_alone, partial(networks.tolerant, name))),
        ("jittered", "joint jitter", partial(_with_seed, partial(networks.jittered, name))),
    ):
        yield Entry(f"{name}-{suffix}", f"{title}, {what}", source, "released weights", make)


def _handmade() -> Iterator[Entry]:
    for name, title, metric in (
        ("l2", "L2", pixels.l2),
        ("l1", "L1", pixels.l1),
        ("psnr", "PSNR", pixels.psnr),
    ):
        yield Entry(name, title, "textbook", "nothing", partial(_plain, metric, None))
    for name, title, source, package, metric in (
        (
            "ssim",
            "SSIM",
            "Wang, Bovik, Sheikh and Simoncelli, IEEE TIP 2004",
            None,
            structure.ssim,
        ),
        (
            "ms-ssim",
            "MS-SSIM",
            "Wang, Simoncelli and Bovik, Asilomar 2003",
            "piq",
            structure.ms_ssim,
        ),
        ("fsim", "FSIM", "Zhang, Zhang, Mou and Zhang, IEEE TIP 2011", "piq", structure.fsim),
        ("vsi", "VSI", "Zhang, Shen and Li, IEEE TIP 2014", "piq", structure.vsi),
        ("gmsd", "GMSD", "Xue, Zhang, Mou and Bovik, IEEE TIP 2014", "piq", structure.gmsd),
        ("vif", "VIF", "Sheikh and Bovik, IEEE TIP 2006", "piq", structure.vif),
    ):
        yield Entry(name, title, source, package or "nothing", partial(_plain, metric, package))
    for name, title, source, package, make in (
        (
            "cw-ssim",
            "CW-SSIM",
            "Sampat, Wang, Gupta, Bovik and Markey, IEEE TIP 2009",
            "plenoptic",
            structure.cw_ssim,
        ),
        (
            "nlpd",
            "NLPD",
            "Laparra, Balle, Berardino and Simoncelli, Electronic Imaging 2016",
            "plenoptic",
            structure.nlpd,
        ),
        (
            "mad",
            "MAD",
            "Larson and Chandler, J. Electronic Imaging 2010",
            "pyiqa",
            structure.mad,
        ),
        (
            "cvvdp",
            "ColorVideoVDP",
            "Mantiuk, Hanji, Ashraf, Asano and Chapiro, ACM TOG 2024",
            "cvvdp",
            external.cvvdp,
        ),
    ):
        help_ = _PYIQA_EXTRA if package == "pyiqa" else _EXTRA
        yield Entry(name, title, source, package, partial(_on_device, make), help_)


def _deep() -> Iterator[Entry]:
    yield Entry(
        "dists",
        "DISTS",
        "Ding, Ma, Wang and Simoncelli, IEEE TPAMI 2022",
        _PIQ_WEIGHTS,
        partial(_on_device, networks.dists),
    )
    for name, title, stride in (
        ("pieapp-sparse", "PieAPP (sparse)", 27),
        ("pieapp-dense", "PieAPP (dense)", 6),
    ):
        make = partial(_on_device, partial(networks.pieapp, stride))
        yield Entry(name, title, _PIEAPP, _PIQ_WEIGHTS, make)
    for name, title in (("pim-1", "PIM-1"), ("pim-5", "PIM-5")):
        make = partial(_with_seed, partial(external.pim, name))
        needs = "the authors' release google-research/perceptual-quality and TensorFlow"
        yield Entry(name, title, _PIM, needs, make, f"{_PIM_RELEASE}, or {_OWN}")
    yield Entry(
        "gti-cnn",
        "GTI-CNN",
        "Ma, Duanmu and Wang, ICASSP 2018",
        "the authors' release, in Matlab",
        partial(_unavailable, "it cannot be called from Python"),
    )
    yield Entry(
        "e-lpips",
        "E-LPIPS over ST-LPIPS (AlexNet)",
        "Kettunen, Harkonen and Lehtinen, arXiv 2019",
        "released weights",
        partial(_with_seed, networks.elpips),
    )
    yield Entry(
        "alexnet-untrained",
        "AlexNet, untrained, cosine",
        _LPIPS,
        "nothing",
        partial(_with_seed, partial(networks.untrained, "alexnet")),
    )
    for name, title, arch in (
        ("alexnet-cosine", "AlexNet, cosine", "alexnet"),
        ("vgg16-cosine", "VGG-16, cosine", "vgg16"),
        ("squeezenet-cosine", "SqueezeNet, cosine", "squeezenet1_1"),
    ):
        make = partial(_alone, partial(networks.cosine, arch))
        yield Entry(name, title, _LPIPS, _TRUNK, make)
