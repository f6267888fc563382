"""The decorator of its class is all that an algorithm needs: names, solvers, costs, lists and reports know it
from there.
"""

import dataclasses

import pytest

from attacks import presets
from attacks.algorithm import ALGORITHMS, declared_in
from attacks.attack import Attack, examples, read_attack
from attacks.solver import solver_for
from robustbench_coded.judge.checks import informative
from robustbench_coded.reports.text.attack_names import attack_text, paper_name

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


def test_a_part_of_the_ball_says_nothing_of_what_is_left_in_all_of_it():
    assert not informative(read_attack("parts-60")) and informative(read_attack("pgd-20"))
