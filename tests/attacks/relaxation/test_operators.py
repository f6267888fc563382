"""Every operator: the forward bit for bit, a backward that helps, and its name in the record.

The defences are of one operator each, [6, 12] in (0, 1) -> [6, 5]; their own gradient in the input is zero.
"""

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from attacks.relaxation import Relaxation
from attacks.relaxation.relaxation import HANDLERS

SEED = 3
_GENERATOR = torch.Generator().manual_seed(0)
W = torch.randn(12, 5, generator=_GENERATOR)
CODES = torch.rand(16, 12, generator=_GENERATOR)
LEVELS = torch.linspace(0, 1, 256) ** 2


class ZeroBackward(torch.autograd.Function):
    """Rounding, and a backward that says nothing."""

    @staticmethod
    def forward(ctx, x):
        return (x * 4).round() / 4

    @staticmethod
    def backward(ctx, grad):
        return grad * 0


class SetUpApart(torch.autograd.Function):
    """The same in torch's newer form."""

    @staticmethod
    def forward(x):
        return torch.floor(x * 4) / 4

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, grad):
        return torch.zeros_like(grad)


def _compiled() -> torch.jit.ScriptFunction:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is old, and in use
        return torch.jit.CompilationUnit("""
            def steps(x):
                y = x * 4
                for i in range(2):
                    if bool(y.sum() > 0):
                        y = torch.floor(y)
                return torch.round(y) / 4
            """).steps


SCRIPT = _compiled()
_held = ZeroBackward.apply  # as modules keep it


def _through_numpy(x: Tensor) -> Tensor:
    return torch.from_numpy(np.round(x.detach().numpy() * 8) / 8)


def _through_pictures(x: Tensor) -> Tensor:
    """One image at a time, channels last, as bytes."""
    back = []
    for image in x.view(-1, 3, 2, 2):
        pixels = (image.detach().numpy().transpose(1, 2, 0) * 255).astype(np.uint8)
        back.append(torch.tensor(pixels.transpose(2, 0, 1) / 255.0, dtype=torch.float32).flatten())
    return torch.stack(back)


def _no_grad(x: Tensor) -> Tensor:
    with torch.no_grad():
        return (x * 2).clamp_(0.1, 1.9)


@torch.inference_mode()
def _inference_mode(x: Tensor) -> Tensor:
    return x * 2


def _in_place(x: Tensor) -> Tensor:
    x = x.clone()
    return x.mul_(8).round_().div_(8)


def _top(x: Tensor) -> Tensor:
    return torch.zeros_like(x).scatter_(1, x.topk(4, 1).indices, 1.0)


def _counts(x: Tensor) -> Tensor:
    counts = torch.zeros(len(x), 5)
    for shift in range(3):
        votes = (x @ W + shift).argmax(1, keepdim=True)
        counts.scatter_add_(1, votes, torch.ones(len(x), 1))
    return counts


def _in_threads(x: Tensor) -> Tensor:
    with ThreadPoolExecutor(2) as pool:
        return torch.cat(list(pool.map(lambda part: (part > 0.5).float(), x.split(3))))


# What the report is to call the operator, and the defence.
DEFENCES = {
    "softmax": ("softmax", lambda x: (x @ W / 0.001).softmax(1)),
    "F.softmax": ("softmax", lambda x: F.softmax(1e3 * (x @ W), -1)),
    "nn.Softmax": ("softmax", lambda x: torch.nn.Softmax(1)(1e3 * (x @ W))),
    "special.softmax": ("softmax", lambda x: torch.special.softmax(1e3 * (x @ W), 1)),
    "sigmoid": ("sigmoid", lambda x: torch.sigmoid((x - 0.5) * 1e4) @ W),
    "tanh": ("tanh", lambda x: ((x - 0.5) * 1e4).tanh() @ W),
    "sign": ("sign", lambda x: (x - 0.5).sign() @ W),
    "heaviside": ("heaviside", lambda x: torch.heaviside(x - 0.5, torch.tensor(0.0)) @ W),
    "round": ("round", lambda x: (x * 4).round() / 4 @ W),
    "floor": ("floor", lambda x: torch.floor(x * 4) / 4 @ W),
    "ceil": ("ceil", lambda x: (x * 4).ceil() / 4 @ W),
    "trunc": ("trunc", lambda x: torch.trunc(x * 4) / 4 @ W),
    "in place": ("round", lambda x: _in_place(x) @ W),
    "clamp": ("clamp", lambda x: ((x - 0.5) * 1e4).clamp(0, 1) @ W),
    "hardtanh": ("hardtanh", lambda x: F.hardtanh((x - 0.5) * 1e4) @ W),
    "comparison": ("comparison", lambda x: (x > 0.5).float() @ W),
    "clamp on its bounds": ("clamp", lambda x: x.round().clamp(0, 1) @ W),
    "where": ("comparison", lambda x: torch.where(x > 0.5, 1.0, 0.0) @ W),
    "and": ("comparison", lambda x: ((x > 0.3) & (x < 0.7)).float() @ W),
    "thermometer": ("comparison", lambda x: (x[..., None] > torch.linspace(0, 1, 8)).float().sum(-1) @ W),
    "argmax": ("argmax", lambda x: F.one_hot((x @ W).argmax(1), 5).float()),
    "max indices": ("argmax", lambda x: F.one_hot((x @ W).max(1).indices, 5).float()),
    "counted votes": ("argmax", _counts),
    "topk": ("topk", lambda x: _top(x) @ W),
    "vector quantisation": ("argmin", lambda x: CODES[torch.cdist(x, CODES).argmin(1)] @ W),
    "table of levels": ("cast to int64", lambda x: LEVELS[(x * 255).long()] @ W),
    "random mask": ("comparison", lambda x: (torch.rand_like(x) < x).float() @ W),
    "gumbel_softmax": ("argmax", lambda x: F.gumbel_softmax(x @ W, hard=True)),
    "detach": ("detach", lambda x: x.detach() @ W),
    ".data": (".data", lambda x: x.data @ W),
    "no_grad": ("no_grad", lambda x: _no_grad(x) @ W),
    "inference_mode": ("inference_mode", lambda x: _inference_mode(x) @ W),
    "uint8": ("cast to uint8", lambda x: (x * 255).to(torch.uint8).float() / 255 @ W),
    "byte": ("cast to uint8", lambda x: (x * 255).byte() / 255.0 @ W),
    "int": ("cast to int32", lambda x: (x * 9).int().float() @ W),
    "autograd function": ("autograd function ZeroBackward", lambda x: ZeroBackward.apply(x) @ W),
    "autograd function kept": ("autograd function ZeroBackward", lambda x: _held(x) @ W),
    "autograd function set up": ("autograd function SetUpApart", lambda x: SetUpApart.apply(x) @ W),
    "numpy": ("numpy", lambda x: _through_numpy(x) @ W),
    "pictures": ("numpy", lambda x: _through_pictures(x) @ W),
}


def inputs() -> torch.Tensor:
    return torch.rand(6, 12, generator=torch.Generator().manual_seed(1))


def relaxed(defence, x):
    """Logits, gradient of a weighting of them, and the relaxation."""
    relaxation = Relaxation(measuring=True)

    def answer():
        leaf = x.clone().requires_grad_()
        torch.manual_seed(SEED)
        with relaxation.forward():
            logits = defence(leaf.view_as(leaf))
        (grad,) = torch.autograd.grad((logits * torch.arange(5.0).cos()).sum(), leaf)
        return logits.detach(), grad

    with torch.random.fork_rng():
        return *relaxation.attempt(answer), relaxation


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", DEFENCES)
def test_forward_is_the_same_and_backward_is_not_nothing(name):
    operator, defence = DEFENCES[name]
    x = inputs()
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        plain = defence(x.clone())
        leaf = x.clone().requires_grad_()
        torch.manual_seed(SEED)
        try:
            (own,) = torch.autograd.grad((defence(leaf.view_as(leaf)) * torch.arange(5.0).cos()).sum(), leaf)
        except RuntimeError:
            own = torch.zeros_like(x)
    logits, grad, relaxation = relaxed(defence, x)
    assert torch.equal(logits, plain)
    assert relaxation.level == 0
    assert torch.isfinite(grad).all()
    assert (grad != 0).float().mean() > 0.9
    if name != "gumbel_softmax":  # whose own backward is straight through
        assert (own.abs() < 1e-4).float().mean() > 0.8
    assert operator in {met.name for met in relaxation.record.hiding()}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [n for n in DEFENCES if not n.startswith("gumbel")])
def test_following_the_gradient_raises_what_it_is_the_gradient_of(name):
    _, defence = DEFENCES[name]
    weights = torch.arange(5.0).cos()
    x = inputs()

    def value(at):
        with torch.random.fork_rng():
            torch.manual_seed(SEED)
            return (defence(at) * weights).sum(1)

    moved = x
    for _ in range(8):
        _, grad, _ = relaxed(defence, moved)
        moved = (moved + 0.05 * grad.sign()).clamp(0.001, 0.999)
    assert value(moved).mean() > value(x).mean()


def test_a_plain_network_is_left_alone():
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Linear(12, 8),
        torch.nn.BatchNorm1d(8),
        torch.nn.ReLU(),
        torch.nn.Linear(8, 5),
        torch.nn.Softmax(1),
    ).eval()
    _, grad, relaxation = relaxed(network, inputs())
    leaf = inputs().requires_grad_()
    (own,) = torch.autograd.grad((network(leaf) * torch.arange(5.0).cos()).sum(), leaf)
    torch.testing.assert_close(grad, own)
    assert relaxation.record.hiding() == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "unseen",
    [
        lambda x: torch.vmap(lambda one: (one * 4).round() / 4 + one.argmax())(x) @ W,
        lambda x: _in_threads(x) @ W,
        lambda x: SCRIPT(x) @ W,
    ],
    ids=["vmap", "threads", "TorchScript"],
)
def test_operators_out_of_sight_are_answered_as_they_are(unseen):
    logits, _, relaxation = relaxed(lambda x: unseen(x) + x @ W, inputs())
    assert torch.equal(logits, unseen(inputs()) + inputs() @ W)
    assert relaxation.level < 4


def test_what_one_operator_cannot_be_given_leaves_the_others(monkeypatch):
    def fails(mode, call):
        raise RuntimeError("not for this")

    monkeypatch.setitem(HANDLERS, "abs", fails)
    x = inputs()
    logits, grad, relaxation = relaxed(lambda x: (x - 0.5).sign() @ W + (x @ W).abs().detach(), x)
    assert relaxation.level == 0 and (grad != 0).float().mean() > 0.9
    assert torch.equal(logits, (x - 0.5).sign() @ W + (x @ W).abs())
