"""Command lines that are generated from settings."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pandas as pd
import pytest

from robust_lpips import BackboneConfig
from robust_lpips.backbones.config import ALLOWED
from robust_lpips.cli import add_options, command_line, main, main_of, metrics_from, settings_from
from robust_lpips.studies.base import Part, Settings, Source, Study, TripletSettings, option
from robust_lpips.studies.base.settings import value_type
from tests.studies.base.tiny import Steps


@dataclass(frozen=True)
class Every(Settings):
    """A field of each kind."""

    count: int | None = option(None, "a number, 5 % of SAMPLE_N", least=1)
    rate: float = option(0.5, "a rate", least=0)
    trunk: str = option("alexnet", "an architecture", choices=("alexnet", "vgg16"))
    sizes: tuple[int, ...] = option((1, 2), "sizes", choices=(1, 2, 3))
    file: Path | None = option(None, "a file or folder")
    files: tuple[Path, ...] = option((), "files")
    big: bool = option(False, "100 % more")
    sharp: bool = option(True, "yes or no")
    backbone: BackboneConfig = option(BackboneConfig("vgg16"), "the backbone")

    def source(self) -> Source:
        return Source("nothing", "")


def echo(results) -> dict[str, pd.DataFrame]:
    """A table of the settings."""
    return {"settings": pd.DataFrame({"settings": [repr(results.settings)]})}


EVERY = Study(
    name="every",
    settings=Every,
    tables=echo,
    page=lambda results, tables: ["# Every", repr(results.settings)],
    figures=lambda results, tables: {},
    tasks=lambda study, plan: [],
)
TRIPLETS = replace(EVERY, name="triplets", settings=TripletSettings, metrics=("l2", "ssim"))


@dataclass(frozen=True)
class Coarse(Every):
    """Other defaults than its sibling."""

    rate: float = option(0.25, "a rate", least=0)


def parsed(study: Study, *arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_options(parser, [study])
    return parser.parse_args(arguments)


def settings(*arguments: str) -> Every:
    return settings_from(Every, parsed(EVERY, *arguments))


def refused(capsys: pytest.CaptureFixture, study: Study, *arguments: str) -> str:
    """The last line that a refused command line prints."""
    with pytest.raises(SystemExit) as caught:
        main(study, "", [*arguments])
    assert caught.value.code == 2
    *usage, last = capsys.readouterr().err.splitlines()
    assert usage[0].startswith("usage:")
    assert "error: " in last
    assert not [line for line in usage if "error" in line.casefold() or "Traceback" in line]
    return last


class TestOptions:
    def test_nothing_said_is_the_default(self):
        assert settings() == Every()

    @pytest.mark.parametrize(
        ("arguments", "given"),
        [
            (["--count", "3"], {"count": 3}),
            (["--rate", "1e-3"], {"rate": 1e-3}),
            (["--trunk", "vgg16"], {"trunk": "vgg16"}),
            (["--sizes", "3"], {"sizes": (3,)}),
            (["--sizes", "3", "1"], {"sizes": (3, 1)}),
            (["--big"], {"big": True}),
            (["--sharp", "no"], {"sharp": False}),
            (["--trunk", "vgg16", "--rate", "2"], {"trunk": "vgg16", "rate": 2.0}),
        ],
    )
    def test_values_have_the_types_of_the_fields(self, arguments, given):
        found = settings(*arguments)
        assert found == Every(**given)
        assert all(type(getattr(found, name)) is type(value) for name, value in given.items())

    def test_paths_are_absolute(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("a").touch()
        found = settings("--file", ".", "--files", "a", "../" + tmp_path.name)
        assert (found.file, found.files) == (tmp_path, (tmp_path / "a", tmp_path))

    @pytest.mark.parametrize(
        ("arguments", "names"),
        [
            (["--count", "0"], "count"),
            (["--count", "x"], "--count"),
            (["--rate", "nan"], "rate"),
            (["--trunk", "resnet"], "--trunk"),
            (["--sizes", "4"], "--sizes"),
            (["--sizes"], "--sizes"),
            (["--file", "/no/such"], "--file"),
            (["--sharp", "maybe"], "--sharp"),
            (["--blur-size", "5"], "blur_size"),
            (["--coun", "3"], "--coun"),
            (["--metrics", "l2"], "--metrics"),
            (["--device", "tpu"], "--device"),
            (["--device", "meta"], "--device"),
            (["--jobs", "0"], "jobs must be at least 1; got 0"),
            (["--jobs", "x"], "--jobs"),
            (["--shard", "5/4"], "--shard"),
            (["--shard", "1"], "--shard"),
            (["--engine", "slurm"], "--engine"),
            (["--output", "/proc/x"], "output"),
        ],
    )
    def test_refused(self, capsys, arguments, names):
        assert names in refused(capsys, EVERY, *arguments)

    def test_output_that_is_a_file(self, capsys, tmp_path):
        path = tmp_path / "a"
        path.touch()
        assert str(path) in refused(capsys, EVERY, "--output", str(path))

    def test_help(self, capsys):
        with pytest.raises(SystemExit) as caught:
            main(EVERY, "A description.", ["--help"])
        assert caught.value.code == 0
        text = capsys.readouterr().out
        assert "A description." in text
        assert "100 % more" in text
        for name in (*vars(Every()), *vars(BackboneConfig())):
            assert (f"--{name.replace('_', '-')}" in text) == (name != "backbone")

    def test_ray_that_is_not_installed(self, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "ray", None)
        assert 'pip install "robust-lpips[ray]"' in refused(capsys, EVERY, "--engine", "ray")


class TestNested:
    def test_every_field_of_a_backbone(self):
        options = ["--anti-alias", "adaptive", "--blur-size", "5", "--full-conv"]
        options += ["--reflection-pad", "2", "--conv1-stride", "1", "--skip", "strided"]
        assert settings(*options).backbone == BackboneConfig(
            "vgg16", "adaptive", 5, 2, 1, full_conv=True, skip="strided"
        )

    @pytest.mark.parametrize("field", fields(BackboneConfig), ids=lambda field: field.name)
    def test_takes_values_of_the_type_of_the_field(self, field):
        name = "--" + field.name.replace("_", "-")
        kind, _ = value_type(BackboneConfig, field)
        for value in ALLOWED[field.name]:
            if value is not None and kind is not bool:
                found = getattr(parsed(EVERY, name, str(value)), field.name)
                assert found == value
                assert type(found) is type(value)

    def test_two_fields_of_one_name(self):
        """One option would set both."""

        @dataclass(frozen=True)
        class Clashing(Every):
            arch: str = option("alexnet", "not the backbone's")

        with pytest.raises(argparse.ArgumentError, match="--arch"):
            parsed(replace(EVERY, settings=Clashing))


class TestMetrics:
    @staticmethod
    def chosen(*arguments: str) -> tuple[str, ...]:
        return metrics_from(TRIPLETS, parsed(TRIPLETS, *arguments))

    def test_the_users_own_are_added(self):
        assert self.chosen() == ("l2", "ssim")
        assert self.chosen("--metric", "my.module:make") == ("l2", "ssim", "my.module:make")
        own = ("--metrics", "psnr", "--metric", "a:b", "--metric", "c.d:e", "--metric", "a:b")
        assert self.chosen(*own) == ("psnr", "a:b", "c.d:e")

    @pytest.mark.parametrize("name", ["module", "module:", ":factory", "module:a-b"])
    def test_other_spellings(self, capsys, name):
        last = refused(capsys, TRIPLETS, "--metric", name)
        assert "--metric" in last
        assert repr(name) in last

    def test_unknown_names(self, capsys):
        last = refused(capsys, TRIPLETS, "--metrics", "l3")
        assert "--metrics" in last
        assert "'l3'" in last

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            (["--metric", "no_such_module:make"], "no_such_module"),
            (["--metrics", "gti-cnn"], "gti-cnn"),  # nothing is left to be measured
        ],
    )
    def test_unavailable(self, capsys, tmp_path, monkeypatch, arguments, named):
        monkeypatch.setattr(TripletSettings, "source", lambda self: Source("nothing", ""))
        study = replace(TRIPLETS, tasks=None, parts=lambda settings: {"": Part([])})
        assert named in refused(capsys, study, *arguments, "--output", str(tmp_path))


def test_shift_that_does_not_fit_is_refused_before_anything_is_built(capsys, monkeypatch):
    built = "robust_lpips.studies.base.source.sample_dataset"
    monkeypatch.setattr(built, lambda **_: pytest.fail("built"))
    last = refused(capsys, TRIPLETS, "--max-shift", "99", "--image-size", "64")
    assert "max_shift" in last
    assert "99" in last


def test_page_is_printed_with_its_command(capsys, tmp_path, monkeypatch):
    arguments = ["--count", "3", "--output", str(tmp_path / "a b")]
    monkeypatch.setattr(sys, "argv", ["/somewhere/run_every.py", *arguments])
    main(EVERY, "")
    printed = capsys.readouterr().out
    assert (tmp_path / "a b" / "every.md").read_text(encoding="utf-8") in printed
    assert f"python experiments/run_every.py --count 3 --output '{tmp_path}/a b'" in printed


def test_errors_of_tables_keep_their_traceback(tmp_path):
    """They are faults of the study, not of the arguments."""

    def tables(results):
        raise ValueError("a fault")

    with pytest.raises(ValueError, match="a fault"):
        main(replace(EVERY, tables=tables), "", ["--output", str(tmp_path)])


def test_command_line_names_what_launched_it(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/somewhere/train.py", "--output", "a b"])
    assert command_line() == "python experiments/train.py --output 'a b'"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert command_line() == "torchrun --nproc_per_node=2 -- experiments/train.py --output 'a b'"


STUDIES = {"fine": EVERY, "coarse": replace(EVERY, name="coarse", settings=Coarse)}


class TestSeveral:
    @pytest.fixture
    def run(self, tmp_path):
        """``run(*arguments)``: what each study printed as its settings, by folder."""

        def run(*arguments: str) -> dict[str, str]:
            main_of(
                STUDIES,
                "--table",
                "",
                together=True,
                arguments=[*arguments, "--output", str(tmp_path)],
            )
            return {
                path.parent.relative_to(tmp_path).as_posix(): pd.read_csv(path)["settings"].item()
                for path in tmp_path.rglob("settings.csv")
            }

        return run

    def test_first_is_the_default(self, run):
        assert run() == {".": repr(Every())}

    def test_one(self, run):
        assert run("--table", "coarse", "--count", "2") == {".": repr(Coarse(count=2))}

    def test_all_each_with_its_own_defaults_and_folder(self, run):
        found = run("--table", "all", "--count", "2")
        assert found == {"fine": repr(Every(count=2)), "coarse": repr(Coarse(count=2))}

    def test_all_is_refused_before_the_first_runs(self, run, tmp_path):
        with pytest.raises(SystemExit):
            run("--table", "all", "--count", "0")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("arguments", [["--table", "resnet"], ["--tab", "fine"]])
    def test_other_names(self, run, capsys, arguments):
        with pytest.raises(SystemExit) as caught:
            run(*arguments)
        assert caught.value.code == 2
        assert arguments[0] in capsys.readouterr().err.splitlines()[-1]


def test_shard_says_what_is_left_to_others(capsys, tmp_path):
    study = replace(EVERY, tasks=lambda study, plan: [Steps(plan.device, x) for x in "ab"])
    arguments = ["--output", str(tmp_path), "--device", "cpu", "--jobs", "1", "--shard"]
    main(study, "", [*arguments, "2/2"])
    printed = capsys.readouterr().out
    assert "  b\n" in printed
    assert "  a\n" not in printed
    main(study, "", [*arguments, "1/2"])
    assert "# Every" in capsys.readouterr().out
