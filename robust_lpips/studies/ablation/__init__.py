"""Ablation tables of the shift-tolerant LPIPS paper: every row untrained and trained, measured.

Each row is a configuration of Ghildyal and Liu, ECCV 2022. It is measured in several states
(:data:`robust_lpips.studies.ablation.rows_task.STATES`), next to the published numbers.
"""

from __future__ import annotations

from robust_lpips.studies.ablation.figure import figures
from robust_lpips.studies.ablation.page import page
from robust_lpips.studies.ablation.rows_task import REFERENCES, prepare, tasks
from robust_lpips.studies.ablation.settings import (
    AblationSettings,
    AlexNetSettings,
    BackbonesSettings,
    BlurPlacementSettings,
    SkipSettings,
    parts,
)
from robust_lpips.studies.ablation.tables import records, tables
from robust_lpips.studies.base import Study


def _study(settings: type[AblationSettings]) -> Study:
    name = f"ablation-{settings.table}"
    return Study(
        name=name,
        settings=settings,
        metrics=REFERENCES,
        parts=parts,
        tasks=tasks,
        prepare=prepare,
        tables=tables,
        page=page,
        figures=figures,
        records=records,
        folder=lambda chosen: chosen.folder(f"{name}-{chosen.preset}"),
        page_name="summary",
        parallel=True,
    )


STUDIES = {
    settings.table: _study(settings)
    for settings in (AlexNetSettings, BlurPlacementSettings, BackbonesSettings, SkipSettings)
}
