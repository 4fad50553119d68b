"""Where weights are found, and that no wrong, damaged or hostile file becomes a number."""

import dataclasses
import hashlib
import pickle
import urllib.error
import warnings
from pathlib import Path

import antialiased_cnns
import lpips
import pytest
import torch
import torchvision
from torch import nn

from robust_lpips import BackboneConfig, RobustLPIPS, weights
from robust_lpips.backbones import (
    ARCHITECTURES,
    antialiased_keys,
    build_backbone,
    published_tensors,
    torchvision_keys,
)
from robust_lpips.weights import (
    Digest,
    ReleasedFile,
    antialiased_imagenet_trunk,
    imagenet_trunk,
    load_trunk,
    save_checkpoint,
    trunk_from_file,
)

CONTENT, OTHER = b"the released bytes", b"other bytes"
PLAIN = BackboneConfig()
TOLERANT = BackboneConfig(
    anti_alias="blurpool",
    reflection_pad=2,
    conv1_stride=1,
    blur_placement="blur_before_activation",
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache; its folder of weights is returned and does not exist yet."""
    monkeypatch.setenv("ROBUST_LPIPS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


@pytest.fixture
def places(tmp_path, cache, monkeypatch):
    """A package, the cache and an address that can hold ``file.pth``."""
    package = tmp_path / "site" / "weights_package_of_this_test"
    address = tmp_path / "server"
    for folder in (package / "inner", cache, address):
        folder.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('this package was imported')")
    monkeypatch.syspath_prepend(package.parent)
    return {"package": package / "inner", "cache": cache, "address": address}


@pytest.fixture
def file(places):
    return ReleasedFile(
        "file.pth",
        Digest("sha256", hashlib.sha256(CONTENT).hexdigest()),
        package=("pypi-name", "weights_package_of_this_test", "inner/file.pth"),
        url=(places["address"] / "file.pth").as_uri(),
    )


@pytest.fixture
def offline(monkeypatch):
    """Downloads fail; gives the addresses that were asked."""
    asked = []

    def refuse(url, *_, **__):
        asked.append(url)
        raise urllib.error.URLError("no network in this test")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    return asked


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of torch.hub; its folder of checkpoints is returned."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def serve(hub, monkeypatch):
    """``serve(content)``: every download brings it; gives the (address, hash) that were asked."""
    asked = []

    def serve(content):
        def download(url, path, hash_prefix=None, **_):
            asked.append((url, hash_prefix))
            torch.save(content, path)

        monkeypatch.setattr(torch.hub, "download_url_to_file", download)
        return asked

    return serve


def random_peer(package, arch, quick_build, **options):
    """A network of torchvision's or antialiased_cnns', no tensor as initialisation leaves it."""
    torch.manual_seed(0)
    with quick_build():
        network = getattr(package, arch)(**options)
    if hasattr(network, "classifier"):
        network.classifier = nn.Linear(1, 1)  # the real one fills half a gigabyte of disk
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.3, 0.3)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
        if getattr(layer, "bias", None) is not None and not isinstance(layer, nn.Linear):
            nn.init.uniform_(layer.bias, -0.3, 0.3)
    return network.eval().requires_grad_(False)


def last_feature(network, x):
    """The output of the last ReLU of such a network's features, which all other tensors precede."""
    if hasattr(network, "layer4"):
        x = network.maxpool(network.relu(network.bn1(network.conv1(x))))
        return network.layer4(network.layer3(network.layer2(network.layer1(x))))
    pool = [i for i, layer in enumerate(network.features) if isinstance(layer, nn.MaxPool2d)][-1]
    # SqueezeNet alone does not end in a max-pool, with or without a blur.
    ends = pool if pool >= len(network.features) - 2 else len(network.features)
    return network.features[:ends](x)


def assert_same_trunk(config, state, network):
    torch.manual_seed(1)
    backbone = build_backbone(config).eval()
    load_trunk(backbone, state)
    x = torch.randn(1, 3, 64, 61)
    expected = last_feature(network, x)
    assert (backbone(x)[-1] - expected).norm() <= 1e-5 * expected.norm()


def released_layout(config, blur_sizes=()):
    """Random weights as ``lpips`` and ``stlpips_pytorch`` name them, from DESIGN.md's facts.

    Returns them with the metric that they belong to.
    """
    torch.manual_seed(0)
    metric = RobustLPIPS(config, weights=None, linear=True)
    for weight in metric.lin:
        weight.uniform_()
    state, position = {}, 0
    for layer in metric.backbone.children():
        for name, value in layer.state_dict().items():
            state[f"net.slice{1 + position // 3}.{position}.{name}"] = value
        position += 1
    for size in blur_sizes:
        state[f"net.slice9.{position}.filt"] = torch.ones(64, 1, size, size)
        position += 1
    for index, weight in enumerate(metric.lin):
        state[f"lin{index}.model.1.weight"] = weight.view(1, -1, 1, 1)
    state["scaling_layer.shift"] = torch.zeros(1, 3, 1, 1)
    return state, metric


class TestDigest:
    @pytest.mark.parametrize(
        ("content", "blob"),
        [
            # As `printf ... | git hash-object --stdin` prints them.
            (b"", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),
            (b"hello\n", "ce013625030ba8dba906f756967f9e9ca394464a"),
            (b"what is up, doc?", "bd9dbf5aae1a3862dd1526723246b20206e5fc37"),
        ],
    )
    def test_git_blob_id(self, content, blob, tmp_path):
        path = tmp_path / "blob"
        path.write_bytes(content)
        assert Digest("git", blob).matches(path)
        path.write_bytes(content + b"!")
        assert not Digest("git", blob).matches(path)

    def test_sha256(self, tmp_path):
        """Of "abc": the example in the standard, FIPS 180-2."""
        path = tmp_path / "abc"
        path.write_bytes(b"abc")
        value = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        assert Digest("sha256", value).matches(path)
        assert not Digest("git", value).matches(path)


class TestSearchOrder:
    def test_package_then_cache_then_address(self, file, places):
        for place in places.values():
            (place / "file.pth").write_bytes(CONTENT)
        assert file.find() == places["package"] / "file.pth"
        (places["package"] / "file.pth").unlink()
        (places["address"] / "file.pth").unlink()
        assert file.find() == places["cache"] / "file.pth"
        (places["cache"] / "file.pth").unlink()
        (places["address"] / "file.pth").write_bytes(CONTENT)
        assert file.find() == places["cache"] / "file.pth"
        assert (places["cache"] / "file.pth").read_bytes() == CONTENT

    def test_download_is_kept(self, file, places):
        (places["address"] / "file.pth").write_bytes(CONTENT)
        places["cache"].rmdir()
        file.find()
        (places["address"] / "file.pth").unlink()
        assert file.find() == places["cache"] / "file.pth"

    def test_wrong_file_is_passed_over_for_a_right_one(self, file, places):
        (places["package"] / "file.pth").write_bytes(OTHER)
        (places["cache"] / "file.pth").write_bytes(OTHER)
        (places["address"] / "file.pth").write_bytes(CONTENT)
        assert file.find().read_bytes() == CONTENT

    def test_wrong_files_everywhere_are_refused(self, file, places):
        for place in places.values():
            (place / "file.pth").write_bytes(OTHER)
        with pytest.raises(FileNotFoundError) as caught:
            file.find()
        message = str(caught.value)
        assert message.count("sha256 digest differs") == 3
        assert str(places["package"]) in message
        assert str(places["cache"]) in message
        assert file.url in message
        assert "pip install pypi-name" in message
        # Neither the wrong download nor a part of it is left behind.
        assert [path.read_bytes() for path in places["cache"].iterdir()] == [OTHER]

    def test_nothing_anywhere(self, file, places):
        missing = dataclasses.replace(file, package=("pypi-name", "no_such_package_here", "x"))
        with pytest.raises(FileNotFoundError) as caught:
            missing.find()
        assert "file.pth were not found" in str(caught.value)
        assert "package pypi-name (not installed)" in str(caught.value)
        assert not list(places["cache"].iterdir())

    def test_without_package_the_help_is_a_download(self, file, cache):
        with pytest.raises(FileNotFoundError) as caught:
            dataclasses.replace(file, package=None).find()
        assert f"download {file.url} to {cache / 'file.pth'}" in str(caught.value)

    def test_unusable_cache_is_reported_with_the_rest(self, file, tmp_path, monkeypatch):
        (tmp_path / "a file").write_text("")
        monkeypatch.setenv("ROBUST_LPIPS_CACHE", str(tmp_path / "a file"))
        with pytest.raises(FileNotFoundError, match=r"weights file\.pth were not found"):
            file.find()

    def test_failed_download_leaves_nothing(self, file, places, monkeypatch):
        def broken(url, path, *_, **__):
            Path(path).write_bytes(CONTENT[:5])
            raise ConnectionResetError("in the middle")

        monkeypatch.setattr(torch.hub, "download_url_to_file", broken)
        with pytest.raises(FileNotFoundError, match="in the middle"):
            file.find()
        assert not list(places["cache"].iterdir())


class TestReleases:
    def test_names(self):
        assert {
            "alexnet-shift-tolerant",
            "vgg16-shift-tolerant",
            "alexnet-vanilla",
            "vgg16-vanilla",
            "alexnet",
            "vgg16",
            "squeezenet1_1",
        } <= set(weights.names())

    def test_blob_ids_are_those_of_the_authors_repository(self):
        """As `git ls-tree` prints them at its commit 9a53cd5; addresses name the commit."""
        blobs = {
            "alexnet-vanilla": ("alex_vanilla", "e97aa43662f6f2aa1b8cba82e5f9d2edc6226881"),
            "alexnet-shift-tolerant": (
                "alex_shift_tolerant",
                "8eb1cab22934171b3f37304ec2bdd3e932a33460",
            ),
            "vgg16-vanilla": ("vgg_vanilla", "69df5715df7f8fcd29af9aebda68d445c0712c42"),
            "vgg16-shift-tolerant": (
                "vgg_shift_tolerant",
                "ea846ce76b1592a9971780961a76dcb7465d462a",
            ),
            "vgg16-vanilla-kadid": (
                "vgg_vanilla_kadid",
                "a8ad0a25b8c18851640f16176164cc1ecf00c300",
            ),
            "vgg16-shift-tolerant-kadid": (
                "vgg_shift_tolerant_kadid",
                "fa88134ecdf31d0a206fcab646f2c8ac0126b7b4",
            ),
        }
        for name, (stem, blob) in blobs.items():
            (file,) = (
                cell.cell_contents
                for cell in weights.release(name).load.__closure__
                if isinstance(cell.cell_contents, ReleasedFile)
            )
            assert file.name == f"{stem}.pth"
            assert file.digest == Digest("git", blob)
            assert "/9a53cd5" in file.url
            assert file.url.endswith(f"/stlpips/weights/vST0.0/{stem}.pth")

    def test_packaged_ones_need_neither_network_nor_cache(self, offline, cache):
        for name in ("alexnet-shift-tolerant", "vgg16-shift-tolerant"):
            RobustLPIPS(name)
        assert not offline
        assert not cache.exists()

    def test_others_are_sought_in_the_cache_then_at_the_address(self, offline, cache):
        with pytest.raises(FileNotFoundError) as caught:
            RobustLPIPS("alexnet-vanilla")
        (url,) = offline
        assert url in str(caught.value)
        assert str(cache / "alex_vanilla.pth") in str(caught.value)
        assert "no network in this test" in str(caught.value)

    def test_wrong_file_in_the_cache_is_refused(self, offline, cache):
        cache.mkdir(parents=True)
        torch.save(released_layout(PLAIN)[0], cache / "alex_vanilla.pth")
        with pytest.raises(FileNotFoundError, match="not the released file: git digest differs"):
            RobustLPIPS("alexnet-vanilla")

    def test_right_file_in_the_cache_is_used(self, offline, cache, monkeypatch, image_pair):
        cache.mkdir(parents=True)
        state, expected = released_layout(PLAIN)
        torch.save(state, cache / "new.pth")
        content = (cache / "new.pth").read_bytes()
        blob = hashlib.sha1(b"blob " + str(len(content)).encode() + b"\0" + content).hexdigest()
        entry = weights._st_lpips("new.pth", blob, "alexnet", tolerant=False)
        monkeypatch.setitem(weights._RELEASES, "new", entry)
        images = image_pair("noise", 1, 64, 64)
        assert torch.equal(RobustLPIPS("new")(*images), expected(*images))

    def test_trunk_that_cannot_be_downloaded(self, offline, hub):
        with pytest.raises(FileNotFoundError, match=r"alexnet-owt.*no network in this test.*helps"):
            RobustLPIPS("alexnet")
        assert len(offline) == 1

    @pytest.mark.parametrize("name", ["alexnet", "vgg16", "squeezenet1_1"])
    def test_lpips_joins_its_1x1_weights_to_torchvisions_trunk(self, name, serve, quick_build):
        serve(random_peer(torchvision.models, name, quick_build).state_dict())
        metric = RobustLPIPS(name)
        trunk = weights.imagenet_trunk(BackboneConfig(arch=name))
        assert metric.linear
        for key, value in metric.backbone.state_dict().items():
            assert torch.equal(value, trunk[key])


class TestArguments:
    def test_unknown_name_lists_the_names(self):
        with pytest.raises(ValueError, match="got 'alex'") as caught:
            RobustLPIPS("alex")
        assert all(name in str(caught.value) for name in weights.names())

    def test_config_needs_weights(self):
        with pytest.raises(ValueError, match="None for random weights"):
            RobustLPIPS(PLAIN)

    def test_net_of_another_type(self):
        with pytest.raises(TypeError, match=r"net must be a name or a BackboneConfig; got int"):
            RobustLPIPS(3)

    def test_config_of_other_weights(self):
        with pytest.raises(ValueError, match="alexnet-shift-tolerant belongs to"):
            RobustLPIPS(PLAIN, weights="alexnet-shift-tolerant")
        with pytest.raises(ValueError, match="alexnet-shift-tolerant belongs to"):
            RobustLPIPS("vgg16-shift-tolerant", weights="alexnet-shift-tolerant")

    def test_config_and_name_that_agree(self, released, image_pair):
        images = image_pair("noise", 1, 64, 64)
        metric = RobustLPIPS(TOLERANT, weights="alexnet-shift-tolerant")
        assert torch.equal(metric(*images), released()(*images))

    def test_weights_alone(self, released, image_pair):
        images = image_pair("noise", 1, 64, 64)
        metric = RobustLPIPS(weights="alexnet-shift-tolerant")
        assert torch.equal(metric(*images), released()(*images))

    def test_random_weights_only_when_asked_for(self):
        """Then they follow torch's seed, and the name gives the architecture."""
        metrics = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            metrics.append(RobustLPIPS("alexnet-shift-tolerant", weights=None))
        first, same, other = (metric.backbone.conv1.weight for metric in metrics)
        assert metrics[0].config == TOLERANT
        assert not metrics[0].linear
        assert torch.equal(first, same)
        assert not torch.equal(first, other)

    def test_missing_file(self, tmp_path):
        for net in (None, PLAIN, "alexnet"):
            with pytest.raises(FileNotFoundError, match=r"no such file: .*nothing\.pt"):
                RobustLPIPS(net, weights=tmp_path / "nothing.pt")
        with pytest.raises(FileNotFoundError, match="alexnet-vanilla"):
            RobustLPIPS(weights="alexnet-vanila")

    def test_folder_is_no_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="no such file"):
            RobustLPIPS(weights=tmp_path)


class TestOwnCheckpoints:
    @pytest.mark.parametrize(
        ("config", "linear"),
        [
            (PLAIN, True),
            (PLAIN, False),
            (BackboneConfig(anti_alias="adaptive", blur_size=2, conv1_stride=2), True),
            (BackboneConfig(arch="vgg16", skip="blurpool", blur_size=5), True),
            (BackboneConfig(arch="squeezenet1_1", anti_alias="adaptive"), True),
            (BackboneConfig(arch="resnet18", full_conv=True), True),
        ],
    )
    @pytest.mark.parametrize("as_type", [str, Path])
    def test_round_trip(self, config, linear, as_type, tmp_path, image_pair):
        torch.manual_seed(0)
        metric = RobustLPIPS(config, weights=None, linear=linear)
        for name, value in metric.state_dict().items():
            if name.startswith("lin.") or "running" in name:
                value.uniform_(0.5, 1.5)
        path = tmp_path / "saved.pt"
        save_checkpoint(metric, path, {"steps": 3})
        loaded = RobustLPIPS(weights=as_type(path))
        images = image_pair("noise", 1, 64, 64)
        assert loaded.config == config
        assert loaded.linear == linear
        assert torch.equal(loaded(*images), metric(*images))
        assert torch.load(path, weights_only=True)["provenance"] == {"steps": 3}

    def test_net_may_be_repeated_but_not_changed(self, tmp_path):
        path = tmp_path / "saved.pt"
        save_checkpoint(RobustLPIPS(PLAIN, weights=None), path, {})
        assert RobustLPIPS(PLAIN, weights=path).config == PLAIN
        for net in ("vgg16", dataclasses.replace(PLAIN, full_conv=True)):
            with pytest.raises(ValueError, match=r"saved\.pt belongs to .*net asks for"):
                RobustLPIPS(net, weights=path)

    def test_unwritten_stride_is_the_architectures_own(self, tmp_path):
        path = tmp_path / "saved.pt"
        save_checkpoint(RobustLPIPS(PLAIN, weights=None), path, {})
        RobustLPIPS(BackboneConfig(conv1_stride=4), weights=path)

    def test_linear_needs_1x1_weights(self, tmp_path):
        path = tmp_path / "saved.pt"
        save_checkpoint(RobustLPIPS(PLAIN, weights=None), path, {})
        with pytest.raises(ValueError, match=r"has no 1x1 weights: pass linear=False"):
            RobustLPIPS(weights=path, linear=True)

    def test_failure_in_the_middle_leaves_the_old_file(self, tmp_path, monkeypatch):
        path = tmp_path / "saved.pt"
        metric = RobustLPIPS(PLAIN, weights=None)
        save_checkpoint(metric, path, {})
        before = path.read_bytes()

        def disk_full(content, target):
            Path(target).write_bytes(before[:100])
            raise OSError("disk full")

        monkeypatch.setattr(torch, "save", disk_full)
        with pytest.raises(OSError, match="disk full"):
            save_checkpoint(metric, path, {})
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    def test_weights_that_do_not_fit_their_config(self, tmp_path):
        path = tmp_path / "saved.pt"
        save_checkpoint(RobustLPIPS(PLAIN, weights=None), path, {})
        content = torch.load(path)
        del content["state_dict"]["backbone.conv5.bias"]
        torch.save(content, path)
        with pytest.raises(ValueError, match=r"(?s)does not fit .*backbone\.conv5\.bias"):
            RobustLPIPS(weights=path)


class TestReleasedLayout:
    @pytest.mark.parametrize("arch", ["alexnet", "vgg16", "squeezenet1_1"])
    def test_by_path(self, arch, tmp_path, image_pair):
        config = BackboneConfig(arch=arch)
        state, expected = released_layout(config)
        path = tmp_path / "theirs.pth"
        torch.save(state, path)
        images = image_pair("noise", 1, 64, 64)
        for net in (config, arch):
            metric = RobustLPIPS(net, weights=path)
            assert metric.linear
            assert torch.equal(metric(*images), expected(*images))

    def test_lpips_squeezenet_with_any_trunk(self, quick_build, tmp_path, image_pair):
        with quick_build(), warnings.catch_warnings(action="ignore"):
            peer = lpips.LPIPS(net="squeeze", pnet_rand=True, verbose=False)
        torch.save(peer.state_dict(), tmp_path / "theirs.pth")
        metric = RobustLPIPS(BackboneConfig(arch="squeezenet1_1"), tmp_path / "theirs.pth")
        for kind, shape in (("photographs", (64, 64)), ("noise", (61, 83))):
            images = image_pair(kind, 2, *shape)
            expected = peer(*images).flatten()
            torch.testing.assert_close(metric(*images), expected, rtol=1e-5, atol=0)

    def test_file_of_the_package_by_path(self, released, image_pair):
        import stlpips_pytorch

        path = Path(stlpips_pytorch.__file__).parent / "weights/vST0.0/alex_shift_tolerant.pth"
        images = image_pair("noise", 1, 64, 64)
        for net in (TOLERANT, "alexnet-shift-tolerant"):
            metric = RobustLPIPS(net, weights=path)
            assert torch.equal(metric(*images), released()(*images))

    def test_net_is_needed(self, tmp_path):
        torch.save(released_layout(PLAIN)[0], tmp_path / "theirs.pth")
        with pytest.raises(ValueError, match="does not say its architecture: pass net"):
            RobustLPIPS(weights=tmp_path / "theirs.pth")

    @pytest.mark.parametrize(
        ("config", "blur_sizes"),
        [
            (PLAIN, [3, 3]),  # a blurred checkpoint for a plain network
            (TOLERANT, []),  # and the other way round
            (TOLERANT, [5, 5]),
            (TOLERANT, [3, 5]),
            (BackboneConfig(arch="vgg16"), []),  # another number of layers
        ],
    )
    def test_other_networks_are_refused(self, config, blur_sizes, tmp_path):
        torch.save(released_layout(PLAIN, blur_sizes)[0], tmp_path / "theirs.pth")
        with pytest.raises(ValueError, match=r"theirs\.pth has 5 layers with weights and blurs"):
            RobustLPIPS(config, weights=tmp_path / "theirs.pth")


ANTIALIASED = {
    "alexnet": BackboneConfig(anti_alias="blurpool", conv1_stride=2),
    "vgg16": BackboneConfig(arch="vgg16", anti_alias="blurpool"),
    "resnet18": BackboneConfig(arch="resnet18", anti_alias="blurpool"),
}


class TestImageNetTrunk:
    @pytest.mark.parametrize("arch", ARCHITECTURES)
    def test_equals_torchvision(self, arch, serve, quick_build):
        peer = random_peer(torchvision.models, arch, quick_build)
        asked = serve(peer.state_dict())
        config = BackboneConfig(arch=arch)
        assert_same_trunk(config, imagenet_trunk(config), peer)
        ((url, hash_prefix),) = asked
        assert url == torchvision.models.get_model_weights(arch).IMAGENET1K_V1.url
        assert url.endswith(f"-{hash_prefix}.pth")

    @pytest.mark.parametrize("size", [2, 3, 4, 5])
    @pytest.mark.parametrize("arch", ANTIALIASED)
    def test_equals_antialiased_cnns(self, arch, size, serve, quick_build):
        peer = random_peer(antialiased_cnns, arch, quick_build, filter_size=size)
        asked = serve({"state_dict": peer.state_dict()})
        config = dataclasses.replace(ANTIALIASED[arch], blur_size=size)
        assert_same_trunk(config, antialiased_imagenet_trunk(config), peer)
        ((url, hash_prefix),) = asked
        tuned = "_finetune" if size == 4 else ""
        assert url.endswith(f"/{arch}_lpf{size}{tuned}-{hash_prefix}.pth")

    @pytest.mark.parametrize("arch", ARCHITECTURES)
    def test_all_that_torchvision_has_reaches_adaptive_networks(self, arch, serve, quick_build):
        peer = random_peer(torchvision.models, arch, quick_build).state_dict()
        serve(peer)
        config = BackboneConfig(
            arch=arch, anti_alias="adaptive", skip="blurpool" if arch == "vgg16" else "none"
        )
        backbone = build_backbone(config)
        before = {name: value.clone() for name, value in backbone.state_dict().items()}
        load_trunk(backbone, imagenet_trunk(config))
        keys = torchvision_keys(config)
        for name, value in backbone.state_dict().items():
            assert torch.equal(value, peer[keys[name]] if name in keys else before[name])

    @pytest.mark.parametrize(
        "config",
        [
            PLAIN,
            BackboneConfig(anti_alias="blurpool", blur_size=1),
            BackboneConfig(anti_alias="adaptive", blur_size=6),
            BackboneConfig(arch="squeezenet1_1", anti_alias="blurpool"),
        ],
    )
    def test_what_antialiased_cnns_did_not_release(self, config, offline, hub):
        with pytest.raises(ValueError, match="antialiased_cnns"):
            antialiased_imagenet_trunk(config)
        assert not offline

    @pytest.mark.parametrize("load", [imagenet_trunk, antialiased_imagenet_trunk])
    def test_offline(self, load, offline, hub):
        with pytest.raises(FileNotFoundError) as caught:
            load(ANTIALIASED["resnet18"])
        (url,) = offline
        message = str(caught.value)
        assert message.count(str(hub)) == 2
        assert f"ImageNet weights {url} were not found" in message
        assert "no network in this test" in message
        assert f"download it to {hub}" in message

    def test_what_torch_hub_has_is_not_downloaded_again(self, offline, hub, quick_build):
        state = random_peer(torchvision.models, "alexnet", quick_build).state_dict()
        url = torchvision.models.AlexNet_Weights.IMAGENET1K_V1.url
        hub.mkdir(parents=True)
        torch.save(state, hub / url.rpartition("/")[2])
        assert torch.equal(imagenet_trunk(PLAIN)["conv1.weight"], state["features.0.weight"])
        assert not offline

    def test_wrong_download_is_refused(self, hub, monkeypatch, tmp_path):
        """By torch.hub, against the hash that the file name ends in."""
        (tmp_path / "alexnet-00000000.pth").write_bytes(CONTENT)
        entry = type("Entry", (), {"url": (tmp_path / "alexnet-00000000.pth").as_uri()})
        enum = type("Enum", (), {"IMAGENET1K_V1": entry})
        monkeypatch.setattr(torchvision.models, "get_model_weights", lambda _: enum)
        with pytest.raises(FileNotFoundError, match="invalid hash value"):
            imagenet_trunk(PLAIN)
        assert not list(hub.iterdir())


class TestTrunkFromFile:
    @pytest.fixture
    def path(self, tmp_path):
        return tmp_path / "trunk.pth"

    @pytest.mark.parametrize("prefix", ["", "module."])
    @pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
    @pytest.mark.parametrize("arch", ["alexnet", "resnet18"])
    def test_however_it_was_saved(self, arch, wrapper, prefix, path, quick_build):
        peer = random_peer(torchvision.models, arch, quick_build)
        state = {prefix + name: value for name, value in peer.state_dict().items()}
        torch.save({wrapper: state, "epoch": 90} if wrapper else state, path)
        config = BackboneConfig(arch=arch)
        assert_same_trunk(config, trunk_from_file(str(path), config), peer)

    def test_without_counts_of_batches(self, path, quick_build):
        """As older files are."""
        peer = random_peer(torchvision.models, "resnet18", quick_build)
        state = {k: v for k, v in peer.state_dict().items() if "num_batches" not in k}
        torch.save(state, path)
        config = BackboneConfig(arch="resnet18")
        trunk = trunk_from_file(path, config)
        assert "bn1.num_batches_tracked" not in trunk
        assert_same_trunk(config, trunk, peer)

    def test_missing_tensors_are_named(self, path, quick_build):
        state = random_peer(torchvision.models, "alexnet", quick_build).state_dict()
        del state["features.3.bias"]
        torch.save(state, path)
        with pytest.raises(ValueError, match=r"trunk\.pth lacks features\.3\.bias: expected"):
            trunk_from_file(path, PLAIN)
        config = BackboneConfig(arch="resnet18")
        with pytest.raises(ValueError, match=r"lacks conv1\.weight, .* \(100 in all\)"):
            trunk_from_file(path, config)

    @pytest.mark.parametrize("content", [{}, {0: torch.zeros(3)}, {"state_dict": {}}])
    def test_no_trunk_at_all(self, content, path):
        torch.save(content, path)
        with pytest.raises(ValueError, match=r"lacks features\.0\.weight.*\(10 in all\)"):
            trunk_from_file(path, PLAIN)

    def test_deeper_network_of_the_same_family(self, path, quick_build):
        torch.save(random_peer(torchvision.models, "resnet34", quick_build).state_dict(), path)
        with pytest.raises(ValueError, match=r"another network: it has layer1\.2\.conv1\.weight"):
            trunk_from_file(path, BackboneConfig(arch="resnet18"))

    def test_missing_file(self, path):
        with pytest.raises(FileNotFoundError, match=r"no such file: .*trunk\.pth"):
            trunk_from_file(path, PLAIN)

    def test_code_in_a_file_does_not_run(self, path, tmp_path):
        torch.save({"state_dict": Malicious(tmp_path / "ran")}, path)
        with pytest.raises(ValueError, match="damaged or no checkpoint"):
            trunk_from_file(path, PLAIN)
        assert not (tmp_path / "ran").exists()


class TestLoadTrunk:
    CONFIG = BackboneConfig(arch="vgg16", anti_alias="adaptive", skip="strided")

    @pytest.fixture
    def backbone(self):
        return build_backbone(self.CONFIG)

    def test_needs_all_but_filters_and_skips(self, backbone):
        state = {name: backbone.state_dict()[name] for name in published_tensors(backbone)}
        load_trunk(backbone, state)
        load_trunk(backbone, backbone.state_dict())
        del state["stage3.path.conv3_2.weight"]
        with pytest.raises(ValueError, match=r"missing: stage3\.path\.conv3_2\.weight; .*nothing"):
            load_trunk(backbone, state)

    def test_takes_nothing_else(self, backbone):
        state = backbone.state_dict() | {"conv6_1.weight": torch.zeros(1)}
        with pytest.raises(ValueError, match=r"missing: nothing; unexpected: conv6_1\.weight"):
            load_trunk(backbone, state)

    def test_other_shapes_are_refused(self, backbone):
        state = backbone.state_dict() | {"conv1_1.weight": torch.zeros(64, 3, 5, 5)}
        with pytest.raises(ValueError, match=r"(?s)trunk: .*size mismatch for conv1_1\.weight"):
            load_trunk(backbone, state)

    @pytest.mark.parametrize("arch", ANTIALIASED)
    def test_both_packages_bring_the_same_tensors(self, arch):
        config = dataclasses.replace(ANTIALIASED[arch], anti_alias="adaptive")
        names = published_tensors(build_backbone(config))
        assert list(torchvision_keys(config)) == list(antialiased_keys(config)) == names


class Malicious:
    """Touches ``path`` when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


class TestBadFiles:
    @pytest.fixture
    def path(self, tmp_path):
        return tmp_path / "bad.pt"

    @pytest.mark.parametrize("net", [None, PLAIN, "alexnet"])
    def test_truncated(self, net, path):
        save_checkpoint(RobustLPIPS(PLAIN, weights=None), path, {})
        path.write_bytes(path.read_bytes()[:-20_000])
        with pytest.raises(ValueError, match=r"bad\.pt is damaged or no checkpoint"):
            RobustLPIPS(net, weights=path)

    @pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"\x89PNG\r\n\x1a\n"])
    def test_something_else_entirely(self, content, path):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="damaged or no checkpoint"):
            RobustLPIPS(PLAIN, weights=path)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (torch.zeros(3), "holds a Tensor, not a state dict"),
            ([1, 2], "holds a list, not a state dict"),
            ({}, "neither a checkpoint of robust-lpips"),
            ({0: torch.zeros(3)}, "neither a checkpoint of robust-lpips"),
            ({"features.0.weight": torch.zeros(3)}, "neither a checkpoint of robust-lpips"),
            ({"format": "robust-lpips/0"}, "neither a checkpoint of robust-lpips"),
            ({"format": "other/1", "net.slice1.0.weight": 0}, "neither a checkpoint"),
        ],
    )
    def test_checkpoints_of_something_else(self, content, message, path):
        torch.save(content, path)
        for net in (None, PLAIN):
            with pytest.raises(ValueError, match=message):
                RobustLPIPS(net, weights=path)

    @pytest.mark.parametrize("writer", ["torch", "pickle"])
    def test_code_in_a_file_does_not_run(self, writer, path, tmp_path):
        content = {"format": weights.FORMAT, "config": Malicious(tmp_path / "ran")}
        if writer == "torch":
            torch.save(content, path)
        else:
            path.write_bytes(pickle.dumps(content, protocol=2))
        with pytest.raises(ValueError, match="damaged or no checkpoint"):
            RobustLPIPS(PLAIN, weights=path)
        assert not (tmp_path / "ran").exists()
        # The test means something only if plain unpickling would have run it.
        pickle.loads(pickle.dumps(content))
        assert (tmp_path / "ran").exists()
