"""The command line of the ablation: tables, shards and engines, and what it refuses."""

import importlib.util
import sys
from pathlib import Path

import pytest
from robust_lpips.studies.rows import TABLES

from robust_lpips.studies.ablation import WHOLE, Shard


@pytest.fixture(scope="module")
def script():
    path = Path(__file__).parents[2] / "experiments" / "run_ablation.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def runs(script, monkeypatch):
    """Calls of ``run`` with their study, which do nothing; every row is missing after them."""
    calls = []

    def run(study, *args, **options):
        calls.append((study, args, options))
        return []

    monkeypatch.setattr(script, "run", run)
    monkeypatch.setattr(script, "unfinished", lambda study, _: [f"last row of {study.table}"])
    return calls


def start(script, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["run_ablation.py", "--device", "cpu", *arguments])
    script.main()


def test_defaults(script, runs, monkeypatch):
    start(script, monkeypatch)
    ((study, (rows, seeds, jobs), options),) = runs
    assert (study.table, study.preset.name) == ("alexnet", "quick")
    assert study.output == Path("runs/ablation-alexnet-quick-sample-64px")
    assert (rows, seeds, jobs) == (None, None, None)
    assert options == {"shard": WHOLE, "engine": "local"}


def test_all_tables_each_into_its_own_folder(script, runs, monkeypatch, tmp_path):
    start(script, monkeypatch, "--table", "all", "--output", str(tmp_path))
    start(script, monkeypatch, "--table", "all")
    outputs = [study.output for study, *_ in runs]
    assert outputs[: len(TABLES)] == [tmp_path / table for table in TABLES]
    assert outputs[len(TABLES) :] == [
        Path(f"runs/ablation-{table}-quick-sample-64px") for table in TABLES
    ]
    assert [study.preset.train_triplets for study, *_ in runs[: len(TABLES)]] == [
        500,
        500,
        400,
        400,
    ]


def test_a_shard_says_what_is_missing(script, runs, monkeypatch, capsys):
    start(script, monkeypatch, "--shard", "4/4", "--engine", "local")
    ((_, _, options),) = runs
    assert options["shard"] == Shard(4, 4)
    assert "last row of alexnet" in capsys.readouterr().out


def test_what_is_finished_is_reported(script, runs, monkeypatch, capsys):
    monkeypatch.setattr(script, "unfinished", lambda *_: [])
    monkeypatch.setattr(
        script, "write_report", lambda study, _, command: f"{study.table} {command}"
    )
    start(script, monkeypatch, "--table", "skip")
    printed = capsys.readouterr().out
    assert "skip python experiments/run_ablation.py --device cpu --table skip" in printed
    assert "Written to runs/ablation-skip-quick-sample-64px" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--table", "all", "--rows", "vanilla"], "--rows names rows of one table"),
        (["--table", "all", "--weights", f"vanilla={__file__}"], "--weights names rows of one"),
        (["--preset", "paper"], "data_root must be given with preset 'paper'"),
        (["--shard", "5/4"], "must be I/N, with N from 1 and I from 0 to N; got '5/4'"),
        (["--shard", "1"], "must be I/N"),
        (["--engine", "slurm"], "invalid choice: 'slurm'"),
        (["--table", "resnet"], "invalid choice: 'resnet'"),
    ],
)
def test_refused(script, runs, monkeypatch, capsys, arguments, message):
    with pytest.raises(SystemExit):
        start(script, monkeypatch, *arguments)
    assert message in capsys.readouterr().err
    assert not runs


def test_ray_that_is_not_installed_is_one_line(script, runs, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SystemExit):
        start(script, monkeypatch, "--engine", "ray")
    *_, last = capsys.readouterr().err.splitlines()
    assert 'pip install "robust-lpips[ray]"' in last
    assert not runs
