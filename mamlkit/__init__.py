"""mamlkit: MAML and MAML++, full second order, small enough to read.

Read the modules in this order: tasks, sinusoids, models, step_sizes, inner_loop, outer_loss, meta_gradient, learners,
model_agnostic, evaluation, plots.
"""

from mamlkit import checking, plots, widgets
from mamlkit._version import __version__
from mamlkit.evaluation import Evaluation, Interval, evaluate, interval
from mamlkit.functional import parameters_of
from mamlkit.inner_loop import adapt
from mamlkit.learners import Learner, fomaml, maml
from mamlkit.model_agnostic import ModelAgnosticMetaLearning
from mamlkit.models import mlp
from mamlkit.outer_loss import FinalStep
from mamlkit.pretrained import pretrained
from mamlkit.sinusoids import Sinusoids, sinusoid
from mamlkit.step_sizes import FixedStepSize
from mamlkit.tasks import TaskBatch, TaskStream

__all__ = [
    "Evaluation",
    "FinalStep",
    "FixedStepSize",
    "Interval",
    "Learner",
    "ModelAgnosticMetaLearning",
    "Sinusoids",
    "TaskBatch",
    "TaskStream",
    "__version__",
    "adapt",
    "checking",
    "evaluate",
    "fomaml",
    "interval",
    "maml",
    "mlp",
    "parameters_of",
    "plots",
    "pretrained",
    "sinusoid",
    "widgets",
]
