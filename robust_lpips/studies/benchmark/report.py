"""The page of a benchmark."""

from __future__ import annotations

import torch

from robust_lpips.studies.benchmark.suite import Result
from robust_lpips.studies.pool import machine
from robust_lpips.tables import to_markdown


def page(result: Result, suite: str, device: str, command: str) -> str:
    """What was done, on which machine, and what was found, as Markdown."""
    parts = [
        f"# Benchmark: {suite}",
        f"Made by `{command}` on {machine(device)}, {torch.get_num_threads()} threads"
        f"{', TF32 off' if torch.device(device).type == 'cuda' else ''}.",
        result.text,
    ]
    if result.peaks is not None:
        parts.append(str(result.peaks))
    parts.append(to_markdown(result.shown, result.formats))
    if result.left_out:
        reasons = "\n".join(f"- {name}: {reason}" for name, reason in result.left_out.items())
        parts.append(f"## Left out\n\n{reasons}")
    return "\n\n".join(parts)
