"""Every place that takes any exception for an answer of a defence lets faults of the machine through."""

import ast
from pathlib import Path

import pytest
import torch

from attacks.gradients import raise_machine_fault
from attacks.relaxation import Relaxation

ROOT = Path(__file__).parents[1]
ASKED = (
    "attacks",
    "robustbench_coded/defences",
    "robustbench_coded/evaluation",
    "robustbench_coded/extras/piped.py",
    "robustbench_coded/extras/ray_actors.py",
)
ANY = {"Exception", "BaseException"}
LETS_THROUGH = {"raise_machine_fault", "is_machine_fault", "is_out_of_memory", "makes_process_unusable"}
MACHINE_FAULTS = MemoryError(), torch.OutOfMemoryError("full"), RuntimeError("CUDA error: an illegal access")

# Places that catch anything and ask nobody, and what becomes of it there.
REPORTED = {
    ("attacks/adapters/user_modules.py", "object_named"): "a user's file that fails: the message says why",
    ("attacks/adapters/plugin.py", "load"): "a user's attack that fails when it is built: as above",
    ("robustbench_coded/defences/plugin.py", "load_user_defence"): "a user's defence: as above",
    ("robustbench_coded/extras/piped.py", "_receive"): "bytes of another process that are no array",
    ("robustbench_coded/defences/probe.py", "answers"): "the same: it is a function of the next one",
    ("robustbench_coded/defences/probe.py", "_smaller_batches"): "advice: whether fewer inputs are answered",
    ("robustbench_coded/evaluation/engine/worker.py", "work"): "sent to the main process as it is",
    ("robustbench_coded/evaluation/engine/worker.py", "_fewer"): "the first try's failure is reported",
}


def catching():
    """(file, function, whether it lets faults through) of every handler of any exception."""
    for folder in ASKED:
        for path in sorted((ROOT / folder).rglob("*.py")) or [ROOT / folder]:
            tree = ast.parse(path.read_text())
            for function in ast.walk(tree):
                if isinstance(function, ast.FunctionDef):
                    yield from (
                        (str(path.relative_to(ROOT)), function.name, passes(handler))
                        for handler in ast.walk(function)
                        if catches_anything(handler)
                    )


def catches_anything(node):
    if isinstance(node, ast.Call):
        return names(node.func) == {"suppress"} and any(names(given) & ANY for given in node.args)
    return isinstance(node, ast.ExceptHandler) and bool(names(node.type) & ANY)


def names(node):
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} if node else ANY


def passes(handler):
    if isinstance(handler, ast.Call):
        return False
    last = handler.body[-1]
    return (isinstance(last, ast.Raise) and last.exc is None) or any(
        isinstance(part, ast.Name | ast.Attribute)
        and (part.id if isinstance(part, ast.Name) else part.attr) in LETS_THROUGH
        for part in ast.walk(handler)
    )


def test_the_places_that_ask_nobody_are_these():
    places = list(catching())
    assert len(places) > 20
    assert {(file, function) for file, function, through in places if not through} == set(REPORTED)


@pytest.mark.parametrize("fault", MACHINE_FAULTS)
def test_a_fault_of_the_machine_relaxes_nothing(fault):
    relaxation = Relaxation()

    def answer():
        raise fault

    with pytest.raises(type(fault)):
        relaxation.attempt(answer)
    assert relaxation.level == 0
    with pytest.raises(type(fault)):
        raise_machine_fault(fault)


def test_an_exception_of_the_defence_relaxes_less():
    relaxation = Relaxation()
    with pytest.raises(ValueError, match="own"):
        relaxation.attempt(lambda: (_ for _ in ()).throw(ValueError("its own")))
    assert relaxation.given_up
    raise_machine_fault(ValueError("its own"))
