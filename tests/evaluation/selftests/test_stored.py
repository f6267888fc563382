"""Self-tests of a run: stored once per subject, taken over, in the checks, needed for a positive verdict."""

import pytest

from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.selftests import judged
from robustbench_coded.evaluation.session import selftesting
from robustbench_coded.evaluation.session.evaluate import evaluate
from robustbench_coded.run import load_run
from robustbench_coded.runs.log import NAME, read_log
from tests.evaluation.selftests.conftest import CHECKPOINTS
from tests.run_folders import digests, lines, selftests

pytestmark = pytest.mark.long

ROBUST = CHECKPOINTS / "digits-pgd-at.safetensors"


def config(out, **changed):
    options = {
        "checkpoints": (("at", str(ROBUST)),),
        "data": "digits",
        "limit": 64,
        "batch_size": (32,),
        "eps": (0.1,),
        "attacks": ("pgd-2",),
        "threads": 1,
        "out": out,
    }
    return EvalConfig(**{**options, **changed})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return evaluate(config(tmp_path_factory.mktemp("run") / "run", defence=("rci:N=1.5K",)))


def test_in_l1_an_honest_gradient_passes_too(tmp_path):
    """A radius of 12 in every pixel would leave the box."""
    run = evaluate(config(tmp_path / "run", defence=("rci:N=1.5K",), norm="l1", eps=(12.0,)))
    (stored,) = selftests(run).values()
    assert ("finite differences", "passed") in [(test["name"], test["outcome"]) for test in stored["tests"]]


def defended(run):
    return [judgement for judgement in load_run(run).judgements if judgement.subject.defence == "rci"]


def test_each_subject_has_results_that_name_it(run):
    stored = selftests(run).values()
    assert [data["defence"] for data in stored] == ["rci"]  # a network of ours needs none by itself
    for data in stored:
        assert {test["outcome"] for test in data["tests"]} <= {"passed", "not applicable"}
        assert data["forwards"] > 0 and data["examples"] == 32 and data["eps"] == 0.1


def test_they_stand_among_the_checks(run):
    for judgement in defended(run):
        (check,) = [check for check in judgement.checks if check.name.startswith("self-tests")]
        assert check.outcome == "passed"
        assert "finite differences" in check.finding


def test_a_second_evaluation_takes_them_over(run, monkeypatch):
    before = lines(run, "tested")
    asked = []
    monkeypatch.setattr(selftesting, "run_all", lambda *given: asked.append(given) or ())
    evaluate(config(run, defence=("rci:N=1.5K",), attacks=("pgd-2", "fgsm")))
    assert asked == []
    assert lines(run, "tested") == before


def test_a_damaged_line_is_made_again_and_without_it_no_verdict_is_positive(run):
    whole, log = selftests(run), run / NAME
    log.write_text(log.read_text().replace('{"event":"tested"', '{"event":"tested'))
    missing = [
        judgement
        for judgement in load_run(run).judgements
        if any(check.name == "self-tests" and check.outcome == "not run" for check in judgement.checks)
    ]
    assert {judgement.subject.defence for judgement in missing} == {"rci"}
    assert all(judgement.verdict.name != "no failure found" for judgement in missing)
    evaluate(config(run, defence=("rci:N=1.5K",)))
    assert {name: results["tests"] for name, results in read_log(run).selftests.items()} == {
        name: results["tests"] for name, results in whole.items()
    }


def test_one_that_failed_is_named_and_outcomes_do_not_depend_on_them(run, tmp_path, monkeypatch):
    failed = judged("finite differences", False, "They disagree.", mismatch=0.9)
    monkeypatch.setattr(selftesting, "run_all", lambda *given: (failed,))
    other = evaluate(config(tmp_path / "other", defence=("rci:N=1.5K",)))
    for judgement in defended(other):
        (check,) = [check for check in judgement.checks if check.name.startswith("self-tests")]
        assert (check.name, check.outcome) == ("self-tests: finite differences", "failed")
        assert judgement.verdict.name != "no failure found"
        assert "self-tests: finite differences" in judgement.verdict.open_checks
    assert digests(other).items() <= digests(run).items()


def test_overwrite_removes_them(run, tmp_path):
    path = evaluate(config(tmp_path / "again", defence=("rci:N=1.5K",)))
    (old,) = selftests(path)
    evaluate(config(path, defence=("rci:N=1.5K",), seed=1, overwrite=True))
    (new,) = selftests(path)
    assert new != old
