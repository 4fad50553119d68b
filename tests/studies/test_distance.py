"""The study of the distance: what its rows are, and a small run of it."""

import dataclasses

import pandas as pd
import pytest
import torch

from robust_lpips import RobustLPIPS
from robust_lpips.evaluation import read_distances
from robust_lpips.studies import distance
from robust_lpips.studies.distance import (
    VARIANTS,
    Settings,
    Variant,
    VariantTask,
    available,
    keep_first_taps,
    run,
    whole,
)
from robust_lpips.training import initialization

SMALL = Settings(train_triplets=8, val_triplets=8, image_size=48, epochs=2, batch_size=4)
CHOSEN = [v for v in VARIANTS if v.arch == "alexnet" and v.taps == 2]


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 3, 48, 48, generator=generator).mul(2).sub(1).unbind(1)


@pytest.fixture
def offline(monkeypatch):
    def refuse(config):
        raise FileNotFoundError(f"the ImageNet weights of {config.arch} were not found. Tried: x")

    monkeypatch.setitem(initialization._RELEASED, "imagenet", refuse)


def test_rows():
    assert len({v.name for v in VARIANTS}) == len(VARIANTS) == 2 * 3 * 2 * 2
    assert VARIANTS[0].name == "alexnet-first2-untrained-cosine"


@pytest.mark.parametrize("count", [1, 2, 4, None])
@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_first_taps_add_up_as_layers_of_the_whole_metric(count, kind, images):
    variant = Variant("alexnet", count, "untrained", kind)
    ref, p0, _ = images
    _, layers = variant.metric(seed=0)(ref, p0, per_layer=True)
    cut = keep_first_taps(variant.metric(seed=0), count)
    assert len(cut.backbone.taps) == (count or 5)
    expected = layers[:, :count].sum(dim=1)
    torch.testing.assert_close(cut(ref, p0), expected)
    torch.testing.assert_close(whole(cut, variant)(ref, p0), expected)


def test_layers_behind_the_last_tap_are_gone():
    cut = keep_first_taps(Variant("vgg16", 2, "untrained", "linear").metric(0), 2)
    names = [name for name, _ in cut.backbone.named_children()]
    assert names[-1] == "relu2_2"
    assert len(cut.lin) == 2


def test_both_distances_start_equal(images):
    ref, p0, _ = images
    cosine, linear = (
        Variant("alexnet", None, "untrained", kind).metric(seed=3)(ref, p0)
        for kind in ("cosine", "linear")
    )
    torch.testing.assert_close(cosine, linear)


def test_rows_without_weights_are_named(offline):
    chosen, left_out = available(CHOSEN, seed=0)
    assert [v.trunk for v in chosen] == ["untrained", "untrained"]
    assert set(left_out) == {v.name for v in CHOSEN if v.trunk == "pretrained"}
    assert set(left_out.values()) == {"the ImageNet weights of alexnet were not found"}


def test_small_run(offline, tmp_path, monkeypatch):
    page = run(SMALL, tmp_path, CHOSEN, command="the command")
    summary = pd.read_csv(tmp_path / "summary.csv")
    assert list(summary["distance"]) == ["cosine", "linear"]
    assert summary["two_afc"].between(0, 100).all()
    assert "agreement with the released VGG-16 metric" in page
    assert "pretrained-cosine" in page.partition("## Left out")[2]
    curves = pd.read_csv(tmp_path / "curves.csv")
    assert list(curves["epoch"]) == [0, 1, 2] * 2
    assert (tmp_path / "curves-alexnet.png").is_file()

    tasks = [VariantTask(SMALL, v, tmp_path, "cpu") for v in CHOSEN if v.trunk == "untrained"]
    for task in tasks:
        stored = read_distances(task.distances_path)
        first = SMALL.triplets("val")[0]
        metric = RobustLPIPS(weights=task.folder / distance.METRIC_FILE)
        row = stored[(stored["view"] == "full") & (stored["sample"] == first["sample"])].iloc[0]
        assert metric(first["ref"], first["p0"]).item() == pytest.approx(row["d0"], rel=1e-5)

    cosine, linear = (task.history() for task in tasks)
    # The cosine distance does not learn: its accuracy is the same after every epoch.
    assert len({record["validation"] for record in cosine}) == 1
    assert cosine[0]["validation"] == linear[0]["validation"]

    monkeypatch.setattr(distance, "fit", None)  # nothing is trained again
    assert run(SMALL, tmp_path, CHOSEN, command="the command") == page
    with pytest.raises(ValueError, match="epochs 2 there, 3 here"):
        run(dataclasses.replace(SMALL, epochs=3), tmp_path, CHOSEN, command="the command")
