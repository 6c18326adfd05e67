"""Live figures: anywidgets whose JavaScript does the mathematics, so they work in a page with no kernel.

Each figure stands in its own module next to the plain torch functions that compute the same numbers by autograd.
"""

from mamlkit.widgets.annealing import Annealing, annealed_losses
from mamlkit.widgets.company import Company, company_answers
from mamlkit.widgets.curvature import Curvature, curvature_arrows
from mamlkit.widgets.diagnose import Diagnose, symptoms_of
from mamlkit.widgets.episode import Episode, episode_answers
from mamlkit.widgets.grade_book import GradeBook, grades_seen
from mamlkit.widgets.meta_training import MetaTraining, errors_in_training
from mamlkit.widgets.noisy_bowl import NoisyBowl, cosine_rates, noisy_descent
from mamlkit.widgets.scaled_bowl import ScaledBowl, bowl_descent
from mamlkit.widgets.sinusoids import ThreeStarts, three_starts
from mamlkit.widgets.step_size import StepSize, curvature_and_losses
from mamlkit.widgets.two_tasks import TwoTasks, two_task_arrows, two_task_losses

__all__ = [
    "Annealing",
    "Company",
    "Curvature",
    "Diagnose",
    "Episode",
    "GradeBook",
    "MetaTraining",
    "NoisyBowl",
    "ScaledBowl",
    "StepSize",
    "ThreeStarts",
    "TwoTasks",
    "annealed_losses",
    "bowl_descent",
    "company_answers",
    "cosine_rates",
    "curvature_and_losses",
    "curvature_arrows",
    "episode_answers",
    "errors_in_training",
    "grades_seen",
    "noisy_descent",
    "symptoms_of",
    "three_starts",
    "two_task_arrows",
    "two_task_losses",
]
