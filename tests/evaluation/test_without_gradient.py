"""Whatever is raised while a defence is differentiated means no gradient, never the end of a run."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from attacks.attack import read_attack
from attacks.gradients import NoGradient, gradient, gradient_or_zero, recorded, slope
from attacks.perturbation_budget import PerturbationBudget
from attacks.relaxation import Relaxation
from robustbench_coded import attack, evaluate
from robustbench_coded.defences.plugin import as_defence
from robustbench_coded.evaluation.execution.perturb import AttackInputs, perturb
from robustbench_coded.evaluation.execution.target import Target
from robustbench_coded.evaluation.planning.streams import stream
from robustbench_coded.evaluation.setup.probing import hidden_gradients, probed

K, EPS = 8, 0.2
GENERATOR = torch.Generator().manual_seed(0)
X = torch.rand(2 * K, 3, 4, 4, generator=GENERATOR)
WEIGHTS = torch.randn(3, 48, generator=GENERATOR)


def linear(x):
    return x.flatten(1) @ WEIGHTS.T


Y = linear(X).argmax(1)


class Refusing(torch.autograd.Function):
    """The identity, whose backward pass raises an exception, where ``at`` says so."""

    @staticmethod
    def forward(ctx, x, at):
        ctx.at = at
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        if ctx.at:
            raise ValueError("no backward pass here. More follows")
        return grad, None


class Backward(nn.Module):
    def forward(self, x):
        return Refusing.apply(linear(x), True)


class Numpy(nn.Module):
    """numpy() of a tensor that asks for a gradient raises an exception in the forward pass."""

    def forward(self, x):
        return linear(torch.from_numpy(x.numpy().copy()))


class Adapting(nn.Module):
    """Batch normalisation whose parameters take steps of entropy minimisation, as TENT's authors write it."""

    batch_dependent = True

    def __init__(self, steps=1):
        super().__init__()
        self.steps = steps
        self.norm = nn.BatchNorm2d(3, track_running_stats=False)
        self.optimiser = torch.optim.SGD(self.norm.parameters(), 1.0)
        self.initial = {name: value.clone() for name, value in self.norm.state_dict().items()}

    def forward(self, x):
        self.norm.load_state_dict(self.initial)
        logits = linear(self.norm(x))
        for _ in range(self.steps):
            logits = self.step(x)
        return logits

    @torch.enable_grad()
    def step(self, x):
        logits = linear(self.norm(x))
        loss = -(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad()
        return logits


NETWORKS = {"backward": Backward, "numpy": Numpy, "adapting": Adapting}


def test_what_is_raised_has_one_name():
    leaf = X.clone().requires_grad_()
    with pytest.raises(NoGradient, match=r"differentiate its answer \(ValueError: no backward pass here\)"):
        gradient(Backward()(leaf).sum(), leaf)
    with pytest.raises(NoGradient, match="no graph back to its input"):
        slope(Numpy(), torch.sum, X)
    assert torch.equal(gradient_or_zero(Backward()(leaf).sum(), leaf), torch.zeros_like(X))
    torch.testing.assert_close(slope(linear, torch.sum, X), WEIGHTS.sum(0).view(1, 3, 4, 4).expand_as(X))
    assert torch.equal(recorded(Numpy(), leaf), linear(X))
    with pytest.raises(ZeroDivisionError):  # which has nothing to do with a graph
        recorded(lambda x: 1 / 0, leaf)
    with pytest.raises(torch.OutOfMemoryError):
        recorded(lambda x: (_ for _ in ()).throw(torch.OutOfMemoryError()), leaf)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_probe_finds_no_gradient_and_relaxed_operators_find_one(name):
    defence = as_defence(NETWORKS[name](), None, name=name, origin="")
    found = probed(defence, X[:K], 0, remembers=X, whole=X[:K])
    assert found.contradictions == () and found.figures["no_gradient"] != ""
    hidden = hidden_gradients(defence, X[:K], Y[:K], 0, without=found.figures["no_gradient"])
    assert hidden.without and hidden.relaxable


@pytest.mark.parametrize("steps", [1, 2])
def test_the_relaxed_gradient_of_a_defence_that_adapts_is_that_of_its_answer(steps):
    """Its parameters follow from the batch, too; held fixed, they are those of its last answer."""
    fixed = Adapting(steps - 1)
    fixed(X)
    relaxation = Relaxation()
    defence = as_defence(Adapting(steps), None, name="adapting", origin="")

    def asked():
        leaf = X.clone().requires_grad_()
        with torch.enable_grad(), relaxation.forward():
            logits = defence.logits(leaf.clone(), None)
        return gradient(nn.functional.cross_entropy(logits, Y), leaf)

    relaxation.attempt(asked)  # what is tried first stops half-way through a step
    found = relaxation.attempt(asked)
    leaf = X.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(nn.functional.cross_entropy(linear(fixed.norm(leaf)), Y), leaf)
    assert torch.cosine_similarity(found.flatten(), wanted.flatten(), 0) > 0.999


@pytest.mark.parametrize("name", ["backward", pytest.param("adapting", marks=pytest.mark.long)])
def test_a_run_goes_on_with_smooth_operators(tmp_path, name):
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 3, bias=False))
    model[1].weight = nn.Parameter(WEIGHTS)
    run = evaluate(
        model, (X, Y), defences={name: NETWORKS[name]()}, attacks="pgd-5,relaxed-pgd-5,square-5", eps=EPS,
        batch_size=K, draws=2, standard=False, threads=1, out=tmp_path / "run",
    )  # fmt: skip
    rows = run.summary.set_index("attack")
    assert (rows.status == "done").all() and "pgd-5" not in rows.index
    assert rows.accuracy["relaxed-pgd-5"] < 0.5 * rows.accuracy["clean"]
    (probe,) = run.manifest.probes
    assert any("left out" in warning for warning in probe.warnings)


def test_a_network_that_cannot_be_differentiated_is_evaluated_and_attacked_alike(tmp_path):
    run = evaluate(
        Backward().eval(), (X, Y), attacks="pgd-5,relaxed-pgd-5", eps=EPS, batch_size=K, threads=1,
        out=tmp_path / "run",
    )  # fmt: skip
    assert set(run.summary.attack) >= {"clean", "relaxed-pgd-5"}
    found = attack(Backward().eval(), X, Y, "pgd-5", EPS, seed=0)
    assert (linear(found).argmax(1) == Y).float().mean() < 0.5


def test_one_that_cannot_be_differentiated_at_some_inputs_is_attacked_there_with_smooth_operators():
    """Bright inputs have no gradient: the attack of their group begins again, from the same start."""

    class AtBright(nn.Module):
        def forward(self, x):
            return Refusing.apply(linear(x), bool((x.mean((1, 2, 3)) > 0.5).any()))

    dark, bright = X[:K] / 4, X[:K]
    assert attacked(AtBright(), dark, "pgd-3").counts["without_gradient"] == 0
    found = attacked(AtBright(), bright, "pgd-3")
    assert found.counts["without_gradient"] == K and not torch.equal(found.x[0], bright)
    assert torch.equal(found.x, attacked(AtBright(), bright, "relaxed-pgd-3").x)


class Mirrored(torch.autograd.Function):
    """A stage that is far from the identity, with the identity as its backward pass."""

    @staticmethod
    def forward(ctx, x):
        return x.flip(-1)

    @staticmethod
    def backward(ctx, grad):
        return grad


def passed_through(x):
    return linear(x + (x.flip(-1) - x).detach())


@pytest.mark.parametrize(
    ("model", "named"),
    [(passed_through, "detach"), (lambda x: linear(Mirrored.apply(x)), "autograd function Mirrored")],
    ids=["detach", "function"],
)
def test_a_backward_pass_that_is_the_identity_is_named_and_relaxed_attacks_undo_it(model, named):
    defence = as_defence(model, None, name="mirrored", origin="")
    hidden = hidden_gradients(defence, X[:K], Y[:K], 0)
    assert named in [met["operator"] for met in hidden.operators]
    x, y = X[:K], model(X[:K]).argmax(1)
    inputs = AttackInputs(
        target_of(model, x), None, x[None], y[None], PerturbationBudget("linf", 0.05), [stream(0, 0, "start")]
    )
    left = {
        name: (model(perturb(read_attack(name), inputs).x[0]).argmax(1) == y).float().mean()
        for name in ("pgd-10", "relaxed-pgd-10")
    }
    assert left["relaxed-pgd-10"] < left["pgd-10"]


class Optimising(nn.Module):
    """Adds the gradient of a loss of its own, which needs the leaf that detach has made.

    ``fault``: its memory runs out in its second answer.
    """

    def __init__(self, fault=False):
        super().__init__()
        self.answers, self.fault = 0, fault

    @torch.enable_grad()
    def forward(self, x):
        self.answers += 1
        if self.fault and self.answers == 2:
            raise torch.OutOfMemoryError
        leaf = x.detach().clone().requires_grad_(True)
        (leaf**2).sum().backward()
        return linear(x + 0 * x.round() + 0.01 * leaf.grad.detach())


@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_the_level_of_relaxation_is_counted_and_no_fault_of_the_machine_changes_it(tmp_path):
    found = attacked(Optimising(), X[:K], "relaxed-pgd-3")
    assert {name: n for name, n in found.counts.items() if name.startswith("relaxed")} == {"relaxed_2": K}
    assert attacked(nn.Flatten(), X[:K], "relaxed-pgd-3").counts["relaxed_0"] == K
    with pytest.raises(torch.OutOfMemoryError):
        attacked(Optimising(fault=True), X[:K], "relaxed-pgd-3")
    evaluate(
        Optimising(), (X, Y), attacks="relaxed-pgd-3", eps=EPS, batch_size=K, threads=1,
        out=tmp_path / "run",
    )  # fmt: skip
    report = (tmp_path / "run" / "report.md").read_text()
    assert f"ran on {len(X)} inputs with its own cuts of the graph" in report


def test_a_forward_that_fails_when_recorded_is_no_failure_at_the_input():
    target = target_of(Numpy(), X[:K])
    assert torch.equal(target.logits(X[None, :K].clone().requires_grad_(), [None])[0], linear(X[:K]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_losses_of_answers_in_half_precision_are_those_of_float32(dtype):
    half = SimpleNamespace(randomised=False, batch_dependent=False, logits=lambda x, _: linear(x).to(dtype))
    whole = Target(half, K, 0, [0]).logits(X[None, :K], [None])
    assert whole.dtype == torch.float32 and torch.equal(whole[0], linear(X[:K]).to(dtype).float())


def test_user_code_is_asked_no_larger_batches_than_it_is_scored_in():
    sizes = []
    target = target_of(lambda x: sizes.append(len(x)) or linear(x), X[:K])
    assert torch.equal(target.logits(X.view(2, K, *X.shape[1:]), [None]).flatten(0, 1), linear(X))
    assert sizes[-2:] == [K, K]


def target_of(module, x):
    defence = as_defence(module, None, name="mine", origin="")
    defence.settle(randomised=False, batch_dependent=False)
    return Target(defence, len(x), 0, [0], x[None])


def attacked(module, x, name):
    y, budget = linear(x).argmax(1), PerturbationBudget("linf", EPS)
    inputs = AttackInputs(target_of(module, x), None, x[None], y[None], budget, [stream(0, 0, "start")])
    return perturb(read_attack(name), inputs)
