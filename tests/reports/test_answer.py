"""The sentence that a report opens with, for every word of a verdict."""

from types import SimpleNamespace

import pytest

from robustbench_coded.reports.run.answer import answer
from robustbench_coded.reports.run.headline import headline
from robustbench_coded.schema.case import BudgetKey, SubjectKey
from robustbench_coded.schema.words import VerdictWord
from robustbench_coded.statistics.intervals import Interval
from robustbench_coded.statistics.paired import Difference
from robustbench_coded.statistics.verdict import Verdict

LEFT = Interval(0.101, 0.05, 0.15)


def gain(low, high):
    return Difference((low + high) / 2, low, high, 0.10, 0.06, 640, 640)


def said(word, reason="", **figures):
    verdict = Verdict(word, reason, LEFT, **{"bar": 0.03, "compared": True, **figures})
    judgement = SimpleNamespace(
        verdict=verdict,
        subject=SubjectKey("erm", "rci", 128, 190),
        budget=BudgetKey("linf", 8 / 255, "pixel"),
        threat="batch/unknown",
    )
    return lambda together=word: answer(judgement, together, 12)


ALONE = {"compared": False, "bar": 0.147, "broken_at": 0.147}


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        (said("no gain", gain=gain(-0.01, 0.02)), "no gain over the bare network (6.0%)."),
        (said("worse than its base", gain=gain(-0.3, -0.2)), "less than the bare network keeps (6.0%)."),
        (said("broken", **ALONE), "broken (the threshold is 14.7%)."),
        (said("broken", gain=gain(0.01, 0.05), broken_at=0.147), "broken (the threshold is 14.7%)."),
        (said("claim refuted"), "the claim is refuted."),
        (said("no failure found", **ALONE), "no failure found, an upper bound and not a proof."),
        (
            said("no failure found", **ALONE, beside=gain(-0.01, 0.02)),
            "not a proof; it names no base model, and the checkpoint alone keeps 6.0%.",
        ),
        (
            said("no failure found", gain=gain(0.04, 0.09)),
            "an upper bound and not a proof; the bare network keeps 6.0%.",
        ),
        (
            said("not settled", "But outcomes are missing.", gain=gain(0.04, 0.09)),
            "not settled, because outcomes are missing.",
        ),
        (
            said("not settled", gain=gain(0.04, 0.09), open_checks=("another loss", "twice the steps", "x")),
            "because 3 checks did not pass (another loss, twice the steps and 1 more).",
        ),
        (
            said("not settled", gain=gain(-0.01, 0.09)),
            "because the gain over the bare network (6.0%) may be anything from -1.0 to +9.0 points.",
        ),
        (said("not settled"), "because the bare network was not evaluated."),
        (said("not settled", gain=gain(0.0, 0.02)), "because the bare network met weaker attacks."),
        (said("not settled", **ALONE), "the interval contains 14.7%, up to which it counts as broken."),
    ],
)
def test_the_word_in_plain_terms(sentence, expected):
    assert sentence().startswith(
        "RCI (N = 190) on erm keeps 10.1% [5.0, 15.0] under all attacks combined at eps 8/255"
    )
    assert sentence().endswith(expected)


def test_a_word_that_does_not_hold_among_many_says_so():
    found = said("no gain", gain=gain(-0.01, 0.02))(VerdictWord.NOT_SETTLED)
    assert found.endswith(
        "no gain over the bare network (6.0%), but not settled once the error is adjusted for 12 judgements."
    )


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("no gain", "no gain"), "N = 192"),  # the largest undercut
        (("no gain", "not settled"), "N = 190"),  # what is settled comes before what is larger
        (("not settled", "not settled"), "N = 192"),
    ],
)
def test_a_report_opens_with_the_largest_undercut_that_is_settled(words, named):
    judged = [judged_setting("small", 190), judged_setting("large", 192)]
    undercuts = [undercut("of no judgement"), undercut("large"), undercut("small")]
    first, counts = headline(judged, undercuts, lambda _: words)
    assert f"RCI ({named}) on erm keeps 30.0% under pgd-10 at eps 8/255 (linf), batch/unknown, but" in first
    assert counts.startswith("Verdict: ")


def judged_setting(setting, n):
    return SimpleNamespace(
        verdict=Verdict("no gain", "", LEFT, bar=0.03, compared=True, gain=gain(-0.01, 0.02)),
        subject=SubjectKey("erm", "rci", 128, n),
        budget=BudgetKey("linf", 8 / 255, "pixel"),
        threat="batch/unknown",
        key=SimpleNamespace(setting=setting),
    )


def undercut(setting):
    def row(attack, accuracy):
        key = SimpleNamespace(setting=setting, attack=attack)
        return SimpleNamespace(key=key, strongest_attack=attack, interval=lambda: Interval(accuracy, 0, 1))

    papers, stronger = row("pgd-10", 0.3), row("transfer-pgd-20", 0.0)
    return SimpleNamespace(papers=papers, stronger=stronger, with_k=False, same_threat=True)
