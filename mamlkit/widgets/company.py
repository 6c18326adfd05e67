"""A query image in every company: what the other images of its batch do to the answer (figure of chapter 9).

Batch norm normalises a query image with a mean and a variance. Where these are the query batch's, the answer depends on the other
images in the batch. The figure has one image and a few companions; the function below answers for each choice of companions, and
the browser looks its numbers up.
"""

import base64
from collections.abc import Callable, Mapping, Sequence

import anywidget
import torch
import traitlets
from jaxtyping import Float
from torch import Tensor

from mamlkit.widgets._assets import figure_module, style_sheet

__all__ = ["Company", "company_answers"]

MOST = 7  # companions: more would make the state large


def company_answers(
    answer: Callable[[Tensor], Tensor], query_x: Float[Tensor, "images channels height width"]
) -> Float[Tensor, "companies ways"]:
    """The probabilities of the first image in the company of every subset of the others.

    Args:
        answer: a network with its weights; takes images ``(images, channels, height, width)`` to logits ``(images, ways)``.
        query_x: the image that is asked about, then its possible companions.

    Returns:
        ``(2 ** companions, ways)``. In row r companion i is present where bit i of r is 1: the first row is the image alone, the
        last one has everybody.
    """
    companions = len(query_x) - 1
    found = []
    with torch.no_grad():
        for row in range(2**companions):
            present = [0, *(i + 1 for i in range(companions) if row >> i & 1)]
            found.append(answer(query_x[present])[0].softmax(0))
    return torch.stack(found)


class Company(anywidget.AnyWidget):
    """Live figure: put companions into the query batch of an image, and watch the answer for that image.

    Args:
        answers: by name, ways to answer that differ in the statistics they normalise with, as in company_answers.
        support_x: one image of each class, in order, ``(ways, 1, height, width)`` with values in [0, 1].
        query_x: the image that is asked about, then up to 7 companions.
        query_y: their classes.
        present: numbers of the companions that are there at first.

    Raises:
        ValueError: if the images have more than one channel, or there are too many, or their classes do not fit.
    """

    _esm = figure_module("company")
    _css = style_sheet()
    images = traitlets.Unicode(
        read_only=True, help="uint8 of an image per class, the question and its companions, in base64"
    ).tag(sync=True)
    size = traitlets.List(traitlets.Int(), read_only=True, help="height and width of an image").tag(sync=True)
    classes = traitlets.List(traitlets.Int(), read_only=True, help="of the question and its companions").tag(sync=True)
    names = traitlets.List(traitlets.Unicode(), read_only=True, help="of the ways to normalise").tag(sync=True)
    answers = traitlets.List(traitlets.List(), read_only=True, help="(names, companies, ways) probabilities").tag(
        sync=True
    )
    way = traitlets.Int(0, min=0, help="which of the names is chosen").tag(sync=True)
    present = traitlets.List(traitlets.Int(min=0), help="numbers of the companions that are there").tag(sync=True)

    def __init__(
        self,
        answers: Mapping[str, Callable[[Tensor], Tensor]],
        support_x: Tensor,
        query_x: Tensor,
        query_y: Sequence[int] | Tensor,
        present: Sequence[int] = (),
    ) -> None:
        for name, images in (("support_x", support_x), ("query_x", query_x)):
            if images.ndim != 4 or images.shape[1] != 1:
                raise ValueError(f"expected images (number, 1, height, width), got {name} {tuple(images.shape)}")
        companions = len(query_x) - 1
        if not 1 <= companions <= MOST:
            raise ValueError(f"expected 1 to {MOST} companions, got {companions}")
        classes = [int(label) for label in query_y]
        if len(classes) != len(query_x) or not all(0 <= label < len(support_x) for label in classes):
            raise ValueError(f"expected a class below {len(support_x)} for each of {len(query_x)} images")
        if not all(0 <= companion < companions for companion in present):
            raise ValueError(f"expected numbers of companions from 0 to {companions - 1}, got {list(present)}")
        pixels = (255 * torch.cat([support_x, query_x])).round().to(torch.uint8)
        found = torch.stack([company_answers(answer, query_x) for answer in answers.values()])
        super().__init__(present=sorted(present))
        for trait, value in {
            "images": base64.b64encode(pixels.cpu().numpy().tobytes()).decode("ascii"),
            "size": list(pixels.shape[-2:]),
            "classes": classes,
            "names": list(answers),
            "answers": found.double().cpu().numpy().round(4).tolist(),
        }.items():
            self.set_trait(trait, value)

    def __repr__(self) -> str:
        """What the figure holds, the same in every run."""
        return f"Company({len(self.classes) - 1} companions, {len(self.names)} ways to normalise)"
