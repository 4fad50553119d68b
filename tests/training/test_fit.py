"""Training against Adam by hand, and what it leaves behind."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from robust_lpips import BackboneConfig, RobustLPIPS
from robust_lpips.training import RankingObjective, Recipe, fit, launch
from robust_lpips.training.objectives import OBJECTIVES
from robust_lpips.training.trainee import clamp

PLAIN = BackboneConfig()
ADAPTIVE = BackboneConfig(anti_alias="adaptive", conv1_stride=2)
HISTORY = ["epoch", "loss", "accuracy", "validation", "learning_rate"]


def weights_of(metric):
    return [parameter.detach().clone() for parameter in metric.parameters()]


def same_state(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def assert_at_rest(metric):
    assert not any(module.training for module in metric.modules())
    assert not any(parameter.requires_grad for parameter in metric.parameters())


class AdamByHand:
    """Plain AlexNet, the distance, the ranking loss and Adam, from torch calls in float64."""

    def __init__(self, metric, seed, trunk_learns=True):
        self.trunk_learns = trunk_learns
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
        pairs = [*(self.convolutions if self.trunk_learns else ()), *self.head]
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


def stacked(items):
    """ref, p0, p1 in [-1, 1] and judge of all items, in float64."""
    images = (torch.stack([item[name] for item in items]) for name in ("ref", "p0", "p1"))
    judge = torch.tensor([item["judge"] for item in items])
    return [*(image.double() / 127.5 - 1 for image in images), judge.double()]


class TestRule:
    """The order of triplets does not matter here: each step takes them all."""

    @pytest.mark.parametrize("mode", ["scratch", "lin"])
    @pytest.mark.parametrize("rates", [(1e-3,), (1e-3, 2 / 3e3, 1 / 3e3)])
    def test_steps_equal_adam_by_hand(self, mode, rates, triplets, untrained):
        """One step, and three of which the last two are at lower rates; without dropout."""
        metric = untrained().double()
        before = copy.deepcopy(metric.backbone.state_dict())
        items = triplets(3, size=48)
        by_hand = AdamByHand(metric, seed=7, trunk_learns=mode == "scratch")
        expected = [by_hand.step(rate, *stacked(items)) for rate in rates]
        recipe = Recipe("judge", len(rates), len(rates) - 1, 1e-3, 3, dropout=0.0, mode=mode)
        losses = []
        history = fit(metric, items, recipe, seed=7, on_step=losses.append)
        assert losses == pytest.approx(expected, rel=1e-8)
        assert history["loss"].tolist()[1:] == pytest.approx(expected, rel=1e-8)
        assert history["learning_rate"].tolist()[1:] == pytest.approx(rates)
        for index, (weight, bias) in enumerate(by_hand.convolutions, start=1):
            layer = metric.backbone.get_submodule(f"conv{index}")
            torch.testing.assert_close(layer.weight, weight, rtol=0, atol=1e-8, check_stride=False)
            torch.testing.assert_close(layer.bias, bias, rtol=0, atol=1e-8)
        for ours, weight in zip(metric.lin, by_hand.linear, strict=True):
            torch.testing.assert_close(ours.data, weight.detach(), rtol=0, atol=1e-8)
        if mode == "lin":
            assert same_state(metric.backbone.state_dict(), before)


class TestModes:
    @pytest.mark.parametrize("config", [ADAPTIVE, BackboneConfig("resnet18")], ids=lambda c: c.arch)
    @pytest.mark.parametrize("mode", ["lin", "head"])
    def test_trunk_stays_to_the_bit(self, mode, config, triplets, untrained):
        """Statistics of batch normalisation included, which follow no gradient."""
        metric = untrained(config)
        trunk = copy.deepcopy(metric.backbone.state_dict())
        lin = [weight.detach().clone() for weight in metric.lin]
        assert any("running_mean" in name for name in trunk)
        fit(metric, triplets(4), Recipe(epochs=1, decay_epochs=0, batch_size=2, mode=mode))
        assert same_state(metric.backbone.state_dict(), trunk)
        changed = [not torch.equal(a, b) for a, b in zip(metric.lin, lin, strict=True)]
        assert changed == [mode == "lin"] * len(lin)
        assert_at_rest(metric)

    def test_head_leaves_negative_weights_too(self, triplets, untrained):
        metric = untrained()
        metric.lin[0][0] = -1.0
        fit(metric, triplets(2), Recipe(epochs=1, decay_epochs=0, mode="head"))
        assert metric.lin[0][0] == -1.0

    def test_head_takes_a_metric_without_1x1_weights(self, triplets, untrained):
        metric = RobustLPIPS(PLAIN, weights=None)
        history = fit(
            metric, triplets(4), Recipe(epochs=20, decay_epochs=0, mode="head", learning_rate=1e-2)
        )
        assert history["loss"].iloc[-1] < history["loss"].iloc[1]

    @pytest.mark.parametrize("mode", ["tune", "scratch"])
    def test_every_weight_learns(self, mode, triplets, untrained):
        metric = untrained(ADAPTIVE)
        before = weights_of(metric)
        statistics = metric.backbone.blur1.norm.running_mean.clone()
        fit(metric, triplets(2), Recipe(epochs=1, decay_epochs=0, mode=mode))
        for name, old in zip(dict(metric.named_parameters()), before, strict=True):
            assert not torch.equal(metric.get_parameter(name), old), name
        assert not torch.equal(metric.backbone.blur1.norm.running_mean, statistics)
        assert_at_rest(metric)


class TestFit:
    def test_history(self, triplets, untrained):
        """Before training there is nothing but the validation score; nothing else without one."""
        items = triplets(6, size=48)
        metric = untrained()
        start = sum(
            float(
                (metric(i["ref"], i["p1"]) < metric(i["ref"], i["p0"])).item() == bool(i["judge"])
            )
            for i in items[:4]
        )
        recipe = Recipe(epochs=3, decay_epochs=1, learning_rate=1e-3, batch_size=2, dropout=0.0)
        history = fit(metric, items, recipe, validation=items[:4])
        assert list(history) == HISTORY
        assert history["epoch"].tolist() == [0, 1, 2, 3]
        assert history["validation"][0] == start / 4
        assert history[["loss", "accuracy", "learning_rate"]].loc[0].isna().all()
        assert history["learning_rate"].tolist()[1:] == pytest.approx([1e-3, 1e-3, 5e-4])
        assert history["accuracy"][1:].between(0, 1).all()
        history = fit(untrained(), items, recipe)
        assert history["validation"].isna().all()

    def test_validation_does_not_change_the_training(self, triplets, untrained):
        """Dropout draws what it draws, scored in between or not."""
        items, results = triplets(4, size=48), []
        for validation in (None, items):
            metric = untrained()
            fit(
                metric, items, Recipe(epochs=2, decay_epochs=0, batch_size=2), validation=validation
            )
            results.append(weights_of(metric))
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))

    def test_few_triplets_are_learnt_by_heart(self, triplets, untrained):
        recipe = Recipe(epochs=25, decay_epochs=0, learning_rate=3e-3)
        means = fit(untrained(), triplets(10), recipe)["loss"].tolist()[1:]
        assert means[0] == pytest.approx(math.log(2), abs=0.05)  # a head that knows nothing yet
        assert means[-1] < 0.6 * means[0]

    def test_a_teacher_is_approached(self, triplets, untrained, released):
        items = triplets(6, size=48)
        for item in items:
            pairs = [(item["ref"], item[name]) for name in ("p0", "p1")]
            item["teacher"] = torch.cat([released()(*pair, validate=False) for pair in pairs])
        recipe = Recipe(target="teacher", epochs=8, learning_rate=1e-3, dropout=0.0)
        means = fit(untrained(), items, recipe)["loss"].tolist()[1:]
        assert means[-1] < 0.5 * means[0]

    def test_same_seed_same_weights(self, triplets, untrained):
        """Order, dropout and head all follow it, whatever torch's generator was at."""
        items, results = triplets(4, size=48), []
        for seed, before in ((0, 10), (0, 20), (1, 10)):
            metric = untrained()
            torch.manual_seed(before)
            losses = []
            fit(
                metric,
                items,
                Recipe(epochs=2, decay_epochs=0, batch_size=3),
                seed=seed,
                on_step=losses.append,
            )
            results.append((losses, weights_of(metric)))
        (first, weights), (same, same_weights), (other, other_weights) = results
        assert len(first) == 4  # two batches in two epochs, the last one short
        assert first == same
        assert all(torch.equal(a, b) for a, b in zip(weights, same_weights, strict=True))
        assert first != other
        assert not torch.equal(weights[0], other_weights[0])

    def test_epoch_mean_weighs_batches_by_their_triplets(self, triplets, untrained):
        losses = []
        recipe = Recipe(epochs=1, decay_epochs=0, batch_size=3)
        history = fit(untrained(), triplets(4), recipe, on_step=losses.append)
        assert history["loss"][1] == pytest.approx((3 * losses[0] + losses[1]) / 4)

    def test_1x1_weights_stay_non_negative(self, triplets, untrained):
        """A rate above the weights themselves would drive some of them below 0."""
        metric, lowest = untrained(), []

        def look(_):
            lowest.append(min(weight.min().item() for weight in metric.lin))

        fit(metric, triplets(2), Recipe(epochs=2, decay_epochs=0, learning_rate=0.05), on_step=look)
        assert lowest == [0.0, 0.0]

    def test_clamp_touches_the_metrics_own_1x1_weights_only(self, untrained):
        metric = untrained()
        metric.lin[0].copy_(torch.linspace(-1, 1, 64))
        backbone = copy.deepcopy(metric.backbone.state_dict())
        clamp(metric)
        assert torch.equal(metric.lin[0], torch.linspace(-1, 1, 64).clamp(min=0))
        assert all(torch.equal(v, backbone[k]) for k, v in metric.backbone.state_dict().items())

    def test_leaves_the_metric_as_it_found_it(self, triplets, untrained):
        metric = untrained(ADAPTIVE)
        seen = []

        def look(_):
            seen.append(metric.backbone.blur1.norm.training and metric.lin[0].requires_grad)

        fit(metric, triplets(2), Recipe(epochs=1, decay_epochs=0), on_step=look)
        assert seen == [True]
        assert_at_rest(metric)

        def fail(_):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fit(metric, triplets(2), Recipe(epochs=1, decay_epochs=0), on_step=fail)
        assert_at_rest(metric)

    def test_metric_without_1x1_weights_is_refused(self, triplets):
        metric = RobustLPIPS(PLAIN, weights=None)
        with pytest.raises(ValueError, match="linear=True"):
            fit(metric, triplets(2), Recipe())
        assert_at_rest(metric)

    @pytest.mark.parametrize(("key", "value"), [("judge", math.nan), ("p1", math.inf)])
    def test_loss_that_is_not_finite_is_refused(self, key, value, triplets, untrained):
        """Before the step, so that the weights are still those of the step before."""
        metric = untrained()
        items = triplets(2)
        items[1][key] = value
        if key == "p1":
            for item in items:
                item["p1"] = torch.full((3, 64, 64), value)
        before = weights_of(metric)
        with pytest.raises(ValueError, match=r"loss is nan in step 0 of epoch 0"):
            fit(metric, items, Recipe())
        assert all(torch.equal(a, b) for a, b in zip(before, weights_of(metric), strict=True))
        assert_at_rest(metric)

    def test_half_precision_is_close_and_leaves_the_targets_alone(
        self, triplets, untrained, monkeypatch
    ):
        """A share of 0.123456 is no number of bfloat16, and small differences are none either."""
        seen = []

        class Spy(RankingObjective):
            def forward(self, d0, d1, batch):
                seen.append((d0.dtype, batch["judge"].tolist()))
                return super().forward(d0, d1, batch)

        monkeypatch.setitem(OBJECTIVES, "judge", Spy)
        items = [item | {"judge": 0.123456} for item in triplets(4, size=48)]
        losses = {}
        for precision in ("32", "bf16-mixed"):
            metric, steps = untrained(), []
            recipe = Recipe(epochs=1, decay_epochs=0, batch_size=4, dropout=0.0)
            fit(metric, items, recipe, fabric=launch("cpu", precision), on_step=steps.append)
            assert {p.dtype for p in metric.parameters()} == {torch.float32}
            losses[precision] = steps[0]
        assert seen == [(torch.float32, [0.123456] * 4)] * 2
        assert losses["bf16-mixed"] != losses["32"]
        assert losses["bf16-mixed"] == pytest.approx(losses["32"], rel=2e-3)
