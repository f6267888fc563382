"""The decorator of its class is all that an algorithm needs: names, solvers, costs, lists and reports know it
from there.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from attacks import algorithm, attack, presets
from attacks.algorithm import ALGORITHMS, Algorithm, Cost, declared_in
from attacks.naming import examples, read_attack, read_runnable
from attacks.solving import solver_for
from robustbench_coded.reports.text.attack_names import paper_name
from robustbench_coded.reports.text.formatting import attack_text

RUNNABLE = [each.name for each in examples().values()]
STILL = """
@Algorithm("still", "standing still", example=7, cost=queries, costs="nothing", stops_early=False)
class Still:
    pass
"""


@dataclass(frozen=True)
class Still:
    """Leaves inputs where they are."""

    steps: int

    def perturb(self, x, y, estimator, budget, generators, start=None):
        return x


@pytest.fixture
def _declared(monkeypatch):
    """A new algorithm in a file of its own; names are read as at the next start."""
    monkeypatch.setitem(sys.modules, "attacks.still", ModuleType("attacks.still"))
    (declared,) = declared_in(STILL, "attacks.still")
    assert declared.cost is None  # no literal
    monkeypatch.setitem(ALGORITHMS, "still", declared)
    Algorithm(
        "still", "standing still", cost=lambda attack, randomised: Cost(attack.steps, 0), stops_early=False
    )(Still)
    yield
    del algorithm._WRITTEN["still"]


@pytest.mark.usefixtures("_declared")
def test_a_decorator_is_enough():
    named = attack.Attack("still", 7, eot=4)
    assert solver_for(named) == Still(7)
    assert named.queries(randomised=True) == (28, 0)
    assert presets.reference()["still-7"] == "standing still; nothing; linf/l2/l1"


@pytest.mark.parametrize("name", RUNNABLE)
def test_every_declaration_is_read_as_it_runs(name):
    read, written = ALGORITHMS[name], ALGORITHMS[name].written
    late = ("cost", "step_size", "solver")
    for field in Algorithm.__dataclass_fields__.keys() - {*late}:
        assert getattr(read, field) == getattr(written, field), field
    assert (
        written.solver is not None
        and Path(sys.modules[written.module].__file__).parent == Path(algorithm.__file__).parent
    )


@pytest.mark.parametrize("name", RUNNABLE)
def test_every_declaration_builds_its_solver(name):
    text = name if name == "fgsm" else f"{name}-64"
    solver = solver_for(read_attack(text), early_stop=True)
    assert getattr(solver, "steps", 64) == 64
    assert getattr(solver, "early_stop", False) == ALGORITHMS[name].may_stop
    assert ALGORITHMS[name].sentence in attack_text(text)
    assert paper_name(text).startswith(ALGORITHMS[name].authors)


def test_what_is_no_longer_run_is_read_and_refused():
    named = read_attack("greedy-20")
    assert "greedy ascent" in attack_text("greedy-20") and named.declared.loss == "margin"
    for run in (lambda: read_runnable("greedy-20"), lambda: presets.requested(["pgd-5", "greedy-20"])):
        with pytest.raises(ValueError, match=r"got .*greedy-20.*, which no longer is"):
            run()
