"""Checkpoints with all settled that the data decide: variant, normalisation, precision of gradients."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from attacks.perturbation_budget import EpsSpace, Norm, PerturbationBudget
from robustbench_coded.data.dataset import Dataset
from robustbench_coded.data.registry import data_for, load_data
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.in_memory import InMemory, weights_digest
from robustbench_coded.evaluation.execution.worker_context import LoadedCheckpoint, WorkerContext
from robustbench_coded.evaluation.options.config import EvalConfig, default_eps
from robustbench_coded.models.loading import Checkpoint, check_data
from robustbench_coded.models.normalisation import NormalisationChoice
from robustbench_coded.models.pixel_model import PixelModel
from robustbench_coded.models.recognition import Recognition, images_wanted, recognise_network
from robustbench_coded.models.recognition_text import as_data, brief
from robustbench_coded.models.state_dict import EVALUATES_ANOTHER

# Large images are looked at in smaller numbers: a quarter of a gigabyte of pixels is enough.
PIXEL_VALUES = 2**26
FEWEST_IMAGES = 256


@dataclass(frozen=True)
class Settled:
    """What a checkpoint was recognised as.

    Attributes:
        arch: the variant, as ``--arch`` takes it.
        choice: its normalisation.
        brief: the evidence in a sentence.
        evidence: as plain data.
        warnings: what speaks against it, a clause each.
        refusal: why it is not evaluated; empty where it is.
    """

    arch: str
    choice: NormalisationChoice
    brief: str
    evidence: dict[str, Any]
    warnings: tuple[str, ...]
    refusal: str


# By everything that decides it: one process may prepare the same evaluation several times.
_SETTLED: dict[tuple, Settled] = {}


def data_named(config: EvalConfig, checkpoints: Sequence[Checkpoint]) -> str:
    """``--data``, where ``auto`` is what all the checkpoints were made for."""
    if config.data != "auto":
        return config.data
    names = {c.name: data_for(c.metadata, c.classes, c.channels, c.image_size) for c in checkpoints}
    if len(set(names.values())) > 1:
        made = ", ".join(f"{name} for {data}" for name, data in names.items())
        raise InputError(f"the checkpoints were made for different data ({made}); say which with --data")
    return next(iter(names.values()))


def recognised_by(checkpoint: Checkpoint, data: str, data_dir: str | None) -> Recognition:
    """What the images that ``--data`` names say about a checkpoint.

    Raises:
        InputError: there are no such data, or the checkpoint was not made for them.
    """
    if data == "auto":
        data = data_for(checkpoint.metadata, checkpoint.classes, checkpoint.channels, checkpoint.image_size)
    loaded = load_data(data, data_dir=data_dir).of_all_classes(checkpoint.classes)
    check_data(checkpoint, loaded.image_shape, loaded.classes, loaded.name)
    x, y = _examples(loaded, images_wanted(checkpoint))
    eps = (default_eps("linf", data, loaded.image_shape),)
    budgets = partial(_budgets, norm="linf", eps=eps, eps_space="pixel")
    return recognise_network(checkpoint, x, y, budgets=budgets)


def _budgets(
    deviation: tuple[float, ...], *, norm: str, eps: Sequence[float], eps_space: str
) -> list[PerturbationBudget]:
    """What an evaluation attacks within, for a network behind a normalisation of these deviations."""
    own = deviation if eps_space == "normalized" else None
    return [PerturbationBudget(cast(Norm, norm), radius, cast(EpsSpace, eps_space), own) for radius in eps]


def _examples(data: Dataset, most: int) -> tuple[Tensor, Tensor | None]:
    """Images and labels evenly spread over all of the data; no labels where they would mislead."""
    channels, height, width = data.image_shape
    affordable = max(FEWEST_IMAGES, PIXEL_VALUES // (channels * height * width))
    count = min(most, affordable, len(data))
    x, y = data.batch(np.arange(count) * len(data) // count)
    return x, None if data.misclassified else y


def settled(checkpoint: Checkpoint, config: EvalConfig, data: Dataset, device: torch.device) -> Settled:
    """What a checkpoint's network is, by images of the data."""
    x, y = _examples(data, images_wanted(checkpoint))
    labels = b"" if y is None else y.numpy().tobytes()
    seen = hashlib.sha256(x.numpy().tobytes() + labels).hexdigest()
    eps = config.eps or (default_eps(config.norm, data.name, tuple(data.image_shape)),)
    budgets = partial(_budgets, norm=config.norm, eps=eps, eps_space=config.eps_space)
    stated = checkpoint.arch, checkpoint.arch_source, checkpoint.normalisation
    attacks = config.norm, tuple(eps), config.eps_space
    key = (checkpoint.path, checkpoint.sha256, stated, attacks, seen, str(device))
    if key not in _SETTLED:
        found = recognise_network(checkpoint, x, y, budgets=budgets, device=device)
        evidence, said = as_data(found), brief(found)
        for note in checkpoint.notes:
            if EVALUATES_ANOTHER in note:
                evidence["sentence"] += f"; {note}"
                said += f"; {note}"
        _SETTLED[key] = Settled(
            found.arch,
            found.choice,
            said,
            evidence,
            found.warnings,
            found.refusal,
        )
    return _SETTLED[key]


def from_file(
    checkpoint: Checkpoint, config: EvalConfig, data: Dataset, device: torch.device
) -> tuple[LoadedCheckpoint, str]:
    """A checkpoint whose variant and normalisation are settled.

    Raises:
        InputError: a guess would not be safe, or it answers as by chance.
    """
    found = settled(checkpoint, config, data, device)
    choice = found.choice
    if found.refusal:
        raise InputError(f"{checkpoint.path}: {found.refusal}")
    loaded = _loaded(
        config,
        choice,
        name=checkpoint.name,
        path=str(checkpoint.path),
        sha256=checkpoint.sha256,
        arch=found.arch,
        classes=checkpoint.classes,
        channels=checkpoint.channels,
        metadata=checkpoint.metadata,
        recognition=found.evidence,
    )
    # Workers load the variant; where it is the usual one, as before.
    loaded = replace(loaded, arch=config.arch if found.arch == checkpoint.arch else found.arch)
    said = f"{checkpoint.name}: {found.brief}"
    return loaded, "; ".join([said, *(f"warning: {reason}" for reason in found.warnings[:1])])


def checkpoint_in_memory(
    name: str, in_memory: InMemory, data: Dataset, config: EvalConfig
) -> LoadedCheckpoint:
    """A model in memory as a checkpoint; whatever normalisation it has is inside it."""
    if config.eps_space == "normalized" and not isinstance(in_memory.models[name], PixelModel):
        raise InputError(
            f"{name}: eps in normalized units needs the model's deviations, and a model in memory has its "
            "normalisation inside; give eps in pixel units"
        )
    model = in_memory.model(name, data)
    mean, deviation = tuple(model.mean.flatten().tolist()), tuple(model.std.flatten().tolist())
    choice = NormalisationChoice("inside the model", mean, deviation, "given")
    return _loaded(
        config,
        choice,
        name=name,
        path=None,
        sha256=weights_digest(model),
        arch=model.arch,
        classes=model.classes,
        channels=model.channels,
        metadata={},
    )


def _loaded(config: EvalConfig, choice: NormalisationChoice, **facts: Any) -> LoadedCheckpoint:
    """A checkpoint, and what the report says about it."""
    return LoadedCheckpoint(
        name=facts["name"],
        path=facts["path"] or "",
        sha256=facts["sha256"],
        arch=None,
        network=facts["arch"],
        classes=facts["classes"],
        mean=tuple(choice.mean),
        deviation=tuple(choice.std),
        attack_precision=config.attack_precision,
        facts={**facts, "normalisation": asdict(choice)},
    )


def with_gradients(checkpoint: LoadedCheckpoint, context: WorkerContext) -> LoadedCheckpoint:
    """A checkpoint with the precision of its gradients settled, and what the report says about them."""
    info = context.gradients(checkpoint.name).info
    facts = {**checkpoint.facts, "gradients": {**asdict(info), "sentence": str(info)}}
    return replace(checkpoint, attack_precision=info.precision, facts=facts)
