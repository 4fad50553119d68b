"""The training loop: triplets in, a trained metric out."""

from __future__ import annotations

import atexit
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset, default_collate

from robust_lpips.evaluation import measure, triplet_outcomes, two_afc_score
from robust_lpips.metric import RobustLPIPS
from robust_lpips.training.batches import EpochBatches
from robust_lpips.training.log import TrainingLog
from robust_lpips.training.objectives import OBJECTIVES
from robust_lpips.training.recipe import Recipe
from robust_lpips.training.session import BEST, LAST, Session
from robust_lpips.training.trainee import Trainee, clamp, split

PRECISIONS = ("32", "bf16-mixed")


def fit(
    metric: RobustLPIPS,
    dataset: Dataset,
    recipe: Recipe,
    *,
    seed: int = 0,
    validation: Dataset | None = None,
    output: Path | None = None,
    provenance: Mapping[str, Any] | None = None,
    checkpoint_every: int = 200,
    fabric: Fabric | None = None,
    num_workers: int = 0,
    on_step: Callable[[float], None] | None = None,
) -> pd.DataFrame:
    """Train ``metric`` in place (Zhang et al., CVPR 2018, Sec. 3).

    If ``output`` holds a checkpoint of the same training, training resumes from it, and the result
    is the same, on a CPU to the bit, as without the interruption. Training advances torch's global
    random generators.

    Args:
        metric: with ``linear=True``, unless only the head learns.
        dataset: items as :class:`robust_lpips.data.TwoAFCDataset`; for ``target="teacher"`` also
            with ``teacher``, the teacher's two distances.
        recipe: hyperparameters of the training.
        seed: of the order of triplets, the dropout and the head.
        validation: triplets on which the metric is scored before training and after every epoch.
        output: folder for ``last.pt``, ``best.pt`` (by 2AFC on ``validation``; the first of equal
            ones) and the log; ``RobustLPIPS(weights=...)`` reads both checkpoints. None: nothing
            is written.
        provenance: numbers, strings and containers of them that describe the origin of the metric
            and of the triplets; kept in the checkpoints.
        checkpoint_every: number of steps between writes of ``last.pt``, which is also written at
            the end of each epoch.
        fabric: device, precision and processes, launched; default: one process, the metric's own
            device, float32.
        num_workers: number of processes that load images.
        on_step: called with the loss after every step.

    Returns:
        One row per epoch, the first before training: ``epoch, loss, accuracy, validation,
        learning_rate``; accuracies are 2AFC scores in [0, 1].

    Raises:
        ValueError: the metric has no 1x1 weights, the loss is not finite, or ``output`` holds
            another training.
    """
    if not metric.linear and recipe.mode != "head":
        raise ValueError("metric must have 1x1 weights to train: build it with linear=True")
    if checkpoint_every < 1:
        raise ValueError(f"checkpoint_every must be at least 1; got {checkpoint_every}")
    fabric = fabric or launch(metric.shift.device)
    batches = EpochBatches(
        len(dataset), recipe.batch_size, seed, fabric.global_rank, fabric.world_size
    )
    torch.manual_seed(seed)
    # A metric in half precision has float32 distances.
    dtype = torch.promote_types(metric.shift.dtype, torch.float32)
    trainee = Trainee(metric, OBJECTIVES[recipe.target]().to(dtype), recipe)
    fabric.to_device(trainee)
    if not (output is not None and (output / LAST).is_file()):
        _start_objective(trainee, [dataset[index] for index in next(batches.whole())], fabric)
    with trainee.learning():
        optimizer = torch.optim.Adam(
            trainee.learnt(), recipe.learning_rate, betas=(0.5, 0.999), fused=True
        )
        scheduler = LambdaLR(optimizer, recipe.decay)
        model, optimizer = fabric.setup(trainee, optimizer)
        # From here on each process draws its own dropout.
        torch.manual_seed(seed + fabric.global_rank)
        settings = {"seed": seed, "triplets": len(dataset), "recipe": asdict(recipe)}
        settings |= dict(provenance or {})
        session = Session(fabric, trainee, optimizer, scheduler, settings, output)
        validate = partial(_validate, session, validation, num_workers)
        progress = session.begin(validate)
        loader = DataLoader(
            dataset,
            batch_sampler=batches,
            num_workers=num_workers,
            # Separate from the global generator, which dropout draws from and which is restored.
            generator=torch.Generator(),
        )
        with TrainingLog(session, batches.steps) as log:
            while progress.epoch < recipe.epochs:
                batches.epoch, batches.first = progress.epoch, progress.step
                for batch in loader:
                    triplets = batches.triplets(progress.step)
                    loss, accuracy = _step(session, model, batch, triplets)
                    progress.count(loss, accuracy, triplets)
                    log.step(loss, accuracy)
                    # The last step is followed by the checkpoint of the epoch.
                    if progress.step % checkpoint_every == 0 and progress.step < batches.steps:
                        session.save(LAST)
                    if on_step is not None:
                        on_step(loss)
                progress.end_epoch(validate(), session.learning_rate)
                scheduler.step()
                log.epoch()
                # In this order: a run stopped between the two repeats the epoch and writes both.
                session.save(*[BEST] * progress.best_is_last, LAST)
    return pd.DataFrame(progress.history)


def _step(
    session: Session, model: nn.Module, batch: Mapping[str, Any], triplets: int
) -> tuple[float, float]:
    """Take one step on this process's part of ``triplets``; return loss and accuracy of all."""
    fabric, progress = session.fabric, session.progress
    images, targets = split(fabric.to_device(batch))
    loss, d0, d1 = model(images, targets)
    if not math.isfinite(loss.item()):
        raise ValueError(f"loss is {loss.item()} in step {progress.step} of epoch {progress.epoch}")
    # Fabric averages over processes; the parts of a short last batch may differ in size.
    share = len(d0) * fabric.world_size / triplets
    loss = loss * share
    session.optimizer.zero_grad()
    fabric.backward(loss)
    session.optimizer.step()
    if session.trainee.lin_learns:
        clamp(session.trainee.metric)
    accuracy = share * two_afc_score(d0.detach(), d1.detach(), targets.tensors["judge"])
    means = torch.tensor([loss.item(), accuracy], dtype=torch.float64)
    loss, accuracy = fabric.all_reduce(fabric.to_device(means), reduce_op="mean").tolist()
    return loss, accuracy


def _start_objective(trainee: Trainee, items: list[dict[str, Any]], fabric: Fabric) -> None:
    """Set starting values from all triplets of the first step, in every process."""
    images, targets = split(fabric.to_device(default_collate(items)))
    with torch.no_grad():
        trainee.objective.start(*trainee.distances(images), targets.tensors)


def _validate(session: Session, dataset: Dataset | None, num_workers: int) -> float | None:
    """2AFC on the validation triplets, mean over subsets, in [0, 1]; None without triplets."""
    score = None
    if dataset is not None and session.fabric.is_global_zero:
        # Loading draws from the generator of dropout, so that is restored afterwards.
        with torch.random.fork_rng(devices=[]):
            table = measure(
                session.trainee.metric,
                dataset,
                max_shift=0,
                num_workers=num_workers,
                progress=False,
            )
        score = float(triplet_outcomes(table).groupby("subset")["two_afc"].mean().mean())
    return session.fabric.broadcast(score)


def launch(device: torch.device | str = "cpu", precision: str = "32") -> Fabric:
    """Launch Fabric for this process, or for the processes that ``torchrun`` started.

    Args:
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; under ``torchrun`` each process uses its
            own GPU.
        precision: ``"32"`` or ``"bf16-mixed"``.

    Raises:
        ValueError: another precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}; got {precision!r}")
    device = torch.device(device)
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "0"))  # set by torchrun alone
    if local and world_size > 1:
        where = {"devices": local, "num_nodes": world_size // local, "strategy": "ddp"}
    else:
        where = {"devices": 1 if device.index is None else [device.index]}
    fabric = Fabric(accelerator=device.type, precision=precision, **where)
    fabric.launch()
    if fabric.world_size > 1:
        # Fabric does so for NCCL alone; threads of Gloo can abort a process that ends before them.
        atexit.register(_leave_processes)
    return fabric


def _leave_processes() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
