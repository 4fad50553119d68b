"""Training the metric: objectives and the loop."""

from robust_lpips.training.fit import PRECISIONS, fit, launch
from robust_lpips.training.objectives import RankingObjective, TeacherObjective
from robust_lpips.training.recipe import Recipe
from robust_lpips.training.session import BEST, LAST
from robust_lpips.training.teacher import WithTeacher, with_teacher

__all__ = [
    "BEST",
    "LAST",
    "PRECISIONS",
    "RankingObjective",
    "Recipe",
    "TeacherObjective",
    "WithTeacher",
    "fit",
    "launch",
    "with_teacher",
]
