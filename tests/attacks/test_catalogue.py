"""One entry is all that an algorithm needs: names, estimators, costs and reports know it from there."""

import sys
from dataclasses import dataclass
from types import ModuleType

import pytest

from attacks import catalogue, naming
from attacks.catalogue import CATALOGUE, Algorithm
from attacks.presets import LISTED
from attacks.registry import attack_for
from robustbench_coded.evaluation.planning.costs import queries_of
from robustbench_coded.reports.text.formatting import attack_text


@dataclass(frozen=True)
class Still:
    """Leaves inputs where they are."""

    steps: int

    def perturb(self, x, y, estimator, budget, generators, start=None):
        return x


@pytest.fixture
def entered(monkeypatch):
    """A new algorithm, entered in the catalogue and nowhere else; names are read as at the next start."""
    module = ModuleType("attacks.still")
    module.Still = Still
    monkeypatch.setitem(sys.modules, "attacks.still", module)
    entry = Algorithm("standing still", "still", "Still", catalogue._steps, stops_early=False)
    monkeypatch.setitem(CATALOGUE, "still", entry)
    monkeypatch.setattr(naming, "_NAME", naming._names())
    return naming.parse


def test_an_entry_is_enough(entered):
    name = entered("eot4-still-7")
    assert (name.algorithm, name.steps, name.draws) == ("still", 7, 4)
    assert attack_for(name) == Still(7)
    assert queries_of(name, randomised=True) == (28, 28)
    assert attack_text("eot4-still-7").startswith("standing still, 7 steps")


@pytest.mark.parametrize("name", [name for name, entry in CATALOGUE.items() if entry.module])
def test_every_entry_builds_its_attack(name):
    text = name if name == "fgsm" else f"{name}-64"
    attack = attack_for(naming.parse(text), early_stop=True)
    assert getattr(attack, "steps", 64) == 64
    assert getattr(attack, "early_stop", False) == CATALOGUE[name].stops_early
    assert CATALOGUE[name].words in attack_text(text)


def test_every_attack_that_runs_has_an_example_in_the_list():
    """`csrobust list attacks` prints it, and test_every_attack.py runs it."""
    assert {naming.parse(text).algorithm for text in LISTED} >= {
        n for n, entry in CATALOGUE.items() if entry.module
    }


def test_what_is_no_longer_run_is_read_and_refused():
    name = naming.parse("greedy-20")
    assert "greedy ascent" in attack_text(name.text) and name.traits.loss == "margin"
    for run in (lambda: attack_for(name), lambda: naming.expand("pgd-5,greedy-20")):
        with pytest.raises(ValueError, match=r"got .*greedy-20.*, which no longer is"):
            run()
