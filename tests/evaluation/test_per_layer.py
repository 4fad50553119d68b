"""Distances of each layer, held against those of the whole metric."""

import pytest
import torch

from robust_lpips.evaluation import measure
from robust_lpips.evaluation.per_layer import measure_layers


@pytest.fixture(scope="module")
def triplets() -> list[dict]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (5, 3, 3, 40, 36), generator=generator, dtype=torch.uint8)
    names = ("ref", "p0", "p1")
    common = {"judge": 0.4, "subset": "cnn"}
    return [
        common | {"sample": f"{i}"} | dict(zip(names, item, strict=True))
        for i, item in enumerate(images)
    ]


def test_layers_sum_to_the_distances(metric, triplets):
    items = []
    distances = measure_layers(metric, triplets, 2, batch_size=3, progress=items.append)
    assert distances.shape == (3, 2, 5, 5)
    assert items == [3, 2]
    table = measure(metric, triplets, 2, progress=False)
    for shift, found in enumerate(distances.sum(axis=-1)):
        expected = table.loc[table["view"] == f"shift-{shift}", ["d0", "d1"]].to_numpy().T
        assert found == pytest.approx(expected, rel=1e-4)


def test_a_layer_is_that_of_the_metric_on_the_windows(metric, triplets):
    """By hand: windows two columns narrower, the distorted one two columns to the right."""
    ref, p1 = (triplets[3][name][None] for name in ("ref", "p1"))
    _, layers = metric(ref[..., :-2].contiguous(), p1[..., 2:].contiguous(), per_layer=True)
    found = measure_layers(metric, triplets, 2)[2, 1, 3]
    assert found == pytest.approx(layers[0].double().numpy(), rel=1e-4)


def test_shifts_beyond_the_images_are_refused(metric, triplets):
    with pytest.raises(ValueError, match="max_shift"):
        measure_layers(metric, triplets, 36)
