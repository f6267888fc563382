"""The first screen of a report: its words, its figures, its length, and the command that comes next."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from msgspec import structs

from robustbench_coded.judge.checks import Check
from robustbench_coded.judge.intervals import Interval
from robustbench_coded.judge.paired import Difference
from robustbench_coded.judge.run import load_run
from robustbench_coded.judge.verdict import RULES, Verdict
from robustbench_coded.reports.run.next_command import NextCommand, attack_images
from robustbench_coded.reports.run.opening import _OPEN, opening, opening_of, why_open
from robustbench_coded.reports.run.settings import (
    KeptAccuracy,
    Setting,
    deciding_attack,
    opens_with,
    settings_of,
)
from robustbench_coded.schema.case import WHOLE_BATCH, Claim, Perturbation, Subject, ThreatModel
from robustbench_coded.schema.words import CheckOutcome, VerdictName
from tests.reports.conftest import BROKEN_BASE

BUDGET = Perturbation("linf", 8 / 255, "pixel")
UNPASSED = Check("twice the steps", CheckOutcome.NOT_RUN, "")
NEXT = NextCommand("to settle it", "csrobust eval reports/a/run.toml --time 12m", 240.0)
BARE = KeptAccuracy(0.911, 0.0, 0.06)


def gain(low, high):
    return Difference((low + high) / 2, low, high, 0.10, 0.06, 640, 640)


def setting(
    word, left=0.101, *, others=None, checkpoint="erm", defence="rci", claim=None, bare=BARE, **verdict
):
    measured = Interval(left, max(left - 0.05, 0.0), min(left + 0.05, 1.0), others)
    made = Verdict(word, "", measured, **{"bar": 0.03, "compared": True, "claim": claim, **verdict})
    subject = Subject(checkpoint, defence, 128, 190)
    judgement = SimpleNamespace(verdict=made, subject=subject, perturbation=BUDGET, threat=WHOLE_BATCH)
    kept = KeptAccuracy(0.875, 0.29, left)
    return Setting(judgement, word, kept, bare, measured, 640, 6400, round(6400 * left), "transfer-pgd-20")


@pytest.mark.parametrize(
    ("one", "answer"),
    [
        (setting("no gain"), "No: no gain."),
        (setting("worse than its base"), "No: worse than the bare network."),
        (setting("broken"), "No: broken."),
        (setting("no failure found"), "No failure found, which is no proof."),
        (setting("not settled", gain=gain(-0.01, 0.09)), "Not settled: too few images to tell."),
    ],
)
def test_one_setting_is_answered_in_words(one, answer):
    found = opening([one], (0, 0), NEXT)
    assert found.asked == "Does RCI protect erm against changes up to 8/255 per pixel?"
    assert found.answer == answer
    assert found.found == (
        "Under attack 10.1% of its answers are right; its base model alone keeps 6.0%. Decided by "
        "transfer-pgd-20."
    )
    assert str(found.next) == "Next, to settle it (about 4 min):"


def test_every_rule_that_leaves_a_verdict_open_has_plain_words():
    rules = {rule.name for rule in RULES if rule.verdict == VerdictName.NOT_SETTLED}
    assert rules == set(_OPEN)
    for rule in rules - {"no outcomes", "outcomes missing"}:
        assert why_open(setting("not settled", rule=rule)) == _OPEN[rule]
    assert why_open(setting("not settled", rule="not converged")) == "longer attacks may find more"


def test_what_is_missing_goes_before_every_other_reason():
    assert why_open(setting("not settled", missing=True, rule="not converged")) == "outcomes are missing"
    nothing = replace(setting("not settled", rule="not converged"), measured=None)
    assert why_open(nothing) == "outcomes are missing"


def test_what_is_proven_is_said_of_these_images_and_of_others():
    lost = opening([setting("no gain", 0.01, others=(0.0, 0.27))], (0, 0), NEXT)
    assert lost.certainty == (
        "Observed 64 of 6,400 answers right on 640 images; proven (95%): at most 6.0% on these images, "
        "27.0% on others."
    )
    kept = opening([setting("no failure found", 0.5)], (0, 0), NEXT)
    assert kept.certainty.endswith("; proven (95%): at least 45.0% on other images (these attacks).")
    unclear = opening([setting("not settled", 0.5)], (0, 0), NEXT)
    assert unclear.certainty.endswith("45.0% to 55.0% on other images.")


def test_several_settings_are_one_question_and_one_count():
    several = [setting("no gain", left) for left in (0.0, 0.004, 0.016)]
    found = opening(several, (2, 6), NEXT)
    assert found.asked == "Do the 3 RCI settings protect erm against changes up to 8/255 per pixel?"
    assert found.answer == "No gain for any of them."
    assert found.found.startswith(
        "Under attack none gets more than 1.6% right; the base models alone keep at most 6.0%."
    )
    assert "Other attackers: 2 of 6 verdicts differ." in found.found
    assert found.certainty == "Observed on 640 images; proven for all (95%): at most 6.6% on other images."
    mixed = opening([*several, setting("not settled", 0.2, checkpoint="coded")], (0, 0), NEXT)
    assert mixed.answer == "No gain: 3; not settled: 1."
    assert "protect 2 networks" in mixed.asked
    assert mixed.certainty == "Observed on 640 images; the table says what is proven of each."
    little = opening([*several, setting("not settled", 0.02)], (0, 0), NEXT)
    assert little.found.startswith("Under attack none gets more than 2.0% right")
    assert "proven for all (95%): at most 7.0% on other images" in little.certainty
    assert mixed.found.startswith(
        "Under attack 0.0% to 20.0% of answers are right; the base models alone keep 6.0%."
    )
    assert (mixed.settings, mixed.bare) == ("4 RCI settings", "bare networks")


def test_networks_without_a_defence_withstand_or_do_not():
    one = opening([setting("broken", 0.0, defence="standard", bare=None, compared=False)], (0, 0), NEXT)
    assert one.asked == "Does erm withstand changes up to 8/255 per pixel?"
    assert one.found.startswith("Under attack 0.0% of its answers are right. Decided")
    assert [group.bare for group in one.bars] == [(), (), ()]


CLAIM = Claim(0.72, WHOLE_BATCH, BUDGET, attack="pgd-10")


@pytest.mark.parametrize(
    ("one", "answer"),
    [
        (setting("claim refuted", 0.1, claim=CLAIM), "No: the claim is refuted."),
        # A claim is about the accuracy; a gain over the bare network is another question.
        (setting("no gain", 0.8, claim=CLAIM), "It stands so far, which is no proof."),
        (setting("no failure found", 0.8, claim=CLAIM), "It stands so far, which is no proof."),
        (setting("not settled", 0.7, claim=CLAIM), "Not settled: too few images to tell."),
        (
            setting("not settled", 0.8, claim=CLAIM, checks=(UNPASSED,)),
            "Not settled: 1 check did not pass.",
        ),
    ],
)
def test_a_claim_is_the_question_where_there_is_one(one, answer):
    found = opening([replace(one, claimed_attack=0.8)], (0, 0), NEXT)
    assert found.asked == "Does RCI on erm keep the claimed 72.0% under pgd-10 at eps 8/255?"
    assert found.answer == answer
    assert "pgd-10 alone leaves 80.0%." in found.found


def test_a_report_opens_with_one_judgement_a_subject_of_one_attacker_and_budget():
    def judgement(n, threat=WHOLE_BATCH, eps=8 / 255, defence="rci"):
        return SimpleNamespace(
            subject=Subject("erm", defence, 128, n),
            perturbation=structs.replace(BUDGET, eps=eps),
            threat=threat,
            verdict=SimpleNamespace(claim=None),
        )

    victim = ThreatModel("victim", "unknown")
    first, second = judgement(128), judgement(190)
    alone = judgement(256, victim)
    others = [judgement(128, victim), judgement(190, eps=4 / 255), judgement(None, defence="standard")]
    assert opens_with([others[0], first, others[1], second, alone, others[2]]) == [first, second, alone]
    assert opens_with([others[2]]) == [others[2]]
    assert opens_with([]) == []


def test_the_attack_that_is_named_is_the_cheapest_of_those_that_leave_as_little(make_run):
    # In invented runs an attack costs more the longer its name is; the one planned first is `strongest`.
    accuracies = BROKEN_BASE | {
        ("pgd-100+momentum=1", "batch/unknown"): (None, 0.0),
        ("transfer-pgd-20", "batch/unknown"): (None, 0.0),
        ("pgd-20", "batch/unknown"): (None, 0.1),
    }
    run = load_run(make_run(accuracies=accuracies))
    (one,) = settings_of(run)
    strongest = next(row for row in run.rows if row.attack == "strongest" and row.subject == one.subject)
    assert strongest.strongest_attack == "pgd-100+momentum=1"
    assert one.attack == "transfer-pgd-20"
    assert deciding_attack(run, one.judgement.case.under(ThreatModel("victim", "unknown"))) == ""


def test_the_figures_of_an_opening_are_those_of_the_summary(make_run):
    run = load_run(make_run())
    found = opening_of(run)
    rows = {(row.subject.defence, row.attack): row for row in run.rows if row.threat == WHOLE_BATCH}
    clean, papers, left = ((group.settings, group.bare) for group in found.bars)
    assert clean == tuple((rows[defence, "clean"].accuracy,) for defence in ("rci", "standard"))
    assert papers == tuple((rows[defence, "pgd-10"].accuracy,) for defence in ("rci", "standard"))
    assert left == tuple((rows[defence, "ensemble"].accuracy,) for defence in ("rci", "standard"))


def outlook(make_run, name, **changes):
    path = make_run(name)
    manifest = json.loads((path / "run.json").read_text()) | changes
    (path / "run.json").write_text(json.dumps(manifest))
    return load_run(path), path


SETTLE = {"purpose": "settle", "option": "--time 12m", "seconds": 240.0}
ALL = {"purpose": "all", "option": "--all", "seconds": 20_000.0}


def test_what_comes_next_is_a_command_with_its_minutes(make_run):
    run, path = outlook(make_run, "a", outlook=[ALL, SETTLE])
    found = opening_of(run).next
    assert found == NextCommand(
        "to settle it", "csrobust eval --ckpt erm=erm.pt --rci N=48 --time 12m", 240.0
    )
    (path / "run.toml").write_text("")
    assert opening_of(run).next.command == "csrobust eval reports/a/run.toml --time 12m"
    assert str(opening_of(outlook(make_run, "b", outlook=[ALL])[0].__class__(path, run.manifest)).next)


def test_without_an_outlook_an_open_verdict_asks_for_more_images(make_run):
    run, _ = outlook(make_run, "c")
    found = opening_of(run).next
    assert any(j.verdict.name == "not settled" for j in run.judgements)
    assert found.command.endswith("--rci N=48 --limit 256 --out reports/c-256")
    spent = {row.case: row for row in run.rows if row.measured and row.forwards}
    images = sum((row.forwards + row.backwards) * row.examples for row in spent.values())
    assert found.seconds is None and found.images == pytest.approx(2 * images)
    # A report is the same wherever it was computed; a terminal has the minutes of this machine.
    assert str(found) == "Next, to settle it:"
    assert found.timed(run).seconds == pytest.approx(2 * 2.0 * len(spent))  # each attack took 2 s


def test_an_unfinished_run_is_finished_first(make_run):
    run, _ = outlook(make_run, "d", outlook=[SETTLE], finished=False)
    assert opening_of(run).next == NextCommand(
        "to compute what is missing", "csrobust eval --ckpt erm=erm.pt --rci N=48"
    )


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [
        (["--out", "elsewhere/f"], "elsewhere/f"),
        (["--out=elsewhere/f"], "elsewhere/f"),
        (["a/b/run.toml", "--all"], "a/b"),
        (["--out"], "reports/f"),
    ],
)
def test_the_run_file_is_where_the_last_command_wrote_it(make_run, arguments, folder):
    invocation = json.loads((make_run("f") / "run.json").read_text())["invocations"][0]
    invocation["command"] = ["csrobust", "eval", *arguments]
    run, path = outlook(make_run, "f", outlook=[SETTLE], invocations=[invocation])
    (path / "run.toml").write_text("")
    assert opening_of(run).next.command == f"csrobust eval {folder}/run.toml --time 12m"


def test_a_command_too_long_for_the_first_screen_is_named(make_run):
    command = ["csrobust", "eval", *(f"--ckpt=net{i}.pt" for i in range(20))]
    invocation = json.loads((make_run("long") / "run.json").read_text())["invocations"][0] | {
        "command": command
    }
    run, _ = outlook(make_run, "e", outlook=[SETTLE], invocations=[invocation])
    assert opening_of(run).next.command == "the same command with --time 12m"


def test_an_attack_that_did_not_run_is_expected_to_cost_what_its_steps_cost(make_run):
    run = load_run(make_run(accuracies=BROKEN_BASE))
    subject = next(row.subject for row in run.rows if row.subject.defence == "rci")
    ran = next(row for row in run.rows if (row.subject, row.attack) == (subject, "pgd-10"))
    images = (ran.forwards + ran.backwards) * ran.examples
    assert attack_images(run, subject, "pgd-10") == pytest.approx(images)
    assert attack_images(run, subject, "eot2-pgd-20") == pytest.approx(4 * images)
    assert attack_images(run, subject, "no attack") == 0
