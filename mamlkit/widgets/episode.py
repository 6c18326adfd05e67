"""Few-shot episodes to play: the reader's answers beside a network's, before and after it adapts (figure of chapter 5).

The network answers in torch, in the function below, when the figure is made; its probabilities travel with the images in
the figure's state. In the browser the reader answers, and the two are counted against each other.
"""

import base64
from collections.abc import Sequence

import anywidget
import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from mamlkit.arguments import expect_at_least
from mamlkit.learners import Learner
from mamlkit.tasks import TaskBatch
from mamlkit.widgets._assets import figure_module, style_sheet

__all__ = ["Episode", "episode_answers"]


def episode_answers(learner: Learner, tasks: TaskBatch) -> Float[Tensor, "2 tasks query ways"]:
    """The probabilities that a learner gives to each class for each query image, before adaptation and after.

    Where the learner is transductive, the query images of a task are answered together, as one batch.

    Args:
        learner: of a classification model; it is not changed.
        tasks: the episodes.

    Returns:
        ``(2, tasks, query, ways)``, with the initialisation first, then with the parameters after the last inner step.
    """
    both = []
    for support_x, support_y, query_x, _ in zip(*learner.expect_tasks(tasks), strict=True):
        path = learner.adapt(support_x, support_y)
        with torch.no_grad():
            logits = [learner.predict(query_x, path[step], step) for step in (0, len(path) - 1)]
        both.append(torch.stack(logits).softmax(-1))  # (2, query, ways)
    return torch.stack(both, 1)


class Episode(anywidget.AnyWidget):
    """Live figure: classify the query images of an episode yourself, then see how the network did.

    Args:
        learner: whose answers are shown.
        tasks: the episodes; inputs of one channel with values in [0, 1].
        questions: how many of its query images each episode asks, drawn at random; all of them when not given.
        seed: of this draw.
        names: for each episode, what each of its classes is called, for readers who cannot see the images.

    Raises:
        ValueError: if the images have more than one channel, or the numbers of questions or names do not fit the tasks.
    """

    _esm = figure_module("episode")
    _css = style_sheet()
    images = traitlets.Unicode(read_only=True, help="uint8 of all support and query images, in base64").tag(sync=True)
    size = traitlets.List(traitlets.Int(), read_only=True, help="height and width of an image").tag(sync=True)
    support_y = traitlets.List(
        traitlets.List(traitlets.Int()), read_only=True, help="(episodes, support) class numbers"
    ).tag(sync=True)
    query_y = traitlets.List(
        traitlets.List(traitlets.Int()), read_only=True, help="(episodes, questions) class numbers"
    ).tag(sync=True)
    answers = traitlets.List(traitlets.List(), read_only=True, help="(2, episodes, questions, ways) probabilities").tag(
        sync=True
    )
    names = traitlets.List(
        traitlets.List(traitlets.Unicode()), read_only=True, help="(episodes, ways) names of classes, or empty"
    ).tag(sync=True)
    episode = traitlets.Int(0, min=0, help="the episode that is on the table").tag(sync=True)
    choices = traitlets.List(
        traitlets.List(traitlets.Int()), help="(episodes, questions) the reader's answers, -1 for none yet"
    ).tag(sync=True)
    revealed = traitlets.List(traitlets.Bool(), help="(episodes,) whether the network's answer is shown").tag(sync=True)

    def __init__(
        self,
        learner: Learner,
        tasks: TaskBatch,
        *,
        questions: int | None = None,
        seed: int = 0,
        names: Sequence[Sequence[str]] = (),
    ) -> None:
        if tasks.query_x.ndim != 5 or tasks.query_x.shape[2] != 1:
            raise ValueError(
                f"expected images (tasks, query, 1, height, width), got query_x {tuple(tasks.query_x.shape)}"
            )
        if names and len(names) != tasks.num_tasks:
            raise ValueError(f"expected names for each of {tasks.num_tasks} tasks, got {len(names)}")
        self.tasks = _asked(tasks, questions, seed)
        support_x, support_y, query_x, query_y = self.tasks
        pixels = (255 * torch.cat([support_x, query_x], 1)).round().to(torch.uint8)  # (tasks, support + query, 1, h, w)
        probabilities = episode_answers(learner, self.tasks)  # (2, tasks, query, ways)
        super().__init__()
        for trait, value in {
            "images": base64.b64encode(pixels.cpu().numpy().tobytes()).decode("ascii"),
            "size": list(pixels.shape[-2:]),
            "support_y": support_y.tolist(),
            "query_y": query_y.tolist(),
            "answers": probabilities.double().cpu().numpy().round(7).tolist(),
            "names": [list(row) for row in names],
        }.items():
            self.set_trait(trait, value)
        self.choices = [[-1] * query_y.shape[1] for _ in range(tasks.num_tasks)]
        self.revealed = [False] * tasks.num_tasks

    def __repr__(self) -> str:
        """The settings of the episode, the same in every run."""
        ways = len(self.answers[0][0][0])
        return f"Episode({len(self.query_y)} episodes, {ways} ways, {len(self.query_y[0])} questions each)"


def _asked(tasks: TaskBatch, questions: int | None, seed: int) -> TaskBatch:
    """The same tasks with only this many of their query points, in random order."""
    available = tasks.query_y.shape[1]
    questions = available if questions is None else expect_at_least("questions", questions, 1)
    if questions > available:
        raise ValueError(f"expected at most the {available} query images there are, got questions={questions}")
    keys = torch.rand(tasks.query_y.shape, generator=torch.Generator().manual_seed(seed))
    order = keys.argsort(1)[:, :questions].to(tasks.query_y.device)  # (tasks, questions)
    rows = torch.arange(tasks.num_tasks, device=order.device)[:, None]
    return tasks._replace(query_x=tasks.query_x[rows, order], query_y=tasks.query_y[rows, order])
