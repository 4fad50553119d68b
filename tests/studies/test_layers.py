"""Rank flips by layer, against the flips that the tidy table of distances gives."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from robust_lpips import BackboneConfig, RobustLPIPS, cli
from robust_lpips.evaluation import measure, triplet_outcomes
from robust_lpips.evaluation.per_layer import measure_layers
from robust_lpips.evaluation.sensitivity import layer_table
from robust_lpips.studies.base import Plan, records
from robust_lpips.studies.base.runner import run
from robust_lpips.studies.layers import STUDY, LayerSettings
from robust_lpips.weights import save_checkpoint

SMALL = {"n": 8, "image_size": 48, "max_shift": 2}


@pytest.fixture(scope="module")
def dataset():
    return LayerSettings(**SMALL).source().dataset


@pytest.fixture(scope="module")
def vanilla() -> RobustLPIPS:
    return LayerSettings(networks=("vanilla",), table="alexnet").load("vanilla", "cpu", 0)


def table_of(metric, dataset) -> pd.DataFrame:
    return layer_table(list(metric.backbone.taps), measure_layers(metric, dataset, 2))


def test_all_taps_together_flip_as_the_metric_does(vanilla, dataset):
    table = table_of(vanilla, dataset)
    sums = ["all but the first", "all"]
    assert list(table["tap"]) == ["relu1", "relu2", "relu3", "relu4", "relu5", *sums]
    assert table["share"].iloc[:5].sum() == pytest.approx(100.0, rel=1e-5)
    assert table["share"].iloc[[0, 5]].sum() == pytest.approx(100.0, rel=1e-5)
    outcomes = triplet_outcomes(measure(vanilla, dataset, 2, progress=False))
    for name in ("rrf_1", "rrf_2"):
        assert table[name].iloc[-1] == pytest.approx(100 * outcomes[name].mean())


@pytest.mark.parametrize("reflection_pad", [1, 2])
def test_taps_before_any_subsampling_flip_alike(reflection_pad, dataset):
    """What explains VGG-16: its first tap is the same with and without BlurPool."""
    blurred = BackboneConfig("vgg16", anti_alias="blurpool", reflection_pad=reflection_pad)
    tables = []
    for config in (BackboneConfig("vgg16"), blurred):
        torch.manual_seed(0)
        tables.append(table_of(RobustLPIPS(config, weights=None), dataset))
    plain, other = (table.drop(columns="share") for table in tables)
    assert plain.iloc[0].equals(other.iloc[0])


def test_networks_are_rows_released_metrics_and_checkpoints(tmp_path, vanilla):
    path = tmp_path / "mine.pt"
    save_checkpoint(vanilla, path, {})
    networks = ("vanilla", "alexnet-shift-tolerant", f"mine={path}")
    settings = LayerSettings(networks=networks, table="alexnet", **SMALL)
    run(STUDY, Plan(settings), tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "layers.csv")
    assert list(table["network"].unique()) == ["vanilla", "alexnet-shift-tolerant", "mine"]
    of = {name: rows.drop(columns="network") for name, rows in table.groupby("network")}
    assert of["mine"]["rrf_1"].tolist() == of["vanilla"]["rrf_1"].tolist()
    first, *_ = records.read(tmp_path / "out")
    assert first["scores"]["relu1, share"][0] == of["vanilla"]["share"].iloc[0]
    assert first["scores"]["all, rrf_1"][0] == of["vanilla"]["rrf_1"].iloc[-1]
    # Measured once; another network may join.
    measured = list((tmp_path / "out").rglob("layers.npz"))
    times = {file: file.stat().st_mtime_ns for file in measured}
    assert len(measured) == 3
    settings = replace(settings, networks=("blurpool-pad2-s1", *networks))
    run(STUDY, Plan(settings), tmp_path / "out")
    assert {file: file.stat().st_mtime_ns for file in measured} == times
    assert len(pd.read_csv(tmp_path / "out" / "layers.csv")) == 4 * 7


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        (["vgg"], "networks must be LABEL=PATH or one of vanilla, "),
        (["mine=/no/such.pt"], "no checkpoint /no/such.pt of mine"),
        (["vanilla", "vanilla"], "networks must be different"),
    ],
)
def test_bad_networks_are_usage_errors(networks, message, tmp_path, capsys):
    output = tmp_path / "out"
    arguments = ["--table", "alexnet", "--networks", *networks, "--output", str(output)]
    with pytest.raises(SystemExit):
        cli.main(STUDY, "", arguments)
    assert message in " ".join(capsys.readouterr().err.split())
    assert not Path(output).exists()
