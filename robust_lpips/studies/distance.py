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
from typing import Any, ClassVar

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import nn

from robust_lpips import plotting
from robust_lpips.backbones import BackboneConfig
from robust_lpips.evaluation import paired_difference, summarize
from robust_lpips.metric import RobustLPIPS
from robust_lpips.provenance import file_digest
from robust_lpips.studies.base import (
    LeftOut,
    Plan,
    Record,
    Results,
    Study,
    Tables,
    Tick,
    interval_cells,
    option,
)
from robust_lpips.studies.base.measuring import first_sentence
from robust_lpips.studies.base.study import single_part
from robust_lpips.studies.base.training import (
    TrainedSettings,
    TrainingTask,
    in_one_line,
    state_scores,
)
from robust_lpips.studies.base.words import difference_rows, quantities_note, recipe_note
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
        """The network with all taps at its start, where both distances are the same.

        Args:
            seed: seed of random weights.
            init: initial weights instead of those of the row.

        Raises:
            FileNotFoundError: if pretrained weights are unavailable.
        """
        linear = self.distance == "linear"
        metric = RobustLPIPS(BackboneConfig(self.arch), weights=None, linear=linear)
        initialize(metric, init or TRUNKS[self.trunk], seed=seed)
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

    validates: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return self.variant.name

    @property
    def folder(self) -> str:
        return f"rows/{self.name}"

    @property
    def stages(self) -> tuple[str, ...]:
        return (TRAINING, MEASURED)

    @property
    def config(self) -> BackboneConfig:
        return BackboneConfig(self.variant.arch)

    def recipe(self, stage: str) -> Recipe | None:
        return self.settings.recipe(self.variant.distance) if stage == TRAINING else None

    def network(self, stage: str, output: Path) -> RobustLPIPS:
        variant = self.variant
        if stage == TRAINING:
            return keep_first_taps(variant.metric(self.seed), variant.taps)
        metric = keep_first_taps(variant.metric(self.seed, "random"), variant.taps)
        metric.load_state_dict(self._last(output)["state_dict"])
        return metric

    def network_key(self, stage: str, output: Path) -> Mapping[str, Any]:
        if reason := reason_unavailable(self.variant.arch, TRUNKS[self.variant.trunk]):
            raise LeftOut(reason)
        if stage == TRAINING:
            return {"variant": self.name}
        return {
            "variant": self.name,
            "checkpoint": file_digest(self.stage_folder(TRAINING, output) / LAST),
        }

    def do(self, stage: str, output: Path, tick: Tick) -> dict[str, Any]:
        found = super().do(stage, output, tick)
        if stage == MEASURED:
            metric = whole(self.network(stage, output), self.variant)
            path = self.stage_folder(stage, output) / METRIC_FILE
            save_checkpoint(metric, path, {"variant": self.name})
        return found

    def history(self, output: Path) -> pd.DataFrame:
        """One row per epoch, see :func:`robust_lpips.training.fit`."""
        return pd.DataFrame(self._last(output)["training"]["progress"]["history"])

    def _last(self, output: Path) -> dict[str, Any]:
        return read_checkpoint(self.stage_folder(TRAINING, output) / LAST)


def keep_first_taps(metric: RobustLPIPS, count: int | None) -> RobustLPIPS:
    """``metric`` without its later taps, and without the layers behind the last that is left."""
    backbone = metric.backbone
    taps = dict(itertools.islice(backbone.taps.items(), count))
    layers = [name for name, _ in backbone.named_children()]
    for name in layers[layers.index(list(taps)[-1]) + 1 :]:
        delattr(backbone, name)
    backbone.taps = taps
    metric.lin = nn.ParameterList(list(metric.lin)[:count])
    return metric


def whole(metric: RobustLPIPS, variant: Variant) -> RobustLPIPS:
    """A metric with every tap that measures as ``metric``, whose later taps were cut off.

    Later taps weigh 0; the cosine distance weighs every channel 1. So it can be saved and loaded
    as any other metric.
    """
    full = RobustLPIPS(BackboneConfig(variant.arch), weights=None, linear=True)
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


def tasks(study: Study[DistanceSettings], plan: Plan[DistanceSettings]) -> list[VariantTask]:
    """A task for every row of the chosen networks and trunks."""
    settings = plan.settings
    return [
        VariantTask(plan.device, single_part, settings, settings.seed, variant)
        for variant in VARIANTS
        if variant.arch in settings.arch and variant.trunk in settings.trunk
    ]


def tables(results: Results[DistanceSettings]) -> dict[str, pd.DataFrame]:
    """Tables of a finished run.

    ``summary``: one row per variant: ``variant, arch, taps, trunk, distance, n``, scores in
    percent with 95 % intervals, and ``training_loss``, that of the last epoch.

    ``differences``: linear minus cosine distance on the same triplets, in percentage points:
    ``arch, taps, trunk, quantity, a, b, difference, low, high``.

    ``curves``: ``arch, run``, then the history of the training as
    :func:`robust_lpips.training.fit` gives it.
    """
    rows, curves, differences, output = [], [], [], results.output
    done = {task.variant: task for task in results.of(VariantTask)}
    for variant, task in done.items():
        distances, history = task.distances(MEASURED, output), task.history(output)
        scores = summarize(distances).iloc[-1].drop("subset").to_dict()
        loss = {"training_loss": history["loss"].iloc[-1]}
        rows.append({"variant": variant.name, **variant.labels} | scores | loss)
        run = variant.name.removeprefix(f"{variant.arch}-")
        curves.append(pd.DataFrame({"arch": variant.arch, "run": run} | dict(history)))
        cosine = done.get(Variant(variant.arch, variant.taps, variant.trunk, "cosine"))
        if variant.distance == "linear" and cosine:
            part = paired_difference(distances, cosine.distances(MEASURED, output))
            labels = {name: variant.labels[name] for name in ("arch", "taps", "trunk")}
            differences.append(pd.DataFrame(labels | dict(part)))
    return {
        "summary": pd.DataFrame(rows),
        "differences": pd.concat(differences or [pd.DataFrame()], ignore_index=True),
        "curves": pd.concat(curves, ignore_index=True),
    }


def page(results: Results[DistanceSettings], tables: Tables) -> list[str]:
    """Scores of every row, and differences between the distances."""
    settings, source, summary = results.settings, results.source, tables["summary"]
    shown = summary[["arch", "taps", "trunk", "distance"]].assign(
        accuracy=interval_cells(summary, "two_afc"),
        **{"r_rf 1": interval_cells(summary, "rrf_1")},
        loss=summary["training_loss"],
    )
    blocks = [
        "# The distance: cosine against learnt 1x1 weights",
        f"Measured on {in_one_line(results)}. {source.judged_by} Brackets: 95 % intervals"
        f"{source.clustered}.",
        "Plain networks; the trunk stays as it is. Both distances are trained with the ranking "
        "head: with the cosine distance the head alone learns, with the linear one the 1x1 weights "
        f"too, starting at 1 ({recipe_note(settings.recipe('linear'))}).",
        f"## Measured\n\n{quantities_note(source)}; loss: the ranking head's on the training "
        "triplets, mean of the last epoch.",
        to_markdown(shown, {"loss": ".3f"}),
    ]
    if not tables["differences"].empty:
        blocks += [
            "## Linear minus cosine\n\nPaired over the same triplets, in percentage points.",
            to_markdown(
                difference_rows(
                    tables["differences"], ["arch", "taps", "trunk"], ["two_afc", "rrf_1"]
                )
            ),
        ]
    return blocks


def figures(results: Results[DistanceSettings], tables: Tables) -> Mapping[str, Figure]:
    """``curves-ARCH``: losses and accuracies of all rows of a network against epochs."""
    label = results.source.accuracy_label
    return {
        f"curves-{arch}": curves_figure(
            curves, f"Cosine distance and 1x1 weights: {arch}\n{in_one_line(results)}", label
        )
        for arch, curves in tables["curves"].groupby("arch", sort=False)
    }


def curves_figure(histories: pd.DataFrame, title: str, accuracy_label: str) -> Figure:
    """Training loss and validation accuracy of several trainings against epochs, one line each.

    Args:
        histories: tables of :func:`robust_lpips.training.fit` one below the other, with their
            names in a column ``run``; about a dozen runs can be told apart.
        title: its first line is the heading; further lines give the conditions.
        accuracy_label: term for the accuracies with its unit.

    Raises:
        ValueError: if histories have no rows.
    """
    if histories.empty:
        raise ValueError("histories has no rows")
    runs = dict(iter(histories.groupby("run", sort=False)))
    # Inches: the names of runs stand to the right of each panel.
    names = 0.25 + 0.064 * max(map(len, runs))
    with plotting.figure((8.8 + 2 * names, 4.9), title) as fig:
        left, right = plotting.panels(
            fig, 2, left=0.7, right=names, top=1.05, height=3.25, gap=names + 0.7
        )
        losses = {run: (table["epoch"] - 0.5, table["loss"]) for run, table in runs.items()}
        plotting.draw_epochs(left, losses)
        left.set(title="Training loss (mean of each epoch)", ylabel="loss")
        scores = {run: (table["epoch"], 100 * table["validation"]) for run, table in runs.items()}
        plotting.draw_epochs(right, scores)
        right.set(title="Validation", ylabel=accuracy_label)
    return fig


def records(results: Results[DistanceSettings], tables: Tables) -> Iterator[Record]:
    """Scores of every row."""
    weights = {t.name: results.record(t)[MEASURED]["weights"] for t in results.of(VariantTask)}
    for row in tables["summary"].to_dict("records"):
        scores = state_scores(row)
        yield Record(row["variant"], row["n"], scores, weights[row["variant"]])


STUDY = Study(
    name="distance",
    settings=DistanceSettings,
    folder=lambda settings: settings.folder("distance"),
    tasks=tasks,
    parallel=True,
    tables=tables,
    page=page,
    page_name="summary",
    figures=figures,
    records=records,
)
