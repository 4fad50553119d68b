"""Registration: how right its estimates are, what people say, what it does to gradients, and where
it fails."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from robust_lpips.comparison.registry import check_names
from robust_lpips.studies.folder import claim
from robust_lpips.studies.registration import descent, estimates, failures, human
from robust_lpips.studies.registration.settings import Settings
from robust_lpips.tables import write_text

DEFAULT_METRICS = ("alexnet-shift-tolerant", "vgg16-shift-tolerant")

_Part = Callable[[Settings, Path, Sequence[str], torch.device | str], str]

# What is not about people takes the first metric.
PARTS: dict[str, _Part] = {
    "estimates": lambda settings, output, metrics, device: estimates.run(settings, output),
    "human": human.run,
    "descent": lambda settings, output, metrics, device: descent.run(
        settings, output, metrics[0], device
    ),
    "failures": lambda settings, output, metrics, device: failures.run(
        settings, output, metrics[0], device
    ),
}


def run(
    settings: Settings,
    output: str | Path,
    metrics: Sequence[str] = DEFAULT_METRICS,
    *,
    parts: Sequence[str] = tuple(PARTS),
    device: torch.device | str = "cpu",
    command: str | None = None,
) -> str:
    """Measure the parts that are not yet measured, and return the page of all that are.

    Into ``output`` go tables and plots of each part, its section of the page, by which it is known
    as finished and not measured again, and ``summary.md``, the page.

    Args:
        settings: what is measured on.
        output: a folder, new or of an earlier run under the same settings and metrics.
        metrics: as :func:`robust_lpips.comparison.load_metric` takes them; descent and failures are
            about the first.
        parts: some of :data:`PARTS`.
        device: where to compute.
        command: what made a part, to be printed with it.

    Raises:
        FileNotFoundError: no such file of answers, or a metric lacks a package or weights.
        ValueError: unknown parts or metrics, answers that cannot be used, photographs that are too
            small, or ``output`` holds results of other settings.
    """
    if unknown := [name for name in parts if name not in PARTS]:
        raise ValueError(f"parts must be some of {', '.join(PARTS)}; got {', '.join(unknown)}")
    check_names(metrics)
    output = Path(output)
    claim(output, _claimed(settings, metrics))
    for name in parts:
        if not _section(output, name).is_file():
            text = PARTS[name](settings, output, metrics, device)
            made = f"\n\nMade by `{command}`." if command else ""
            write_text(_section(output, name), f"{text}{made}\n")
    page = _page(output)
    write_text(output / "summary.md", page)
    return page


def _section(output: Path, part: str) -> Path:
    return output / f"{part}.md"


def _claimed(settings: Settings, metrics: Sequence[str]) -> dict[str, object]:
    """What results depend on. Files may change under their names: answers are known by a digest."""
    claimed = asdict(settings) | {"metrics": list(metrics)}
    if settings.answers is not None:
        claimed["answers"] = hashlib.sha256(Path(settings.answers).read_bytes()).hexdigest()
    return claimed


def _page(output: Path) -> str:
    heading = (
        "# Registration: does alignment do what it says?\n\n"
        "Measured here; nothing is taken from papers but people's answers (Ghildyal and Liu, "
        "ECCV 2022).\n"
    )
    sections = (_section(output, name) for name in PARTS)
    return "\n".join([heading, *(p.read_text(encoding="utf-8") for p in sections if p.is_file())])
