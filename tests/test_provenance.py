"""Keys: what changes them, and what does not."""

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

import robust_lpips
from robust_lpips import provenance
from robust_lpips.comparison import l2
from robust_lpips.provenance import (
    COMPUTING,
    commit,
    file_digest,
    metric_identity,
    source_digest,
    weights_digest,
)

PACKAGE = Path(robust_lpips.__file__).parent


@pytest.fixture
def copy(tmp_path):
    """A copy of the package's sources."""
    ignored = shutil.ignore_patterns("*.pyc", "*.csv")
    return shutil.copytree(PACKAGE, tmp_path / "package", ignore=ignored)


def digest(root: Path) -> str:
    source_digest.cache_clear()
    return source_digest(root)


def test_code_of_every_computing_file_counts(copy):
    found = [digest(copy)]
    assert found[0] == source_digest()
    for name in COMPUTING:
        path = copy / name
        path = sorted(path.rglob("*.py"))[-1] if path.is_dir() else path
        path.write_text(path.read_text() + "\nNEW = 1\n")
        found.append(digest(copy))
    assert len(set(found)) == 1 + len(COMPUTING)


def test_what_does_not_compute_distances_does_not_count(copy):
    before = digest(copy)
    for name in ("README.md", "plotting.py", "tables.py", "cli.py", "studies/jnd.py"):
        with (copy / name).open("a") as file:
            file.write("\nNEW = 1\n")
    assert digest(copy) == before


def test_constant_in_fusion_counts_and_prose_does_not(copy):
    path = copy / "fusion.py"
    text = path.read_text()
    path.write_text(text + "\ndef added():\n    return 1\n")
    before = digest(copy)
    path.write_text(text + '\n\n# A comment.\ndef added():\n    """A docstring."""\n    return 1\n')
    assert digest(copy) == before
    path.write_text(text + "\ndef added():\n    return 2\n")
    assert digest(copy) != before


def test_weights_digest():
    torch.manual_seed(0)
    a, b = nn.Linear(2, 3), nn.Linear(2, 3)
    found = weights_digest(a)
    assert len(found) == 64
    assert found != weights_digest(b)
    b.load_state_dict(a.state_dict())
    assert found == weights_digest(b)
    assert weights_digest(l2) is None
    assert weights_digest(nn.ReLU()) is None
    odd = nn.BatchNorm1d(2)  # a scalar and an integer among its buffers
    odd.register_buffer("rounded", torch.zeros(3, dtype=torch.bfloat16))
    odd.register_buffer("chosen", torch.ones(2, dtype=torch.bool).t())
    before = weights_digest(odd)
    odd.num_batches_tracked += 1
    assert weights_digest(odd) != before


NETWORK, WEIGHT = nn.Linear(1, 1), torch.ones(())


class Holder:
    def __init__(self, network):
        self.network = network

    def distance(self, img0, img1):
        return self.network(img0 - img1)

    def __call__(self, img0, img1):
        return self.distance(img0, img1)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda network: lambda img0, img1: network(img0 - img1),
        lambda network: lambda img0, img1: NETWORK(img0 - img1),
        lambda network: Holder(network),
        lambda network: partial(lambda network, img0, img1: network(img0 - img1), network),
        lambda network: partial(network),
        lambda network: network.forward,
        lambda network: lambda img0, img1: img0 * WEIGHT,
    ],
    ids=["closure", "global", "attribute", "argument", "partial", "method", "tensor"],
)
def test_weights_that_a_metric_holds_count(wrap, monkeypatch):
    """Of metrics that are no modules, as users write them."""
    found = []
    for value in (1.0, 1.0, 2.0):
        network = nn.Linear(1, 1)
        nn.init.constant_(network.weight, value)
        nn.init.zeros_(network.bias)
        monkeypatch.setitem(globals(), "NETWORK", network)
        monkeypatch.setitem(globals(), "WEIGHT", torch.tensor(value))
        found.append(metric_identity("x", wrap(network)))
    assert found[0] == found[1]
    assert found[0]["weights"] != found[2]["weights"]


class Power:
    """A metric that is no module; it prints its settings, or its address as objects do."""

    def __init__(self, power, prints):
        self.power, self.prints = power, prints

    def __repr__(self):
        return f"Power({self.power})" if self.prints else super().__repr__()


def test_settings_of_a_metric_count_and_its_address_does_not():
    same = [metric_identity("x", Power(1, prints)) for prints in (True, True, False, False)]
    assert same[0] == same[1]
    assert same[2] == same[3]
    assert same[0] != metric_identity("x", Power(2, True))
    assert metric_identity("x", nn.Dropout(0.1)) != metric_identity("x", nn.Dropout(0.2))
    assert metric_identity("x", l2) != metric_identity("y", l2)


class TestOwnCode:
    @pytest.fixture
    def write(self, tmp_path, monkeypatch):
        """``write(path, text)``: a file of the user's, in a folder that is imported from."""
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)

        def write(name, text=""):
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

        known = set(sys.modules)
        yield write
        for name in set(sys.modules) - known:
            del sys.modules[name]

    @staticmethod
    def code(name):
        module, _, factory = name.partition(":")
        __import__(module)
        return metric_identity(name, getattr(sys.modules[module], factory))["code"]

    @pytest.mark.parametrize("init", [True, False], ids=["package", "namespace"])
    def test_whole_package_whatever_is_loaded(self, write, init):
        """A worker that loaded other modules before has the same key."""
        if init:
            write("mine/__init__.py")
        write("mine/a.py", "def make(): pass")
        write("mine/b.py", "def make(): pass")
        before = self.code("mine.a:make")
        self.code("mine.b:make")
        assert self.code("mine.a:make") == before
        write("mine/notes.txt", "a note")
        assert self.code("mine.a:make") == before
        write("mine/c.py", "pass")
        assert self.code("mine.a:make") != before

    def test_modules_next_to_it(self, write):
        write("lone.py", "def make(): pass")
        before = self.code("lone:make")
        write("helper_of_lone.py", "pass")
        assert self.code("lone:make") != before
        assert "code" not in metric_identity("l2", l2)


def scaled(factor):
    return lambda img0, img1: factor * l2(img0, img1)


def test_plain_values_that_a_function_holds_are_settings():
    first, same, other = (metric_identity("scaled", scaled(k)) for k in (2.0, 2.0, -2.0))
    assert first == same
    assert first != other


def test_file_digest(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1.
    assert file_digest(tmp_path / "a").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_commit(tmp_path, monkeypatch):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    package = tmp_path / "package"
    package.mkdir()
    (package / "a.py").write_text("")
    monkeypatch.setattr(provenance, "_PACKAGE", package)
    found = []
    for command in (None, ["init", "-q"], ["add", "."], ["commit", "-qm", "a"]):
        if command:
            subprocess.run([*git, *command], check=True)
    for text in ("", "changed"):
        (package / "a.py").write_text(text)
        commit.cache_clear()
        found.append(commit())
    commit.cache_clear()
    assert len(found[0]) == 40
    assert found[1] == f"{found[0]}-dirty"
    # Of a checkout around the package that is not its own, nothing is said.
    monkeypatch.setattr(provenance, "_PACKAGE", package / "deeper")
    assert commit() is None
    commit.cache_clear()
