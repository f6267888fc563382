"""The tools of the benchmark: each one's own account of a defence, with the settings that its authors
document.

Libraries see the defence as a module that draws anew in every answer. AutoAttack runs as published
(`standard` where nothing is random, `rand` elsewhere). The attacks of foolbox, ART and adversarial-library
take 100 steps, ten draws a step on random defences, and as many restarts as csrobust's gradient evaluations
on the same instance pay for. An account is what a user of the tool reads off: labels and flags that it
returns (pyautoattack, foolbox), or answers to the images that it returns.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from benchmarks.errors.twin_parameters import Defended
from benchmarks.peers.league_attacks import quietly
from benchmarks.soundness.instances import Instance

STEPS, DRAWS = 100, 10


class Metered(nn.Module):
    """A network or a defence as a module that counts images forward and backward."""

    def __init__(self, answer: Callable[[Tensor], Tensor], randomised: bool = False):
        super().__init__()
        self.answer, self.randomised, self.forwards, self.backwards = answer, randomised, 0, 0
        self.eval()

    @classmethod
    def of(cls, defence: Defended) -> "Metered":
        """A defence that draws anew in every answer."""
        generator = torch.Generator().manual_seed(1)
        return cls(lambda x: defence.logits(x, defence.sample(generator, len(x))), defence.randomised)

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += len(x)
        logits = self.answer(x.to(torch.float32))
        if logits.requires_grad:
            logits.register_hook(lambda grad: self._count(len(grad)))
        return logits

    def _count(self, images: int) -> None:
        self.backwards += images

    @property
    def gradients(self) -> float:
        """Gradient evaluations: a forward counts a third of one."""
        return (self.forwards + 2 * self.backwards) / 3


@dataclass(frozen=True)
class Account:
    """What a tool says of an instance.

    Attributes:
        standing: images that it takes for robust, of `examples`.
        gradients: evaluations for each image. seconds: of one processor.
    """

    standing: int
    examples: int
    gradients: float
    seconds: float


@dataclass(frozen=True)
class Ball:
    """Where an attack may search: `norm` "linf" or "l2", of radius `eps` in pixels of [0, 1]."""

    norm: str
    eps: float

    @property
    def capital(self) -> str:
        """As AutoAttack writes it."""
        return self.norm.capitalize()

    @property
    def order(self) -> float:
        return float("inf") if self.norm == "linf" else 2


Attack = Callable[[Metered, Tensor, Tensor, Ball, int], Tensor]  # ..., restarts -> which images stand, [n]


def _answered(model: Metered, x: Tensor, y: Tensor, returned: Tensor) -> Tensor:
    """Images whose perturbed version is answered rightly when it is asked about."""
    with torch.no_grad():
        return model(returned).argmax(1) == y


def _pyautoattack(model: Metered, x: Tensor, y: Tensor, ball: Ball, restarts: int) -> Tensor:
    from pyautoattack import AutoAttack

    version = "rand" if model.randomised else "standard"
    suite = AutoAttack(model, norm=ball.capital, eps=ball.eps, seed=0, device="cpu", version=version)
    return suite.run_standard_evaluation(x, y, batch_size=len(x))[1] == y  # answers that it noted itself


def _torchattacks(model: Metered, x: Tensor, y: Tensor, ball: Ball, restarts: int) -> Tensor:
    import torchattacks

    version = "rand" if model.randomised else "standard"
    suite = torchattacks.AutoAttack(model, norm=ball.capital, eps=ball.eps, version=version, seed=0)
    return _answered(model, x, y, suite(x, y))


def _foolbox(model: Metered, x: Tensor, y: Tensor, ball: Ball, restarts: int) -> Tensor:
    import foolbox

    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    if model.randomised:
        wrapped = foolbox.models.ExpectationOverTransformationWrapper(wrapped, DRAWS)
    attack = {"linf": foolbox.attacks.LinfPGD, "l2": foolbox.attacks.L2PGD}[ball.norm](steps=STEPS)
    return ~attack.repeat(restarts)(wrapped, x, y, epsilons=ball.eps)[2]


def _art(model: Metered, x: Tensor, y: Tensor, ball: Ball, restarts: int) -> Tensor:
    from art.attacks.evasion import ProjectedGradientDescent
    from art.estimators.classification import PyTorchClassifier

    wrapped = PyTorchClassifier(
        model, nn.CrossEntropyLoss(), x.shape[1:], 10, clip_values=(0.0, 1.0), device_type="cpu"
    )
    # A step of ART has one draw, so restarts pay for the draws.
    draws = DRAWS if model.randomised else 1
    attack = ProjectedGradientDescent(
        wrapped, norm=ball.order, eps=ball.eps, eps_step=ball.eps / 4, max_iter=STEPS,
        num_random_init=restarts * draws, batch_size=len(x), verbose=False,
    )  # fmt: skip
    return _answered(model, x, y, torch.from_numpy(attack.generate(x.numpy(), y.numpy())))


def _adv_lib(model: Metered, x: Tensor, y: Tensor, ball: Ball, restarts: int) -> Tensor:
    from adv_lib.attacks import apgd

    draws = DRAWS if model.randomised else 1
    returned = apgd(model, x, y, ball.eps, norm=ball.order, n_iter=STEPS, n_restarts=restarts, eot_iter=draws)
    return _answered(model, x, y, returned)


TOOLS: dict[str, tuple[str, Attack]] = {
    "pyautoattack AutoAttack": ("pyautoattack", _pyautoattack),
    "torchattacks AutoAttack": ("torchattacks", _torchattacks),
    "foolbox PGD": ("foolbox", _foolbox),
    "ART PGD": ("art", _art),
    "adversarial-library APGD": ("adv_lib", _adv_lib),
}


def missing_tools() -> list[str]:
    """Tools whose library is not installed."""
    return [name for name, (module, _) in TOOLS.items() if find_spec(module) is None]


def account(tool: str, instance: Instance, gradients: float) -> Account:
    """Runs one tool on one instance, with restarts for as many gradient evaluations per image."""
    known = instance.known
    assert isinstance(known.defence, Defended)
    ball = Ball("linf", instance.entry.eps)
    return tried(tool, Metered.of(known.defence), known.x.clone(), known.y, ball, gradients)


def tried(tool: str, model: Metered, x: Tensor, y: Tensor, ball: Ball, gradients: float) -> Account:
    """Runs one tool on one network or defence.

    Args:
        gradients: evaluations for each image that restarts may add up to.
    """
    draws = DRAWS if model.randomised else 1
    restarts = max(1, round(gradients / (STEPS * draws)))
    started = time.process_time()
    with quietly():
        standing = TOOLS[tool][1](model, x, y, ball, restarts)
    seconds = time.process_time() - started
    return Account(int(standing.sum()), len(x), model.gradients / len(x), seconds)
