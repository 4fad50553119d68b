"""Training against Adam by hand, and what it leaves behind."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from robust_lpips import BackboneConfig, RobustLPIPS
from robust_lpips.training import Recipe, fit
from robust_lpips.training.fit import clamp

PLAIN = BackboneConfig()
ADAPTIVE = BackboneConfig(anti_alias="adaptive", conv1_stride=2)


def untrained(config=PLAIN, seed=0):
    torch.manual_seed(seed)
    return RobustLPIPS(config, weights=None, linear=True)


@pytest.fixture
def triplets(image_pair):
    """``make(n, size)``: items as TwoAFCDataset gives them; p1 has less noise in every second."""

    def make(n, size=64):
        ref, _ = image_pair("photographs", n, size, size)
        generator = torch.Generator().manual_seed(1)
        items = []
        for index, image in enumerate(ref):
            strong, weak = (
                (image + scale * torch.randn(image.shape, generator=generator)).clamp(-1, 1)
                for scale in (0.5, 0.1)
            )
            p0, p1 = (strong, weak) if index % 2 else (weak, strong)
            items.append({"ref": image, "p0": p0, "p1": p1, "judge": float(index % 2)})
        return items

    return make


def weights_of(metric):
    return [parameter.detach().clone() for parameter in metric.parameters()]


def assert_at_rest(metric):
    assert not any(module.training for module in metric.modules())
    assert not any(parameter.requires_grad for parameter in metric.parameters())


class TestRecipe:
    def test_default_is_the_papers(self):
        """Six epochs at 1e-4, then 0.8, 0.6, 0.4 and 0.2 of it."""
        rates = [Recipe().rate(epoch) for epoch in range(10)]
        expected = [1e-4] * 6 + [0.8e-4, 0.6e-4, 0.4e-4, 0.2e-4]
        assert rates == pytest.approx(expected, rel=1e-12)
        assert (Recipe().batch_size, Recipe().dropout) == (50, 0.5)

    @pytest.mark.parametrize(
        ("recipe", "expected"),
        [
            (Recipe(epochs=3, decay_epochs=0, learning_rate=2.0), [2, 2, 2]),
            (Recipe(epochs=3, decay_epochs=1, learning_rate=1.0), [1, 1, 1 / 2]),
            (Recipe(epochs=3, decay_epochs=3, learning_rate=1.0), [3 / 4, 2 / 4, 1 / 4]),
        ],
    )
    def test_other_schedules(self, recipe, expected):
        assert [recipe.rate(e) for e in range(recipe.epochs)] == pytest.approx(expected)


class AdamByHand:
    """Plain AlexNet, the distance, the ranking loss and Adam, from torch calls in float64."""

    def __init__(self, metric, seed):
        names = [f"conv{i}" for i in range(1, 6)]
        layers = [metric.backbone.get_submodule(name) for name in names]
        self.convolutions = [(layer.weight.clone(), layer.bias.clone()) for layer in layers]
        self.linear = [weight.detach().clone() for weight in metric.lin]
        torch.manual_seed(seed)
        head = [torch.nn.Linear(i, o).double() for i, o in ((5, 32), (32, 32), (32, 1))]
        self.head = [(layer.weight.detach(), layer.bias.detach()) for layer in head]
        self.moments = None
        self.steps = 0

    @property
    def parameters(self):
        pairs = [*self.convolutions, *self.head]
        return [*(value for pair in pairs for value in pair), *self.linear]

    def features(self, x):
        x = (x - torch.tensor([-0.030, -0.088, -0.188]).double().view(3, 1, 1)) / torch.tensor(
            [0.458, 0.448, 0.450]
        ).double().view(3, 1, 1)
        for index, (weight, bias) in enumerate(self.convolutions):
            if index in (1, 2):
                x = F.max_pool2d(x, 3, 2)
            stride, padding = [(4, 2), (1, 2), (1, 1), (1, 1), (1, 1)][index]
            x = F.conv2d(x, weight, bias, stride, padding).relu()
            yield x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)

    def loss(self, ref, p0, p1, judge):
        d0, d1 = (
            sum(
                torch.einsum("nchw,c->n", (a - b) ** 2, weight) / a[0, 0].numel()
                for a, b, weight in zip(
                    self.features(ref), self.features(p), self.linear, strict=True
                )
            )
            for p in (p0, p1)
        )
        x = torch.stack([d0, d1, d0 - d1, d0 / (d1 + 0.1), d1 / (d0 + 0.1)], 1)
        for index, (weight, bias) in enumerate(self.head):
            x = x @ weight.T + bias
            if index < 2:
                x = torch.where(x > 0, x, 0.2 * x)
        share = 1 / (1 + (-x[:, 0]).exp())
        return -(judge * share.log() + (1 - judge) * (1 - share).log()).mean()

    def step(self, rate, *batch):
        for parameter in self.parameters:
            parameter.requires_grad_()
        loss = self.loss(*batch)
        # Where a pixel's features are all 0 the square root has no derivative; nothing flows there.
        gradients = [g.nan_to_num(0.0) for g in torch.autograd.grad(loss, self.parameters)]
        self.steps += 1
        zeros = [(torch.zeros_like(g), torch.zeros_like(g)) for g in gradients]
        self.moments = [
            (0.5 * first + 0.5 * g, 0.999 * second + 0.001 * g**2)
            for (first, second), g in zip(self.moments or zeros, gradients, strict=True)
        ]
        with torch.no_grad():
            for parameter, (first, second) in zip(self.parameters, self.moments, strict=True):
                first = first / (1 - 0.5**self.steps)
                second = second / (1 - 0.999**self.steps)
                parameter -= rate * first / (second.sqrt() + 1e-8)
            for weight in self.linear:
                weight[weight < 0] = 0
        return loss.item()


class TestFit:
    def test_steps_equal_adam_by_hand(self, triplets):
        """Three steps on the whole set, without dropout; the last two at lower rates."""
        metric = untrained().double()
        items = triplets(3, size=48)
        by_hand = AdamByHand(metric, seed=7)
        batch = [
            torch.stack([item[name] for item in items]).double() for name in ("ref", "p0", "p1")
        ]
        judge = torch.tensor([item["judge"] for item in items]).double()
        expected = [by_hand.step(rate, *batch, judge) for rate in (1e-3, 2 / 3e3, 1 / 3e3)]
        recipe = Recipe(epochs=3, decay_epochs=2, learning_rate=1e-3, batch_size=3, dropout=0.0)
        losses = []
        means = fit(metric, items, recipe, seed=7, on_step=losses.append)
        assert losses == pytest.approx(expected, rel=1e-8)
        assert means == pytest.approx(expected, rel=1e-8)
        for index, (weight, bias) in enumerate(by_hand.convolutions, start=1):
            layer = metric.backbone.get_submodule(f"conv{index}")
            torch.testing.assert_close(layer.weight, weight, rtol=0, atol=1e-8, check_stride=False)
            torch.testing.assert_close(layer.bias, bias, rtol=0, atol=1e-8)
        for ours, weight in zip(metric.lin, by_hand.linear, strict=True):
            torch.testing.assert_close(ours.data, weight.detach(), rtol=0, atol=1e-8)

    def test_few_triplets_are_learnt_by_heart(self, triplets):
        recipe = Recipe(epochs=25, decay_epochs=0, learning_rate=3e-3)
        means = fit(untrained(), triplets(10), recipe)
        assert means[0] == pytest.approx(math.log(2), abs=0.05)  # a head that knows nothing yet
        assert means[-1] < 0.6 * means[0]

    def test_a_teacher_is_approached(self, triplets, released):
        items = triplets(6, size=48)
        for item in items:
            pairs = [(item["ref"], item[name]) for name in ("p0", "p1")]
            item["teacher"] = torch.cat([released()(*pair, validate=False) for pair in pairs])
        recipe = Recipe(target="teacher", epochs=8, learning_rate=1e-3, dropout=0.0)
        means = fit(untrained(), items, recipe)
        assert means[-1] < 0.5 * means[0]

    def test_every_weight_learns(self, triplets):
        metric = untrained(ADAPTIVE)
        before = weights_of(metric)
        statistics = metric.backbone.blur1.norm.running_mean.clone()
        fit(metric, triplets(2), Recipe(epochs=1))
        for name, old in zip(dict(metric.named_parameters()), before, strict=True):
            assert not torch.equal(metric.get_parameter(name), old), name
        assert not torch.equal(metric.backbone.blur1.norm.running_mean, statistics)
        assert_at_rest(metric)

    def test_same_seed_same_weights(self, triplets):
        """Order, dropout and head all follow it, whatever torch's generator was at."""
        items, results = triplets(4, size=48), []
        for seed, before in ((0, 10), (0, 20), (1, 10)):
            metric = untrained()
            torch.manual_seed(before)
            losses = []
            fit(metric, items, Recipe(epochs=2, batch_size=3), seed=seed, on_step=losses.append)
            results.append((losses, weights_of(metric)))
        (first, weights), (same, same_weights), (other, other_weights) = results
        assert len(first) == 4  # two batches in two epochs, the last one short
        assert first == same
        assert all(torch.equal(a, b) for a, b in zip(weights, same_weights, strict=True))
        assert first != other
        assert not torch.equal(weights[0], other_weights[0])

    def test_epoch_mean_weighs_batches_by_their_triplets(self, triplets):
        losses = []
        recipe = Recipe(epochs=1, batch_size=3)
        (mean,) = fit(untrained(), triplets(4), recipe, on_step=losses.append)
        assert mean == pytest.approx((3 * losses[0] + losses[1]) / 4)

    def test_1x1_weights_stay_non_negative(self, triplets):
        """A rate above the weights themselves would drive some of them below 0."""
        metric, lowest = untrained(), []

        def look(_):
            lowest.append(min(weight.min().item() for weight in metric.lin))

        fit(metric, triplets(2), Recipe(epochs=2, learning_rate=0.05), on_step=look)
        assert lowest == [0.0, 0.0]

    def test_clamp_touches_the_metrics_own_1x1_weights_only(self):
        metric = untrained()
        metric.lin[0].copy_(torch.linspace(-1, 1, 64))
        backbone = copy.deepcopy(metric.backbone.state_dict())
        clamp(metric)
        assert torch.equal(metric.lin[0], torch.linspace(-1, 1, 64).clamp(min=0))
        assert all(torch.equal(v, backbone[k]) for k, v in metric.backbone.state_dict().items())

    def test_leaves_the_metric_as_it_found_it(self, triplets):
        metric = untrained(ADAPTIVE)
        seen = []

        def look(_):
            seen.append(metric.backbone.blur1.norm.training and metric.lin[0].requires_grad)

        fit(metric, triplets(2), Recipe(epochs=1), on_step=look)
        assert seen == [True]
        assert_at_rest(metric)

        def fail(_):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fit(metric, triplets(2), Recipe(epochs=1), on_step=fail)
        assert_at_rest(metric)

    def test_metric_without_1x1_weights_is_refused(self, triplets):
        metric = RobustLPIPS(PLAIN, weights=None)
        with pytest.raises(ValueError, match="linear=True"):
            fit(metric, triplets(2), Recipe())
        assert_at_rest(metric)

    @pytest.mark.parametrize(("key", "value"), [("judge", math.nan), ("p1", math.inf)])
    def test_loss_that_is_not_finite_is_refused(self, key, value, triplets):
        """Before the step, so that the weights are still those of the step before."""
        metric = untrained()
        items = triplets(2)
        items[1][key] = value if key == "judge" else torch.full_like(items[1][key], value)
        before = weights_of(metric)
        with pytest.raises(ValueError, match=r"loss is nan in step 0 of epoch 0"):
            fit(metric, items, Recipe())
        assert all(torch.equal(a, b) for a, b in zip(before, weights_of(metric), strict=True))
        assert_at_rest(metric)
