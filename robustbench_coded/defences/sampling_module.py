"""A plain module that draws its own random numbers, made answerable to explicit draws."""

import torch
from torch import Tensor, nn

from robustbench_coded.defences.answers_as_logits import as_logits
from robustbench_coded.defences.global_generators import seeded_globally
from robustbench_coded.defences.held_generators import held_generators, seeded
from robustbench_coded.defences.own_copies import own_answer, own_input
from robustbench_coded.defences.own_parameters import OwnParameters
from robustbench_coded.defences.per_batch import begin_batch
from robustbench_coded.user_code import UserCode


class UsedSeed(int):
    """A draw for which ``TAKEN`` numbers were taken from the global generators before."""

    TAKEN = 1000


class SamplingModule:
    """Wraps a module that samples inside ``forward``, from the global generators or from its own attributes.

    A draw is the integer that those generators are seeded with for one answer; they are put back afterwards,
    so the same draw gives the same answer and an attacker may know it.

    What the module declares as attributes (``name``, ``randomised``, ``batch_dependent``, ``base``) is
    believed. Of the rest the worst is assumed, that it is randomised and batch-dependent, until ``settle`` is
    told better. The base is ``model`` where the module holds it as a part, else None.

    Attributes:
        undeclared: those of ``randomised`` and ``batch_dependent`` that the module leaves open.
        has_sampled: whether it has drawn any random number so far.

    Args:
        module: [k, C, H, W] in [0, 1] -> [k, classes].
        model: the model that the module was built around.
        name: the defence's name unless the module has one.
    """

    def __init__(self, module: nn.Module, model: nn.Module | None = None, *, name: str):
        self.module = module
        said = {key: getattr(module, key, None) for key in ("randomised", "batch_dependent")}
        self.undeclared = tuple(key for key, value in said.items() if not isinstance(value, bool))
        self.randomised: bool = said["randomised"] is not False
        self.batch_dependent: bool = said["batch_dependent"] is not False
        self.has_sampled = False
        self.user_code = UserCode()
        self.parameters = OwnParameters()
        reject = getattr(module, "abstain", None)
        self.abstain: int | None = reject if isinstance(reject, int) else None
        own_name = getattr(module, "name", None)
        self.name: str = own_name if isinstance(own_name, str) and own_name else name
        holds_model = any(part is model for part in module.modules())
        base = getattr(module, "base", model if holds_model else None)
        self.base: nn.Module | None = base if isinstance(base, nn.Module) else None

    def settle(self, *, randomised: bool, batch_dependent: bool) -> None:
        """Takes what a probe found for what the module does not declare.

        A module that has drawn a number counts as randomised even where no answer showed it: a coin may
        rarely fall on its other side.
        """
        found = {"randomised": randomised or self.has_sampled, "batch_dependent": batch_dependent}
        for key in self.undeclared:
            setattr(self, key, found[key])

    def sample(self, generator: torch.Generator, k: int) -> int:
        return int(torch.randint(2**32, (), generator=generator))

    def logits(self, x: Tensor, draw: int | None) -> Tensor:
        """[k, C, H, W] in [0, 1] -> [k, classes]. A module that is not randomised gets draw None."""
        taken = UsedSeed.TAKEN if isinstance(draw, UsedSeed) else 0
        seed, own = draw or 0, held_generators(self.module)

        def answer(x: Tensor) -> Tensor:
            sets_all = seeded_globally(seed, taken=taken)
            with sets_all as sampled, seeded(own, seed, taken=taken) as own_sampled:
                begin_batch(self.module, own_input(x))
                answers = own_answer(as_logits(self.module(own_input(x)), self.name))
                self.has_sampled = self.has_sampled or sampled() or own_sampled()
            return answers

        with self.user_code:
            return self.parameters.answered(answer, x)
