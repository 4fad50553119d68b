"""Released packages: built without a download, always the same, and called as they expect."""

from functools import partial

import pytest
import torch
from torch import nn

from robust_lpips.comparison import peers


def test_stlpips_does_not_declare_all_it_imports(missing):
    missing("stlpips_pytorch")
    built, left_out = peers.build({"stlpips-pytorch": partial(peers.stlpips, "alex")}, "cpu")
    assert not built
    assert 'pip install "robust-lpips[test]"' in left_out["stlpips-pytorch"]


def test_trunk_of_the_plain_network_is_always_the_same(quick_build):
    pytest.importorskip("lpips")
    state = torch.random.get_rng_state()
    first, second = peers.lpips().state_dict(), peers.lpips().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_released_networks_get_what_they_expect():
    class Net(nn.Module):
        def forward(self, a, b, *, normalize=True):
            return (a - b).mean((1, 2, 3), keepdim=True) + normalize

    call = lambda a, b, net: net(a, b, normalize=False)  # noqa: E731
    found = peers.Distance(Net(), call)(torch.ones(2, 3, 4, 4), torch.zeros(2, 3, 4, 4))
    assert found.tolist() == [1.0, 1.0]


def test_training_steps_learn_and_keep_1x1_weights_positive():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = nn.Conv2d(3, 1, 1, bias=False)

        def forward(self, a, b):
            return self.lin((a - b) ** 2).mean((2, 3), keepdim=True)

    class Objective(nn.Module):
        def forward(self, d0, d1, batch):
            return ((d0 - d1) * (2 * batch["judge"] - 1)).mean()

    torch.manual_seed(0)
    black, grey, white = (torch.full((3, 8, 8), value, dtype=torch.uint8) for value in (0, 99, 255))
    item = {"ref": black, "p0": white, "p1": grey, "judge": 0.0}
    net = Net()
    nn.init.constant_(net.lin.weight, -1e-5)
    losses = list(peers.training_steps(net, Objective(), [[item]] * 30))
    assert losses[-1] < losses[0]
    assert (net.lin.weight >= 0).all()
