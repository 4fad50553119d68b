"""Rank flips by layer, against the flips that the tidy table gives."""

import pandas as pd
import pytest
import torch

from robust_lpips import BackboneConfig, RobustLPIPS
from robust_lpips.evaluation import measure, triplet_outcomes
from robust_lpips.studies.layers import ALL, REST, Settings, layer_table, load_network, run

SMALL = Settings(val_triplets=8, image_size=48, max_shift=2)


def test_all_taps_together_flip_as_the_metric_does():
    metric, dataset = load_network("vanilla", "alexnet", seed=0), SMALL.dataset()
    table = layer_table("vanilla", metric, dataset, max_shift=2)
    assert list(table["tap"]) == ["relu1", "relu2", "relu3", "relu4", "relu5", REST, ALL]
    assert table["share"].iloc[:5].sum() == pytest.approx(100.0, rel=1e-5)
    assert table["share"].iloc[[0, 5]].sum() == pytest.approx(100.0, rel=1e-5)
    outcomes = triplet_outcomes(measure(metric, dataset, 2, progress=False))
    for name in ("rrf_1", "rrf_2"):
        assert table[name].iloc[-1] == pytest.approx(100 * outcomes[name].mean())


@pytest.mark.parametrize("reflection_pad", [1, 2])
def test_taps_before_any_subsampling_flip_alike(reflection_pad):
    """What explains VGG-16: its first tap is the same with and without BlurPool."""
    blurred = BackboneConfig("vgg16", anti_alias="blurpool", reflection_pad=reflection_pad)
    tables = []
    for config in (BackboneConfig("vgg16"), blurred):
        torch.manual_seed(0)
        metric = RobustLPIPS(config, weights=None)
        tables.append(layer_table("x", metric, SMALL.dataset(), max_shift=2))
    plain, other = (table.drop(columns="share") for table in tables)
    assert plain.iloc[0].equals(other.iloc[0])


def test_run(tmp_path):
    networks = {"alexnet-shift-tolerant": load_network("alexnet-shift-tolerant", "alexnet", 0)}
    page = run(SMALL, networks, tmp_path / "new", device="cpu", command="the command")
    assert "8 triplets of 48x48 px" in page
    assert len(pd.read_csv(tmp_path / "new" / "layers.csv")) == 7


def test_unknown_network():
    with pytest.raises(ValueError, match=r"must be LABEL=PATH or one of vanilla, .*got 'vgg'"):
        load_network("vgg", "alexnet", 0)
