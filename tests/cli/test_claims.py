"""Which figures of a run refute a claim."""

import pandas as pd
import pytest

pytestmark = pytest.mark.long

OPTIONS = ("--limit", "320", "--batch-size", "32", "--draws", "4", "--quiet")


@pytest.fixture
def claimed(csrobust, digits_erm, tmp_path):
    """Runs an evaluation with a claim: its verdicts, summary and folder."""

    def run(*options):
        folder = tmp_path / "run"
        answer = csrobust("eval", "--ckpt", digits_erm, *OPTIONS, *options, "--out", folder)
        assert answer.code == 0, answer.err
        return pd.read_csv(folder / "verdicts.csv"), pd.read_csv(folder / "summary.csv"), folder

    return run


RCI = ("--rci", "N=1.5K")
TWO_RADII = (*RCI, "--attacks", "transfer-pgd-10", "--eps", "0.01,0.3", "--claim")


def refuted(verdicts):
    return verdicts[verdicts.verdict == "claim refuted"]


def test_a_refuted_claim_leaves_the_inputs_that_refute_it(claimed, csrobust):
    options = ("--attacks", "pgd-3,transfer-pgd-10", "--claim", "60% pgd-3")
    verdicts, summary, folder = claimed(*RCI, *options)
    assert set(refuted(verdicts).defence) == {"rci"}
    (of_pgd,) = summary.query("defence == 'rci' and attack == 'pgd-3'").accuracy
    # What refutes it is the interval of what all attacks leave together in random batches.
    assert of_pgd < 0.6 and refuted(verdicts).ci_high.max() < 0.6
    assert csrobust("verify", folder, "--json").code == 0


def test_a_claim_that_holds_is_open_where_checks_did_not_run(claimed):
    options = ("--attacks", "fgsm", "--eps", "0.001", "--claim", "0.5 pgd-2")
    verdicts, summary, _ = claimed(*RCI, *options)
    assert set(verdicts[verdicts.defence == "rci"].verdict) == {"not settled"}
    assert "pgd-2" in set(summary.attack)  # the attack of the claim runs although --attacks does not name it


def test_the_eps_that_refutes_a_claim_is_named(claimed):
    verdicts, summary, _ = claimed(*TWO_RADII, "0.6")
    assert set(refuted(verdicts).eps) == {0.3}
    assert summary.query("eps == 0.01 and defence == 'rci'").accuracy.min() > 0.6


@pytest.mark.parametrize("about", ["eps=0.01", "batch/known"])
def test_a_claim_about_something_else_is_not_refuted(claimed, about):
    assert refuted(claimed(*TWO_RADII, f"0.6 {about}")[0]).empty


def test_a_claim_may_be_refuted_by_random_signs(claimed):
    # A step of no length from the clean input: weaker than the signs at the ball's corners.
    options = ("--attacks", "fgsm@0.0000001", "--eps", "0.5", "--claim", "0.9")
    verdicts, summary, _ = claimed(*options)
    assert not refuted(verdicts).empty
    assert summary[summary.attack == "fgsm@1e-07"].ci_low.min() > 0.9


def test_an_attack_of_an_attacker_who_knows_less_refutes(claimed):
    options = ("--attacks", "transfer-pgd-10,aware-pgd-1@0.0000001")
    assert "batch/known" in set(refuted(claimed(*RCI, "--claim", "0.6 batch/known", *options)[0]).threat)


def test_standard_inference_beside_a_defence_is_judged_where_it_is_named(claimed):
    options = ("--rci", "N=48", "--attacks", "fgsm,pgd-10", "--limit", "32")
    assert set(claimed(*options)[0].defence) == {"rci"}
    assert set(claimed(*options, "--defence", "standard")[0].defence) == {"rci", "standard"}
