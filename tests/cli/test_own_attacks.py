"""``--attacks package.module:name``: an attack of the user's own beside the others, and what is refused."""

import csv
import textwrap

import pytest

MODULE = """
    class Steps:
        def __init__(self, steps=1):
            self.steps = steps

        def perturb(self, x, y, estimator, budget, generators, start=None):
            from attacks.losses import cross_entropy

            ball, adv = budget.around(x), x.clone()
            for _ in range(self.steps):
                adv = ball.step_(adv, estimator.gradient(adv, y, cross_entropy).grad, budget.eps)
            return adv


    def grey(model, x, y, eps):
        return 0.5 + 0 * x
"""


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "own_attacks_of_a_test.py").write_text(textwrap.dedent(MODULE))
    return "own_attacks_of_a_test"


def test_it_runs_beside_the_others_and_stays_inside_eps(csrobust, mine, digits_erm, tmp_path):
    by_file = f"{tmp_path / mine}.py:grey"
    attacks = f"fgsm,{mine}:Steps+steps=1,{mine}:grey,{by_file}"
    answer = csrobust(
        "eval", "--ckpt", digits_erm, "--rci", "N=1.5K", "--limit", "16", "--batch-size", "8", "--draws", "2",
        "--eps", "0.1", "--workers", "1", "--attacks", attacks, "--out", tmp_path / "run", "--quiet",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    with (tmp_path / "run" / "summary.csv").open() as file:
        rows = {(r["defence"], r["attack"]): r for r in csv.DictReader(file)}
    for defence in ("standard", "rci"):
        own = rows[defence, f"{mine}:Steps+steps=1"]
        assert own["status"] == "done" and float(own["backwards_per_example"]) > 0
        assert rows[defence, f"{mine}:grey"]["status"] == "done"
        assert rows[defence, by_file]["accuracy"] == rows[defence, f"{mine}:grey"]["accuracy"]
    # One step of eps along the gradient from the clean input is FGSM.
    assert rows["standard", f"{mine}:Steps+steps=1"]["accuracy"] == rows["standard", "fgsm"]["accuracy"]
