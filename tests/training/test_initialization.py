"""Initial weights by name, against construction from a seed and torchvision's own networks."""

import copy
import urllib.error

import pytest
import torch
import torchvision
from torch import nn

from robust_lpips import BackboneConfig, RobustLPIPS
from robust_lpips.training import initialization
from robust_lpips.training.initialization import INITS, initialize
from robust_lpips.weights import save_checkpoint

PLAIN = BackboneConfig()
ADAPTIVE = BackboneConfig(anti_alias="adaptive", conv1_stride=2)
SQUEEZE = BackboneConfig(arch="squeezenet1_1")


def untrained(config=PLAIN, seed=5, linear=True):
    torch.manual_seed(seed)
    return RobustLPIPS(config, weights=None, linear=linear)


def assert_equal_states(a, b):
    assert a.keys() == b.keys()
    assert all(torch.equal(value, b[name]) for name, value in a.items())


@pytest.fixture
def squeezenet(tmp_path):
    """A random one of torchvision's, and the file that holds it."""
    torch.manual_seed(3)
    model = torchvision.models.squeezenet1_1(weights=None).eval()
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.bias, std=0.1)
    path = tmp_path / "squeezenet.pth"
    torch.save(model.state_dict(), path)
    return model, path


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_, **__):
        raise urllib.error.URLError("no network in this test")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)


class TestRandom:
    @pytest.mark.parametrize("config", [PLAIN, ADAPTIVE], ids=["plain", "adaptive"])
    def test_equals_construction_after_seeding(self, config):
        metric = untrained(config)
        for value in metric.backbone.state_dict().values():
            value.zero_()
        initialize(metric, "random", seed=2)
        assert_equal_states(metric.state_dict(), untrained(config, seed=2).state_dict())

    def test_leaves_everything_else_alone(self):
        metric = untrained()
        metric.lin[0].fill_(7.0)
        state = torch.get_rng_state()
        initialize(metric, "random")
        assert torch.equal(torch.get_rng_state(), state)
        assert (metric.lin[0] == 7.0).all()
        for parameter in metric.parameters():
            assert not parameter.requires_grad
            if parameter.ndim == 4:
                assert parameter.is_contiguous(memory_format=torch.channels_last)


class TestCheckpoint:
    def test_brings_trunk_and_1x1_weights(self, tmp_path):
        trained, path = untrained(seed=1), tmp_path / "trained.pt"
        trained.lin[0].uniform_()
        save_checkpoint(trained, path, {})
        metric = untrained()
        state = torch.get_rng_state()
        initialize(metric, path)
        assert torch.equal(torch.get_rng_state(), state)
        assert_equal_states(metric.state_dict(), trained.state_dict())

    @pytest.mark.parametrize("saved_linear", [True, False])
    def test_brings_the_trunk_alone_where_either_has_no_1x1_weights(self, saved_linear, tmp_path):
        trained, path = untrained(seed=1, linear=saved_linear), tmp_path / "trained.pt"
        save_checkpoint(trained, path, {})
        metric = untrained(linear=not saved_linear)
        before = copy.deepcopy(metric.lin.state_dict())
        initialize(metric, str(path))
        assert_equal_states(metric.backbone.state_dict(), trained.backbone.state_dict())
        assert_equal_states(metric.lin.state_dict(), before)

    def test_of_another_network_is_refused(self, tmp_path):
        path = tmp_path / "squeezenet.pt"
        save_checkpoint(untrained(SQUEEZE), path, {})
        metric = untrained()
        before = copy.deepcopy(metric.state_dict())
        with pytest.raises(ValueError, match=r"arch='squeezenet1_1'.*arch='alexnet'"):
            initialize(metric, path)
        assert_equal_states(metric.state_dict(), before)


class TestTorchvisionLayout:
    def test_file_gives_torchvisions_features(self, squeezenet):
        model, path = squeezenet
        metric = untrained(SQUEEZE)
        initialize(metric, path)
        images = torch.randn(2, 3, 64, 64)
        torch.testing.assert_close(metric.backbone(images)[-1], model.features(images))

    def test_imagenet_by_name(self, squeezenet, monkeypatch):
        """What torch.hub hands over, for the address that torchvision has on record."""
        model, _ = squeezenet
        asked = []

        def load(url, **_):
            asked.append(url)
            return model.state_dict()

        monkeypatch.setattr(torch.hub, "load_state_dict_from_url", load)
        metric = untrained(SQUEEZE)
        initialize(metric, "imagenet")
        assert asked == [torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1.url]
        torch.testing.assert_close(
            metric.backbone.fire9.squeeze.weight, model.features[12].squeeze.weight
        )

    def test_what_the_file_lacks_follows_the_seed(self, squeezenet):
        """Adaptive filters are not in torchvision's network."""
        model, path = squeezenet
        config = BackboneConfig(arch="squeezenet1_1", anti_alias="adaptive")
        metric = untrained(config)
        initialize(metric, path, seed=2)
        drawn = untrained(config, seed=2)
        assert torch.equal(
            metric.backbone.pool1[1].conv.weight, drawn.backbone.pool1[1].conv.weight
        )
        torch.testing.assert_close(metric.backbone.conv1.weight, model.features[0].weight)

    def test_of_another_network_is_refused(self, squeezenet):
        with pytest.raises(ValueError, match=r"squeezenet\.pth"):
            initialize(untrained(), squeezenet[1])

    @pytest.mark.parametrize(
        ("init", "config", "host"),
        [
            ("imagenet", PLAIN, r"download\.pytorch\.org"),
            ("imagenet-antialiased", ADAPTIVE, "antialiased"),
        ],
    )
    def test_offline(self, init, config, host, offline):
        metric = untrained(config)
        before = copy.deepcopy(metric.state_dict())
        with pytest.raises(FileNotFoundError, match=rf"{host}.*no network in this test"):
            initialize(metric, init)
        assert_equal_states(metric.state_dict(), before)


class TestKMeans:
    @pytest.fixture
    def seen(self, monkeypatch):
        """What k-means is asked for, instead of its work."""
        calls = []

        def record(metric, images, *, seed):
            calls.append((images, seed))

        monkeypatch.setattr(initialization, "kmeans_initialize", record)
        return calls

    @pytest.mark.parametrize(
        ("size", "n", "expected"),
        [
            (64, 100, list(range(100))),
            (64, 512, list(range(0, 512, 2))),
            (256, 40, [0, 2, 5, 7, 10, 12, 15, 17, 20, 22, 25, 27, 30, 32, 35, 37]),
            (2048, 3, [0]),
        ],
    )
    def test_sees_references_of_about_a_million_pixels(self, size, n, expected, seen):
        dataset = [{"ref": torch.tensor(float(i)).expand(3, size, size)} for i in range(n)]
        initialize(untrained(), "kmeans", seed=4, dataset=dataset)
        ((images, seed),) = seen
        assert images[:, 0, 0, 0].tolist() == expected
        assert seed == 4

    def test_the_rest_follows_the_seed(self, seen):
        """Adaptive filters, which k-means leaves alone."""
        metric, dataset = untrained(ADAPTIVE), [{"ref": torch.zeros(3, 64, 64)}]
        initialize(metric, "kmeans", seed=2, dataset=dataset)
        assert_equal_states(metric.state_dict(), untrained(ADAPTIVE, seed=2).state_dict())

    def test_needs_a_dataset(self):
        with pytest.raises(ValueError, match="dataset must be given for init='kmeans'"):
            initialize(untrained(), "kmeans")


class TestUnknown:
    def test_name(self):
        with pytest.raises(ValueError, match=r"init must be one of .*; got 'imagnet'") as error:
            initialize(untrained(), "imagnet")
        assert all(repr(name) in str(error.value) for name in INITS)

    @pytest.mark.parametrize("file", ["missing.pt", "folder/missing"])
    def test_path(self, file, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(FileNotFoundError, match=file) as error:
            initialize(untrained(), file)
        assert all(repr(name) in str(error.value) for name in INITS)

    def test_damaged_file(self, tmp_path):
        path = tmp_path / "damaged.pt"
        path.write_bytes(b"no checkpoint")
        with pytest.raises(ValueError, match=r"damaged\.pt is damaged"):
            initialize(untrained(), path)
