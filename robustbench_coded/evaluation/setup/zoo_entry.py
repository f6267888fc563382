"""Defences without a checkpoint: one of the zoo brings data, model and budget; a process is its own model."""

from dataclasses import replace

from robustbench_coded.data.arrays import dataset_in_memory
from robustbench_coded.defences.per_batch import per_batch
from robustbench_coded.defences.piped import load_piped
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.in_memory import Alone, InMemory
from robustbench_coded.evaluation.options.config import EvalConfig, without_checkpoint
from robustbench_coded.zoo.known import Known
from robustbench_coded.zoo.registry import ZOO, ZooEntry


def with_zoo(config: EvalConfig) -> tuple[EvalConfig, InMemory]:
    """The options of an evaluation of a zoo entry or of a process alone, complete, and what these bring.

    Raises:
        InputError: another checkpoint, data set or defence is named beside a zoo entry; a process can't be
            started.
    """
    names = [text for text in config.defences if text in ZOO]
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
    known = ZOO[name].load()
    return completed(config, ZOO[name], known), brought_by(name, known)


def _of_a_process(config: EvalConfig) -> tuple[EvalConfig, InMemory]:
    """A process that stands for the network, too: there is none to compare it with."""
    (spec,) = config.defences
    defence = load_piped(spec.strip(), None)
    if defence.defence.process.declared.get("base"):  # type: ignore[attr-defined]
        raise InputError(f"--defence {spec}: it declares a base model; name its checkpoint with --ckpt")
    model = Alone(defence, config.batch_sizes[0])
    return replace(config, standard=False), InMemory(models={defence.name: model})


def completed(config: EvalConfig, entry: ZooEntry, known: Known) -> EvalConfig:
    """Options for an entry: its defence; the base model beside it, if any; its budget unless eps is given."""
    eps, norm = (config.eps, config.norm) if config.eps else ((entry.eps,), entry.norm)
    standard = config.standard and known.beside is not None
    return replace(config, defences=(entry.name,), standard=standard, eps=eps, norm=norm)


def brought_by(name: str, known: Known) -> InMemory:
    """The data of an entry and the model underneath it; the defence itself is built by its name."""
    model = Alone(per_batch(known.defence), known.k) if known.beside is None else known.beside
    source = f"the zoo's {name}, {len(known.x)} examples"
    data = dataset_in_memory((known.x, known.y), name=f"zoo:{name}", source=source)
    return InMemory(data=data, models={name: model})
