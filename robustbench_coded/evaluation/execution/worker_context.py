"""Data, models and defences that a worker needs to run units, each loaded once from a plain
description; and the threads of the process that plans.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attacks.accelerator import layout, random_states_kept
from attacks.adapters.user_modules import Code
from robustbench_coded.data.dataset import Dataset, levels_of
from robustbench_coded.data.registry import load_data
from robustbench_coded.defences import inferences, memory, options, plugin, protocol, sampling
from robustbench_coded.defences.options import GIVEN, is_user_defence
from robustbench_coded.defences.per_batch import KeptMemory, PerBatch
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.in_memory import DefenceAsModel, InMemory
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning import cases, plan, streams
from robustbench_coded.evaluation.planning.batches import VICTIMS, Batch, evaluated, victims_batch
from robustbench_coded.models.external_architectures import is_library
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.pixel_model import PixelModel, SomeClasses, multiplications
from robustbench_coded.models.prepare import AttackCopy, prepare_model
from robustbench_coded.models.registry import MODELS
from robustbench_coded.threads import few_threads, keep_memory

SENTINEL = 16  # inputs by which a defence is asked whether it still answers as it did
COMPARED_IMAGES = 32  # on which a prepared model must agree with the original

# Images that mixup inference may mix in.
POOL_IMAGES = 256


@dataclass(frozen=True)
class LoadedCheckpoint:
    """One checkpoint with everything that was recognised or measured, as plain data.

    Attributes:
        arch: as given on the command line, to load it the same way again.
        network, classes: the recognised architecture, and its number of classes.
        mean, deviation: its normalisation per channel, inside the model, stated, stored or recognised.
        facts: what the report says about it (architecture, hashes, how its normalisation was chosen).
    """

    name: str
    path: str
    sha256: str
    arch: str | None
    network: str
    classes: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    attack_precision: str
    facts: dict[str, Any]

    @property
    def ours(self) -> bool:
        """True if it is a file with weights of one of our own architectures."""
        return bool(self.path) and self.network in MODELS

    @property
    def theirs(self) -> bool:
        """True if the network is code of the user's: it is in memory, or ``--arch`` names what builds it."""
        return not self.path or (":" in self.network and not is_library(self.network))


@dataclass(frozen=True)
class Setup:
    """A worker's orders, small enough to send.

    Attributes:
        options: of the evaluation.
        data: data set as text, ``auto`` resolved.
        examples: number of examples evaluated.
        device: torch device as text.
        group_images: images that may go through the network in one forward; part of the plan.
        threads: CPU threads of the worker.
        in_memory: what is in memory already, and loaded from nowhere.
        workers: how many there are on this machine.
        fitting: images in a forward after memory ran out with ``group_images``, by checkpoint; grows as
            units run.
    """

    options: EvalConfig
    data: str
    examples: int
    device: str
    group_images: int
    threads: int
    checkpoints: tuple[LoadedCheckpoint, ...]
    in_memory: InMemory = field(default_factory=InMemory)
    workers: int = 1
    fitting: dict[str, int] = field(default_factory=dict)


class WorkerContext:
    """Loads what units ask for and keeps it."""

    def __init__(self, setup: Setup):
        keep_memory()
        self.setup = setup
        self.device = torch.device(setup.device)
        self.arrays: dict[str, Code] = {}  # of users' defences when they were built, by what names these
        self._models: dict[str, PixelModel] = {}
        self._gradients: dict[str, AttackCopy] = {}
        self._defences: dict[tuple[str, str, int], protocol.Defence] = {}
        self._attack_defences: dict[tuple[str, str, int], protocol.Defence] = {}
        # Of models that user code was given, by their id, and of users' defences.
        self._sentinels: dict[int | tuple[str, str, int], memory.Sentinel] = {}
        self._sampling: dict[int, bool] = {}
        self._batches: dict[cases.ProbedSubject, list[Batch]] = {}

    @cached_property
    def data(self) -> Dataset:
        setup = self.setup
        whole = setup.in_memory.data or load_data(setup.data, data_dir=setup.options.data_dir)
        return evaluated(whole, setup.examples, first=setup.options.first, seed=setup.options.seed)

    @property
    def numbers(self) -> np.ndarray:
        """Which image of the data set each example is, by its place among those evaluated."""
        return np.arange(len(self.data)) if self.data.numbers is None else self.data.numbers

    def preload(self, data: Dataset, models: dict[str, PixelModel]) -> None:
        """Takes the data evaluated and the models by checkpoint, instead of loading them from files."""
        self.data = data
        self._models = {name: model.to(self.device) for name, model in models.items()}

    def load(self) -> None:
        """Loads the data and all models now, not when a unit first asks for them."""
        _ = self.data
        for checkpoint in self.setup.checkpoints:
            self.model(checkpoint.name)

    def model(self, checkpoint: str) -> PixelModel:
        """The checkpoint's model in float32 on the worker's device, parameters frozen."""
        if checkpoint in self.setup.in_memory.models and checkpoint not in self._models:
            model = self.setup.in_memory.model(checkpoint, self.data)
            self._models[checkpoint] = model.to(self.device)
        if checkpoint not in self._models:
            info = self.checkpoint(checkpoint)
            shape = self.data.image_shape
            loaded = load_checkpoint(info.path, arch=info.arch, name=info.name, image_shape=shape)
            if loaded.sha256 != info.sha256:
                raise RuntimeError(f"{info.path} has changed since the run began")
            outputs = self.data.outputs
            chosen = outputs is not None and loaded.classes != info.classes
            network = SomeClasses(loaded.network, outputs) if outputs and chosen else loaded.network
            model = PixelModel(network, info.mean, info.deviation, classes=info.classes, arch=info.network)
            if info.ours:  # others may use view(), which this layout breaks
                # Convolutions run in it: the numbers are the same, nothing is rearranged each time.
                model = model.to(memory_format=layout(self.device))
            self._models[checkpoint] = model.to(self.device)
        return self._models[checkpoint]

    def checkpoint(self, name: str) -> LoadedCheckpoint:
        """The facts about a checkpoint."""
        return next(c for c in self.setup.checkpoints if c.name == name)

    def build(self, spec: str, model: PixelModel, k: int) -> protocol.Defence:
        """The defence that ``spec`` describes, around ``model``.

        Raises:
            InputError: it cannot be built, or changed the answers of ``model`` when it was.
        """
        theirs = is_user_defence(spec)
        samples = self.samples(model)
        if theirs and id(model) not in self._sentinels and not isinstance(model.network, DefenceAsModel):
            # How it answers before user code has it.
            standard = self.build(inferences.Standard.name, model, SENTINEL)
            self._sentinels[id(model)] = self._sentinel(standard, SENTINEL)
        if spec.startswith(GIVEN):
            defence = self.setup.in_memory.defence(spec, model, self.data)
        elif spec == inferences.Standard.name and samples:
            defence = sampling.SamplingModule(model, name=inferences.Standard.name)
        else:
            parsed = options.parse_defence(spec)
            with sampling.all_seeded(model, 0) if samples else nullcontext():  # it may be asked here already
                defence = plugin.build_defence(parsed, model, k, pool=lambda: self._pool)
        if samples:
            defence = sampling.around_sampling(defence, model)
        if theirs and (change := self.changed(model)):
            raise InputError(f"{defence.name} was not evaluated: it {change}")
        return defence

    def _sentinel(self, defence: protocol.Defence, k: int) -> memory.Sentinel:
        x = self.data.batch([i % len(self.data) for i in range(k)])[0]
        draw = defence.sample(streams.stream(self.setup.options.seed, -1, "probe", 4), len(x))
        return memory.Sentinel.ask(defence, x.to(self.device), draw)

    def changed(self, model: PixelModel) -> str | None:
        """How user code changed a model that it was given, as a clause; None if nothing did.

        Standard inference and every other defence around the checkpoint ask the same object.
        """
        sentinel = self._sentinels.get(id(model))
        change = None if sentinel is None else sentinel.change()
        if change is None:
            return None
        return (
            f"changes the network that it is given, which other defences are given, too: {change}; "
            "let it change a copy (copy.deepcopy(model))"
        )

    def samples(self, model: PixelModel) -> bool:
        """True if a model draws random numbers inside; asked once of each."""
        if isinstance(model.network, DefenceAsModel):  # a defence's answers in one draw
            return False
        if id(model) not in self._sampling:
            x = self.data.batch([0, min(1, len(self.data) - 1)])[0].to(self.device)
            self._sampling[id(model)] = sampling.samples(model, x)
        return self._sampling[id(model)]

    @cached_property
    def levels(self) -> int | None:
        """How many levels the data's pixels have, up to 255; None where they have none."""
        return levels_of(self.data)

    @cached_property
    def _pool(self) -> Tensor:
        """Images for defences that mix them in."""
        data, rest = self._not_evaluated(POOL_IMAGES)
        if not len(rest):
            raise InputError(
                "a defence here needs images that are not evaluated; leave some with a lower --limit"
            )
        return data.batch(rest[:POOL_IMAGES])[0].to(self.device)

    def _not_evaluated(self, wanted: int) -> tuple[Dataset, np.ndarray]:
        """The examples that are not evaluated, by index; where these are too few, those of training."""
        name, folder = self.setup.data, self.setup.options.data_dir
        data = self.setup.in_memory.data or load_data(name, data_dir=folder)
        rest = np.setdiff1d(data.distinct, self.numbers)
        if len(rest) < wanted and ":" not in name and self.setup.in_memory.data is None:
            try:
                data = load_data(name, data_dir=folder, split="train")
                rest = np.arange(len(data))
            except InputError:
                if not len(rest):
                    raise
        return data, rest

    def defence(self, subject: cases.ProbedSubject) -> protocol.Defence:
        """The defence of a subject, around its checkpoint's model."""
        key = (subject.checkpoint, subject.spec, subject.k)
        if key not in self._defences:
            self._defences[key] = self._built(subject, self.model(subject.checkpoint))
            if is_user_defence(subject.spec):
                self.keep(subject, self._defences[key])
        return self._defences[key]

    def keep(self, subject: cases.ProbedSubject, defence: protocol.Defence) -> None:
        """Takes this very object, a user's, as the subject's defence, and asks how it answers now."""
        key = (subject.checkpoint, subject.spec, subject.k)
        self._defences[key] = defence
        self._sentinels[key] = self._sentinel(defence, min(subject.k, SENTINEL))

    def memory(self, subject: cases.ProbedSubject) -> str | None:
        """The change of a user's defence since its state was stored, as a clause."""
        sentinel = self._sentinels.get((subject.checkpoint, subject.spec, subject.k))
        return None if sentinel is None else sentinel.change()

    def _built(self, subject: cases.ProbedSubject, model: PixelModel) -> protocol.Defence:
        """A subject's defence around a model, with the probe's results from the process that planned."""
        k = subject.k // subject.sequence if subject.sequence else subject.k
        defence = self.build(subject.spec, model, k)
        if isinstance(defence, sampling.SamplingModule):
            defence.settle(randomised=subject.randomised, batch_dependent=subject.batch_dependent)
        if subject.sequence and isinstance(defence, PerBatch):
            return KeptMemory(defence, k)
        return defence

    def gradients(self, checkpoint: str) -> AttackCopy:
        """The model that attacks differentiate in place of the checkpoint's, and how it compares with it."""
        if checkpoint not in self._gradients:
            model, precision = self.model(checkpoint), self.checkpoint(checkpoint).attack_precision
            x = self.data.batch(range(min(COMPARED_IMAGES, len(self.data))))[0].to(self.device)
            self._gradients[checkpoint] = prepare_model(model, x, precision=precision)  # type: ignore[arg-type]
        return self._gradients[checkpoint]

    def attack_defence(self, subject: cases.ProbedSubject) -> protocol.Defence:
        """The defence of a subject as attacks query it: around the prepared model, where it is one of ours.

        Another's may be built differently a second time, so attacks query the very one that is scored.
        """
        if is_user_defence(subject.spec):
            return self.defence(subject)
        key = (subject.checkpoint, subject.spec, subject.k)
        if key not in self._attack_defences:
            model = self.gradients(subject.checkpoint).model
            self._attack_defences[key] = self._built(subject, model)
        return self._attack_defences[key]

    def batches(self, subject: cases.ProbedSubject) -> list[Batch]:
        """The batches that a subject is evaluated on."""
        if subject not in self._batches:
            self._batches[subject] = plan.batches_for(subject, self.setup.examples)
        return self._batches[subject]

    def batch(self, subject: cases.ProbedSubject, index: int) -> Batch:
        """The batch of this index: of the subject's own, or a victim's."""
        if index < VICTIMS:
            return self.batches(subject)[index]
        return victims_batch(index - VICTIMS, self.setup.examples, subject.k, self.setup.options.seed)

    def group(self, batches: list[Batch]) -> tuple[Tensor, Tensor]:
        """Images x [G, K, C, H, W] in [0, 1] and labels y [G, K] of equally large batches, on the device."""
        x, y = self.data.batch([member for batch in batches for member in batch.members])
        shape = (len(batches), batches[0].k)
        return x.view(*shape, *x.shape[1:]).to(self.device), y.view(shape).to(self.device)


def own_threads(context: WorkerContext) -> AbstractContextManager[None]:
    """One thread while only small networks, loaded from files, answer; otherwise as many as there are."""
    names = [checkpoint.name for checkpoint in context.setup.checkpoints]
    if not names or any(name in context.setup.in_memory.models for name in names):
        return nullcontext()  # a user's module may count how often it is asked
    image = context.data.batch([0])[0].to(context.device)
    with random_states_kept():
        most = max(multiplications(context.model(name), image) for name in names)
    return few_threads(most)
