"""Training the metric: objectives and the loop."""

from robust_lpips.training.fit import Recipe, fit
from robust_lpips.training.objectives import RankingObjective, TeacherObjective
from robust_lpips.training.teacher import WithTeacher

__all__ = ["RankingObjective", "Recipe", "TeacherObjective", "WithTeacher", "fit"]
