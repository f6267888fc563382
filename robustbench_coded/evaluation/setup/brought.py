"""Evaluations that bring their own network and data: an entry of the zoo, or a process alone."""

from dataclasses import replace

from robustbench_coded.defences.options import brought
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.in_memory import DefenceAsModel, InMemory
from robustbench_coded.evaluation.options.config import EvalConfig, without_checkpoint
from robustbench_coded.extensions import load


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
