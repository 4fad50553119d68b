"""Initial weights of a training: random, ImageNet, k-means, or a file."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from robust_lpips.backbones import BackboneConfig, build_backbone
from robust_lpips.metric import RobustLPIPS
from robust_lpips.training.kmeans import kmeans_initialize
from robust_lpips.weights import (
    State,
    antialiased_imagenet_trunk,
    imagenet_trunk,
    load_trunk,
    read_checkpoint,
    trunk_from_file,
)

_RELEASED = {"imagenet": imagenet_trunk, "imagenet-antialiased": antialiased_imagenet_trunk}

INITS: tuple[str, ...] = ("random", *_RELEASED, "kmeans")

# Pixels of all references for k-means: 256 of 64x64, 16 of 256x256.
_KMEANS_PIXELS = 2**20


def initialize(
    metric: RobustLPIPS,
    init: str | Path,
    *,
    seed: int = 0,
    dataset: Dataset | None = None,
) -> None:
    """Initialize the trunk of ``metric`` in place, as a function of the arguments alone.

    Args:
        metric: its ``backbone`` is changed; its 1x1 weights are changed only by a checkpoint that
            has 1x1 weights.
        init: ``"random"``: Gaussian, as ``RobustLPIPS(config, weights=None)`` draws it after
            ``torch.manual_seed(seed)``. ``"imagenet"``: torchvision's weights.
            ``"imagenet-antialiased"``: those of ``antialiased_cnns``. ``"kmeans"``:
            :func:`~robust_lpips.training.kmeans.kmeans_initialize` on references of ``dataset``.
            Or the path of a file: a checkpoint of ours, or a state dict of torchvision's network.
        seed: of all random weights, including adaptive filters and skips, which ImageNet's
            networks do not have. Torch's global generator is not used.
        dataset: for ``"kmeans"``: items with ``ref``, a (3, H, W) image, ``uint8`` or in [-1, 1],
            all of one size. Evenly spaced items are used, with a million pixels in total.

    Raises:
        ValueError: the name is unknown, the file does not fit ``metric.config``, or for
            ``"kmeans"`` the data set is missing or has too few images.
        FileNotFoundError: no such file, or the weights cannot be downloaded.
    """
    # Found before anything is changed.
    trunk, linear = _find(init, metric.config)
    images = _references(dataset) if init == "kmeans" else None

    metric.backbone.load_state_dict(_random_trunk(metric.config, seed))
    if trunk:
        load_trunk(metric.backbone, trunk)
    if linear and metric.linear:
        metric.lin.load_state_dict(linear)
    if images is not None:
        kmeans_initialize(metric, images.to(metric.shift.device), seed=seed)


def _find(init: str | Path, config: BackboneConfig) -> tuple[State, State]:
    """Weights of the trunk and 1x1 weights that ``init`` provides; empty if it has none."""
    if init in _RELEASED:
        return _RELEASED[init](config), {}
    if init in INITS:
        return {}, {}
    path = Path(init).expanduser()
    names = ", ".join(map(repr, INITS))
    if path.is_file():
        return _read(path, config)
    if str(init) == path.stem:  # neither a folder nor a suffix: meant as a name
        raise ValueError(f"init must be one of {names}, or the path of a file; got {init!r}")
    raise FileNotFoundError(f"init: no such file: {path} (nor is it one of {names})")


def _read(path: Path, config: BackboneConfig) -> tuple[State, State]:
    if not _is_checkpoint(path):
        return trunk_from_file(path, config), {}
    with torch.random.fork_rng(devices=[]):
        trained = RobustLPIPS(config, path)
    return trained.backbone.state_dict(), trained.lin.state_dict()


def _is_checkpoint(path: Path) -> bool:
    """True for a file of :func:`~robust_lpips.weights.save_checkpoint`."""
    try:
        read_checkpoint(path)
    except ValueError:
        return False
    return True


def _random_trunk(config: BackboneConfig, seed: int) -> State:
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would seed GPUs as well.
        torch.default_generator.manual_seed(seed)
        return build_backbone(config).state_dict()


def _references(dataset: Dataset | None) -> Tensor:
    """Evenly spaced references of ``dataset``, (N, 3, H, W)."""
    if dataset is None:
        raise ValueError("dataset must be given for init='kmeans', which clusters its images")
    height, width = dataset[0]["ref"].shape[-2:]
    count = min(len(dataset), max(1, _KMEANS_PIXELS // (height * width)))
    return torch.stack([dataset[i * len(dataset) // count]["ref"] for i in range(count)])
