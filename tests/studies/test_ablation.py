"""An ablation run, from rows to report, on a few triplets of the sample set."""

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from robust_lpips import RobustLPIPS
from robust_lpips.cli import main, main_of
from robust_lpips.evaluation import paired_difference, summarize
from robust_lpips.provenance import file_digest
from robust_lpips.published.rows import TABLES, table_rows
from robust_lpips.records import read
from robust_lpips.studies.ablation import STUDIES, tables
from robust_lpips.studies.ablation.figure import ablation_figure
from robust_lpips.studies.ablation.task import (
    PRESETS,
    REFERENCES,
    STATES,
    AlexNetSettings,
    BackbonesSettings,
    Preset,
    RowTask,
    SkipSettings,
)
from robust_lpips.studies.base import Plan, Results, source_of, training
from robust_lpips.studies.base.measuring import Part
from robust_lpips.studies.base.runner import Execution, Shard, run, unfinished
from robust_lpips.tasks.machine import available_cores
from robust_lpips.tasks.task import advance, next_stage, record_of, staleness
from robust_lpips.training import LAST, Recipe
from robust_lpips.weights import read_checkpoint

ROWS = ("vanilla", "blurpool-pad1-s2")
NAN = float("nan")
BLURPOOL = (0, 114, 178)


class Tiny(AlexNetSettings):
    """Two steps of training, with a checkpoint after each."""

    presets = PRESETS | {
        "quick": Preset(
            Recipe("teacher", 1, 0, 5e-4, batch_size=4, dropout=0.0), 8, 16, checkpoint_every=1
        )
    }


STUDY = dataclasses.replace(STUDIES["alexnet"], settings=Tiny, parallel=False)
# Drawing takes longer than these trainings.
UNDRAWN = dataclasses.replace(STUDY, figures=lambda results, tables: {})


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """One cache for the sample sets of this module, and one thread, on which sums depend."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBUST_LPIPS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
    torch.set_num_threads(threads)


def plan_of(references=REFERENCES, **settings) -> Plan:
    return Plan(Tiny(**({"rows": ROWS} | settings)), tuple(references))


def row_task(plan: Plan, row: str = ROWS[0], seed: int = 0) -> RowTask:
    config = next(each.config for each in table_rows("alexnet") if each.name == row)
    return RowTask("cpu", plan.settings, seed, config, row)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The plan and the folder of a finished run, and its page."""
    output, plan = tmp_path_factory.mktemp("runs") / "tiny", plan_of()
    return plan, output, run(STUDY, plan, output, command="the command")


class TestRun:
    def test_summary(self, finished):
        plan, output, _ = finished
        summary = pd.read_csv(output / "summary.csv")
        first = "table row dataset image_size max_shift train_triplets val_triplets seed"
        assert list(summary.columns[:8]) == first.split()
        assert list(summary["row"]) == [row for row in ROWS for _ in STATES] + list(REFERENCES)
        assert set(summary["dataset"]) == {"sample set val"}
        assert set(summary["train_triplets"].dropna()) == {8}
        for row in ROWS:
            task = row_task(plan, row)
            for state in STATES:
                mean = summarize(task.distances(state.name, output)).iloc[-1]
                found = summary[(summary["row"] == row) & (summary["state"] == state.name)].iloc[0]
                for name in ("two_afc", "rrf_3_high"):
                    assert found[name] == pytest.approx(mean[name])
                assert (found["train_seconds"] > 0) == (state.training is not None)
                assert found["published_rrf_1"] == task.row.published["rrf_1"]

    def test_distances_are_those_of_the_seeded_network_and_of_the_checkpoint(self, finished):
        plan, output, _ = finished
        task, item = row_task(plan, ROWS[1]), source_of(plan.settings).dataset[0]
        torch.manual_seed(0)
        untrained = RobustLPIPS(task.config, weights=None)
        trained = RobustLPIPS(weights=output / task.folder / "training" / LAST)
        assert trained.config == task.config
        for state, metric in (("untrained", untrained), ("trained", trained)):
            expected = metric(item["ref"], item["p0"]).item()
            assert task.distances(state, output)["d0"][0] == pytest.approx(expected, rel=1e-5)

    def test_differences(self, finished):
        plan, output, _ = finished
        differences = pd.read_csv(output / "differences.csv")
        tasks = [row_task(plan, row) for row in ROWS]
        for state in ("untrained", "trained"):
            part = differences[differences["comparison"] == f"{state}: row - vanilla"]
            assert set(part["row"]) == {ROWS[1]}
            a, b = (task.distances(state, output) for task in reversed(tasks))
            expected = paired_difference(a, b)["difference"].tolist()
            assert part["difference"].tolist() == pytest.approx(expected)
        gained = differences[differences["comparison"] == "trained - untrained"]
        assert set(gained["row"]) == set(ROWS)

    def test_files_and_records(self, finished):
        _, output, page = finished
        assert page == (output / "summary.md").read_text(encoding="utf-8")
        assert "| 70.65 |" in page  # published
        assert (output / "summary.png").read_bytes().startswith(b"\x89PNG")
        found = {record["metric"]: record for record in read(output)}
        names = [f"{row}, {state.name}, seed 0" for row in ROWS for state in STATES]
        assert list(found) == [*names, *REFERENCES]
        assert {record["n"] for record in found.values()} == {16}
        assert found[names[0]]["weights"] != found[names[1]]["weights"]
        settings = {"table": "alexnet", "preset": "quick", "image_size": 64, "max_shift": 3}
        assert found["l2"]["settings"] == settings

    def test_finished_rows_are_not_computed_again(self, finished, monkeypatch):
        plan, output, page = finished
        monkeypatch.setattr(Part, "measure", lambda *_: pytest.fail("measured again"))
        monkeypatch.setattr(training, "fit", lambda *_, **__: pytest.fail("trained again"))
        assert run(STUDY, plan, output, command="the command") == page

    def test_several_seeds(self, finished, tmp_path):
        _, output, page = finished
        shutil.copytree(output, tmp_path / "run")
        plan = plan_of(("l2",), rows=ROWS[:1], seeds=(0, 1))
        page = run(UNDRAWN, plan, tmp_path / "run")
        summary = pd.read_csv(tmp_path / "run" / "summary.csv")
        scores = summary[summary["state"] == "trained"].set_index("seed")["two_afc"]
        assert scores[0] == pd.read_csv(output / "summary.csv")["two_afc"][1]
        assert f"{scores.mean():.1f} ± {scores.std():.1f}" in page


class TestStale:
    def test_source_of_distances_costs_no_training(self, finished, tmp_path, monkeypatch):
        plan, output, _ = finished
        shutil.copytree(output / "rows", tmp_path / "rows")
        task = row_task(plan)
        assert next_stage(task, tmp_path) is None
        monkeypatch.setattr(
            "robust_lpips.studies.base.measuring.source_digest", lambda: "of other code"
        )
        assert next_stage(task, tmp_path) == "untrained"
        monkeypatch.setattr(training, "fit", lambda *_, **__: pytest.fail("trained again"))
        for _ in range(2):
            advance(task, tmp_path, lambda _: None)
        assert next_stage(task, tmp_path) is None

    def test_other_training_triplets_are_trained_on(self, finished):
        plan, output, _ = finished
        other = row_task(dataclasses.replace(plan, settings=Tiny(n_train=7)))
        assert next_stage(other, output) == "training"

    def test_other_validation_triplets_are_measured(self, finished):
        plan, output, _ = finished
        other = row_task(dataclasses.replace(plan, settings=Tiny(n=15)))
        assert next_stage(other, output) == "untrained"

    def test_other_checkpoint_is_measured(self, finished, tmp_path):
        plan, output, _ = finished
        shutil.copytree(output / "rows", tmp_path / "rows")
        task, other = (row_task(plan, row) for row in ROWS)
        shutil.copy(
            output / other.folder / "training" / LAST, tmp_path / task.folder / "training" / LAST
        )
        assert next_stage(task, tmp_path) == "training"
        assert staleness(task, tmp_path) == "files are missing or damaged"

    def test_other_settings_do_not_mix(self, finished):
        _, output, _ = finished
        with pytest.raises(ValueError, match="max_shift 3 there, 2 here"):
            run(STUDY, plan_of(max_shift=2), output)


def test_given_weights_are_measured_instead_of_training(finished, tmp_path):
    plan, output, _ = finished
    checkpoint = output / row_task(plan).folder / "training" / LAST
    given = plan_of(("l2",), rows=ROWS[:1], weights=((ROWS[0], checkpoint),))
    run(UNDRAWN, given, tmp_path)
    record = record_of(row_task(given), tmp_path)
    assert "training" not in record
    assert record["trained"]["key"]["checkpoint"] == file_digest(checkpoint)
    pd.testing.assert_frame_equal(
        row_task(given).distances("trained", tmp_path), row_task(plan).distances("trained", output)
    )
    assert pd.read_csv(tmp_path / "summary.csv")["train_triplets"].isna().all()


def bapps_like(folder):
    """The sample set as a folder of BAPPS."""
    for split in ("train", "val"):
        (source,) = Tiny().source(split).dataset.roots
        shutil.copytree(source / "2afc" / split, folder / "2afc" / split)
    return folder


class Judged(Tiny):
    presets = PRESETS | {
        "paper": Preset(Recipe("judge", 1, 0, 5e-4, batch_size=4, dropout=0.0), None, 10)
    }


@pytest.mark.parametrize(
    ("kind", "preset", "teacher"), [(Tiny, "quick", True), (Judged, "paper", False)]
)
def test_data_in_the_layout_of_bapps(kind, preset, teacher, tmp_path):
    """With a folder of BAPPS the teacher is measured on it, or its judgments are learnt."""
    root = bapps_like(tmp_path / "bapps")
    settings = kind(data_root=root, preset=preset, rows=ROWS[:1], n=10)
    page = run(
        dataclasses.replace(UNDRAWN, settings=kind), Plan(settings, ("l2",)), tmp_path / "run"
    )
    assert (tmp_path / "run" / "distances" / "train").is_dir() == teacher
    table = row_task(Plan(settings)).distances("trained", tmp_path / "run")
    assert table["sample"].nunique() == 10
    assert "BAPPS val, 10 triplets" in page


class TestResume:
    def test_inside_an_epoch(self, finished, tmp_path):
        """From the step after which it was stopped, to the same weights; its time is not known."""
        plan, output, _ = finished
        task = row_task(plan)
        stop_inside_training(task, tmp_path)
        path = tmp_path / task.folder / "training" / LAST
        assert read_checkpoint(path)["training"]["progress"]["step"] == 1
        ticks = []
        advance(task, tmp_path, ticks.append)
        assert ticks == [task.work("training") / 2]  # one step of two
        advance(task, tmp_path, lambda _: None)
        for state in STATES:
            pd.testing.assert_frame_equal(
                task.distances(state.name, tmp_path), task.distances(state.name, output)
            )
        found, expected = (record_of(task, folder)["training"] for folder in (tmp_path, output))
        assert found["seconds"] is None
        assert found["losses"] == expected["losses"]

    def test_shards_give_the_summary_of_one_run(self, finished, tmp_path):
        plan, output, _ = finished
        second, first = (Execution(1, Shard(i, 2)) for i in (2, 1))
        assert run(UNDRAWN, plan, tmp_path, execution=second) is None
        assert unfinished(STUDY, plan, tmp_path) == [f"{ROWS[1]}, seed 0", "alexnet-untrained"]
        assert run(UNDRAWN, plan, tmp_path, execution=first) is not None
        assert_same_summary(tmp_path, output)

    @pytest.mark.slow
    def test_ray_gives_the_summary_of_one_process(self, finished, tmp_path, monkeypatch):
        """From where each row was left: one resumes inside its training, another begins."""
        ray = pytest.importorskip("ray", reason="ray is not installed")
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # Workers find the settings of this module.
        folders = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(folders))
        plan, output, _ = finished
        stop_inside_training(row_task(plan), tmp_path)
        try:
            # With one job per core, each row has one thread, as in the run to compare with.
            run(STUDY, plan, tmp_path, execution=Execution(available_cores(), engine="ray"))
        finally:
            ray.shutdown()
        assert record_of(row_task(plan), tmp_path)["training"]["seconds"] is None
        assert_same_summary(tmp_path, output)


def stop_inside_training(task, output):
    """Do the first stage of ``task`` and the first step of the second."""

    def stop(_):
        raise KeyboardInterrupt

    advance(task, output, lambda _: None)
    with pytest.raises(KeyboardInterrupt):
        advance(task, output, stop)


def assert_same_summary(one, other):
    """Every column but the seconds."""
    tables = [pd.read_csv(folder / "summary.csv") for folder in (one, other)]
    pd.testing.assert_frame_equal(
        *(table.drop(columns=["train_seconds", "eval_seconds"]) for table in tables)
    )


@pytest.mark.parametrize(
    ("table", "kind"), [("backbones", BackbonesSettings), ("skip", SkipSettings)]
)
def test_report_of_other_tables(finished, tmp_path, table, kind):
    """Several baselines, several architectures, rows without published numbers."""
    plan, output, _ = finished
    rows = table_rows(table)[:5]
    settings = kind(rows=tuple(row.name for row in rows), n=16, n_train=8)
    tasks = [RowTask("cpu", settings, 0, row.config, row.name) for row in rows]
    for i, task in enumerate(tasks):  # with the distances of other networks
        shutil.copytree(output / row_task(plan, ROWS[i % 2]).folder, tmp_path / task.folder)
    results = Results(Plan(settings), source_of(plan.settings), tmp_path, tasks)
    made = tables(results)
    for row in rows:
        part = made["summary"][made["summary"]["row"] == row.name]
        assert set(part["arch"]) == {row.config.arch}
        assert set(part["skip"]) == {row.config.skip}
        assert part["published_rrf_1"].isna().all() == (table == "skip")
        differences = made["differences"]
        compared = differences[differences["row"] == row.name]["comparison"].unique()
        assert list(compared) == ["trained - untrained"] + [
            f"{state.name}: row - {name}" for name in row.baselines for state in STATES
        ]
    page = "\n\n".join(STUDIES[table].page(results, made))
    assert all(row.note in page for row in rows)
    assert ("## Published" in page) == (table == "backbones")
    assert ("## Notes" in page) == (table == "skip")
    assert list(STUDIES[table].figures(results, made)) == ["summary"]


def test_multiply_accumulates_of_plain_alexnet():
    # Height x width x kernel area x channels in and out, layer by layer, at 64x64.
    expected = (
        15**2 * 11**2 * 3 * 64
        + 7**2 * 5**2 * 64 * 192
        + 3**2 * 9 * (192 * 384 + 384 * 256 + 256 * 256)
    )
    task = row_task(plan_of())
    # Three images per triplet, one epoch, three passes; and 12 images per triplet of four shifts.
    assert task.work("training") == 3 * 8 * 3 * expected
    assert task.work("untrained") == 12 * 16 * expected


class TestCommandLine:
    def test_tables_have_presets_and_folders(self):
        assert list(STUDIES) == list(TABLES)
        for table, study in STUDIES.items():
            settings = study.settings(image_size=48)
            assert str(study.output_folder(settings)) == f"runs/ablation-{table}-quick-sample-48px"
            small = table in ("backbones", "skip")
            counts = [settings.count("train"), settings.count("val")]
            assert counts == ([400, 240] if small else [500, 600])
        assert AlexNetSettings(preset="standard").chosen_seeds == (0, 1, 2)
        given = AlexNetSettings(preset="standard", n=5, n_train=6, seeds=(4,))
        assert (given.count("val"), given.count("train"), given.chosen_seeds) == (5, 6, (4,))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--table", "all", "--rows", "vanilla"], "unrecognized arguments: --rows"),
            (["--table", "all", "--weights", f"vanilla={__file__}"], "unrecognized arguments"),
            (["--weights", "vanilla=no/such.pt"], "must be ROW=PATH"),
            (["--preset", "paper"], "data_root must be given with preset 'paper'"),
            (["--preset", "huge"], "invalid choice: 'huge'"),
            (["--max-shift", "99"], "max_shift must be from 1"),
            (["--table", "resnet"], "invalid choice: 'resnet'"),
        ],
    )
    def test_refused_at_once(self, arguments, message, tmp_path, capsys):
        with pytest.raises(SystemExit):
            main_of(
                STUDIES,
                "--table",
                "",
                together=True,
                arguments=[*arguments, "--output", str(tmp_path / "new")],
            )
        assert message in capsys.readouterr().err
        assert not (tmp_path / "new").exists()

    def test_own_metric_is_measured_next_to_the_references(self, finished, tmp_path, capsys):
        _, output, _ = finished
        shutil.copytree(output, tmp_path / "run")
        own = "tests.studies.test_ablation:halved_l1"
        rows = ["--rows", *ROWS, "--device", "cpu", "--output", str(tmp_path / "run")]
        main(UNDRAWN, "", [*rows, "--metric", own])
        summary = pd.read_csv(tmp_path / "run" / "summary.csv").set_index("row")
        assert summary.loc[own, "state"] == "reference"
        assert own in capsys.readouterr().out


def halved_l1():
    return lambda a, b: (a - b).abs().mean((1, 2, 3)) / 2


def point(row, state, family, stride, rrf, score) -> dict:
    return {
        "row": row,
        "state": state,
        "anti_alias": family,
        "conv1_stride": stride,
        "two_afc": score,
        "two_afc_low": score - 3,
        "two_afc_high": score + 2,
        "rrf_1": rrf,
        "rrf_1_low": rrf - 1.5,
        "rrf_1_high": rrf + 1,
        "published_two_afc": 70.5 + rrf / 100,
        "published_rrf_1": rrf / 4,
    }


def summary_table() -> pd.DataFrame:
    rows = []
    for i, (family, stride) in enumerate([("none", 4), ("blurpool", 2), ("blurpool", 1)]):
        for state, rrf, score in (("untrained", 15.0, 65.0), ("trained", 6.0, 77.0)):
            rows.append(point(f"row-{i}", state, family, stride, rrf - i, score + i / 10))
    reference = point("L2", "reference", None, NAN, 13.0, 64.0)
    return pd.DataFrame([*rows, reference | UNPUBLISHED])


UNPUBLISHED = {"published_two_afc": NAN, "published_rrf_1": NAN}


def pixels(figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


class TestFigure:
    @pytest.mark.parametrize(
        ("states", "published", "panels"),
        [
            (("untrained", "trained", "reference"), True, 3),
            (("untrained", "trained", "reference"), False, 2),
            (("trained",), False, 1),
            (("untrained",), False, 1),
            (("trained",), True, 2),
        ],
    )
    def test_has_the_panels_that_it_has_data_for(self, states, published, panels):
        table = summary_table().query("state in @states")
        table = table if published else table.assign(**UNPUBLISHED)
        figure = ablation_figure(table, "Heading\nconditions", "2AFC (%)")
        assert len(figure.axes) == panels
        image = pixels(figure)
        # Nothing is cut off: the margins stay white.
        assert (image[:, [0, 1, -2, -1]] == 255).all()
        assert (image[[0, 1, -2, -1]] == 255).all()

    def test_without_intervals(self):
        table = summary_table()
        bounds = [name for name in table if name.endswith(("_low", "_high"))]
        figure = ablation_figure(table.assign(**dict.fromkeys(bounds, NAN)), "Heading", "2AFC (%)")
        assert (pixels(figure) == BLURPOOL).all(axis=-1).any()

    def test_refuses_nothing(self):
        with pytest.raises(ValueError, match="no rows"):
            ablation_figure(summary_table()[:0], "Heading", "2AFC (%)")
