"""Filters by k-means: what the layers put out, and whitening and clusters by other means."""

import copy
from collections import OrderedDict
from contextlib import ExitStack
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from robust_lpips import BackboneConfig, RobustLPIPS
from robust_lpips.backbones import resnet, vgg
from robust_lpips.data.photographs import load_photographs
from robust_lpips.training import kmeans
from robust_lpips.training.kmeans import BETA, kmeans_initialize


def untrained(**options):
    return RobustLPIPS(BackboneConfig(**options), weights=None)


@pytest.fixture(scope="module")
def crops():
    """``make(n, size, seed)``: random squares of photographs, uint8 (n, 3, size, size)."""
    photographs = list(load_photographs("train", smallest_side=200).values())

    def make(n, size, seed=0):
        rng = np.random.default_rng(seed)
        squares = []
        for i in range(n):
            pixels = photographs[i % len(photographs)]
            top, left = (rng.integers(side - size) for side in pixels.shape[:2])
            squares.append(pixels[top : top + size, left : left + size])
        return torch.from_numpy(np.stack(squares)).movedim(3, 1)

    return make


@pytest.fixture(scope="module")
def initialized(crops):
    """Plain AlexNet, from all patches of the images that come with it; not to be changed."""
    metric, images = untrained(), crops(40, 96)
    kmeans_initialize(metric, images, patches=10**6)
    return metric, images


@pytest.fixture
def thin(monkeypatch):
    """VGG-16 and ResNet-18 of few channels, because their own take long."""
    monkeypatch.setattr(vgg, "STAGES", ((8, 2), (8, 2), (16, 3), (16, 3), (16, 3)))
    monkeypatch.setattr(resnet, "STAGES", ((64, 1), (16, 2), (32, 2), (32, 2)))


def convolutions(metric):
    layers = metric.backbone.named_modules()
    return {name: layer for name, layer in layers if isinstance(layer, nn.Conv2d)}


def outputs(metric, images):
    """Of each convolution, a row a channel."""
    found = {}

    def keep(name, layer, inputs, output):
        found[name] = output.transpose(0, 1).flatten(1).clone()

    with torch.no_grad(), ExitStack() as hooks:
        for name, layer in convolutions(metric).items():
            hooks.enter_context(layer.register_forward_hook(partial(keep, name)))
        metric.features(images)
    return found


def tiles(prototypes, n, noise, generator):
    """Images of 8x8 prototypes (P, 3, 4, 4) each, side by side, of random contrast."""
    chosen = torch.randint(len(prototypes), (n, 8, 8), generator=generator)
    contrast = 0.5 + torch.rand((n, 8, 8, 1, 1, 1), generator=generator)
    mosaic = contrast * prototypes[chosen]  # (n, row, column, 3, 4, 4)
    images = mosaic.permute(0, 3, 1, 4, 2, 5).reshape(n, 3, 32, 32)
    return images + noise * torch.randn(images.shape, generator=generator)


class OneLayer(nn.Module):
    """As much of a metric as matters, with one convolution that meets each tile once."""

    def __init__(self, filters):
        super().__init__()
        self.backbone = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, filters, 4, stride=4)))

    def features(self, images):
        return (self.backbone(images),)


class TestNormalisation:
    """Exact where all patches were drawn; the convolutions themselves say what those are."""

    def test_alexnet(self, initialized):
        check_normalised(*initialized)

    @pytest.mark.parametrize(
        "options",
        [
            {"arch": "squeezenet1_1", "full_conv": True},
            {"arch": "resnet18", "anti_alias": "blurpool"},
            {"arch": "vgg16", "skip": "strided"},
        ],
        ids=lambda options: options["arch"],
    )
    def test_every_architecture(self, options, thin, crops):
        metric, images = untrained(**options), crops(12, 96)
        before = {name: layer.weight.clone() for name, layer in convolutions(metric).items()}
        kmeans_initialize(metric, images, patches=10**6, iterations=2)
        for name, layer in convolutions(metric).items():
            assert not torch.equal(layer.weight, before[name]), name
        check_normalised(metric, images)

    def test_holds_about_for_other_images(self, initialized, crops):
        """Less so the deeper, where patches have more dimensions than there are of them."""
        metric, _ = initialized
        for name, output in outputs(metric, crops(40, 96, seed=1)).items():
            assert output.std(dim=1).median().item() == pytest.approx(1, abs=0.4), name
            assert output.mean(dim=1).median().item() == pytest.approx(BETA, abs=0.1), name


def check_normalised(metric, images):
    for name, output in outputs(metric, images).items():
        ones = torch.ones(len(output))
        torch.testing.assert_close(
            output.std(dim=1, correction=0), ones, rtol=0, atol=2e-3, msg=name
        )
        if convolutions(metric)[name].bias is not None:
            mean = output.mean(dim=1)
            torch.testing.assert_close(mean, BETA * ones, rtol=0, atol=2e-3, msg=name)


class TestFilters:
    def test_respond_to_their_prototypes(self):
        """Four prototypes among 16 filters: each has one that knows it from the others."""
        generator = torch.Generator().manual_seed(0)
        prototypes = torch.randn((4, 3, 4, 4), generator=generator)
        metric = OneLayer(16)
        kmeans_initialize(metric, tiles(prototypes, 20, 0.1, generator))
        with torch.no_grad():
            responses = metric.backbone(prototypes).flatten(1)  # prototype, filter
        strongest = responses.argmax(dim=1)
        assert len(set(strongest.tolist())) == 4
        assert responses[:, strongest].argmax(dim=0).tolist() == [0, 1, 2, 3]
        # The other tiles are on the other side of the mean.
        others = responses[:, strongest].fill_diagonal_(-torch.inf).amax(dim=0)
        assert (others < BETA).all()

    def test_of_tiny_images_are_edges_and_colours(self, initialized):
        """Filters of noise have as much in the highest frequencies as in the lowest."""
        metric, _ = initialized
        spectrum = torch.fft.fft2(metric.backbone.conv1.weight).abs().square().mean(dim=(0, 1))
        low, high = spectrum[:3, :3].mean(), spectrum[4:7, 4:7].mean()
        assert low > 10 * high


class TestWhitening:
    def test_is_white_and_in_the_leading_components(self):
        generator = torch.Generator().manual_seed(0)
        scales = torch.cat([torch.linspace(3, 1, 5), torch.full((35,), 0.05)])
        rotation = torch.linalg.qr(torch.randn((40, 40), generator=generator)).Q
        x = torch.randn((500, 40), generator=generator) * scales @ rotation
        x = x - x.mean(dim=0)
        whitening = kmeans._whitening(x, 5, generator)
        covariance = np.cov((x @ whitening).numpy(), rowvar=False, bias=True)
        np.testing.assert_allclose(covariance, np.eye(5), atol=1e-4)
        leading = np.linalg.svd(x.numpy(), full_matrices=False)[2][:5]
        ours = np.linalg.qr(whitening.numpy())[0]
        cosines = np.linalg.svd(leading @ ours)[1]  # of the angles between the two subspaces
        np.testing.assert_allclose(cosines, 1, atol=1e-5)

    def test_leaves_out_what_does_not_vary(self):
        generator = torch.Generator().manual_seed(0)
        x = torch.randn((50, 3), generator=generator)
        x = torch.cat([x, x.sum(dim=1, keepdim=True), torch.zeros(50, 1)], dim=1)
        assert kmeans._whitening(x - x.mean(dim=0), 5, generator).shape == (5, 3)


class TestSphericalKMeans:
    def test_ends_where_each_centroid_is_the_mean_direction_of_its_points(self):
        generator = torch.Generator().manual_seed(0)
        points = torch.randn((300, 4), generator=generator)
        centroids = kmeans._spherical_kmeans(points, 6, 100, generator).double().numpy()
        directions = points.double().numpy()
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        nearest = (directions @ centroids.T).argmax(axis=1)
        for index, centroid in enumerate(centroids):
            mean = directions[nearest == index].mean(axis=0)
            np.testing.assert_allclose(centroid, mean / np.linalg.norm(mean), atol=1e-5)

    def test_more_clusters_than_directions(self):
        """Empty ones end as points."""
        points = torch.eye(3).repeat(4, 1)
        centroids = kmeans._spherical_kmeans(points, 5, 3, torch.Generator().manual_seed(0))
        assert all((centroid == torch.eye(3)).all(dim=1).any() for centroid in centroids)


class TestWhatIsLeftAlone:
    def test_adaptive_filters_and_batch_normalisation(self, crops):
        metric = untrained(anti_alias="adaptive", conv1_stride=2)
        before = copy.deepcopy(metric.backbone.state_dict())
        kmeans_initialize(metric, crops(40, 96), patches=400, iterations=1)
        changed = {
            name
            for name, value in metric.backbone.state_dict().items()
            if not torch.equal(value, before[name])
        }
        kinds = ("weight", "bias")
        assert changed == {f"conv{i}.{kind}" for i in range(1, 6) for kind in kinds}

    def test_gradients_and_memory(self, initialized):
        for parameter in initialized[0].backbone.parameters():
            assert not parameter.requires_grad
            if parameter.ndim == 4:
                assert parameter.is_contiguous(memory_format=torch.channels_last)

    def test_layers_run_as_before_afterwards(self, initialized):
        metric, images = copy.deepcopy(initialized[0]), initialized[1]
        before = copy.deepcopy(metric.state_dict())
        with pytest.raises(ValueError, match=r"at least \d+ patches"):
            kmeans_initialize(metric, images[:1])
        metric.load_state_dict(before)
        metric.features(images)
        assert all(torch.equal(v, before[k]) for k, v in metric.state_dict().items())


def test_same_seed_same_filters():
    """Whatever torch's generator is at, which stays there."""
    images = torch.rand((10, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    results = []
    for seed in (0, 0, 1):
        metric = OneLayer(8)
        state = torch.get_rng_state()
        kmeans_initialize(metric, images, seed=seed, patches=100)
        assert torch.equal(torch.get_rng_state(), state)
        results.append(metric.backbone.conv.weight)
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


class TestErrors:
    def test_fewer_patches_than_filters(self, crops):
        with pytest.raises(ValueError, match=r"at least 64 patches .* conv1.* got 63"):
            kmeans_initialize(untrained(), crops(2, 64), patches=63)

    @pytest.mark.parametrize("value", [0.0, 0.3, float("nan")])
    def test_images_without_content(self, value):
        with pytest.raises(ValueError, match="images must be finite and vary"):
            kmeans_initialize(OneLayer(8), torch.full((4, 3, 32, 32), value))
