"""The decorator of its class is all that an algorithm needs: names, solvers, costs, lists and reports know it
from there.
"""

import dataclasses

import pytest

from attacks import presets
from attacks.algorithm import ALGORITHMS, GONE, declared_in
from attacks.attack import Attack, examples, read_attack, read_runnable
from attacks.solver import solver_for
from robustbench_coded.judge.checks import informative
from robustbench_coded.reports.text.attack_names import paper_name
from robustbench_coded.reports.text.formatting import attack_text

IMPORTS = "from dataclasses import dataclass\nfrom attacks.algorithm import Algorithm, Cost\n"
SOURCE = '''
@Algorithm("StillX", "standing still", example=7, cost=lambda attack, randomised: Cost(2, 0), costs="nothing")
@dataclass
class Still:
    """Leaves inputs where they are."""
    steps: int
    early_stop: bool
'''


def test_a_decorator_is_enough(monkeypatch, tmp_path):
    (declared,) = declared_in(SOURCE, "still")
    monkeypatch.setitem(ALGORITHMS, "stillx", declared)
    (tmp_path / "still.py").write_text(IMPORTS + SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    attack = Attack("stillx", 7, eot=4)
    assert dataclasses.asdict(solver_for(attack)) == {"steps": 7, "early_stop": False}
    assert declared.cost is None and attack.queries(randomised=True) == (8, 0)
    listed = "standing still. Leaves inputs where they are; nothing; linf, l2, l1; csrobust"
    assert presets.reference()["stillx-7"] == listed


@pytest.mark.parametrize("text", examples())
def test_every_declaration_is_read_as_it_runs_and_builds_its_solver(text):
    read = read_attack(text).declared
    late = {"about": read.about, "cost": None, "step_size": None, "solver": None}
    assert dataclasses.replace(read.written, **late) == read
    solver = solver_for(read_attack(text), early_stop=True)
    assert getattr(solver, "steps", read.example) == read.example
    assert getattr(solver, "early_stop", False) == read.may_stop
    assert read.sentence in attack_text(text) and paper_name(text).startswith(read.authors)


def test_what_is_no_longer_run_is_read_and_refused():
    assert "greedy ascent" in attack_text("greedy-20") and read_attack("greedy-20").declared.loss == "margin"
    with pytest.raises(ValueError, match=r"^greedy-20 was deleted: apgd-mt-20 climbs"):
        presets.requested(["pgd-5", "greedy-20"])
    # A part of the ball says nothing of what is left in all of it.
    assert not informative(read_attack("parts-60")) and not informative(read_attack("growing-48"))


@pytest.mark.parametrize("gone", GONE.values(), ids=GONE)
def test_a_deleted_attack_is_answered_by_one_that_runs(gone):
    assert read_runnable(gone.about.partition(" ")[0])
    with pytest.raises(ValueError, match=f"^{gone.name}-48 was deleted"):
        read_runnable(f"{gone.name}-48")


@pytest.mark.parametrize(
    "text", ["surrogate-pgd-20", "pgd-20+init=surrogate-pgd-20", "pgd-20+init=growing-48"]
)
def test_what_begins_with_a_deleted_attack_is_not_run_either(text):
    assert not read_attack(text).uses_base
    with pytest.raises(ValueError, match=r"was deleted: (rays-800|parts-60) "):
        read_runnable(text)
