"""Cosine distance against learnt 1x1 weights, over the first taps of plain networks.

A replication of LPIPS (Zhang et al., CVPR 2018) asks what its parts are worth: how deep the
features have to be, whether the network has to be trained, and what weighing channels adds to the
cosine distance. Both distances meet the same ranking head; the trunk stays as it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from robust_lpips.backbones import BackboneConfig
from robust_lpips.evaluation import (
    measure,
    paired_difference,
    read_distances,
    summarize,
    write_distances,
)
from robust_lpips.metric import RobustLPIPS
from robust_lpips.plots import plot_training_curves
from robust_lpips.studies.folder import claim
from robust_lpips.studies.pool import Tick, machine, run_tasks
from robust_lpips.studies.report import ACCURACY_LABELS, JUDGE_NOTES
from robust_lpips.studies.tasks import multiply_accumulates
from robust_lpips.studies.triplets import triplets
from robust_lpips.tables import to_markdown, with_interval, write_csv, write_text
from robust_lpips.training import LAST, Recipe, fit, launch
from robust_lpips.training.initialization import initialize
from robust_lpips.weights import read_checkpoint, save_checkpoint

ARCHITECTURES = ("alexnet", "vgg16")
TAPS: tuple[int | None, ...] = (2, 4, None)
# As printed, and as robust_lpips.training.initialization takes them.
TRUNKS = {"untrained": "random", "pretrained": "imagenet"}
# What the ranking head is trained beside: nothing of the distance, or its 1x1 weights.
DISTANCES = {"cosine": "head", "linear": "lin"}
METRIC_FILE = "metric.pt"


@dataclass(frozen=True)
class Settings:
    """What every row of the study has in common.

    Attributes:
        data_root: folder of BAPPS; None: the sample set.
        train_triplets: how many to train on; None: all of BAPPS.
        val_triplets: how many to measure on; None: all of BAPPS.
        image_size: side of the patches in pixels.
        max_shift: largest shift in pixels, which decides the crop.
        epochs, learning_rate, batch_size, dropout: of the training.
        seed: of untrained networks, of the head and of the order of triplets.
    """

    data_root: str | None = None
    train_triplets: int | None = 300
    val_triplets: int | None = 200
    image_size: int = 64
    max_shift: int = 3
    epochs: int = 5
    learning_rate: float = 1e-2
    batch_size: int = 10
    dropout: float = 0.5
    seed: int = 0

    @property
    def dataset_name(self) -> str:
        """``"sample"`` or ``"bapps"``."""
        return "sample" if self.data_root is None else "bapps"

    def triplets(self, split: str) -> torch.utils.data.Dataset:
        """The triplets of split ``"train"`` or ``"val"``."""
        n = self.train_triplets if split == "train" else self.val_triplets
        return triplets(self.data_root, split, n, self.image_size)

    def recipe(self, distance: str) -> Recipe:
        """How the ranking head, and the 1x1 weights of a linear distance, are trained."""
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
    """One row: a network, how many of its taps, whether it is trained, and the distance."""

    arch: str
    taps: int | None
    trunk: str
    distance: str

    @property
    def name(self) -> str:
        """As printed and as its folder is called."""
        taps = "all" if self.taps is None else f"first{self.taps}"
        return f"{self.arch}-{taps}-{self.trunk}-{self.distance}"

    def metric(self, seed: int) -> RobustLPIPS:
        """The network at its start, where both distances are the same.

        Raises:
            FileNotFoundError: pretrained weights that cannot be had.
        """
        linear = self.distance == "linear"
        metric = RobustLPIPS(BackboneConfig(self.arch), weights=None, linear=linear)
        initialize(metric, TRUNKS[self.trunk], seed=seed)
        for weight in metric.lin:
            weight.fill_(1.0)
        return metric


VARIANTS = tuple(
    itertools.starmap(Variant, itertools.product(ARCHITECTURES, TAPS, TRUNKS, DISTANCES))
)


@dataclass(frozen=True)
class VariantTask:
    """Train what there is to train of one row, and measure it.

    The checkpoints of its training are for going on; ``metric.pt`` is what other programs load.
    """

    settings: Settings
    variant: Variant
    output: Path
    device: str

    @property
    def name(self) -> str:
        return self.variant.name

    @property
    def folder(self) -> Path:
        """Where its checkpoints, log and distances are."""
        return self.output / "rows" / self.variant.name

    @property
    def distances_path(self) -> Path:
        """What it measured, written last."""
        return self.folder / "distances.csv.gz"

    @property
    def work(self) -> float:
        """Multiply-accumulates, roughly: only the forward pass is counted, and all taps."""
        return 0.0 if self.distances_path.is_file() else self._training_work + self._other_work

    @property
    def _training_work(self) -> float:
        images = 3 * self.settings.epochs * len(self.settings.triplets("train"))
        return images * self._work_of_an_image

    @property
    def _other_work(self) -> float:
        """Of scoring before training and after every epoch, and of measuring all views."""
        passes = 3 * (self.settings.epochs + 1) + 2 * (self.settings.max_shift + 3)
        return passes * len(self.settings.triplets("val")) * self._work_of_an_image

    @property
    def _work_of_an_image(self) -> int:
        config = BackboneConfig(self.variant.arch)
        return multiply_accumulates(config, self.settings.image_size)

    def __call__(self, tick: Tick) -> None:
        if self.distances_path.is_file():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        settings, variant = self.settings, self.variant
        metric = keep_first_taps(variant.metric(settings.seed), variant.taps)
        metric.to(self.device)
        train, validation = settings.triplets("train"), settings.triplets("val")
        recipe = settings.recipe(variant.distance)
        a_step = self._training_work / (recipe.epochs * -(-len(train) // recipe.batch_size))
        fit(
            metric,
            train,
            recipe,
            seed=settings.seed,
            validation=validation,
            output=self.folder,
            provenance={"variant": variant.name, **asdict(settings)},
            fabric=launch(self.device),
            on_step=lambda _: tick(a_step),
        )
        table = measure(metric, validation, settings.max_shift, progress=False)
        save_checkpoint(
            whole(metric, variant), self.folder / METRIC_FILE, {"variant": variant.name}
        )
        write_distances(table, self.distances_path)
        tick(self._other_work)

    def history(self) -> list[dict[str, Any]]:
        """A record an epoch, from before the first on."""
        return read_checkpoint(self.folder / LAST)["training"]["progress"]["history"]


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


def available(variants: Sequence[Variant], seed: int) -> tuple[list[Variant], dict[str, str]]:
    """The rows whose weights can be had, and by name why the others cannot."""
    reasons: dict[tuple[str, str], str] = {}
    for variant in variants:
        key = (variant.arch, variant.trunk)
        if key not in reasons:
            reasons[key] = _reason(variant, seed)
    left_out = {
        variant.name: reason
        for variant in variants
        if (reason := reasons[variant.arch, variant.trunk])
    }
    return [variant for variant in variants if variant.name not in left_out], left_out


def _reason(variant: Variant, seed: int) -> str:
    try:
        variant.metric(seed)
    except FileNotFoundError as error:
        # Its first sentence; the others tell the paths of this machine.
        return str(error).partition(". ")[0]
    return ""


def run(
    settings: Settings,
    output: Path,
    variants: Sequence[Variant] = VARIANTS,
    *,
    device: str = "cpu",
    jobs: int = 1,
    command: str,
) -> str:
    """Do what is left to do, write tables and plots, and return the page as Markdown.

    Into ``output`` go ``summary.csv``, ``differences.csv``, ``curves.csv``, ``summary.md``, a plot
    of the curves for each architecture, and for each row a folder with its checkpoints, log and
    distances; ``metric.pt`` there is what ``RobustLPIPS(weights=...)`` loads.

    Raises:
        ValueError: ``output`` holds results of other settings.
    """
    claim(output, asdict(settings))
    for split in ("train", "val"):
        settings.triplets(split)
    chosen, left_out = available(variants, settings.seed)
    if not chosen:
        raise FileNotFoundError("; ".join(dict.fromkeys(left_out.values())))
    tasks = [VariantTask(settings, variant, output, device) for variant in chosen]
    run_tasks(tasks, jobs, "study of the distance", "MAC")
    summary, differences, curves = summary_table(tasks), difference_table(tasks), curve_table(tasks)
    for name, table in (("summary", summary), ("differences", differences), ("curves", curves)):
        write_csv(table, output / f"{name}.csv")
    accuracy = ACCURACY_LABELS[settings.dataset_name]
    for arch, part in curves.groupby("arch", sort=False):
        title = f"Cosine distance and 1x1 weights: {arch}\n{_conditions(settings)}"
        plot_training_curves(part, output / f"curves-{arch}.png", title, accuracy)
    page = _page(settings, summary, differences, left_out, command, device)
    write_text(output / "summary.md", page)
    return page


def summary_table(tasks: Sequence[VariantTask]) -> pd.DataFrame:
    """A row a variant: what it is, and its scores in percent with 95 % intervals."""
    rows = []
    for task in tasks:
        scores = summarize(read_distances(task.distances_path)).iloc[-1]
        head = task.history()[-1]
        rows.append(
            {"variant": task.name, **_columns(task.variant)}
            | scores.drop(["subset"]).to_dict()
            | {"training_loss": head["loss"]}
        )
    return pd.DataFrame(rows)


def difference_table(tasks: Sequence[VariantTask]) -> pd.DataFrame:
    """Linear minus cosine distance on the same triplets, in percentage points."""
    by_variant = {task.variant: task for task in tasks}
    parts = []
    for task in tasks:
        variant = task.variant
        other = Variant(variant.arch, variant.taps, variant.trunk, "cosine")
        if variant.distance == "linear" and other in by_variant:
            a, b = (read_distances(t.distances_path) for t in (task, by_variant[other]))
            part = paired_difference(a, b)
            for i, (name, value) in enumerate(_columns(variant).items()):
                part.insert(i, name, value)
            parts.append(part.drop(columns="distance"))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def curve_table(tasks: Sequence[VariantTask]) -> pd.DataFrame:
    """Every row's history: ``arch, run``, then as :func:`robust_lpips.training.fit` gives it."""
    parts = []
    for task in tasks:
        part = pd.DataFrame(task.history())
        part.insert(0, "arch", task.variant.arch)
        part.insert(1, "run", task.name.removeprefix(f"{task.variant.arch}-"))
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _columns(variant: Variant) -> dict[str, str]:
    return asdict(variant) | {"taps": "all" if variant.taps is None else str(variant.taps)}


def _conditions(settings: Settings) -> str:
    return (
        f"{settings.dataset_name}, {settings.image_size}x{settings.image_size} px, "
        f"{len(settings.triplets('train'))} training and {len(settings.triplets('val'))} "
        f"validation triplets, seed {settings.seed}"
    )


def _page(
    settings: Settings,
    summary: pd.DataFrame,
    differences: pd.DataFrame,
    left_out: dict[str, str],
    command: str,
    device: str,
) -> str:
    parts = [
        "# The distance: cosine against learnt 1x1 weights",
        f"Measured on {_conditions(settings)}, largest shift {settings.max_shift} px. "
        f"{JUDGE_NOTES[settings.dataset_name]} Brackets: 95 % intervals. "
        f"Made by `{command}` on {machine(device)}.",
        "Plain networks; the trunk stays as it is. Both distances are trained with the ranking "
        "head: of the cosine distance the head alone learns, of the linear one the 1x1 weights "
        f"too, from 1 on ({settings.epochs} epochs, batches of {settings.batch_size}, Adam at "
        f"{settings.learning_rate:g}, dropout {settings.dropout:g}).",
        f"## Measured\n\naccuracy: {ACCURACY_LABELS[settings.dataset_name]}, in percent; r_rf 1: "
        "share of triplets whose ranking a shift of one pixel flips, in percent; loss: the "
        "ranking head's on the training triplets, mean of the last epoch.",
        to_markdown(_measured(summary), {"loss": ".3f"}),
    ]
    if not differences.empty:
        parts += [
            "## Linear minus cosine\n\nPaired over the same triplets, in percentage points.",
            to_markdown(_differences(differences)),
        ]
    if left_out:
        reasons = "\n".join(
            f"- {', '.join(name for name, why in left_out.items() if why == reason)}: {reason}"
            for reason in dict.fromkeys(left_out.values())
        )
        parts.append(f"## Left out\n\n{reasons}")
    return "\n\n".join(parts) + "\n"


def _measured(summary: pd.DataFrame) -> pd.DataFrame:
    shown = summary[["arch", "taps", "trunk", "distance"]].copy()
    for quantity, label in (("two_afc", "accuracy"), ("rrf_1", "r_rf 1")):
        ends = summary[[quantity, f"{quantity}_low", f"{quantity}_high"]]
        shown[label] = [with_interval(*values) for values in ends.to_numpy()]
    return shown.assign(loss=summary["training_loss"])


def _differences(differences: pd.DataFrame) -> pd.DataFrame:
    lines = []
    for keys, part in differences.groupby(["arch", "taps", "trunk"], sort=False):
        by_quantity = part.set_index("quantity")
        cells = {
            label: "{difference:+.1f} [{low:+.1f}, {high:+.1f}]".format_map(
                by_quantity.loc[quantity]
            )
            for quantity, label in (("two_afc", "accuracy"), ("rrf_1", "r_rf 1"))
        }
        lines.append(dict(zip(("arch", "taps", "trunk"), keys, strict=True)) | cells)
    return pd.DataFrame(lines)
