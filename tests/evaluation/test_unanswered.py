"""A defence that fails at perturbed inputs has lost them: they count as wrong, and the run goes on."""

import re

import pandas as pd
import pytest
import torch

from attacks.losses import dlr, margin_loss, targeted_dlr
from attacks.oracle import LOST, fold_unanswered
from robustbench_coded.data.registry import load_data
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.score import NO_ANSWER, InvalidAnswer, predictions
from robustbench_coded.evaluation.execution.target import answers_or_nan
from robustbench_coded.evaluation.session.from_python import evaluate
from tests.evaluation.conftest import SMALL, RowMean, Wrapper, labelled

EXAMPLES = 16
RAISED = {"raises": ArithmeticError, "leaves": SystemExit, "has-no-file": FileNotFoundError}


class Failing(Wrapper):
    """A linear model that fails in some way at images that are no sixteenths, if they are bright enough."""

    def __init__(self, how, everywhere=False):
        self.name, self.how, self.everywhere = f"failing-{how}", how, everywhere
        self.weights = torch.randn(64, 10, generator=torch.Generator().manual_seed(0))

    def logits(self, x, draw):
        off = ((16 * x) - (16 * x).round()).abs().flatten(1).amax(1) > 1e-3
        bad = (off & (x[:, 0, 4, 4] > 0.5)) | self.everywhere
        logits = x.flatten(1) @ self.weights
        if self.how in RAISED and bool(bad.any()):
            raise RAISED[self.how]("no")
        if self.how == "nan":
            logits = torch.where(bad[:, None], torch.nan, logits)
        if self.how == "edits":
            x.data.mul_(0)
        return logits


@pytest.fixture(scope="module")
def digits():
    x, _ = load_data("digits").batch(range(EXAMPLES))
    clean = Failing("not").logits(x, None)
    return x, clean.argmax(-1)


def scored(defence, x, y, clean):
    return predictions(
        defence, x[None], y[None], seed=0, batches=[0], purpose="scoring", draws=[0], group_images=512,
        clean=None if clean is None else clean[None],
    )  # fmt: skip


@pytest.mark.parametrize("how", [*RAISED, "nan"])
def test_only_inputs_at_which_it_fails_are_lost(digits, how):
    x, y = digits
    moved = (x + 1e-2).clamp(0, 1)
    lost = moved[:, 0, 4, 4] > 0.5
    assert 0 < lost.sum() < EXAMPLES
    labels, margins = scored(Failing(how), moved, y, x)
    expected, _ = scored(Failing("not"), moved, y, x)
    assert (labels[0, 0] == NO_ANSWER).tolist() == lost.tolist()
    assert (margins[0, 0] == -torch.inf).tolist() == lost.tolist()
    assert labels[0, 0][~lost].tolist() == expected[0, 0][~lost].tolist()


def test_a_defence_that_fails_at_clean_inputs_is_no_success_of_an_attack(digits):
    x, y = digits
    for how, error in (("raises", ArithmeticError), ("nan", InvalidAnswer)):
        with pytest.raises(error):
            scored(Failing(how, everywhere=True), x, y, x)
        with pytest.raises(error):
            scored(Failing(how, everywhere=True), x, y, None)


def test_what_a_defence_writes_into_its_input_changes_nothing(digits):
    x, y = digits
    before = x.clone()
    labels, _ = scored(Failing("edits"), x, y, x)
    assert torch.equal(x, before)
    assert labels[0, 0].tolist() == y.tolist()


def test_memory_that_runs_out_is_not_the_defences_failure(digits):
    x, _ = digits

    def ask(inputs, draws):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        answers_or_nan(ask, x[None], [None], x[None], independent=True)


def test_a_batch_whose_answers_depend_on_it_fails_together(digits):
    x, _ = digits
    defence = Failing("raises")
    moved = torch.stack([(x + 1e-2).clamp(0, 1), x])

    def ask(inputs, draws):
        return torch.stack([defence.logits(batch, None) for batch in inputs])

    logits = answers_or_nan(ask, moved, [None, None], torch.stack([x, x]), independent=False)
    assert logits[0].isnan().all() and logits[1].isfinite().all()


def test_losses_of_an_unanswered_input_are_those_of_a_lost_one():
    y = torch.tensor([0, 1])
    logits = torch.tensor([[1.0, 2, 3, 4], [torch.nan, 1, 2, 3]], requires_grad=True)
    folded = fold_unanswered(logits, y)
    assert margin_loss(folded, y).tolist() == [3, LOST]
    assert dlr(folded, y)[1] > 1e6 and targeted_dlr(folded, torch.tensor([[0, 1], [1, 2]])).isfinite().all()
    margin_loss(folded, y).sum().backward()
    assert logits.grad[0].tolist() == [-1, 0, 0, 1] and logits.grad[1].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("how", ["raises", "nan"])
def test_a_run_counts_them_as_wrong_and_says_so(digits, tmp_path, how):
    x, y = digits
    defence = Failing(how)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10, bias=False))
    model[1].weight = torch.nn.Parameter(defence.weights.T.clone())
    run = evaluate(
        model, (x, y), defences=[defence], attacks="pgd-3,apgd-ce-3", eps=0.05, batch_size=EXAMPLES,
        threads=1, standard=False, out=tmp_path / "run",
    )  # fmt: skip
    summary = run.summary
    assert (summary.status == "done").all()
    rows = pd.concat([run.outcomes[run.outcomes.attack == name] for name in ("pgd-3", "apgd-ce-3")])
    first = rows[rows.prediction == NO_ANSWER].iloc[0]
    assert first.attack == "pgd-3"
    notes = " ".join(run.manifest.notes)
    assert "answers to pgd-3" in notes and f"image {first.example} in draw 0" in notes


class Dividing(torch.nn.Module):
    """A linear model that divides by the sign of a random number, which is 0 in a share of its answers."""

    def __init__(self, share):
        super().__init__()
        self.share = share
        self.linear = torch.nn.Linear(64, 10, bias=False)
        self.linear.weight = torch.nn.Parameter(Failing("not").weights.T.clone())

    def forward(self, x):
        sign = (torch.rand(len(x), 1) >= self.share).float()
        return self.linear(x.flatten(1)) * sign / sign


def evaluated(digits, share, out):
    x, y = digits
    model = torch.nn.Sequential(torch.nn.Flatten(), Dividing(0).linear)
    return evaluate(
        model, (x, y), defences={"dividing": Dividing(share)}, attacks="pgd-3", eps=0.05, draws=8,
        batch_size=EXAMPLES, threads=1, standard=False, out=out,
    )  # fmt: skip


def test_a_rare_zero_in_zero_is_an_error_of_that_input_and_draw(digits, tmp_path):
    run = evaluated(digits, 0.02, tmp_path / "run")
    assert (run.summary.status == "done").all()
    clean = run.outcomes[run.outcomes.attack == "clean"]
    lost = clean[clean.prediction == NO_ANSWER]
    assert 0 < len(lost) < 0.1 * len(clean) and (lost.margin == -float("inf")).all()
    # All others are right: the model labels the images itself.
    assert (clean.prediction == clean.label).sum() == len(clean) - len(lost)
    places = set(zip(lost.example, lost.draw))
    said = next(note for note in run.manifest.notes if "answers to clean inputs" in note)
    assert f": {len(lost)} answers to " in said
    assert tuple(map(int, re.search(r"image (\d+) in draw (\d+)", said).groups())) in places
    found = {check.name: check.outcome for check in run.judgements[0].checks if "self-test" in check.name}
    assert found == {"self-tests": "passed"}


def test_above_the_share_that_may_be_errors_it_is_refused(digits, tmp_path):
    with pytest.raises(
        InputError, match=r"dividing was not evaluated: it answers \d+% of clean inputs with NaN"
    ):
        evaluated(digits, 0.3, tmp_path / "run")


class WithoutOne(RowMean):
    """Answers all images but one."""

    def forward(self, x):
        lost = (x - labelled()[0][0]).flatten(1).abs().amax(1) < 1e-6
        return super().forward(x) + torch.where(lost, torch.nan, 0.0)[:, None]


@pytest.mark.parametrize("defences", [(), {"d": WithoutOne()}])
def test_a_network_may_fail_at_as_many_images_as_a_defence(tmp_path, defences):
    model = RowMean() if defences else WithoutOne()
    options = SMALL | {"batch_size": 24, "first": True, "attacks": "fgsm", "out": tmp_path / "run"}
    run = evaluate(model, labelled(), defences=defences, **options)
    assert run.summary[run.summary.attack == "clean"].accuracy.iloc[-1] == pytest.approx(23 / 24)
    assert any("it answers 4.2% of clean inputs with NaN" in note for note in run.manifest.notes)
