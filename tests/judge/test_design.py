import numpy as np
import pytest

from robustbench_coded.judge.case_results import case_results
from robustbench_coded.judge.design import design, missing

EXAMPLES = 640
INIT = "+init=transfer-pgd-20"


@pytest.fixture
def design_of(evaluation):
    """From the chance of a right answer in the four cells: plain, draw known, started, both."""

    def made(chances, names=("pgd-40", "aware-pgd-40", f"pgd-40{INIT}", f"aware-pgd-40{INIT}"), seed=0):
        rng, run = np.random.default_rng(seed), evaluation()
        level = rng.random((EXAMPLES, 2))
        run.add("clean", level < 0.95, level < 0.95)
        for name, chance in zip(names, chances):
            right = (level + 0.1 * rng.random((EXAMPLES, 2))) < chance + 0.05
            threat = "batch/known" if name.startswith("aware") else "batch/unknown"
            run.add(name, right, right, threat=threat)
        rows = case_results(*run.parts())
        ensemble = next(
            row for row in rows if row.case.attack == "ensemble" and str(row.case.threat) == "batch/unknown"
        )
        return design(rows, ensemble), missing(rows, ensemble)

    return made


def test_effects_and_interaction_are_the_differences_of_the_four_cells(design_of):
    made, _ = design_of((0.6, 0.4, 0.3, 0.25))
    assert [effect.estimate for effect in made.knowing] == pytest.approx([0.2, 0.05], abs=0.02)
    assert [effect.estimate for effect in made.starting] == pytest.approx([0.3, 0.15], abs=0.02)
    estimate, low, high = made.interaction
    assert estimate == pytest.approx(made.starting[0].estimate - made.starting[1].estimate)
    assert 0 < low < 0.15 < high < 0.25


def test_effects_that_add_up_have_no_interaction(design_of):
    found = [design_of((0.6, 0.5, 0.4, 0.3), seed=seed)[0].interaction for seed in range(20)]
    held = sum(low <= 0 <= high for _, low, high in found)
    assert held >= 18


def test_cells_of_unequal_steps_are_no_design(design_of):
    names = ("pgd-10", "aware-pgd-40", f"pgd-40{INIT}", f"aware-pgd-40{INIT}")
    made, lacking = design_of((0.6, 0.4, 0.3, 0.25), names)
    assert made is None
    assert lacking == ("pgd-40",)


def test_the_fewest_attacks_that_are_missing_are_named(design_of):
    """The default attacks have three cells, at two lengths: two more complete the shorter one."""
    names = ("pgd-10", "aware-pgd-10", "pgd-100", f"aware-pgd-20{INIT}")
    made, lacking = design_of((0.6, 0.4, 0.3, 0.25), names)
    assert made is None
    assert lacking == (f"pgd-10{INIT}", f"aware-pgd-10{INIT}")
