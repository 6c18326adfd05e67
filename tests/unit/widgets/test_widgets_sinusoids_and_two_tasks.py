"""The torch functions behind the live figures, against finite differences and against a wrong derivation."""

import pytest
import torch
import traitlets

from mamlkit import mlp, pretrained
from mamlkit.widgets import ThreeStarts, TwoTasks, three_starts, two_task_arrows, two_task_losses
from mamlkit.widgets.two_tasks import TASKS

PLACES = [(-0.2, -1.3), (1.0, 1.0), (-2.0, -1.0), (2.5, 2.0)]


def adapted(theta, task, alpha, inner_steps):
    """Inner steps by central differences of the support loss: no autograd."""
    for _ in range(inner_steps):
        theta = theta - alpha * slope(lambda t: two_task_losses(t)[task, 0], theta)
    return theta


def slope(f, theta, h=1e-5):
    shifts = h * torch.eye(2, dtype=torch.float64)
    return torch.stack([(f(theta + d) - f(theta - d)) / (2 * h) for d in shifts])


@pytest.mark.parametrize("theta", PLACES)
@pytest.mark.parametrize(("inner_steps", "alpha"), [(1, 0.3), (3, 0.4), (10, 0.8)])
def test_arrows_against_finite_differences(theta, inner_steps, alpha):
    arrows = two_task_arrows(theta, alpha, inner_steps)
    theta = torch.tensor(theta, dtype=torch.float64)
    ends = torch.stack([adapted(theta, i, alpha, inner_steps) for i in range(2)])
    torch.testing.assert_close(arrows["adapted"], ends, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(arrows["reptile"], (ends - theta).mean(0), rtol=1e-8, atol=1e-8)

    def mean_query(start):
        return two_task_arrows(start, alpha, inner_steps)["query_after"].mean()

    torch.testing.assert_close(arrows["maml"], -slope(mean_query, theta), rtol=1e-6, atol=1e-8)
    first_order = torch.stack([slope(lambda t, i=i: two_task_losses(t)[i, 1], ends[i]) for i in range(2)])
    torch.testing.assert_close(arrows["fomaml"], -first_order.mean(0), rtol=1e-6, atol=1e-8)


def test_losses_are_reported_where_they_are_taken():
    arrows = two_task_arrows((0.5, 0.5), 0.3, 2)
    losses = two_task_losses((0.5, 0.5))
    torch.testing.assert_close(arrows["support"], losses[:, 0])
    torch.testing.assert_close(arrows["query"], losses[:, 1])
    assert arrows["steps"].shape == (2, 3, 2)
    ends = torch.stack([two_task_losses(end)[i, 1] for i, end in enumerate(arrows["adapted"])])
    torch.testing.assert_close(arrows["query_after"], ends)


@pytest.mark.parametrize("theta", PLACES)
@pytest.mark.parametrize("inner_steps", [1, 2, 5])
def test_maml_is_not_fomaml(theta, inner_steps):
    arrows = two_task_arrows(theta, 0.4, inner_steps)
    assert (arrows["maml"] - arrows["fomaml"]).norm() > 0.02 * arrows["fomaml"].norm()


@pytest.mark.parametrize("theta", PLACES)
@pytest.mark.parametrize("inner_steps", [2, 4])
def test_the_hessian_at_theta_alone_gives_another_answer(theta, inner_steps):
    """(I - alpha H(theta))^K is the tempting wrong Jacobian; the surfaces must tell it from the right one."""
    alpha = 0.4
    arrows = two_task_arrows(theta, alpha, inner_steps)
    start = torch.tensor(theta, dtype=torch.float64)

    def through(points):
        total = torch.zeros(2, dtype=torch.float64)
        for i in range(len(TASKS)):
            v = slope(lambda t, i=i: two_task_losses(t)[i, 1], arrows["adapted"][i])
            for point in reversed(points[i]):
                hessian = torch.autograd.functional.hessian(lambda t, i=i: two_task_losses(t)[i, 0], point)
                v = v - alpha * hessian @ v
            total -= v / len(TASKS)
        return total

    right = through([list(path[:-1]) for path in arrows["steps"]])
    wrong = through([[start] * inner_steps] * 2)
    torch.testing.assert_close(arrows["maml"], right, rtol=1e-6, atol=1e-8)
    assert (arrows["maml"] - wrong).norm() > 1e-3 * arrows["maml"].norm()


def test_dtype_of_theta_is_kept_and_numbers_become_float64():
    assert two_task_arrows((0, 1), 0.1, 1)["maml"].dtype == torch.float64
    assert two_task_arrows(torch.tensor([0.0, 1.0]), 0.1, 1)["maml"].dtype == torch.float32


def test_widget_holds_its_settings_and_names_wrong_ones():
    figure = TwoTasks(theta=(0.5, -1.0), alpha=0.2, inner_steps=4, show=["maml"])
    torch.testing.assert_close(figure.arrows()["maml"], two_task_arrows((0.5, -1.0), 0.2, 4)["maml"])
    assert repr(figure) == "TwoTasks(theta=(0.5, -1.0), alpha=0.2, inner_steps=4)"
    with pytest.raises(traitlets.TraitError, match="theta must lie within"):
        TwoTasks(theta=(4.0, 0.0))
    with pytest.raises(traitlets.TraitError):
        TwoTasks(alpha=2.0)
    with pytest.raises(traitlets.TraitError):
        TwoTasks(inner_steps=0)
    with pytest.raises(ValueError, match="at least 1"):
        two_task_arrows((0.0, 0.0), 0.1, 0)


def test_three_starts_against_plain_sgd():
    """The same steps by torch.optim on a copy of the network."""
    support_x = [-4.0, -1.5, 0.5, 2.0, 4.5]
    shown = three_starts(3.0, 0.7, support_x)
    x = torch.tensor(support_x, dtype=torch.float64)[:, None]
    y = 3.0 * torch.sin(x - 0.7)
    for name in ("scratch", "pretrained", "maml"):
        model = mlp(seed=0)
        if name != "scratch":
            model.load_state_dict(pretrained(f"sinusoid-{name}"))
        model.double()
        optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
        for k in range(11):
            outputs = model(shown["x"][:, None])[:, 0].detach()
            torch.testing.assert_close(shown["curves"][name][k], outputs)
            torch.testing.assert_close(shown["mse"][name][k], (outputs - shown["truth"]).square().mean())
            optimiser.zero_grad()
            torch.nn.functional.mse_loss(model(x), y).backward()
            optimiser.step()


def test_three_starts_widget_holds_its_settings_and_names_wrong_ones():
    figure = ThreeStarts(amplitude=2.0, phase=0.5, shots=5, inner_steps=3)
    expected = three_starts(2.0, 0.5, figure.points[:5])["mse"]["maml"]
    torch.testing.assert_close(figure.curves()["mse"]["maml"], expected)
    assert figure.points == ThreeStarts().points  # the same points in every run
    assert repr(figure) == "ThreeStarts(amplitude=2.0, phase=0.5, shots=5, inner_steps=3)"
    for wrong in ({"amplitude": 6.0}, {"phase": -1.0}, {"shots": 0}, {"inner_steps": 11}, {"points": [9.0] * 20}):
        with pytest.raises(traitlets.TraitError):
            ThreeStarts(**wrong)


@pytest.mark.parametrize("figure_class", [TwoTasks, ThreeStarts])
def test_front_end_stands_alone(figure_class):
    """No import and no address of another host in what the page runs."""
    figure = figure_class()
    assert "export default" in figure._esm
    for text in (figure._esm, figure._css):
        assert "import " not in text
        assert "://" not in text.replace("http://www.w3.org/2000/svg", "")
