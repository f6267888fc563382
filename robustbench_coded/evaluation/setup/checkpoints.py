"""Checkpoints and data of an evaluation, with architecture, normalisation and gradients settled."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from attacks.accelerator import process_lock
from attacks.adapters.user_modules import Code
from attacks.attack import read_attack
from robustbench_coded.data import dataset, registry
from robustbench_coded.data.dataset import Dataset
from robustbench_coded.data.registry import data_for, load_data
from robustbench_coded.defences.options import brought
from robustbench_coded.defences.protocol import reject_class
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.in_memory import DefenceAsModel, InMemory
from robustbench_coded.evaluation.execution.worker_context import LoadedCheckpoint, WorkerContext
from robustbench_coded.evaluation.options.config import EvalConfig, without_checkpoint
from robustbench_coded.evaluation.planning.batches import evaluated
from robustbench_coded.extensions import load
from robustbench_coded.models.loading import Checkpoint, check_data
from robustbench_coded.models.normalisation import Normalisation, Source
from robustbench_coded.models.pixel_model import PixelModel
from robustbench_coded.models.recognition import IMAGES, Recognition, model_of, recognise_network
from robustbench_coded.models.state_dict import EVALUATES_ANOTHER
from robustbench_coded.schema.manifest import DataFacts

# Large images are looked at in smaller numbers: a quarter of a gigabyte of pixels is enough.
PIXEL_VALUES = 2**26
FEWEST_IMAGES = 256


# By everything that decides it: one process may prepare the same evaluation several times.
_RECOGNISED: dict[tuple, Recognition] = {}


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
    """Recognises by the images that ``--data`` names a checkpoint.

    Raises:
        InputError: there are no such data, or the checkpoint was not made for them.
    """
    if data == "auto":
        data = data_for(checkpoint.metadata, checkpoint.classes, checkpoint.channels, checkpoint.image_size)
    loaded = load_data(data, data_dir=data_dir).of_all_classes(checkpoint.classes)
    check_data(checkpoint, loaded.image_shape, loaded.classes, loaded.name)
    x, y = _examples(loaded, IMAGES)
    return recognise_network(checkpoint, x, y)


def _examples(data: Dataset, most: int) -> tuple[Tensor, Tensor]:
    """Images and labels evenly spread over all of the data."""
    channels, height, width = data.image_shape
    affordable = max(FEWEST_IMAGES, PIXEL_VALUES // (channels * height * width))
    count = min(most, affordable, len(data))
    return data.batch(np.arange(count) * len(data) // count)


def recognised(
    checkpoint: Checkpoint, config: EvalConfig, data: Dataset, device: torch.device
) -> Recognition:
    """Recognises a checkpoint's network by images of the data."""
    x, y = _examples(data, IMAGES)
    seen = hashlib.sha256(x.numpy().tobytes() + y.numpy().tobytes()).hexdigest()
    stated = checkpoint.arch, checkpoint.arch_source, checkpoint.normalisation
    key = (checkpoint.path, checkpoint.sha256, stated, seen, str(device))
    with process_lock():
        if key not in _RECOGNISED:
            _RECOGNISED[key] = recognise_network(checkpoint, x, y, device=device)
        return _RECOGNISED[key]


def from_file(
    checkpoint: Checkpoint, config: EvalConfig, data: Dataset, device: torch.device
) -> tuple[LoadedCheckpoint, str]:
    """A checkpoint whose architecture and normalisation are settled, and what was decided by what.

    Raises:
        InputError: nothing decides what it is, or it answers as by chance.
    """
    choice = recognised(checkpoint, config, data, device)
    if choice.refusal:
        raise choice.refused(checkpoint)
    sentence = "; ".join([choice.sentence, *(note for note in checkpoint.notes if EVALUATES_ANOTHER in note)])
    loaded = _loaded(
        config,
        choice.form.normalisation,
        choice.by[1],
        name=checkpoint.name,
        path=str(checkpoint.path),
        sha256=checkpoint.sha256,
        arch=choice.form.arch,
        classes=checkpoint.classes,
        channels=checkpoint.channels,
        metadata=checkpoint.metadata,
        recognition=choice.as_data() | {"sentence": sentence},
    )
    # Workers recognise it as here.
    usual = choice.form.arch == checkpoint.arch
    loaded = replace(loaded, arch=config.arch if usual else choice.form.arch)
    warned = [f"warning: {reason}" for reason in choice.warnings[:1]]
    return loaded, "; ".join([f"{checkpoint.name}: {sentence}", *warned])


def checkpoint_in_memory(
    name: str, in_memory: InMemory, data: Dataset, config: EvalConfig, code: Code | None
) -> LoadedCheckpoint:
    """A model in memory as a checkpoint; whatever normalisation it has is inside it.

    Args:
        code: by which it is told from others; None of a defence alone, which counts by its own.
    """
    if config.eps_space == "normalized" and not isinstance(in_memory.models[name], PixelModel):
        raise InputError(
            f"{name}: eps in normalized units needs the model's deviations, and a model in memory has its "
            "normalisation inside; give eps in pixel units"
        )
    model = in_memory.model(name, data)
    rejects = reject_class(getattr(in_memory.models[name], "defence", None)) is not None
    if data.of_all_classes(model.classes - rejects) is not data and data.outputs:
        mend = "give its file, of which the others are left out"
        raise InputError(f"{name}: {data.name} compares {data.classes} of its outputs; {mend}")
    mean, deviation = tuple(model.mean.flatten().tolist()), tuple(model.std.flatten().tolist())
    return _loaded(
        config,
        Normalisation("inside the model", mean, deviation),
        "given",
        name=name,
        path=None,
        sha256=hashlib.sha256(repr(code).encode()).hexdigest(),
        arch=model.arch,
        classes=model.classes,
        channels=model.channels,
        metadata={},
    )


def _loaded(
    config: EvalConfig, normalisation: Normalisation, source: Source, **facts: Any
) -> LoadedCheckpoint:
    """A checkpoint, and what the report says about it."""
    return LoadedCheckpoint(
        name=facts["name"],
        path=facts["path"] or "",
        sha256=facts["sha256"],
        arch=None,
        network=facts["arch"],
        classes=facts["classes"],
        mean=normalisation.mean,
        deviation=normalisation.std,
        attack_precision=config.attack_precision,
        facts={**facts, "normalisation": {**asdict(normalisation), "source": source}},
    )


def with_gradients(checkpoint: LoadedCheckpoint, context: WorkerContext) -> LoadedCheckpoint:
    """A checkpoint with the precision of its gradients settled, and what the report says about them."""
    info = context.gradients(checkpoint.name).info
    facts = {**checkpoint.facts, "gradients": {**asdict(info), "sentence": str(info)}}
    return replace(checkpoint, attack_precision=info.precision, facts=facts)


def describe(checkpoint: Checkpoint, recognition: Recognition | None = None) -> dict[str, Any]:
    """Plain data, fit for JSON: what the file is, what was recognised in it, and what is not known.

    Args:
        checkpoint: as loaded.
        recognition: evidence from images; None if no images were used.
    """
    layout, taken = checkpoint.layout, checkpoint.normalisation
    notes, source = [*checkpoint.notes], str(checkpoint.normalisation_source)
    if recognition is not None:
        taken, source = recognition.form.normalisation, recognition.by[1]
        notes += [recognition.sentence]
        notes += [f"not evaluated: {recognition.refusal}"] if recognition.refusal else []
        notes += [f"warning: {reason}" for reason in recognition.warnings]
    elif taken is None:
        notes += ["no normalisation is stored; --data says whether batch-norms decide it, or what to state"]
    facts: dict[str, Any] = {
        "name": checkpoint.name,
        "path": str(checkpoint.path),
        "sha256": checkpoint.sha256,
        "bytes": checkpoint.nbytes,
        "format": checkpoint.format,
        "architecture": checkpoint.arch if recognition is None else recognition.form.arch,
        "classes": checkpoint.classes,
        "channels": checkpoint.channels,
        "image_size": checkpoint.image_size,
        "parameters": sum(parameter.numel() for parameter in checkpoint.network.parameters()),
        "nesting": list(layout.nesting),
        "prefixes_stripped": list(layout.prefixes),
        "unused_weights": list(layout.dropped),
        "normalisation": None
        if taken is None
        else {"name": taken.name, "mean": list(taken.mean), "std": list(taken.std)},
        "normalisation_source": source,
        "metadata": checkpoint.metadata,
        "notes": notes,
    }
    return facts if recognition is None else facts | {"recognition": recognition.as_data()}


def with_normalisation(checkpoint: Checkpoint, images: Tensor, labels: Tensor) -> PixelModel:
    """The checkpoint as a Model from pixels to logits.

    Args:
        checkpoint: as loaded; its network is shared with the Model.
        images: [n, C, H, W] in [0, 1]; read only where the normalisation is not known.
        labels: [n] int64.
    Raises:
        InputError: they leave open which normalisation is right.
    """
    if (known := checkpoint.normalisation) is not None:
        network, classes = checkpoint.network, checkpoint.classes
        return PixelModel(network, known.mean, known.std, classes=classes, arch=checkpoint.arch)
    recognition = recognise_network(checkpoint, images, labels)
    if recognition.refusal:
        raise recognition.refused(checkpoint)
    return model_of(checkpoint, recognition.form, images.device)


class EvaluatedImages(NamedTuple):
    """The data by its name, whole, and those of its images that are evaluated."""

    name: str
    whole: dataset.Dataset
    data: dataset.Dataset

    @property
    def notes(self) -> list[str]:
        """Sentences on what the user may not have meant."""
        given, once = len(self.whole), len(self.whole.distinct)
        repeated = f"{self.name}: {given:,} images, of which {once:,} differ in pixels or label"
        again = f"{repeated}; each is evaluated once" if once < given else ""
        return [*self.whole.notes, *filter(None, (dataset.darkness_of(self.whole), again))]


def images_of(
    config: EvalConfig, in_memory: InMemory, checkpoints: Sequence[Checkpoint], whole: dataset.Dataset | None
) -> EvaluatedImages:
    """Loads the data; refuses options that do not fit them.

    Args:
        whole: the data where they are loaded already.

    Raises:
        InputError: an option that does not fit the data.
    """
    name = in_memory.data.name if in_memory.data is not None else data_named(config, checkpoints)
    whole = whole or registry.load_data(name, data_dir=config.data_dir)
    networks = [*in_memory.models.values(), *(checkpoint.network for checkpoint in checkpoints)]
    names = [getattr(getattr(network, "config", None), "id2label", None) or {} for network in networks]
    orders = [whole.in_order_of(of_outputs) for of_outputs in names]
    whole = orders[0] if orders and not checkpoints else whole  # workers read folders in the order of names
    if any(not np.array_equal(order.labels, whole.labels) for order in orders):
        mend = "name its folders by the outputs, 0, 1, 2 ..."
        raise InputError(f"{name}: a network's configuration has these classes in another order; {mend}")
    data = evaluated(whole, config.limit, first=config.first, seed=config.seed)
    for attack in map(read_attack, config.attack_names):
        if attack.target is not None and attack.target >= whole.classes:
            raise InputError(f"{attack}: the classes of {whole.name} are 0 to {whole.classes - 1}")
    return EvaluatedImages(name, whole, data)


def facts_of(data: dataset.Dataset, available: int) -> DataFacts:
    """The data as the report has them.

    Args:
        available: examples that there are, each counted once.
    """
    return DataFacts(
        name=data.name,
        source=data.source,
        sha256=data.sha256,
        examples=len(data),
        available=available,
        classes=data.classes,
        image_shape=tuple(data.image_shape),
        images=data.each_digest,
    )


def with_zoo(config: EvalConfig) -> tuple[EvalConfig, InMemory]:
    """The options of an evaluation of a zoo entry or of a process alone, complete, and what these bring.

    Raises:
        InputError: another checkpoint, data set or defence is named beside a zoo entry; a process can't be
            started.
    """
    names = [text for text in config.defences if brought(text) is not None]
    if not names and not config.checkpoints and without_checkpoint(config.defences):
        return _of_a_process(config)
    if not names:
        return config, InMemory()
    name = names[0]
    for option, there in (
        ("--ckpt", bool(config.checkpoints)),
        ("--data", config.data != "auto"),
        (f"--defence {names[-1]}", len(names) > 1),
        ("--rci, --coded or --defence", len(config.defences) > 1),
    ):
        if there:
            raise InputError(
                f"--defence {name} is of the zoo, with its own model and data; evaluate it alone, without "
                f"{option}"
            )
    return brought(name).brings(config)


def _of_a_process(config: EvalConfig) -> tuple[EvalConfig, InMemory]:
    """A process that stands for the network, too: there is none to compare it with."""
    (spec,) = config.defences
    defence = load("processes", "cmd")(spec.strip(), None)
    if defence.defence.process.declared.get("base"):
        raise InputError(f"--defence {spec}: it declares a base model; name its checkpoint with --ckpt")
    model = DefenceAsModel(defence, config.batch_size[0])
    return replace(config, standard=False), InMemory(models={defence.name: model})
