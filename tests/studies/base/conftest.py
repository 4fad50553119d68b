"""Data and metrics of the tiny study, all in a temporary folder."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from robust_lpips.studies.base import measuring
from robust_lpips.studies.base.study import Plan
from tests.studies.base.tiny import SIZE, TinySettings, write_bapps

# A metric of the user's own: it notes each call, reads a weight and a power from files, and does
# to itself what the file "fate" says, at its third call.
OWN = """
import os, signal, time
from pathlib import Path
import torch

HERE = Path(__file__).parent
SCALE = 1.0

class Own(torch.nn.Module):
    def __init__(self, name, fate=""):
        super().__init__()
        self.calls, self.fate, self.called = HERE / (name + ".calls"), fate, 0
        self.register_buffer("weight", torch.tensor(float((HERE / "weight").read_text())))
        self.power = int((HERE / "power").read_text())

    def extra_repr(self):
        return str(self.power)

    def forward(self, img0, img1):
        with self.calls.open("a") as file:
            file.write(str(os.getpid()) + "\\n")
        self.called += 1
        if self.called == 3 and (HERE / "fate").exists():
            {"sleep": lambda: time.sleep(120),
             "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
             "interrupt": self.interrupt}.get(self.fate, int)()
        return SCALE * self.weight * (img0 - img1).abs().pow(self.power).mean((1, 2, 3))

    def interrupt(self):
        raise KeyboardInterrupt

def first(): return Own("first")
def second(): return Own("second")
def sleepy(): return Own("sleepy", "sleep")
def killed(): return Own("killed", "kill")
def interrupted(): return Own("interrupted", "interrupt")

def broken():
    def metric(img0, img1):
        raise AssertionError("images must be larger\\nthan this")
    return metric

def absent():
    raise ImportError("No module named 'patience'")
"""


@dataclass(frozen=True)
class Workplace:
    """A folder with data and a module of metrics, and what its process remembers."""

    root: Path
    module: str

    @property
    def source(self) -> Path:
        """The file of the module."""
        return self.root / "code" / f"{self.module}.py"

    def name(self, factory: str) -> str:
        """Name of a metric of the module, as ``load_metric`` takes it."""
        return f"{self.module}:{factory}"

    def plan(self, *metrics: str, **settings: object) -> Plan[TinySettings]:
        """A plan for metrics of the package, or of the module by ``.factory``."""
        chosen = {"data_root": self.root / "bapps", "image_size": SIZE} | settings
        names = [self.name(each[1:]) if each.startswith(".") else each for each in metrics]
        return Plan(TinySettings(**chosen), tuple(names))

    def calls(self, factory: str = "first") -> int:
        """How often a metric was called, by any process."""
        return len(self.processes(factory))

    def processes(self, factory: str) -> list[int]:
        """Number of the process at each call."""
        path = self.source.with_name(f"{factory}.calls")
        return list(map(int, path.read_text().split())) if path.exists() else []

    def forget(self) -> None:
        """Forget what a new process would not know: the module and identities of metrics."""
        sys.modules.pop(self.module, None)
        importlib.invalidate_caches()
        measuring.identity_of.cache_clear()


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workplace]:
    """A workplace with five triplets of noise, and one thread, on which sums depend."""
    place = Workplace(tmp_path, f"own_{tmp_path.name}")
    place.source.parent.mkdir()
    place.source.write_text(OWN)
    for name, text in (("weight", "2.0"), ("power", "1")):
        place.source.with_name(name).write_text(text)
    write_bapps(tmp_path / "bapps", count=5)
    monkeypatch.setenv("ROBUST_LPIPS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(place.source.parent)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield place
    torch.set_num_threads(threads)
    place.forget()
