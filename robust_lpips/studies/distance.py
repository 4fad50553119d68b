"""Cosine distance against learnt 1x1 weights, over the first taps of plain networks.

A replication of LPIPS (Zhang et al., CVPR 2018) asks what its parts are worth: how deep the
features have to be, whether the network has to be trained, and what weighing channels adds to the
cosine distance. Both distances meet the same ranking head; the trunk stays as it is.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import nn

from robust_lpips import plotting
from robust_lpips.backbones import BackboneConfig
from robust_lpips.evaluation import paired_difference, summarize
from robust_lpips.metric import RobustLPIPS
from robust_lpips.studies import base
from robust_lpips.studies.base import option
from robust_lpips.studies.base.measuring import first_sentence
from robust_lpips.studies.base.training import (
    TrainedSettings,
    TrainingTask,
    in_one_line,
    state_scores,
)
from robust_lpips.studies.base.words import difference_rows
from robust_lpips.tables import to_markdown
from robust_lpips.training import LAST, Recipe
from robust_lpips.training.initialization import initialize
from robust_lpips.weights import read_checkpoint, save_checkpoint

ARCHITECTURES = ("alexnet", "vgg16")
TAPS: tuple[int | None, ...] = (2, 4, None)
# By the name in tables, the name of the initial weights.
TRUNKS = {"untrained": "random", "pretrained": "imagenet"}
# By the name in tables, what learns next to the ranking head: nothing, or the 1x1 weights.
DISTANCES = {"cosine": "head", "linear": "lin"}
TRAINING, MEASURED = "training", "measured"
METRIC_FILE = "metric.pt"


@dataclass(frozen=True)
class DistanceSettings(TrainedSettings):
    """Settings that all rows of the study share.

    Raises:
        ValueError: if a value is out of range.
    """

    n: int = option(200, "validation triplets, evenly spaced ones of BAPPS", least=1)
    n_train: int = option(300, "training triplets, evenly spaced ones of BAPPS", least=1)
    arch: tuple[str, ...] = option(ARCHITECTURES, "networks", choices=ARCHITECTURES, claimed=False)
    trunk: tuple[str, ...] = option(
        tuple(TRUNKS), "trained on ImageNet or not", choices=TRUNKS, claimed=False
    )
    epochs: int = option(5, "passes over the training triplets", least=1)
    learning_rate: float = option(1e-2, "learning rate of Adam")
    batch_size: int = option(10, "triplets per step", least=1)
    dropout: float = option(0.5, "dropout before each 1x1 layer")
    seed: int = option(0, "seed of untrained networks, of the head and of the order", least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.recipe("linear")  # which checks its numbers

    def recipe(self, distance: str) -> Recipe:
        """How the ranking head is trained, and with it the 1x1 weights of a linear distance."""
        return Recipe(
            epochs=self.epochs,
            decay_epochs=0,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            dropout=self.dropout,
            mode=DISTANCES[distance],
        )


@dataclass(frozen=True)
class Variant:
    """One row: a network, the number of its taps, trained on ImageNet or not, and the distance."""

    arch: str
    taps: int | None
    trunk: str
    distance: str

    @property
    def name(self) -> str:
        """Name in tables and of its folder."""
        taps = "all" if self.taps is None else f"first{self.taps}"
        return f"{self.arch}-{taps}-{self.trunk}-{self.distance}"

    @property
    def labels(self) -> dict[str, str]:
        """Its first columns in tables."""
        return asdict(self) | {"taps": "all" if self.taps is None else str(self.taps)}

    def metric(self, seed: int, init: str | None = None) -> RobustLPIPS:
        """The network with its first taps at its start, where both distances are the same.

        Args:
            seed: seed of random weights.
            init: initial weights instead of those of the row.

        Raises:
            FileNotFoundError: if pretrained weights are unavailable.
        """
        linear = self.distance == "linear"
        metric = RobustLPIPS(BackboneConfig(self.arch), weights=None, linear=linear)
        initialize(metric, init or TRUNKS[self.trunk], seed=seed)
        metric.backbone.keep_first_taps(self.taps)
        metric.lin = nn.ParameterList(list(metric.lin)[: self.taps])
        for weight in metric.lin:
            weight.fill_(1.0)
        return metric


VARIANTS = tuple(
    itertools.starmap(Variant, itertools.product(ARCHITECTURES, TAPS, TRUNKS, DISTANCES))
)


@dataclass(frozen=True)
class VariantTask(TrainingTask):
    """Train what learns of one row, and measure it.

    The folder ``measured`` also holds ``metric.pt``, which ``RobustLPIPS(weights=...)`` loads.
    """

    settings: DistanceSettings
    variant: Variant

    stages = (TRAINING, MEASURED)

    @property
    def name(self) -> str:
        return self.variant.name

    @property
    def folder(self) -> str:
        return f"rows/{self.name}"

    def recipe(self, stage: str) -> Recipe | None:
        return self.settings.recipe(self.variant.distance) if stage == TRAINING else None

    def checkpoint(self, stage: str, output: Path) -> Path | None:
        return self.stage_folder(TRAINING, output) / LAST if stage == MEASURED else None

    def initial(self, stage: str) -> RobustLPIPS:
        return self.variant.metric(self.seed)

    def initial_key(self, stage: str) -> Mapping[str, Any]:
        if reason := reason_unavailable(self.variant.arch, TRUNKS[self.variant.trunk]):
            raise base.LeftOut(reason)
        return {"variant": self.name}

    def network(self, stage: str, output: Path) -> RobustLPIPS:
        if stage == TRAINING:
            return self.initial(stage)
        metric = self.variant.metric(self.seed, "random")
        metric.load_state_dict(self.trained(output)["state_dict"])
        return metric

    def do(self, stage: str, output: Path, tick: base.Tick) -> dict[str, Any]:
        found = super().do(stage, output, tick)
        if stage == MEASURED:
            path = self.stage_folder(stage, output) / METRIC_FILE
            save_checkpoint(whole(self.network(stage, output)), path, {"variant": self.name})
        return found

    def trained(self, output: Path) -> dict[str, Any]:
        """Content of the last checkpoint."""
        return read_checkpoint(self.checkpoint(MEASURED, output))


def whole(metric: RobustLPIPS) -> RobustLPIPS:
    """A metric with every tap that measures as ``metric``, whose later taps were cut off.

    Later taps weigh 0; the cosine distance weighs every channel 1. So it can be saved and loaded
    as any other metric.
    """
    full = RobustLPIPS(metric.config, weights=None, linear=True)
    full.backbone.load_state_dict(metric.backbone.state_dict(), strict=False)
    for i, weight in enumerate(full.lin):
        kept = i < len(metric.backbone.taps)
        weight.copy_(metric.lin[i] if kept and metric.linear else torch.full_like(weight, kept))
    return full


@functools.cache
def reason_unavailable(arch: str, init: str) -> str:
    """The reason why initial weights are unavailable; empty where they are available."""
    try:
        initialize(RobustLPIPS(BackboneConfig(arch), weights=None), init)
    except FileNotFoundError as error:
        return first_sentence(error)
    return ""


def tasks(study: base.Study, plan: base.Plan[DistanceSettings]) -> list[VariantTask]:
    """A task for every row of the chosen networks and trunks."""
    settings = plan.settings
    return [
        VariantTask(plan.device, settings, settings.seed, BackboneConfig(variant.arch), variant)
        for variant in VARIANTS
        if variant.arch in settings.arch and variant.trunk in settings.trunk
    ]


def tables(results: base.Results[DistanceSettings]) -> dict[str, pd.DataFrame]:
    """Tables of a finished run.

    ``summary``: one row per variant: ``variant, arch, taps, trunk, distance, n``, scores in
    percent with 95 % intervals, and ``training_loss``, that of the last epoch.

    ``differences``: linear minus cosine distance on the same triplets, in percentage points:
    ``arch, taps, trunk, quantity, a, b, difference, low, high``.

    ``curves``: ``arch, run``, then the history of the training as
    :func:`robust_lpips.training.fit` gives it.
    """
    rows, curves, differences = [], [], [pd.DataFrame()]
    measured = {t.variant: t.distances(MEASURED, results.output) for t in results.of(VariantTask)}
    for task in results.of(VariantTask):
        variant, labels = task.variant, task.variant.labels
        progress = task.trained(results.output)["training"]["progress"]
        history = pd.DataFrame(progress["history"])
        scores = summarize(measured[variant]).iloc[-1].drop("subset").to_dict()
        loss = {"training_loss": history["loss"].iloc[-1]}
        rows.append({"variant": variant.name, **labels} | scores | loss)
        run = variant.name.removeprefix(f"{variant.arch}-")
        curves.append(pd.DataFrame({"arch": variant.arch, "run": run} | dict(history)))
        if variant.distance == "linear":
            cosine = Variant(variant.arch, variant.taps, variant.trunk, "cosine")
            part = paired_difference(measured[variant], measured[cosine])
            labels.pop("distance")
            differences.append(pd.DataFrame(labels | dict(part)))
    return {
        "summary": pd.DataFrame(rows),
        "differences": pd.concat(differences, ignore_index=True),
        "curves": pd.concat(curves, ignore_index=True),
    }


def page(results: base.Results[DistanceSettings], tables: base.Tables) -> list[str]:
    """Scores of every row, and differences between the distances."""
    summary, labels = tables["summary"], ["arch", "taps", "trunk"]
    shown = summary[[*labels, "distance"]].assign(
        accuracy=base.interval_cells(summary, "two_afc"),
        **{"r_rf 1": base.interval_cells(summary, "rrf_1")},
        loss=summary["training_loss"],
    )
    differences = difference_rows(tables["differences"], labels, ["two_afc", "rrf_1"])
    return base.filled(
        "distance",
        source=results.source,
        conditions=in_one_line(results),
        recipe=results.settings.recipe("linear"),
        measured=to_markdown(shown, {"loss": ".3f"}),
        differences=to_markdown(differences),
    )


def figures(results: base.Results[DistanceSettings], tables: base.Tables) -> dict[str, Figure]:
    """``curves-ARCH``: losses and accuracies of all rows of a network against epochs."""
    made = {}
    for arch, curves in tables["curves"].groupby("arch", sort=False):
        runs = dict(iter(curves.groupby("run", sort=False)))
        made[f"curves-{arch}"] = plotting.epochs_figure(
            {run: (table["epoch"] - 0.5, table["loss"]) for run, table in runs.items()},
            {run: (table["epoch"], 100 * table["validation"]) for run, table in runs.items()},
            f"Cosine distance and 1x1 weights: {arch}\n{in_one_line(results)}",
            results.source.accuracy_label,
            ("Training loss (mean of each epoch)", "Validation"),
        )
    return made


def records(results: base.Results[DistanceSettings], tables: base.Tables) -> Iterator[base.Record]:
    """Scores of every row."""
    weights = {t.name: results.record(t)[MEASURED]["weights"] for t in results.of(VariantTask)}
    for row in tables["summary"].to_dict("records"):
        name = row["variant"]
        yield base.Record(name, row["n"], state_scores(row), weights[name])


STUDY = base.Study(
    "distance",
    *(DistanceSettings, tables, page, figures, records),
    tasks=tasks,
    folder=lambda settings: settings.folder("distance"),
    page_name="summary",
    parallel=True,
)
