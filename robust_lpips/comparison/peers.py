"""The released packages that compute the same distances, built without a download."""

from __future__ import annotations

import importlib.util
import io
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robust_lpips.backbones import BackboneConfig
from robust_lpips.metric import RobustLPIPS

# By the names of distributions.
Builders = Mapping[str, Callable[[], nn.Module]]

# The authors' names of the networks' checkpoints.
STLPIPS_NETS = {"alexnet-shift-tolerant": "alex", "vgg16-shift-tolerant": "vgg"}

# The released linear layers of plain AlexNet on a random trunk: its own is a download.
PLAIN = "alexnet, random trunk"

NEEDS_DOWNLOAD = {
    "pyiqa, LPIPS": "it always loads torchvision's ImageNet trunk, which is a download",
}


class Distance(nn.Module):
    """A released network as a metric of two (N, 3, H, W) batches in [-1, 1]: (N,) distances.

    Args:
        net: the network.
        call: computes distances from the two batches and ``net=``. Default: calls the network.
    """

    def __init__(self, net: nn.Module, call: Callable[..., Tensor] | None = None) -> None:
        super().__init__()
        self.net = net
        self.call = call or (lambda img0, img1, net: net(img0, img1))

    def forward(self, img0: Tensor, img1: Tensor) -> Tensor:
        return self.call(img0, img1, net=self.net).flatten()


def shift_tolerant_peers(name: str) -> Builders:
    """Packages that compute the released shift-tolerant network ``name``, with its weights."""
    net = STLPIPS_NETS[name]
    return {
        "stlpips-pytorch": lambda: Distance(stlpips(net, variant="shift_tolerant")),
        "pyiqa": lambda: _pyiqa_stlpips(net),
    }


def plain_peers(state: Mapping[str, Tensor]) -> Builders:
    """Packages that compute plain AlexNet's LPIPS, with the weights ``state`` of :func:`lpips`."""
    return {
        "lpips": lambda: Distance(_loaded(lpips(), state)),
        "torchmetrics": lambda: _torchmetrics_lpips(state),
    }


def networks(name: str) -> tuple[RobustLPIPS, Builders]:
    """Our network, and the released ones with the same weights.

    Args:
        name: a released shift-tolerant network, or :data:`PLAIN`.

    Raises:
        ImportError: if the package that the weights come from is missing.
        KeyError: if no package has such a network.
    """
    if name != PLAIN:
        return RobustLPIPS(name), shift_tolerant_peers(name)
    state = lpips().state_dict()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "lpips.pth")
        torch.save(state, path)
        return RobustLPIPS(BackboneConfig(), weights=path), plain_peers(state)


def build(builders: Builders, device: str) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """Networks that can be built, by name and version; and why the others cannot, by name."""
    built, missing = {}, {}
    for package, builder in builders.items():
        try:
            metric = builder()
        except ImportError as error:
            missing[package] = str(error)
            continue
        built[f"{package} {version(package)}"] = metric.to(device).eval()
    return built, missing


def stlpips(net: str, **options: Any) -> nn.Module:
    """``stlpips_pytorch.stlpips.LPIPS``.

    Raises:
        ModuleNotFoundError: if it cannot be imported; the message names the missing package.
    """
    try:
        from stlpips_pytorch.stlpips import LPIPS
    except ModuleNotFoundError as error:
        # It does not declare all that it imports.
        raise ModuleNotFoundError(
            f"stlpips_pytorch needs the package {error.name}: "
            'pip install "robust-lpips[test]" brings it'
        ) from error
    return LPIPS(net=net, verbose=False, **options)


def lpips() -> nn.Module:
    """``lpips.LPIPS`` of AlexNet: its own linear layers on a random trunk, always the same."""
    from lpips import LPIPS

    with torch.random.fork_rng(devices=[]), _quiet():
        torch.default_generator.manual_seed(0)
        return LPIPS(net="alex", pnet_rand=True, verbose=False)


def training_steps(
    net: nn.Module, objective: nn.Module, batches: Iterable[Sequence[Mapping[str, Any]]]
) -> Iterator[float]:
    """Train a released network in a plain loop, one step of Adam per batch, and give its losses.

    Args:
        net: the network, a callable of two (N, 3, H, W) batches in [-1, 1]; weights of its 1x1
            layers are kept at or above 0.
        objective: loss of the distances d0 and d1 (N,) and ``{"judge": (N,)}``; it learns, too.
        batches: triplets ``ref``, ``p0``, ``p1``, uint8 images, and ``judge``, on the CPU.
    """
    parameters = [*net.parameters(), *objective.parameters()]
    device = parameters[0].device
    optimizer = torch.optim.Adam(parameters, lr=1e-4, betas=(0.5, 0.999))
    for batch in batches:
        ref, p0, p1 = (
            torch.stack([item[name] for item in batch]).to(device) / 127.5 - 1.0
            for name in ("ref", "p0", "p1")
        )
        judge = torch.tensor([item["judge"] for item in batch], device=device)
        d0, d1 = net(ref, p0).flatten(), net(ref, p1).flatten()
        loss = objective(d0, d1, {"judge": judge})
        value = loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        _clamp_1x1(net)
        yield value


@torch.no_grad()
def _clamp_1x1(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
            module.weight.clamp_(min=0.0)


def _torchmetrics_lpips(state: Mapping[str, Tensor]) -> Distance:
    from torchmetrics.functional.image.lpips import _lpips_update, _NoTrainLpips

    with _quiet():
        net = _NoTrainLpips(net="alex", pnet_rand=True)
    return Distance(_loaded(net, state), partial(_lpips_update, normalize=False))


def _pyiqa_stlpips(net: str) -> Distance:
    from pyiqa.archs.stlpips_arch import STLPIPS

    package = importlib.util.find_spec("stlpips_pytorch")
    if package is None:
        raise ModuleNotFoundError("its weights are those that stlpips-pytorch ships")
    folder = Path(package.submodule_search_locations[0], "weights", "vST0.0")
    with _quiet():
        loaded = STLPIPS(net=net, pretrained_model_path=str(folder / f"{net}_shift_tolerant.pth"))
    return Distance(loaded, lambda img0, img1, net: net(img0, img1, normalize=False))


def _loaded(net: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """``net`` with all its weights from ``state``, which may hold constants as well."""
    net.load_state_dict({name: state[name] for name in net.state_dict()})
    return net


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the packages' output and warnings: they call an old torchvision."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore", UserWarning)
        yield
