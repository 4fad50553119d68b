"""The losses against the authors' code and against arithmetic by hand."""

import math

import pytest
import torch
from stlpips_pytorch.stlpips import BCERankingLoss
from torch import nn

from robust_lpips.training import RankingObjective, TeacherObjective


@pytest.fixture
def distances():
    torch.manual_seed(0)
    return torch.rand(2, 20, dtype=torch.float64)


class TestRankingObjective:
    def test_equals_stlpips_under_shared_weights(self, distances):
        """There the judgment is in [-1, 1], and the head is 1x1 convolutions."""
        d0, d1 = distances
        judge = torch.rand(20, dtype=torch.float64)
        peer = BCERankingLoss().double()
        ours = RankingObjective().double()
        ours.load_state_dict(
            {
                key.replace("net.model", "head"): value.flatten(1) if value.ndim == 4 else value
                for key, value in peer.state_dict().items()
            }
        )

        def column(values):
            return values.view(-1, 1, 1, 1)

        expected = peer(column(d0), column(d1), column(2 * judge - 1))
        torch.testing.assert_close(ours(d0, d1, {"judge": judge}), expected)
        torch.testing.assert_close(ours.logits(d0, d1).sigmoid(), peer.logit.flatten())

    def test_head_sees_the_five_numbers(self):
        objective = RankingObjective().double()
        objective.head = nn.Identity()
        objective.head.forward = lambda x: x.unsqueeze(1)  # what logits() squeezes away
        d0, d1 = torch.tensor([0.3]).double(), torch.tensor([0.1]).double()
        expected = torch.tensor([[0.3, 0.1, 0.2, 0.3 / 0.2, 0.1 / 0.4]])
        torch.testing.assert_close(objective.logits(d0, d1), expected, check_dtype=False)

    def test_confident_mistakes_stay_finite(self):
        """The peer's sigmoid saturates here; the loss is then the log odds themselves."""
        objective = RankingObjective()
        d0, d1 = torch.full((2, 1), 0.5)
        with torch.no_grad():
            objective.head[-1].weight.zero_()
            objective.head[-1].bias.fill_(300.0)
        loss = objective(d0, d1, {"judge": torch.zeros(1)})
        torch.testing.assert_close(loss, torch.tensor(300.0))

    def test_takes_judgments_as_the_loader_gives_them(self):
        """A default collation of Python floats is float64, the distances are float32."""
        d0, d1 = torch.rand(2, 3)
        assert RankingObjective()(d0, d1, {"judge": torch.rand(3).double()}).dtype == torch.float32


class TestTeacherObjective:
    def test_by_hand(self):
        """Two triplets; every distance has 0.001 added before its logarithm."""
        objective = TeacherObjective().double()
        d0, d1 = torch.tensor([0.099, 0.199]), torch.tensor([0.399, 0.049])
        teacher = torch.tensor([[0.199, 0.399], [0.199, 0.199]])
        differences = [math.log(2), math.log(1), math.log(1), math.log(4)]
        batch = {"teacher": teacher}
        expected = sum(x**2 for x in differences) / 4
        assert objective(d0, d1, batch).item() == pytest.approx(expected, rel=1e-5)
        objective.start(d0, d1, batch)
        mean = sum(differences) / 4
        assert objective.offset.item() == pytest.approx(mean, rel=1e-5)
        expected = sum((x - mean) ** 2 for x in differences) / 4
        assert objective(d0, d1, batch).item() == pytest.approx(expected, rel=1e-5)

    def test_scale_of_the_teacher_does_not_matter_after_the_start(self, distances):
        objective = TeacherObjective().double()
        d0, d1 = distances + 1
        batch = {"teacher": 50 * torch.stack([d0, d1], dim=1)}
        objective.start(d0, d1, batch)
        assert objective.offset.item() == pytest.approx(math.log(50), rel=1e-3)
        assert objective(d0, d1, batch).item() == pytest.approx(0, abs=1e-6)

    def test_gradient_reaches_distances_and_offset(self, distances):
        objective = TeacherObjective().double()
        d0, d1 = (d.clone().requires_grad_() for d in distances)
        batch = {"teacher": torch.rand(20, 2, dtype=torch.float64)}
        objective(d0, d1, batch).backward()
        assert all(x.grad.abs().sum() > 0 for x in (d0, d1, objective.offset))

    def test_identical_patches_are_finite(self):
        zero = torch.zeros(2)
        loss = TeacherObjective()(zero, zero, {"teacher": torch.zeros(2, 2)})
        assert loss.item() == 0
