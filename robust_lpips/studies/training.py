"""Train one metric and report what it is worth before, at the end and at its best."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd
import torch
from lightning_fabric import Fabric
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from robust_lpips.backbones import BackboneConfig
from robust_lpips.evaluation import (
    ceilings_table,
    measure,
    paired_difference,
    read_distances,
    summarize,
    write_distances,
)
from robust_lpips.metric import RobustLPIPS
from robust_lpips.plots import plot_training
from robust_lpips.studies.folder import claim
from robust_lpips.studies.pool import machine
from robust_lpips.studies.report import ACCURACY_LABELS, JUDGE_NOTES
from robust_lpips.studies.triplets import triplets
from robust_lpips.tables import to_markdown, with_interval, write_text
from robust_lpips.training import BEST, LAST, Recipe, fit, with_teacher
from robust_lpips.training.batches import EpochBatches
from robust_lpips.training.initialization import initialize
from robust_lpips.training.log import HISTORY_FILE, STEPS_FILE
from robust_lpips.weights import read_checkpoint

# Training and validation triplets where nothing is said; None: all. Validation is paid for after
# every epoch, and BAPPS has 36,344 triplets for it.
DEFAULT_TRIPLETS = {
    "sample": {"train": 500, "val": 200},
    "bapps": {"train": None, "val": 2000},
}

# The largest shift in pixels at which the results are measured.
MAX_SHIFT = 3

BEFORE = "before"
_STATES = {BEFORE: "before training", "last": "after the last epoch", "best": "at its best"}


@dataclass(frozen=True)
class Settings:
    """What a training depends on, beside the machine and the number of processes.

    Attributes:
        config: the backbone.
        recipe: how it is trained.
        init: starting weights, as :func:`robust_lpips.training.initialization.initialize` takes
            them.
        teacher: with the recipe's target ``"teacher"``, its name; else None.
        data_root: folder of BAPPS; None: the sample set.
        train_triplets: how many to train on; None: all of BAPPS.
        val_triplets: how many to measure on, evenly spaced ones of BAPPS; None: all of BAPPS.
        image_size: side of the patches in pixels.
        precision: ``"32"`` or ``"bf16-mixed"``.
        seed: of random weights, the order of triplets and dropout; the sample set is always that
            of seed 0.

    Raises:
        ValueError: a teacher without that target or the other way round, or tuning from nothing.
    """

    config: BackboneConfig = field(default_factory=BackboneConfig)
    recipe: Recipe = field(default_factory=Recipe)
    init: str = "random"
    teacher: str | None = None
    data_root: str | None = None
    train_triplets: int | None = DEFAULT_TRIPLETS["sample"]["train"]
    val_triplets: int | None = DEFAULT_TRIPLETS["sample"]["val"]
    image_size: int = 64
    precision: str = "32"
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.teacher is None) != (self.recipe.target == "judge"):
            raise ValueError(
                "teacher must be given with the recipe's target 'teacher', and only then; got "
                f"{self.teacher!r} with {self.recipe.target!r}"
            )
        if self.recipe.mode == "tune" and self.init in ("random", "kmeans"):
            raise ValueError(
                f"init must name trained weights with mode 'tune'; got {self.init!r} (to train "
                "those is mode 'scratch')"
            )

    @property
    def dataset_name(self) -> str:
        """``"sample"`` or ``"bapps"``."""
        return "sample" if self.data_root is None else "bapps"

    def triplets(self, split: str) -> Dataset:
        """The triplets of split ``"train"`` or ``"val"``."""
        n = self.train_triplets if split == "train" else self.val_triplets
        return triplets(self.data_root, split, n, self.image_size)

    def untrained(self) -> RobustLPIPS:
        """The metric with random weights, the same for the same seed."""
        torch.manual_seed(self.seed)
        return RobustLPIPS(self.config, weights=None, linear=True)


def check_output(output: Path, resume: bool) -> None:
    """Whether ``output`` is as it has to be, new or to be gone on from.

    Raises:
        ValueError: it holds a training that is not to be resumed, or none that could be.
    """
    found = (output / LAST).is_file()
    if found and not resume:
        raise ValueError(
            f"output: {output} holds a training already: go on with it (--resume), or choose "
            "another folder"
        )
    if resume and not found:
        raise ValueError(f"output: {output} holds no {LAST} to resume from")


def run(
    settings: Settings,
    output: str | Path,
    fabric: Fabric,
    *,
    resume: bool = False,
    checkpoint_every: int = 200,
    command: str | None = None,
) -> str | None:
    """Train, measure and write down.

    Into ``output`` go ``settings.json``; ``last.pt`` and ``best.pt``; ``steps.csv``,
    ``history.csv`` and ``tensorboard/``; ``teacher.csv.gz``, where a teacher had to be measured;
    ``distances-before.csv.gz``, ``-last`` and ``-best``, of the validation triplets; and
    ``report.md`` and ``training.png``. The process of rank 0 makes all that others only read.

    Args:
        settings: what to train.
        output: a folder, new, or with ``resume`` of a training under the same settings.
        fabric: device, precision and processes, launched.
        resume: go on where the last checkpoint was written.
        checkpoint_every: steps after which one is written.
        command: what made the results, to be printed with them.

    Returns:
        The report as Markdown; None in all processes but the first.

    Raises:
        ValueError: ``output`` is not as above.
    """
    output = Path(output)
    check_output(output, resume)
    num_workers = 0 if fabric.device.type == "cpu" else 8
    with fabric.rank_zero_first():
        train, validation = settings.triplets("train"), settings.triplets("val")
        metric = settings.untrained().to(fabric.device)
        measured = _distances_path(output, BEFORE).is_file()
        if not (resume and measured):  # else the checkpoint brings the weights
            initialize(metric, settings.init, seed=settings.seed, dataset=train)
        # Only now, so that weights that cannot be had leave no folder claimed.
        claim(output, asdict(settings))
        if settings.teacher is not None:
            train = with_teacher(
                train,
                settings.teacher,
                output / "teacher.csv.gz",
                device=fabric.device,
                num_workers=num_workers,
            )
        if not measured:
            _measure(metric, validation, output, BEFORE, num_workers)
    with _progress_bar(settings, len(train), output, fabric) as on_step:
        fit(
            metric,
            train,
            settings.recipe,
            seed=settings.seed,
            validation=validation,
            output=output,
            provenance=_provenance(settings),
            checkpoint_every=checkpoint_every,
            fabric=fabric,
            num_workers=num_workers,
            on_step=on_step,
        )
    if not fabric.is_global_zero:
        return None
    for state, name in (("last", LAST), ("best", BEST)):
        trained = RobustLPIPS(weights=output / name).to(fabric.device)
        _measure(trained, validation, output, state, num_workers)
    return write_report(settings, output, device=fabric.device, command=command)


def write_report(
    settings: Settings, output: Path, *, device: torch.device | str, command: str | None = None
) -> str:
    """Draw the curves of a finished training, and write its page; returned as Markdown."""
    history, steps = (pd.read_csv(output / name) for name in (HISTORY_FILE, STEPS_FILE))
    tables = {state: read_distances(_distances_path(output, state)) for state in _STATES}
    title = f"{settings.config.arch}, {settings.recipe.mode}, from {_init_name(settings)}"
    conditions = _conditions(settings, len(tables[BEFORE].query("view == 'full'")))
    accuracy = ACCURACY_LABELS[settings.dataset_name]
    plot_training(
        history, steps, output / "training.png", f"Training: {title}\n{conditions}", accuracy
    )
    best = int(history.loc[history["validation"].iloc[1:].idxmax(), "epoch"])
    ceilings = ceilings_table(tables[BEFORE]).iloc[-1]
    parts = [
        f"# Training: {title}",
        f"{conditions}. {JUDGE_NOTES[settings.dataset_name]} Accuracy that the judgments allow: an "
        f"oracle {ceilings['oracle']:.2f} %, one more person {ceilings['one_more_person']:.2f} %.",
        f"{_training_note(settings)} Backbone: `{settings.config}`.",
        f"## Validation\n\naccuracy: {accuracy}, in percent; r_rf n: share of triplets whose "
        f"ranking a shift of n pixels flips, in percent, largest shift {MAX_SHIFT} px. Brackets: "
        f"95 % intervals. The best epoch, {best} of {settings.recipe.epochs}, was chosen by these "
        "same triplets, which favours it.",
        to_markdown(_score_rows(tables)),
        "## Differences\n\nPaired over the same triplets, in percentage points.",
        to_markdown(_difference_rows(tables)),
        f"Trained and measured on {machine(str(device))}.",
    ]
    if command is not None:
        parts += ["## Made by", f"```\n{command}\n```"]
    page = "\n\n".join(parts) + "\n"
    write_text(output / "report.md", page)
    return page


def _provenance(settings: Settings) -> dict[str, object]:
    """What is kept in the checkpoints beside what ``fit`` and the metric write there."""
    kept = asdict(settings)
    for name in ("config", "recipe", "seed"):
        del kept[name]
    return kept


def _distances_path(output: Path, state: str) -> Path:
    return output / f"distances-{state}.csv.gz"


def _measure(
    metric: RobustLPIPS, dataset: Dataset, output: Path, state: str, num_workers: int
) -> None:
    """Measure all views of the validation triplets, with a bar that says of which weights."""
    with tqdm(total=len(dataset), desc=f"measuring {_STATES[state]}", unit="triplet") as bar:
        table = measure(metric, dataset, MAX_SHIFT, num_workers=num_workers, progress=bar.update)
    write_distances(table, _distances_path(output, state))


@contextmanager
def _progress_bar(
    settings: Settings, n: int, output: Path, fabric: Fabric
) -> Iterator[Callable[[float], None]]:
    """A bar over all steps, those of an interrupted run done; what is to be told each step."""
    recipe = settings.recipe
    steps = EpochBatches(n, recipe.batch_size, settings.seed, 0, fabric.world_size).steps
    done = 0
    if fabric.is_global_zero and (output / LAST).is_file():
        progress = read_checkpoint(output / LAST)["training"]["progress"]
        done = progress["epoch"] * steps + progress["step"]
    with tqdm(
        total=recipe.epochs * steps,
        initial=done,
        desc="training",
        unit="step",
        disable=not fabric.is_global_zero,
    ) as bar:

        def tell(loss: float) -> None:
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            bar.update()

        yield tell


def _init_name(settings: Settings) -> str:
    """A file by its name alone, so that a page does not tell folders of a machine."""
    return Path(settings.init).name


def _conditions(settings: Settings, val_triplets: int) -> str:
    """What was trained on, in one line."""
    sample = settings.data_root is None
    train = "all" if settings.train_triplets is None else settings.train_triplets
    part = "" if sample or settings.val_triplets is None else " evenly spaced"
    return (
        f"{'sample set' if sample else 'BAPPS'} {settings.image_size}x{settings.image_size}, "
        f"{train} training and {val_triplets}{part} validation triplets, seed {settings.seed}"
    )


def _training_note(settings: Settings) -> str:
    recipe = settings.recipe
    aim = (
        "judgments, with the ranking loss"
        if settings.teacher is None
        else f"the logarithms of the distances of {settings.teacher} (distillation)"
    )
    return (
        f"Trained to {aim}: {recipe.epochs} epochs, the last {recipe.decay_epochs} at lower "
        f"rates, batch {recipe.batch_size}, Adam at {recipe.learning_rate:g}, dropout "
        f"{recipe.dropout:g}, precision {settings.precision}."
    )


def _score_rows(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """A row a state: accuracy and r_rf with their intervals."""
    lines = []
    for state, table in tables.items():
        mean = summarize(table).iloc[-1]
        cells = {
            _label(name): with_interval(mean[name], mean[f"{name}_low"], mean[f"{name}_high"])
            for name in _QUANTITIES
        }
        lines.append({"weights": _STATES[state]} | cells)
    return pd.DataFrame(lines)


def _difference_rows(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """A row a state after training: what it gained on the state before."""
    lines = []
    for state in list(tables)[1:]:
        differences = paired_difference(tables[state], tables[BEFORE]).set_index("quantity")
        cells = {
            _label(name): "{difference:+.1f} [{low:+.1f}, {high:+.1f}]".format_map(row)
            for name, row in differences.iterrows()
        }
        lines.append({"comparison": f"{_STATES[state]} - {_STATES[BEFORE]}"} | cells)
    return pd.DataFrame(lines)


_QUANTITIES = ("two_afc", *(f"rrf_{n}" for n in range(1, MAX_SHIFT + 1)))


def _label(quantity: str) -> str:
    return "accuracy" if quantity == "two_afc" else quantity.replace("rrf_", "r_rf ")
