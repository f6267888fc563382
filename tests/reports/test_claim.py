"""What a report says first where something is claimed: refuted, standing or not settled."""

from types import SimpleNamespace

import pytest

from robustbench_coded.reports.run import claim as claims
from robustbench_coded.reports.run.document import opens_with
from robustbench_coded.schema.case import BudgetKey, CaseKey, SubjectKey
from robustbench_coded.schema.claim import Claim
from robustbench_coded.schema.threat_model import WHOLE_BATCH, ThreatModel
from robustbench_coded.statistics.intervals import Interval
from robustbench_coded.statistics.verdict import Verdict

BUDGET = BudgetKey("linf", 8 / 255, "pixel")
ENSEMBLE = CaseKey.of(SubjectKey("erm", "rci", 128, 190), WHOLE_BATCH, "ensemble", BUDGET)
LEFT = {"pgd-10": Interval(0.8, 0.75, 0.85), "strongest": Interval(0.7, 0.65, 0.75)}


def row(attack, threat=WHOLE_BATCH):
    key = ENSEMBLE._replace(attack=attack, threat=threat)
    return SimpleNamespace(key=key, complete=True, strongest_attack="transfer-pgd-20", left=LEFT[attack])


def opening(monkeypatch, word, left, *, claim="pgd-10", checks=(), together=None, subjects=1, rows=None):
    monkeypatch.setattr(claims, "claimed_accuracy", lambda claim, row: row.left)
    claimed = Claim(0.72, WHOLE_BATCH, BUDGET, attack=claim)
    verdict = Verdict(word, "", left, 0.03, claim=claimed, claimed=left, open_checks=checks)
    judgement = SimpleNamespace(key=ENSEMBLE, subject=ENSEMBLE.subject, budget=BUDGET, verdict=verdict)
    run = SimpleNamespace(
        manifest=SimpleNamespace(invocations=[SimpleNamespace(claim=claimed)]),
        judgements=[judgement] * subjects,
        results=[row("pgd-10"), row("strongest")] if rows is None else rows,
        words_together=lambda judged: [together or word for _ in judged],
    )
    return claims.claim_answers(run)


BEGIN = (
    "RCI (K = 128, N = 190) on erm is claimed to keep 72.0% under pgd-10 (batch/unknown, linf, eps 8/255"
    "): here pgd-10 leaves 80.0% [75.0, 85.0], the strongest attack (transfer-pgd-20) 70.0% "
    "[65.0, 75.0] and all attacks together "
)


@pytest.mark.parametrize(
    ("word", "left", "checks", "end"),
    [
        ("claim refuted", Interval(0.6, 0.5, 0.7), ("a",), "60.0% [50.0, 70.0]; the claim is refuted."),
        (
            "no failure found",
            Interval(0.8, 0.74, 0.85),
            (),
            "80.0% [74.0, 85.0]; the claim stands against every attack tried, which is no proof.",
        ),
        # A claim is about the accuracy, a gain over the base model is another question.
        (
            "no gain",
            Interval(0.8, 0.74, 0.85),
            (),
            "the claim stands against every attack tried, which is no proof.",
        ),
        (
            "not settled",
            Interval(0.7, 0.6, 0.8),
            (),
            "the claim is not settled, because that interval contains 72.0%.",
        ),
        (
            "not settled",
            Interval(0.8, 0.74, 0.85),
            ("a", "b", "c"),
            "not settled: that interval lies above it, but 3 checks did not pass (a, b and 1 more).",
        ),
        ("not settled", None, (), "the claim is not settled, because outcomes are missing."),
    ],
)
def test_a_claim_is_answered(monkeypatch, word, left, checks, end):
    (said,) = opening(monkeypatch, word, left, checks=checks)
    assert said.startswith(BEGIN)
    assert said.endswith(end)


def test_a_claim_without_an_attack_is_answered_by_the_strongest(monkeypatch):
    (said,) = opening(monkeypatch, "claim refuted", Interval(0.6, 0.5, 0.7), claim=None)
    assert "keep 72.0% (batch/unknown" in said
    assert "here the strongest attack (transfer-pgd-20) leaves 70.0%" in said


def test_the_attack_of_a_claim_may_be_the_strongest(monkeypatch):
    rows = [row("pgd-10"), row("strongest")]
    rows[1].strongest_attack = "pgd-10"
    (said,) = opening(monkeypatch, "claim refuted", Interval(0.6, 0.5, 0.7), rows=rows)
    assert "here pgd-10, the strongest attack, leaves 80.0% [75.0, 85.0] and all attacks together 60" in said


def test_figures_of_another_threat_model_serve_where_the_attack_has_no_other(monkeypatch):
    rows = [row("pgd-10", ThreatModel("victim", "unknown")), row("strongest")]
    left = LEFT["strongest"]
    assert "pgd-10 (victim/unknown) leaves 80.0%" in opening(monkeypatch, "claim refuted", left, rows=rows)[0]
    (missing,) = opening(monkeypatch, "claim refuted", left, rows=rows[1:])
    assert "pgd-10 leaves no complete figure" in missing


def test_a_refutation_that_does_not_hold_for_several_subjects_says_so(monkeypatch):
    said = opening(monkeypatch, "claim refuted", LEFT["strongest"], together="not settled", subjects=5)
    assert said[0].endswith("the claim is refuted, but not once the error is adjusted for 5 judgements.")
    assert said[3:] == ["The claim covers 2 more subjects: refuted for 2."]


def test_a_later_command_opens_with_what_it_found():
    answer, claims = ["found", "counts"], ["claimed"]
    for claim, expected in ((0.5, ["claimed"]), (None, ["found", "claimed"])):
        run = SimpleNamespace(manifest=SimpleNamespace(last=SimpleNamespace(claim=claim)))
        assert opens_with(run, claims, answer) == expected
        assert opens_with(run, [], answer) == ["found"]
