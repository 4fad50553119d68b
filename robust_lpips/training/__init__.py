"""Training the metric: objectives and the loop."""

from robust_lpips.training.fit import fit, launch
from robust_lpips.training.objectives import RankingObjective, TeacherObjective
from robust_lpips.training.recipe import MODES, Recipe
from robust_lpips.training.session import BEST, LAST
from robust_lpips.training.teacher import WithTeacher, with_teacher

__all__ = [
    "BEST",
    "LAST",
    "MODES",
    "RankingObjective",
    "Recipe",
    "TeacherObjective",
    "WithTeacher",
    "fit",
    "launch",
    "with_teacher",
]
