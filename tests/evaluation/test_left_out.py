"""What a user names runs, or stands under "What did not run" with the reason, once for each reason."""

import pytest
import torch

from attacks.attack import read_attack
from robustbench_coded import evaluate
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.cases import ProbedSubject
from robustbench_coded.evaluation.planning.plan import cases_for
from robustbench_coded.evaluation.session.evaluate import IncompleteRun
from robustbench_coded.reports.run.methodology import failures_of
from robustbench_coded.run import load_run
from robustbench_coded.schema.case import Subject
from robustbench_coded.schema.manifest import NotRun, as_sentences
from tests.evaluation.conftest import SMALL, RowMean, Wrapper, labelled


class Coded(Wrapper):
    """A codec outside torch, as JPEG: the answer has no gradient in the input."""

    name = "codec"

    def logits(self, x, draw):
        levels = torch.from_numpy((x.detach().numpy() * 64).round() / 64)
        return RowMean()(levels)


def my_bpda(model, x, y, eps):
    """Through a stand-in for the codec, whose gradient is known."""
    return x + eps * (1 - 2.0 * y)[:, None, None, None]


def my_queries(model, x, y, eps):
    """The brighter or the darker image, whichever fools it."""
    brighter, darker = x + eps, x - eps
    return torch.where((model(brighter).argmax(1) != y)[:, None, None, None], brighter, darker)


def my_gradient(model, x, y, eps):
    leaf = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(model(leaf).logsumexp(1).sum(), leaf)
    return x + eps * grad.sign()


def listed(path):
    return failures_of(load_run(path))


def test_an_attack_that_needs_no_gradient_of_the_defence_runs_on_it(tmp_path):
    run = evaluate(
        RowMean().eval(), labelled(), standard=False, defences=[Coded()],
        attacks=["pgd-10", "fgsm", my_bpda, my_queries], out=tmp_path / "run", **SMALL,
    )  # fmt: skip
    accuracy = run.summary.set_index("attack").accuracy
    for own in ("my_bpda", "my_queries"):
        assert next(left for name, left in accuracy.items() if own in name) == 0
    assert listed(run.path) == ["pgd-10, fgsm on codec: left out; it has no gradient"]
    data = run.as_data()
    assert data["not_run"] == listed(run.path)
    assert all(entry["purpose"] == "settle" for entry in data["outlook"])
    report = (run.path / "report.md").read_text()
    assert "left out; it has no gradient" in report[report.index("## What did not run") :]


def test_one_that_needs_it_is_tried_and_the_reason_is_what_it_raised(tmp_path):
    with pytest.raises(IncompleteRun):
        evaluate(
            RowMean().eval(), labelled(), standard=False, defences=[Coded()],
            attacks=[my_queries, my_gradient], out=tmp_path / "run", **SMALL,
        )  # fmt: skip
    (reason,) = listed(tmp_path / "run")
    assert "my_gradient" in reason and "does not require grad" in reason
    rows = load_run(tmp_path / "run").summary.set_index("attack")
    assert rows.accuracy[next(name for name in rows.index if "my_queries" in name)] == 0


def planned(attacks, **traits):
    """The attacks that run on one defence, and what is said of those that do not."""
    what = {"randomised": False, "batch_dependent": False, "has_base": False, "images": 8, **traits}
    subject = ProbedSubject(Subject("net", "mine", None, None), "mine", 8, **what)
    config = EvalConfig(checkpoints=(("net", "net.pt"),), attacks=tuple(attacks))
    cases, notes = cases_for(config, config.perturbations([0.1]), [subject])
    return [case.attack for case in cases], as_sentences(notes)


def test_each_reason_is_told_once_with_all_that_it_left_out():
    ran, left = planned(["fgsm", "pgd-10", "aware-pgd-10", "transfer-pgd-20", "bpda-pgd-10", "square-100"])
    assert ran == ["clean", "random-sign", "fgsm", "pgd-10", "square-100"]
    assert left == [
        "aware-pgd-10 on mine: left out; nothing in it is random",
        "transfer-pgd-20, bpda-pgd-10 on mine: left out; it names no base model",
    ]
    # Of a preset, an attack that makes no sense on a subject is no loss.
    assert not any("random" in said for said in planned(["adaptive"], has_base=True)[1])
    assert "no gradient" in planned(["paper"], differentiable=False)[1][-1]


def test_other_peoples_attacks_are_tried_where_ours_are_left_out():
    theirs = ["torchattacks:PGD", "some.module:Mine", "file.py:mine"]
    ran, left = planned([*theirs, "pgd-10"], differentiable=False, relaxable=False)
    assert ran == ["clean", "random-sign", *theirs]
    assert left == ["pgd-10 on mine: left out; it has no gradient"]
    # What surely follows a gradient has something beside it that does not. A user's own may do alone.
    assert "square" in planned(theirs[:1], differentiable=False, relaxable=False)[0][-1]
    assert planned(theirs[1:], differentiable=False, relaxable=False)[0] == [
        "clean",
        "random-sign",
        *theirs[1:],
    ]


def test_what_a_later_command_runs_is_no_longer_listed(tmp_path, monkeypatch):
    small = {**SMALL, "out": tmp_path / "run"}
    with monkeypatch.context() as patch:
        patch.setattr(ProbedSubject, "has_gradient_for", lambda subject, name: False)
        evaluate(RowMean().eval(), labelled(), attacks="pgd-3,square-4", **small)
    assert any("pgd-3" in said and "it has no gradient" in said for said in listed(tmp_path / "run"))
    evaluate(RowMean().eval(), labelled(), attacks="pgd-3", **small)
    assert not any("pgd-3" in said for said in listed(tmp_path / "run"))


def test_names_of_other_peoples_attacks_are_read_without_their_packages():
    assert read_attack("torchattacks:PGD").differentiates and read_attack("some.module:Mine").differentiates


def test_subjects_that_lack_the_same_attacks_share_a_sentence():
    notes = [NotRun(a, on, "", "it is costly") for on in ("erm", "mixup") for a in ("pgd-10", "fgsm")]
    notes.append(NotRun("fgsm", "coded", "", "it is costly"))
    assert as_sentences(["so it is", *notes]) == [
        "so it is",
        "pgd-10, fgsm on erm; mixup: left out; it is costly",
        "fgsm on coded: left out; it is costly",
    ]
