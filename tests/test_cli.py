"""Options of the experiments: those of a backbone follow its dataclass."""

import argparse
from dataclasses import fields

import pytest

from robust_lpips import BackboneConfig
from robust_lpips.backbones.config import ALLOWED
from robust_lpips.cli import (
    add_backbone_arguments,
    add_data_arguments,
    add_metric_arguments,
    backbone_config,
    command_line,
    metric_choice,
    usage_errors,
)


@pytest.fixture
def parser():
    parser = argparse.ArgumentParser()
    add_backbone_arguments(parser)
    return parser


def test_nothing_said_is_the_default(parser):
    assert backbone_config(parser.parse_args([])) == BackboneConfig()


def test_every_field_can_be_set(parser):
    options = ["--arch", "vgg16", "--anti-alias", "adaptive", "--blur-size", "5", "--full-conv"]
    options += ["--reflection-pad", "2", "--conv1-stride", "1", "--skip", "strided"]
    assert backbone_config(parser.parse_args(options)) == BackboneConfig(
        "vgg16", "adaptive", 5, 2, 1, full_conv=True, skip="strided"
    )
    moved = ["--anti-alias", "blurpool", "--conv1-stride", "2"]
    moved += ["--blur-placement", "blur_before_activation"]
    config = backbone_config(parser.parse_args(moved))
    assert config.blur_placement == "blur_before_activation"


@pytest.mark.parametrize("field", fields(BackboneConfig), ids=lambda field: field.name)
def test_takes_the_values_that_the_field_takes(field, parser):
    """Each of them, with its type; and no other."""
    option = "--" + field.name.replace("_", "-")
    if isinstance(field.default, bool):
        assert getattr(parser.parse_args([option]), field.name) is True
        return
    for value in ALLOWED[field.name]:
        options = [] if value is None else [option, str(value)]
        found = getattr(parser.parse_args(options), field.name)
        assert found == (field.default if value is None else value)
        assert value is None or type(found) is type(value)
    with pytest.raises(SystemExit):
        parser.parse_args([option, "9"])


def test_values_that_do_not_go_together(parser, capsys):
    arguments = parser.parse_args(["--blur-size", "5"])
    with pytest.raises(SystemExit), usage_errors(parser):
        backbone_config(arguments)
    assert "blur_size=5 needs a blur" in capsys.readouterr().err


def test_data_is_one_or_the_other(tmp_path, capsys):
    parser = argparse.ArgumentParser()
    add_data_arguments(parser, output="runs/x")
    assert parser.parse_args(["--sample"]).data_root is None
    assert parser.parse_args(["--data-root", str(tmp_path)]).data_root == tmp_path
    with pytest.raises(SystemExit):
        parser.parse_args(["--sample", "--data-root", str(tmp_path)])
    assert "not allowed with" in capsys.readouterr().err


def test_command_line_names_what_launched_it(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/somewhere/train.py", "--output", "a b"])
    assert command_line() == "python experiments/train.py --output 'a b'"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert command_line() == "torchrun --nproc_per_node=2 experiments/train.py --output 'a b'"


class TestMetricArguments:
    @pytest.fixture
    def chosen(self):
        def choose(*words):
            parser = argparse.ArgumentParser()
            add_metric_arguments(parser, ["l2", "ssim"])
            return metric_choice(parser.parse_args(words))

        return choose

    def test_the_users_own_stand_beside_the_default(self, chosen):
        assert chosen() == ["l2", "ssim"]
        assert chosen("--metric", "my.module:make") == ["l2", "ssim", "my.module:make"]
        own = ("--metrics", "psnr", "--metric", "a:b", "--metric", "c.d:e", "--metric", "a:b")
        assert chosen(*own) == ["psnr", "a:b", "c.d:e"]

    @pytest.mark.parametrize("name", ["module", "module:", ":factory", "module:a-b"])
    def test_other_spellings(self, chosen, name, capsys):
        with pytest.raises(SystemExit):
            chosen("--metric", name)
        assert f"must be package.module:factory; got {name!r}" in capsys.readouterr().err

    def test_unknown_names(self, chosen, capsys):
        with pytest.raises(SystemExit):
            chosen("--metrics", "l3")
        assert "invalid choice: 'l3'" in capsys.readouterr().err
