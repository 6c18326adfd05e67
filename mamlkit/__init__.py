"""mamlkit: MAML and MAML++, full second order, small enough to read.

``help(mamlkit.maml)`` shows MAML in a dozen lines of plain PyTorch. In the library it is one screen, the loop in
``meta_gradient.TaskByTask`` over the step in ``inner_loop.inner_step``. MAML++ is the same with other parts,
``algorithms.maml_plus_plus``. ``README.md`` in this folder says what to read, and in which order.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from mamlkit import directions, tables
from mamlkit._moved import keep_old_addresses
from mamlkit._version import __version__
from mamlkit.algorithms import anil, fomaml, imaml, maml, maml_plus_plus, meta_sgd, reptile
from mamlkit.batch_norm import PerStepBatchNorm
from mamlkit.data.episodes import ImageClasses, ImageTasks
from mamlkit.data.glyphs import glyphs
from mamlkit.data.images import image_arrays, image_folder
from mamlkit.data.omniglot import omniglot
from mamlkit.data.sinusoids import Sinusoids, sinusoid
from mamlkit.evaluation import Evaluation, Interval, evaluate, evaluate_ensemble, interval
from mamlkit.functional import parameters_of
from mamlkit.inner_loop import adapt
from mamlkit.learners import Learner
from mamlkit.model_agnostic import ModelAgnosticMetaLearning, evaluate_maml, train_maml
from mamlkit.models import conv4, mlp
from mamlkit.neighbours import nearest_neighbour
from mamlkit.outer_loss import AnnealedMultiStep, FinalStep, MultiStep
from mamlkit.pretrained import pretrained, pretrained_learner, pretrained_names, pretrained_record, recorded
from mamlkit.prototypes import ProtoNet
from mamlkit.step_sizes import FixedStepSize, LearnedStepSizes, StepSizes
from mamlkit.tasks import TaskBatch, TaskDistribution, TaskList, TaskStream, prefetched
from mamlkit.training import History, TrainingDiverged, TrainingOptions, fit, load_learner

__all__ = [
    "AnnealedMultiStep",
    "Evaluation",
    "FinalStep",
    "FixedStepSize",
    "History",
    "ImageClasses",
    "ImageTasks",
    "Interval",
    "LearnedStepSizes",
    "Learner",
    "ModelAgnosticMetaLearning",
    "MultiStep",
    "PerStepBatchNorm",
    "ProtoNet",
    "Sinusoids",
    "StepSizes",
    "TaskBatch",
    "TaskDistribution",
    "TaskList",
    "TaskStream",
    "TrainingDiverged",
    "TrainingOptions",
    "__version__",
    "adapt",
    "anil",
    "checking",
    "conv4",
    "directions",
    "evaluate",
    "evaluate_ensemble",
    "evaluate_maml",
    "fit",
    "fomaml",
    "glyphs",
    "image_arrays",
    "image_folder",
    "imaml",
    "interval",
    "load_learner",
    "maml",
    "maml_plus_plus",
    "meta_sgd",
    "mlp",
    "nearest_neighbour",
    "omniglot",
    "parameters_of",
    "plots",
    "prefetched",
    "pretrained",
    "pretrained_learner",
    "pretrained_names",
    "pretrained_record",
    "recorded",
    "reptile",
    "sinusoid",
    "tables",
    "train_maml",
    "widgets",
]

keep_old_addresses()

# Their matplotlib and ipywidgets take as long to load as torch: a training that draws nothing goes without them.
_WHEN_NEEDED = ("checking", "plots", "widgets")

if TYPE_CHECKING:
    from mamlkit import checking, plots, widgets
else:

    def __getattr__(name: str) -> ModuleType:
        """One of the modules that are loaded when they are needed."""
        if name in _WHEN_NEEDED:
            return importlib.import_module(f"mamlkit.{name}")
        raise AttributeError(f"module 'mamlkit' has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *_WHEN_NEEDED})
