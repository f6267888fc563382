"""What an attack gives back that can't be scored is a fault of the attack, and no error of the defence."""

import pandas as pd
import pytest
import torch
from torch import nn

from attacks.adapters import third_party as adapter
from attacks.attack import read_attack
from attacks.perturbation_budget import PerturbationBudget
from attacks.pgd import Fgsm
from robustbench_coded import InputError, attack, evaluate
from robustbench_coded.defences.plugin import as_defence
from robustbench_coded.evaluation.execution.perturb import AttackInputs, perturb
from robustbench_coded.evaluation.execution.target import Target
from robustbench_coded.evaluation.planning.streams import stream
from tests.evaluation.conftest import SMALL, RowMean, labelled

X, Y = labelled()


def result_of(name, norm="linf", eps=0.1):
    defence = as_defence(RowMean().eval(), None, name="rows", origin="")
    defence.settle(randomised=False, batch_dependent=False)
    target, budget = Target(defence, len(X), 0, [0]), PerturbationBudget(norm, eps)
    inputs = AttackInputs(target, None, X[None], Y[None], budget, [stream(0, 0, "start")])
    return perturb(read_attack(name), inputs)


class DeadAbove(nn.Module):
    """Whoever is labelled 0 has a dead ReLU: all logits are equal, and class 0 is the answer."""

    def forward(self, x):
        score = x[:, 0, 0].mean(-1) - 0.5
        return torch.stack([0 * score, torch.relu(score)], 1)


@pytest.mark.parametrize(
    ("name", "norm", "eps"),
    [("fmn-5", "linf", 0.01), ("fmn-5", "l2", 0.01), ("fab-5", "l1", 0.01), ("sigma-zero-5", "l0", 1)],
)
def test_equal_logits_lead_a_search_for_the_nearest_wrong_answer_nowhere(name, norm, eps):
    found = attack(DeadAbove(), X, Y, name, eps, norm=norm, seed=0)
    assert found.isfinite().all()
    # A pixel of linf, l2 or l1 moves the mean of eight by far less than the 0.05 that are needed.
    assert norm == "l0" or torch.equal(DeadAbove()(found).argmax(1), Y)


def spoilt(x):
    """Every third result is NaN, the one after it infinite."""
    x = x.clone()
    x[::3, 0, 0, 0], x[1::3, 0, 0, 0] = torch.nan, torch.inf
    return x


def sometimes_nan(model, x, y, eps):
    return spoilt(x + eps * (1 - 2.0 * y)[:, None, None, None])


def far(model, x, y, eps):
    return x + 50 * eps * (1 - 2.0 * y)[:, None, None, None]


def test_a_run_scores_the_clean_image_in_place_of_what_is_not_finite(tmp_path):
    run = evaluate(
        RowMean().eval(), (X, Y), attacks=["fgsm", sometimes_nan, far], out=tmp_path / "run", **SMALL
    )  # fmt: skip
    rows = run.summary.set_index("attack")
    mine, outside = (next(row for row in rows.index if name in row) for name in ("sometimes_nan", ":far"))
    # In each batch of 8, 6 results are spoilt, and 2 are moved over the boundary: no NaN counts as an error.
    assert rows.accuracy[mine] == 0.75 and rows.faulty[mine] == 18
    # What is finite is moved into the ball, as is promised to those who write attacks.
    assert rows.accuracy[outside] == 0 and pd.isna(rows.faulty[outside])
    assert (rows.status == "done").all() and not (run.outcomes.prediction < 0).any()
    report = (tmp_path / "run" / "report.md").read_text()
    dropped = report[report.index("## What did not run") :]
    assert dropped.count("18 results not finite, or outside eps or the box; clean images were scored") == 1


def test_no_verdict_is_positive_where_an_attack_failed(tmp_path):
    def nothing(model, x, y, eps):
        return spoilt(x)

    far_from_it = {**SMALL, "eps": 0.01}
    evaluated = {
        kind: evaluate(RowMean().eval(), (X, Y), attacks=["pgd-10", *own], out=tmp_path / kind, **far_from_it)
        for kind, own in (("without", []), ("with", [nothing]))
    }
    for kind, run in evaluated.items():
        (verdict,) = (judgement.verdict for judgement in run.judgements)
        assert verdict.accuracy.estimate == 1
        assert ("faulty results" in verdict.reason) == (kind == "with")
    assert evaluated["with"].judgements[0].verdict.rule == "incomplete"


def test_attack_refuses_to_return_what_is_no_perturbed_input(tmp_path, monkeypatch):
    (tmp_path / "spoilt_under_test.py").write_text(
        "def mine(model, x, y, eps):\n    x = x.clone()\n    x[:2] = float('nan')\n    return x\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r":mine: 2 of 24 results are not finite or outside eps or the box"):
        attack(RowMean(), X, Y, "spoilt_under_test:mine", 0.1, seed=0)


@pytest.mark.parametrize(
    ("fault", "norm"),
    [(lambda x: x + 0.2, "linf"), (lambda x: x + 0.2, "l2"), (spoilt, "linf"), (spoilt, "l1")],
)
def test_an_attack_of_ours_that_leaves_the_ball_is_caught_whatever_the_norm(monkeypatch, fault, norm):
    monkeypatch.setattr(Fgsm, "solve", lambda self, problem: fault(problem.x[0])[None])
    result = result_of("fgsm", norm, 0.1)
    moved = (result.x[0] != X).flatten(1).any(1)
    faulty = result.counts["faulty"]
    assert result.x.isfinite().all() and not moved.any()
    assert faulty == len(X) * (2 / 3 if fault is spoilt else 1)


def test_an_attack_of_another_package_that_gives_nan_is_caught(monkeypatch):
    monkeypatch.setattr(adapter, "run_torchattacks", lambda name, view, x, y, budget, seed: spoilt(x))
    result = result_of("torchattacks:PGD+steps=2")
    assert torch.equal(result.x[0], X) and result.counts["faulty"] == 16


def test_without_a_fault_nothing_is_counted():
    assert "faulty" not in result_of("pgd-3").counts
