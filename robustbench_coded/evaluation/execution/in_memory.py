"""Data, models and defences that an evaluation receives in memory, in place of files and names."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from attacks.gradients import raise_machine_fault
from robustbench_coded.data.dataset import Dataset
from robustbench_coded.defences.memory import ROUNDING, in_evaluation_mode
from robustbench_coded.defences.options import GIVEN
from robustbench_coded.defences.per_batch import changed_by
from robustbench_coded.defences.plugin import as_defence
from robustbench_coded.defences.protocol import ONE_NUMBER, Defence
from robustbench_coded.defences.sampling import all_seeded
from robustbench_coded.errors import InputError, described
from robustbench_coded.evaluation.guard import networks_restored
from robustbench_coded.models.in_memory import (
    FixedBatch,
    NetworkInMemory,
    answered,
    is_function,
    name_of,
    networks_in,
    own_copy,
)
from robustbench_coded.models.pixel_model import PixelModel

SAMPLE = 16  # images that a network is asked about first


@dataclass(frozen=True)
class InMemory:
    """Things in memory; what is left out comes from where the options say.

    Attributes:
        data: in place of ``--data``.
        models: by name, beside ``--ckpt``: modules or functions from pixels [B, C, H, W] in [0, 1] to logits
            [B, classes] (`models.in_memory`). Modules are copied, put into eval mode, float32 and frozen; one
            whose copy answers otherwise, or refers to it, is asked itself, as a function is, in eval mode.
        defences: by name, beside ``--defence``: a defence; a module or function that answers by itself,
            and may sample inside; or a function or class that builds one of these around a model. One that is
            not built is put behind every checkpoint as it is, whatever model it has inside.
        batch_sizes: those of a network that answers batches of one size alone.
    """

    data: Dataset | None = None
    models: Mapping[str, Callable[[Tensor], Any]] = field(default_factory=dict)
    defences: Mapping[str, Any] = field(default_factory=dict)
    batch_sizes: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        """True if there is anything; it stays in this process, which then runs all units."""
        return self.data is not None or bool(self.models or self.defences)

    def model(self, name: str, data: Dataset) -> PixelModel:
        """A given model as every other: frozen, in eval mode, its number of classes known.

        Raises:
            InputError: it does not answer the first images with logits for every label of the data.
        """
        given = self.models[name]
        if isinstance(given, PixelModel) and (copied := own_copy(given)) is not None:
            return copied
        x = data.batch(range(min(SAMPLE, len(data))))[0]
        own, network, answers = _query(given, x, name, self.batch_sizes)
        classes = answers.shape[1]
        if classes == 1:
            raise InputError(f"{name}: it answers one number for each image; {ONE_NUMBER}")
        if classes <= (highest := int(data.labels.max())):
            from_one = highest == classes and int(data.labels.min()) == 1
            mend = "labels begin at 0: give y - 1" if from_one else "give the data it was trained on"
            raise InputError(f"{name}: it answers {classes} classes, {data.name} has label {highest}; {mend}")
        return ModelInMemory((given, own), network, answers, channels=data.image_shape[0])

    def defence(self, spec: str, model: nn.Module, data: Dataset) -> Defence:
        """The defence that a specification with `GIVEN` names, around ``model``.

        A function that answers images of ``data`` with logits is a defence, any other builds one around the
        user's own network, with all its methods and whatever it returns.

        Raises:
            InputError: what was given is no defence.
        """
        name = spec.removeprefix(GIVEN)
        own = model.given[1] if isinstance(model, ModelInMemory) else model
        built, failure = self.defences[name], ""
        if is_function(built):
            failure = _failure(built, data.batch([i % len(data) for i in range(SAMPLE)])[0])
        if isinstance(built, type) or failure:
            try:
                built = built(own)
            except InputError:
                raise
            except (Exception, SystemExit) as error:  # the user's code can fail in any way
                raise_machine_fault(error)
                why = f"does not build a defence around the model ({described(error)})"
                if failure:
                    why = f"neither answers images ({failure}) nor builds a defence around the model"
                raise InputError(f"defence {name}: it {why}") from error
        # Attacks through a base model take its gradients.
        base = model if getattr(model, "differentiable", True) else None
        defence = as_defence(built, base, name=name, origin=f"defence {name}: expected a defence, got")
        if defence.base is own:
            defence.base = model
        return defence


class ModelInMemory(PixelModel):
    """The Model of a network in memory, whatever normalisation it has inside.

    Args:
        given: what the user has, and the copy of it, or the same again.
        network: answers with that copy's logits.
        answers: its logits for the first images, [n, classes], with their graph.
        channels: of these images.

    Attributes:
        given: what the user has and its copy, in a tuple: they are no parts of this module.
        differentiable: whether its answers have a gradient.
    """

    def __init__(
        self,
        given: tuple[Callable[[Tensor], Any], Callable[[Tensor], Any]],
        network: nn.Module,
        answers: Tensor,
        *,
        channels: int,
    ):
        flat = (0.0,) * channels, (1.0,) * channels
        super().__init__(network, *flat, classes=answers.shape[1], arch=name_of(given[0]))
        self.differentiable = answers.requires_grad
        self.given = given


class DefenceAsModel(nn.Module):
    """A defence that names no base model, where a model is wanted: its answers in one draw, k at a time.

    It serves to look at the defence and to time it; nothing is attacked through it.
    """

    def __init__(self, defence: Defence, k: int):
        super().__init__()
        self.defence = defence
        self.k = k

    def images(self, count: int) -> int:
        """Images through the network for ``count`` inputs."""
        images = getattr(self.defence, "images", None)
        return -(-count // self.k) * (int(images(self.k)) if callable(images) else self.k)

    def forward(self, x: Tensor) -> Tensor:
        whole = x[torch.arange(-(-len(x) // self.k) * self.k, device=x.device) % len(x)]
        draw = self.defence.sample(torch.Generator().manual_seed(0), self.k)
        return torch.cat([self.defence.logits(batch, draw) for batch in whole.split(self.k)])[: len(x)]


def _query(
    given: Callable[[Tensor], Any], x: Tensor, name: str, sizes: Sequence[int]
) -> tuple[Callable[[Tensor], Any], nn.Module, Tensor]:
    """A copy of a network, that as a module that answers with logits, and its logits for x [n, C, H, W].

    Without a faithful copy it is the network itself, and a module that asks it.
    """
    try:
        if not isinstance(given, nn.Module):
            return given, *_ask(given, x, sizes)
        if (own := _faithful_copy(given, x, sizes)) is not None:
            return own, *_ask(own.float(), x, sizes)  # in which everything else computes
        with suppress(NotImplementedError):  # a program that torch exported has one mode
            given.eval()  # until the end of the public call (`guarded`)
        return given, *_ask(lambda images: given(images), x, sizes)
    except InputError as error:
        raise InputError(f"{name}: {str(error).removeprefix(f'{name}: ')}") from error


def _faithful_copy(given: nn.Module, x: Tensor, sizes: Sequence[int]) -> nn.Module | None:
    """A copy in evaluation mode that answers as the network does on the same draw; None without one."""
    if (copied := own_copy(given)) is None:
        return None
    with networks_restored([given]), suppress(InputError, NotImplementedError):
        given.eval()
        answers, theirs = (_ask(each, x, sizes)[1].detach() for each in (copied.eval(), given))
        if changed_by(theirs, answers) <= ROUNDING * float(theirs.abs().nan_to_num(0, 0, 0).max()):
            return copied
    return None


def _ask(own: Callable[[Tensor], Any], x: Tensor, sizes: Sequence[int]) -> tuple[nn.Module, Tensor]:
    """A module that answers with a network's logits, and those for x.

    A network that fails on the batches asked for is asked in batches of each of these sizes.
    """
    network = NetworkInMemory(own)
    asked: nn.Module = network
    with torch.enable_grad(), all_seeded(network, 0):  # it may sample
        try:
            answers = answered(network, x.clone().requires_grad_())
            answered(network, x[:2])
        except InputError as error:  # some answer batches of one size alone
            if error.__cause__ is None or (fixed := _of_one_size(network, x, sizes)) is None:
                raise
            asked, answers = fixed
        else:
            with suppress(InputError):
                answered(network, x[:1])  # some answer a single image in another form
    _check_modes(own, asked, x, answers)
    return (own if isinstance(own, nn.Module) and network.plain else asked), answers


@torch.no_grad()
def _check_modes(own: Callable[[Tensor], Any], asked: nn.Module, x: Tensor, answers: Tensor) -> None:
    """Raises InputError if a network behind ``own``, of which there is no copy, answers x as in training."""
    training = [network for network in networks_in(own) if network.training]
    parts = [part for network in training for part in network.modules() if part.training]
    if not parts:
        return
    with in_evaluation_mode(parts), all_seeded(asked, 0):
        changed = changed_by(answers, answered(asked, x))
    if changed:
        kind = type(training[0]).__name__
        raise InputError(f"the {kind} that it asks is in training mode; call its eval()")


def _of_one_size(network: nn.Module, x: Tensor, sizes: Sequence[int]) -> tuple[nn.Module, Tensor] | None:
    """A network that answers batches of one of these sizes, and its logits; None where it answers none."""
    for size in sizes:
        try:
            fixed = FixedBatch(network, size)
            return fixed, fixed(x.clone().requires_grad_())
        except Exception as error:  # the user's code can fail in any way
            raise_machine_fault(error)
    return None


def _failure(function: Callable[[Tensor], Any], x: Tensor) -> str:
    """What a function makes of images x [n, C, H, W] that is not logits, in words; empty where it is."""
    network = NetworkInMemory(function)
    try:
        with torch.no_grad(), all_seeded(network, 0):
            answered(network, x)
    except InputError as error:
        return str(error)
    return ""
