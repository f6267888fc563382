"""Checkpoints with everything settled that the data decide: normalisation, and precision of gradients."""

from collections.abc import Sequence
from dataclasses import asdict, replace

from robustbench_coded.data.dataset import Dataset
from robustbench_coded.data.registry import data_for
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.in_memory import Given, weights_digest
from robustbench_coded.evaluation.execution.worker_context import LoadedCheckpoint, WorkerContext
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.models.loading import Checkpoint, with_normalisation
from robustbench_coded.models.normalisation import NormalisationChoice
from robustbench_coded.models.pixel_model import PixelModel

GUESS_IMAGES = 512


def data_named(config: EvalConfig, checkpoints: Sequence[Checkpoint]) -> str:
    """``--data``, where ``auto`` is what all the checkpoints were made for."""
    if config.data != "auto":
        return config.data
    names = {c.name: data_for(c.metadata, c.classes, c.channels, c.image_size) for c in checkpoints}
    if len(set(names.values())) > 1:
        made = ", ".join(f"{name} for {data}" for name, data in names.items())
        raise InputError(f"the checkpoints were made for different data ({made}); say which with --data")
    return next(iter(names.values()))


def from_file(checkpoint: Checkpoint, config: EvalConfig, data: Dataset) -> tuple[LoadedCheckpoint, str]:
    """A checkpoint with its normalisation given, stored or guessed from the first labelled images."""
    x, y = data.batch(range(min(GUESS_IMAGES, len(data))))
    _, choice = with_normalisation(checkpoint, x, y)
    facts = {
        "name": checkpoint.name,
        "path": str(checkpoint.path),
        "sha256": checkpoint.sha256,
        "arch": checkpoint.arch,
        "classes": checkpoint.classes,
        "channels": checkpoint.channels,
        "metadata": checkpoint.metadata,
        "normalisation": asdict(choice),
    }
    loaded = LoadedCheckpoint(
        name=checkpoint.name,
        path=str(checkpoint.path),
        sha256=checkpoint.sha256,
        arch=config.arch,
        network=checkpoint.arch,
        classes=checkpoint.classes,
        mean=tuple(choice.mean),
        deviation=tuple(choice.std),
        attack_precision=config.attack_precision,
        facts=facts,
    )
    return loaded, f"{checkpoint.name}: {choice}"


def in_memory(name: str, given: Given, data: Dataset, config: EvalConfig) -> LoadedCheckpoint:
    """A model in memory as a checkpoint; whatever normalisation it has is inside it."""
    if config.eps_space == "normalized" and not isinstance(given.models[name], PixelModel):
        raise InputError(
            f"{name}: eps in normalized units needs the model's deviations, and a model in memory has its "
            "normalisation inside; give eps in pixel units"
        )
    model = given.model(name, data)
    mean, deviation = tuple(model.mean.flatten().tolist()), tuple(model.std.flatten().tolist())
    choice = NormalisationChoice("inside the model", mean, deviation, "given")
    sha256 = weights_digest(model)
    facts = {
        "name": name,
        "path": None,
        "sha256": sha256,
        "arch": model.arch,
        "classes": model.classes,
        "channels": model.channels,
        "metadata": {},
        "normalisation": asdict(choice),
    }
    return LoadedCheckpoint(
        name=name,
        path="",
        sha256=sha256,
        arch=None,
        network=model.arch,
        classes=model.classes,
        mean=mean,
        deviation=deviation,
        attack_precision=config.attack_precision,
        facts=facts,
    )


def with_gradients(checkpoint: LoadedCheckpoint, context: WorkerContext) -> LoadedCheckpoint:
    """A checkpoint with the precision of its gradients settled, and what the report says about them."""
    info = context.gradients(checkpoint.name).info
    facts = {**checkpoint.facts, "gradients": {**asdict(info), "sentence": str(info)}}
    return replace(checkpoint, attack_precision=info.precision, facts=facts)
