"""Images and peers that several test files share."""

from __future__ import annotations

import builtins
import contextlib
import copy
import os
from collections.abc import Callable, Iterator

# Read when torch is loaded. Threads that spin while they wait take several times as long where
# other work runs on the same cores, and hardly less where none does.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch
from torch import Tensor, nn

from robust_lpips import RobustLPIPS
from robust_lpips.data.photographs import load_photographs

if processes := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):
    torch.set_num_threads(max(1, torch.get_num_threads() // processes))

PEER_NETS = {"alexnet-shift-tolerant": "alex", "vgg16-shift-tolerant": "vgg"}


@pytest.fixture(scope="session")
def image_pair() -> Callable[..., tuple[Tensor, Tensor]]:
    """``make(kind, n, height, width)``: two batches in [-1, 1], ``"photographs"`` or ``"noise"``.

    Photographs are crops of those in scikit-image's wheel, against themselves shifted and noisy.
    """
    photographs = [
        torch.tensor(pixels).permute(2, 0, 1) / 127.5 - 1.0
        for pixels in load_photographs("val", smallest_side=300).values()
    ]

    def make(kind: str, n: int, height: int, width: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        if kind == "noise":
            first, second = torch.rand((2, n, 3, height, width), generator=generator) * 2 - 1
            return first, second
        crops = [
            photographs[i % len(photographs)][:, 20 : 20 + height, 20 : 22 + width]
            for i in range(n)
        ]
        wide = torch.stack(crops)
        noise = 0.2 * torch.randn((n, 3, height, width), generator=generator)
        return wide[..., :-2].clone(), (wide[..., 2:] + noise).clamp(-1, 1)

    return make


@pytest.fixture(scope="session")
def released() -> Callable[[str], RobustLPIPS]:
    """``get(name)``: a released metric, loaded once; not to be changed."""
    loaded: dict[str, RobustLPIPS] = {}

    def get(name: str = "alexnet-shift-tolerant") -> RobustLPIPS:
        if name not in loaded:
            loaded[name] = RobustLPIPS(name)
        return loaded[name]

    return get


@pytest.fixture
def metric(released) -> RobustLPIPS:
    """A copy of the default metric, to do with as a test likes."""
    return copy.deepcopy(released())


@pytest.fixture(scope="session")
def stlpips_peer() -> Callable[[str], nn.Module]:
    """``get(name)``: the peer ``stlpips_pytorch`` under our name for it, loaded once."""
    from stlpips_pytorch import stlpips

    loaded: dict[str, nn.Module] = {}

    def get(name: str) -> nn.Module:
        if name not in loaded:
            with _classifiers_left_unset():
                peer = stlpips.LPIPS(net=PEER_NETS[name], variant="shift_tolerant", verbose=False)
            loaded[name] = peer.requires_grad_(False)
        return loaded[name]

    return get


@pytest.fixture(scope="session")
def quick_build() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """A context in which peers are built without filling their classifiers, which takes seconds."""
    return _classifiers_left_unset


@pytest.fixture
def missing(monkeypatch) -> Callable[[str], None]:
    """``hide(name)``: as if the package were not installed."""

    def hide(name):
        def importing(wanted, *arguments, real=builtins.__import__, **options):
            if wanted.partition(".")[0] == name:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            return real(wanted, *arguments, **options)

        monkeypatch.setattr(builtins, "__import__", importing)

    return hide


@contextlib.contextmanager
def _classifiers_left_unset() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Linear, "reset_parameters", lambda self: None)
        patch.setattr(nn.init, "normal_", lambda tensor, *_, **__: tensor)
        yield
