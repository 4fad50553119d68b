"""How a metric is trained, as data: the papers' numbers, and what is refused."""

import math

import pytest

from robust_lpips.training import Recipe


def test_default_is_the_papers():
    """Six epochs at 1e-4, then 0.8, 0.6, 0.4 and 0.2 of it; batch 50, dropout 0.5."""
    recipe = Recipe()
    rates = [recipe.learning_rate * recipe.decay(epoch) for epoch in range(recipe.epochs)]
    expected = [1e-4] * 6 + [0.8e-4, 0.6e-4, 0.4e-4, 0.2e-4]
    assert rates == pytest.approx(expected, rel=1e-12)
    assert (recipe.target, recipe.batch_size, recipe.dropout) == ("judge", 50, 0.5)


@pytest.mark.parametrize(
    ("decay_epochs", "expected"), [(0, [1, 1, 1]), (1, [1, 1, 1 / 2]), (3, [3 / 4, 2 / 4, 1 / 4])]
)
def test_other_schedules(decay_epochs, expected):
    recipe = Recipe(epochs=3, decay_epochs=decay_epochs)
    assert [recipe.decay(epoch) for epoch in range(3)] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("target", "people"),
        ("mode", "finetune"),
        ("epochs", 0),
        ("decay_epochs", -1),
        ("decay_epochs", 11),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("batch_size", 0),
        ("dropout", 1.0),
        ("dropout", -0.1),
    ],
)
def test_refused(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be .*got {value!r}"):
        Recipe(**{name: value})
