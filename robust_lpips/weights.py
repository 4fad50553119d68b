"""Trained weights: their sources, verification and loading, as configurations and tensors.

A released checkpoint is searched for in the installed package that ships it, then in the user's
cache, then at the address that releases it, from which it is cached. A file is used only if it has
the recorded digest, so that a wrong or damaged file cannot become a wrong number. ImageNet trunks
of torchvision and ``antialiased_cnns`` are cached by ``torch.hub``, which verifies downloads by the
hash in the file name.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import pickle
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from robust_lpips._cache import cache_dir
from robust_lpips._files import atomic_path
from robust_lpips.backbones import (
    BackboneConfig,
    Chain,
    antialiased_keys,
    published_tensors,
    torchvision_keys,
)

# Format of our checkpoints; raised when older ones can no longer be read.
FORMAT = "robust-lpips/1"

State = dict[str, Tensor]


@dataclass(frozen=True)
class Digest:
    """Digest of a released file: ``sha256``, or ``git`` for git's blob id."""

    kind: str
    value: str

    def matches(self, path: Path) -> bool:
        """True if the file at ``path`` has this digest."""
        content = path.read_bytes()
        if self.kind == "git":
            header = b"blob %d\0" % len(content)
            return hashlib.sha1(header + content).hexdigest() == self.value
        return hashlib.sha256(content).hexdigest() == self.value


@dataclass(frozen=True)
class ReleasedFile:
    """One file of weights, as released by its authors.

    Attributes:
        name: file name in the cache.
        digest: digest of its bytes.
        package: PyPI name and import name of a package that ships it, and the path inside.
        url: address of the release.
    """

    name: str
    digest: Digest
    package: tuple[str, str, str] | None = None
    url: str | None = None

    def find(self) -> Path:
        """Path of the file on this machine, downloaded if necessary.

        Raises:
            FileNotFoundError: the file is unavailable; the message lists the places that were
                tried and a remedy.
        """
        tried: list[str] = []
        for source in (self._in_package, self._in_cache, self._from_address):
            path = source(tried)
            if path is not None:
                return path
        help_ = f"pip install {self.package[0]}" if self.package else f"download {self.url}"
        if self.package is None:
            help_ += f" to {self._cached()}"
        raise FileNotFoundError(
            f"the weights {self.name} were not found. Tried: {'; '.join(tried)}. "
            f"What helps: {help_}"
        )

    def _cached(self) -> Path:
        return cache_dir() / "weights" / self.name

    def _in_package(self, tried: list[str]) -> Path | None:
        if self.package is None:
            return None
        distribution, module, inner = self.package
        spec = importlib.util.find_spec(module)  # a top-level package is found, not imported
        if spec is None or not spec.submodule_search_locations:
            tried.append(f"package {distribution} (not installed)")
            return None
        return self._checked(Path(spec.submodule_search_locations[0]) / inner, tried)

    def _in_cache(self, tried: list[str]) -> Path | None:
        return self._checked(self._cached(), tried)

    def _from_address(self, tried: list[str]) -> Path | None:
        if self.url is None:
            return None
        target = self._cached()
        try:
            with atomic_path(target) as partial:
                torch.hub.download_url_to_file(self.url, str(partial))
                if not self.digest.matches(partial):
                    raise OSError(f"{self.digest.kind} digest differs from {self.digest.value}")
        except OSError as error:  # URLError and HTTPError are subclasses
            tried.append(f"{self.url} ({error})")
            return None
        return target

    def _checked(self, path: Path, tried: list[str]) -> Path | None:
        if not path.is_file():
            tried.append(f"{path} (no such file)")
        elif not self.digest.matches(path):
            tried.append(f"{path} (not the released file: {self.digest.kind} digest differs)")
        else:
            return path
        return None


@dataclass(frozen=True)
class Release:
    """A released metric.

    Attributes:
        config: configuration of its backbone.
        load: reads the weights, named as in :class:`Checkpoint`.
        trained: training data, in a few words.
        licence: licence of the weights.
        source: repository or package of the release.
    """

    config: BackboneConfig
    load: Callable[[], State]
    trained: str
    licence: str
    source: str


def _st_lpips(
    file: str, blob: str, arch: str, *, tolerant: bool, packaged: bool = False, data: str = "BAPPS"
) -> Release:
    """A checkpoint of Ghildyal and Liu (ECCV 2022), from their package or repository."""
    config = BackboneConfig(arch=arch)
    if tolerant:
        first = {"conv1_stride": 1, "blur_placement": "blur_before_activation"}
        options = first if arch == "alexnet" else {}
        config = BackboneConfig(arch=arch, anti_alias="blurpool", reflection_pad=2, **options)
    inner = f"weights/vST0.0/{file}"
    released = ReleasedFile(
        file,
        Digest("git", blob),
        package=("stlpips-pytorch", "stlpips_pytorch", inner) if packaged else None,
        url=f"https://raw.githubusercontent.com/abhijay9/ShiftTolerant-LPIPS/9a53cd5/stlpips/{inner}",
    )
    return Release(
        config=config,
        load=lambda: from_released_layout(_read(released.find()), config, file),
        trained=f"{data}, people's judgments",
        licence="BSD-2-Clause",
        source="abhijay9/ShiftTolerant-LPIPS",
    )


def _lpips(arch: str, lin: str, lin_sha256: str) -> Release:
    """LPIPS v0.1 (Zhang et al., CVPR 2018): linear layers on torchvision's ImageNet trunk."""
    config = BackboneConfig(arch=arch)
    # The authors publish no digest of the linear layers: these are our digests of lpips 0.1.4.
    linear = ReleasedFile(
        f"lpips-v0.1-{lin}",
        Digest("sha256", lin_sha256),
        package=("lpips", "lpips", f"weights/v0.1/{lin}"),
    )

    def load() -> State:
        layers = _linear_layers(_read(linear.find()))
        trunk = imagenet_trunk(config)
        return layers | {f"backbone.{name}": value for name, value in trunk.items()}

    return Release(
        config=config,
        load=load,
        trained="ImageNet trunk, 1x1 layers on BAPPS, people's judgments",
        licence="BSD-2-Clause (1x1 layers), BSD-3-Clause (torchvision)",
        source="richzhang/PerceptualSimilarity, torchvision",
    )


_RELEASES: dict[str, Release] = {
    "alexnet-shift-tolerant": _st_lpips(
        "alex_shift_tolerant.pth",
        "8eb1cab22934171b3f37304ec2bdd3e932a33460",
        "alexnet",
        tolerant=True,
        packaged=True,
    ),
    "vgg16-shift-tolerant": _st_lpips(
        "vgg_shift_tolerant.pth",
        "ea846ce76b1592a9971780961a76dcb7465d462a",
        "vgg16",
        tolerant=True,
        packaged=True,
    ),
    "alexnet-vanilla": _st_lpips(
        "alex_vanilla.pth", "e97aa43662f6f2aa1b8cba82e5f9d2edc6226881", "alexnet", tolerant=False
    ),
    "vgg16-vanilla": _st_lpips(
        "vgg_vanilla.pth", "69df5715df7f8fcd29af9aebda68d445c0712c42", "vgg16", tolerant=False
    ),
    "vgg16-vanilla-kadid": _st_lpips(
        "vgg_vanilla_kadid.pth",
        "a8ad0a25b8c18851640f16176164cc1ecf00c300",
        "vgg16",
        tolerant=False,
        data="KADID-10k",
    ),
    "vgg16-shift-tolerant-kadid": _st_lpips(
        "vgg_shift_tolerant_kadid.pth",
        "fa88134ecdf31d0a206fcab646f2c8ac0126b7b4",
        "vgg16",
        tolerant=True,
        data="KADID-10k",
    ),
    "alexnet": _lpips(
        "alexnet",
        "alex.pth",
        "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
    ),
    "vgg16": _lpips(
        "vgg16",
        "vgg.pth",
        "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
    ),
    "squeezenet1_1": _lpips(
        "squeezenet1_1",
        "squeeze.pth",
        "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76",
    ),
}


def names() -> tuple[str, ...]:
    """List the names of the releases."""
    return tuple(_RELEASES)


def release(name: str) -> Release:
    """Release of that name.

    Raises:
        ValueError: unknown name; the message lists the known ones.
    """
    if name not in _RELEASES:
        raise ValueError(f"net must be one of {', '.join(names())}; got {name!r}")
    return _RELEASES[name]


@dataclass(frozen=True)
class Checkpoint:
    """A configuration and the weights that belong to it.

    Attributes:
        config: the backbone.
        state: tensors by name, ``backbone.<...>`` and ``lin.<i>``; None: the weights stay random.
        source: name or path of the weights, for error messages.
    """

    config: BackboneConfig
    state: State | None
    source: str

    @property
    def has_linear(self) -> bool:
        """True if the checkpoint has 1x1 weights."""
        return self.state is not None and any(key.startswith("lin.") for key in self.state)

    def tensors(self, *, linear: bool) -> State | None:
        """The state dict with or without the 1x1 weights; None if the weights stay random.

        Raises:
            ValueError: ``linear`` is True and there are no 1x1 weights.
        """
        if self.state is None:
            return None
        if linear and not self.has_linear:
            raise ValueError(f"{self.source} has no 1x1 weights: pass linear=False")
        return {k: v for k, v in self.state.items() if linear or not k.startswith("lin.")}


def resolve(
    net: str | BackboneConfig | None, weights: str | Path | None, *, default: str
) -> Checkpoint:
    """Find the configuration and the weights for the arguments of :class:`RobustLPIPS`.

    Args:
        net: name of a release, a configuration, or None to take what ``weights`` says.
        weights: ``"released"``, name of a release, path of a checkpoint, or None for random.
        default: name of the release that is used if neither argument names one.

    Raises:
        TypeError: ``net`` is of another type.
        ValueError: unknown name, weights that belong to another configuration, a damaged file, or
            a configuration without weights.
        FileNotFoundError: the weights are unavailable; the message lists what was tried.
    """
    if not isinstance(net, str | BackboneConfig | None):
        raise TypeError(f"net must be a name or a BackboneConfig; got {type(net).__name__}")
    config = release(net).config if isinstance(net, str) else net
    if weights is None:
        return Checkpoint(config or release(default).config, None, "random weights")
    if weights == "released":
        if isinstance(net, BackboneConfig):
            raise ValueError(
                "weights: a BackboneConfig has no released weights of its own; pass the path of a "
                f"checkpoint, one of {', '.join(names())}, or None for random weights"
            )
        weights = net or default
    if isinstance(weights, str) and weights in _RELEASES:
        found = _RELEASES[weights]
        _check_config(config, found.config, weights)
        return Checkpoint(found.config, found.load(), weights)
    return _from_path(weights, config)


class Configured(Protocol):
    """A module that can be rebuilt from its configuration and its state dict."""

    config: BackboneConfig

    def state_dict(self) -> Mapping[str, Tensor]:
        """Tensors by name, as in :class:`Checkpoint`."""


def save_checkpoint(
    module: Configured, path: Path, provenance: Mapping[str, Any], **more: Any
) -> None:
    """Write a trained module to ``path``, atomically, for ``RobustLPIPS(weights=path)`` to read.

    Args:
        module: source of the configuration and the tensors.
        path: target; its folder must exist.
        provenance: numbers, strings and containers of them that describe the training.
        more: further entries for :func:`read_checkpoint`: tensors, numbers, strings and
            containers of them.

    Raises:
        ValueError: ``provenance`` holds other values.
    """
    try:
        json.dumps(provenance)
    except TypeError as error:
        raise ValueError(
            f"provenance must hold numbers, strings and containers of them alone: {error}"
        ) from error
    content = {
        "format": FORMAT,
        "config": asdict(module.config),
        "state_dict": module.state_dict(),
        "provenance": dict(provenance),
        **more,
    }
    with atomic_path(path) as partial:
        torch.save(content, partial)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a file of :func:`save_checkpoint`: ``config``, ``state_dict``, ``provenance`` and more.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged or of another kind.
    """
    content = _read(path)
    if content.get("format") != FORMAT:
        raise ValueError(f"{path} is not a checkpoint of robust-lpips ({FORMAT})")
    return content


def from_released_layout(state: Mapping[str, Tensor], config: BackboneConfig, source: str) -> State:
    """Rename the keys of a checkpoint of ``lpips`` or ``stlpips_pytorch`` to ours.

    Their trunk is ``net.slice<i>.<position>.<tensor>``, with positions in the order of depth; a
    blur stores its fixed filter as ``.filt``.

    Raises:
        ValueError: the checkpoint does not have the layers or blurs of ``config``.
    """
    positions = sorted({int(m[1]) for key in state if (m := _SLICE.match(key)) and m[2] != "filt"})
    layers = list(dict.fromkeys(key.partition(".")[0] for key in torchvision_keys(config)))
    sizes = {value.shape[-1] for key, value in state.items() if key.endswith(".filt")}
    expected = {config.blur_size} if config.anti_alias == "blurpool" else set()
    if len(positions) != len(layers) or sizes != expected:
        raise ValueError(
            f"{source} has {len(positions)} layers with weights and blurs of size "
            f"{sorted(sizes)}; {config} has {len(layers)} and {sorted(expected)}"
        )
    name_at = dict(zip(positions, layers, strict=True))
    renamed = _linear_layers(state)
    for key, value in state.items():
        match = _SLICE.match(key)
        if match and match[2] != "filt":
            renamed[f"backbone.{name_at[int(match[1])]}.{match[2]}"] = value
    return renamed


_SLICE = re.compile(r"net\.slice\d+\.(\d+)\.([\w.]+)$")
_LIN = re.compile(r"lin(\d+)\.model\.\d+\.weight$")


def _linear_layers(state: Mapping[str, Tensor]) -> State:
    found = ((_LIN.match(key), value) for key, value in state.items())
    return {f"lin.{match[1]}": value.flatten() for match, value in found if match}


def imagenet_trunk(config: BackboneConfig) -> State:
    """Torchvision's ImageNet weights, for :func:`load_trunk` into ``build_backbone(config)``.

    Options against aliasing do not change the shapes of torchvision's tensors, so that every
    ``config`` can start from them.

    Raises:
        FileNotFoundError: the weights are not on this machine and cannot be downloaded.
    """
    from torchvision.models import get_model_weights

    url = get_model_weights(config.arch).IMAGENET1K_V1.url
    return _renamed(_from_hub(url), torchvision_keys(config), url)


def antialiased_imagenet_trunk(config: BackboneConfig) -> State:
    """ImageNet weights of the network with BlurPool, as released by ``antialiased_cnns``.

    For filters of size 4 there are two releases; this is the one fine-tuned from torchvision's
    weights. The weights are licensed CC BY-NC-SA 4.0.

    Raises:
        ValueError: there is no release for the architecture or filter size of ``config``.
        FileNotFoundError: the weights are not on this machine and cannot be downloaded.
    """
    keys = antialiased_keys(config)
    if config.anti_alias == "none" or config.blur_size not in (2, 3, 4, 5):
        raise ValueError(
            "antialiased_cnns released networks that blur with filters of size 2 to 5; got "
            f"anti_alias={config.anti_alias!r}, blur_size={config.blur_size}"
        )
    module = {"alexnet": "alexnet", "vgg16": "vgg", "resnet18": "resnet"}[config.arch]
    addresses = importlib.import_module(f"antialiased_cnns.{module}").model_urls
    tuned = "_finetune" if config.blur_size == 4 else ""
    url = addresses[f"{config.arch}_lpf{config.blur_size}{tuned}"]
    return _renamed(_from_hub(url), keys, url)


def trunk_from_file(path: str | Path, config: BackboneConfig) -> State:
    """Weights in torchvision's layout, for :func:`load_trunk` into ``build_backbone(config)``.

    Args:
        path: a state dict of torchvision's ``config.arch``, alone or as the entry ``state_dict``
            or ``model`` of a checkpoint; its keys may begin with ``module.``. Classifiers are left
            out.
        config: the configuration of the backbone.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, or holds another network.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"trunk: no such file: {path}")
    return _renamed(_read(path), torchvision_keys(config), str(path))


def load_trunk(backbone: Chain, state: State) -> None:
    """Copy ``state`` into ``backbone``, except adaptive filters and skips that it lacks.

    Raises:
        ValueError: any other tensor is missing, unexpected or of another shape.
    """
    missing = [name for name in published_tensors(backbone) if _lacks(state, name)]
    unexpected = sorted(state.keys() - backbone.state_dict().keys())
    if missing or unexpected:
        raise ValueError(f"trunk: missing: {_some(missing)}; unexpected: {_some(unexpected)}")
    try:
        backbone.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise ValueError(f"trunk: {error}") from error


def _from_hub(url: str) -> dict[str, Any]:
    try:
        return torch.hub.load_state_dict_from_url(
            url, check_hash=True, weights_only=True, map_location="cpu"
        )
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        # URLError and HTTPError are OSErrors; a wrong hash and a damaged file raise the others.
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise FileNotFoundError(
            f"the ImageNet weights {url} were not found. Tried: the cache of torch.hub ({folder}); "
            f"that address ({error}). What helps: download it to {folder}, in place of a damaged "
            "file if there is one"
        ) from error


def _renamed(content: Mapping[str, Any], keys: Mapping[str, str], source: str) -> State:
    """Rename the trunk in ``content``; ``keys`` maps our names to those of the source."""
    state = _unwrapped(content)
    missing = [theirs for theirs in keys.values() if _lacks(state, theirs)]
    if missing:
        raise ValueError(
            f"{source} lacks {_some(missing)}: expected a state dict with {_some(keys.values())}"
        )
    # A deeper network of the same family has all of these keys and more; its weights do not fit.
    parts = {theirs.partition(".")[0] for theirs in keys.values()}
    known = set(keys.values())
    deeper = [
        name
        for name in state
        if name.partition(".")[0] in parts and name not in known and not name.endswith(".filt")
    ]
    if deeper:
        raise ValueError(f"{source} is of another network: it has {_some(deeper)} as well")
    return {ours: state[theirs] for ours, theirs in keys.items() if theirs in state}


def _unwrapped(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Extract the state dict of a training script's checkpoint, without DataParallel's prefix."""
    for wrapper in ("state_dict", "model"):
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if all(str(name).startswith("module.") for name in content):
        return {name.removeprefix("module."): value for name, value in content.items()}
    return content


def _lacks(state: Mapping[str, Any], name: str) -> bool:
    # Files from before torch 0.4.1 lack the count of batches, which is not used.
    return name not in state and not name.endswith(".num_batches_tracked")


def _some(names: Collection[str]) -> str:
    """List the first few of ``names``, and their number if there are more."""
    shown = ", ".join(list(names)[:3]) or "nothing"
    return shown if len(names) <= 3 else f"{shown}, ... ({len(names)} in all)"


def _from_path(weights: str | Path, config: BackboneConfig | None) -> Checkpoint:
    path = Path(weights).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"weights: no such file: {path} (nor a released metric of that name; those are "
            f"{', '.join(names())})"
        )
    content = _read(path)
    if content.get("format") == FORMAT:
        saved = BackboneConfig(**content["config"])
        _check_config(config, saved, str(path))
        return Checkpoint(saved, content["state_dict"], str(path))
    if "format" in content or not any(_SLICE.match(str(key)) for key in content):
        raise ValueError(
            f"weights: {path} is neither a checkpoint of robust-lpips ({FORMAT}) nor in the "
            "layout of the released ones"
        )
    if config is None:
        raise ValueError(f"weights: {path} does not say its architecture: pass net as well")
    return Checkpoint(config, from_released_layout(content, config, str(path)), str(path))


def _check_config(asked: BackboneConfig | None, found: BackboneConfig, source: str) -> None:
    def resolved(config: BackboneConfig) -> BackboneConfig:
        # The architecture's own stride may be given or None.
        return replace(config, conv1_stride=config.stride1)

    if asked is not None and resolved(asked) != resolved(found):
        raise ValueError(f"weights: {source} belongs to {found}; net asks for {asked}")


def _read(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # torch.load raises many types, also those of zipfile and pickle
        raise ValueError(f"weights: {path} is damaged or no checkpoint: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"weights: {path} holds a {type(content).__name__}, not a state dict")
    return content
