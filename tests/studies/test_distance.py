"""The study of the distance: its rows, and a small run of it."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from robust_lpips import RobustLPIPS
from robust_lpips.cli import main
from robust_lpips.evaluation import paired_difference
from robust_lpips.records import read
from robust_lpips.studies import distance
from robust_lpips.studies.base import Plan, source_of, training
from robust_lpips.studies.base.runner import Execution, run
from robust_lpips.studies.distance import (
    MEASURED,
    METRIC_FILE,
    STUDY,
    VARIANTS,
    DistanceSettings,
    Variant,
    whole,
)
from robust_lpips.tasks.task import next_stage
from robust_lpips.training import initialization

SMALL = {"n": 8, "n_train": 8, "image_size": 48, "epochs": 2, "batch_size": 4}
ONE_JOB = Execution(jobs=1)


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 3, 48, 48, generator=generator).mul(2).sub(1).unbind(1)


@pytest.fixture(scope="module", autouse=True)
def offline():
    """ImageNet's weights are unavailable."""

    def refuse(config):
        raise FileNotFoundError(f"the ImageNet weights of {config.arch} were not found. Tried: x")

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(initialization._RELEASED, "imagenet", refuse)
        distance.reason_unavailable.cache_clear()
        yield
    distance.reason_unavailable.cache_clear()


def plan_of(**settings) -> Plan:
    return Plan(DistanceSettings(**SMALL | {"arch": ("alexnet",)} | settings))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The plan and the folder of a finished run of AlexNet's rows, and its page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBUST_LPIPS_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(distance, "VARIANTS", [v for v in VARIANTS if v.taps == 2])
        plan, output = plan_of(), tmp_path_factory.mktemp("run")
        yield plan, output, run(STUDY, plan, output, execution=ONE_JOB)


def test_rows():
    assert len({v.name for v in VARIANTS}) == len(VARIANTS) == 2 * 3 * 2 * 2
    assert VARIANTS[0].name == "alexnet-first2-untrained-cosine"


@pytest.mark.parametrize("count", [1, 2, 4, None])
@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_first_taps_add_up_as_layers_of_the_whole_metric(count, kind, images):
    variant = Variant("alexnet", count, "untrained", kind)
    ref, p0, _ = images
    _, layers = replace(variant, taps=None).metric(seed=0)(ref, p0, per_layer=True)
    cut = variant.metric(seed=0)
    assert len(cut.backbone.taps) == (count or 5)
    expected = layers[:, :count].sum(dim=1)
    torch.testing.assert_close(cut(ref, p0), expected)
    torch.testing.assert_close(whole(cut)(ref, p0), expected)


def test_both_distances_start_equal(images):
    ref, p0, _ = images
    cosine, linear = (
        Variant("alexnet", None, "untrained", kind).metric(seed=3)(ref, p0)
        for kind in ("cosine", "linear")
    )
    torch.testing.assert_close(cosine, linear)


class TestRun:
    def test_rows_without_weights_are_left_out(self, finished):
        _, output, page = finished
        summary = pd.read_csv(output / "summary.csv")
        assert list(summary["trunk"]) == ["untrained"] * 2
        left_out = page.partition("## Left out")[2]
        assert "pretrained-cosine" in left_out
        assert "the ImageNet weights of alexnet were not found" in left_out
        assert "Tried" not in left_out

    def test_tables(self, finished):
        plan, output, _ = finished
        summary, differences, curves = (
            pd.read_csv(output / f"{name}.csv") for name in ("summary", "differences", "curves")
        )
        assert list(summary["distance"]) == ["cosine", "linear"]
        assert summary["two_afc"].between(0, 100).all()
        assert list(curves["epoch"]) == [0, 1, 2] * 2
        tasks = [task for task in STUDY.planned(plan) if task.variant.trunk == "untrained"]
        cosine, linear = (task.distances(MEASURED, output) for task in tasks)
        expected = paired_difference(linear, cosine)["difference"].tolist()
        assert differences["difference"].tolist() == pytest.approx(expected)
        # The cosine distance does not learn: its accuracy is the same after every epoch.
        scores = dict(iter(curves.groupby("run", sort=False)["validation"]))
        of_cosine, of_linear = scores.values()
        assert of_cosine.nunique() == 1
        assert of_cosine.iloc[0] == of_linear.iloc[0]
        assert (output / "curves-alexnet.png").is_file()
        assert [record["metric"] for record in read(output)] == list(summary["variant"])

    def test_distances_are_those_of_the_metric_that_is_kept(self, finished):
        plan, output, _ = finished
        item = source_of(plan.settings).dataset[0]
        for task in STUDY.planned(plan)[:2]:
            table = task.distances(MEASURED, output)
            metric = RobustLPIPS(weights=output / task.folder / MEASURED / METRIC_FILE)
            found = table[(table["view"] == "full") & (table["sample"] == item["sample"])].iloc[0]
            expected = metric(item["ref"], item["p0"]).item()
            assert found["d0"] == pytest.approx(expected, rel=1e-5)

    def test_again(self, finished, monkeypatch):
        plan, output, page = finished
        monkeypatch.setattr(training, "fit", None)  # nothing is trained again
        assert run(STUDY, plan, output, execution=ONE_JOB) == page
        with pytest.raises(ValueError, match="epochs 2 there, 3 here"):
            run(STUDY, plan_of(epochs=3), output, execution=ONE_JOB)

    def test_other_triplets_are_stale(self, finished):
        _, output, _ = finished
        for settings, stage in (({"n_train": 7}, "training"), ({"max_shift": 2}, MEASURED)):
            task = STUDY.planned(plan_of(**settings))[0]
            assert next_stage(task, output) == stage


def test_several_processes_are_refused(finished, tmp_path, monkeypatch):
    plan, *_ = finished
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(ValueError, match="without torchrun"):
        run(STUDY, plan, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dropout", "1"], "dropout must be in"),
        (["--learning-rate", "0"], "learning_rate must be above 0"),
        (["--trunk", "pretrained", "--n", "2", "--n-train", "2"], "nothing can be measured"),
        (["--max-shift", "99"], "max_shift"),
    ],
)
def test_refused(arguments, message, finished, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(STUDY, "", [*arguments, "--device", "cpu", "--output", str(tmp_path / "new")])
    assert message in capsys.readouterr().err
