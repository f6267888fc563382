"""The first screen of a report: its sentences, its figures, and the command that comes next."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from msgspec import structs, to_builtins

from robustbench_coded.judge.intervals import AsAttacked, Interval
from robustbench_coded.judge.judgements import Judgement
from robustbench_coded.judge.verdict import Verdict
from robustbench_coded.reports.run.next_command import NOTHING, NextCommand, next_command
from robustbench_coded.reports.run.opening import NO_VERDICT, Answer, opening_of, opens_with
from robustbench_coded.reports.run.verdict_tables import other_text_table, row_text_table
from robustbench_coded.reports.write import write_reports
from robustbench_coded.run import load_run
from robustbench_coded.runs.folder import sealed
from robustbench_coded.schema.case import WHOLE_BATCH, Case, Claim, Perturbation, Subject, ThreatModel
from robustbench_coded.schema.words import ENSEMBLE, IntervalKind, VerdictName
from tests.reports.conftest import ACCURACIES, BROKEN_BASE

BUDGET = Perturbation("linf", 8 / 255, "pixel")
VICTIM = ThreatModel("victim", "unknown")
RCI = Subject("erm", "rci", 128, 190)
BASE = Subject("erm", "standard", None, None)


def judgement(
    verdict,
    left,
    *,
    subject=RCI,
    threat=WHOLE_BATCH,
    kind=IntervalKind.POPULATION,
    attack="pgd-20",
    **more,
):
    accuracy = Interval(left, max(left - 0.05, 0.0), min(left + 0.05, 1.0), kind, 640)
    made = Verdict(
        verdict, "", accuracy, 0.03, compared=True, broken_at=0.14, clean=Interval(0.9, 0.85, 0.95), **more
    )
    case = Case(subject, threat, BUDGET, ENSEMBLE)
    return Judgement(case, made, attack=attack, examples=640)


OTHER = structs.replace(RCI, n=128)
STANDARD = judgement(VerdictName.BROKEN, 0.06, subject=BASE)


def opened(*judgements):
    """The first screen of a finished run with these judgements and without rows."""
    data = SimpleNamespace(name="npz:data/test.npz", available=10_000)
    last = SimpleNamespace(command=(), versions={}, time="", git=SimpleNamespace(commit=None))
    manifest = SimpleNamespace(
        finished=True, outlook=(), last=last, data=data, protocol=None, sequential=None, invocations=()
    )
    return opening_of(
        SimpleNamespace(
            judgements=judgements, judged=judgements, manifest=manifest, failures=(), rows=[], results=[]
        )
    )


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        (VerdictName.NO_GAIN, "no gain"),
        (VerdictName.WORSE_THAN_BASE, "worse than its base"),
        (VerdictName.BROKEN, "broken (at chance level: at most 14.0%)"),
        (VerdictName.NO_FAILURE_FOUND, "no failure found at batch size K = 128 (not a proof of robustness)"),
    ],
)
def test_an_answer_has_the_verdicts_own_name_the_accuracy_and_what_decided(verdict, said):
    found = opened(STANDARD, judgement(verdict, 0.101, base=STANDARD.verdict.accuracy))
    assert list(map(str, found.answers)) == [
        f"RCI (N = 190) on erm: {said}. Robust accuracy is 10.1% [5.1, 15.1] (base model 6.0% [1.0, 11.0]). "
        "The strongest attack is PGD-20."
    ]
    positive = verdict == VerdictName.NO_FAILURE_FOUND
    assert str(found.next) == (
        "No further run on these images is expected to change this." if positive else ""
    )


def test_where_a_batch_is_answered_together_the_figure_as_attacked_comes_first():
    whole = judgement(VerdictName.BROKEN, 0.109, kind=IntervalKind.EVALUATED_IMAGES)
    figure = replace(whole.verdict.accuracy, own=AsAttacked(0.06, 5), rebatched="pgd-100+loss=margin")
    one = replace(whole, verdict=replace(whole.verdict, accuracy=figure))
    found = opened(one)
    assert (
        "6.0% as attacked (5 batches); re-batched 10.9% [5.9, 15.9]† under PGD-100 (margin loss)."
        in found.answers[0].figures
    )
    table = row_text_table(found.rows)
    shown = dict(zip(table.heads, table.rows[0], strict=True))
    assert (shown["Robust accuracy"], shown["Re-batched"]) == ("6.0 (5 batches)", "10.9 [5.9, 15.9]†")
    assert shown["Re-batched under"] == "PGD-100 (margin loss)"
    without = replace(one.verdict, accuracy=replace(figure, kind=None, estimate=0.06, rebatched=""))
    alone = opened(replace(one, verdict=without))
    assert "Robust accuracy is 6.0% as attacked (5 batches)." in alone.answers[0].figures
    assert "Re-batched" not in row_text_table(alone.rows).heads


def test_an_open_verdict_says_why_in_plain_words(make_run):
    (answer,) = opening_of(load_run(make_run(accuracies=BROKEN_BASE))).answers
    assert answer.verdict == "not settled (no interval)"
    assert answer.figures.startswith("Robust accuracy is 50.0% as attacked (4 batches)")


def test_few_settings_have_a_line_each_and_many_are_counted():
    several = [
        judgement(verdict, 0.0, subject=structs.replace(RCI, checkpoint=name))
        for name, verdict in zip("abcde", [VerdictName.NO_GAIN] * 3 + [VerdictName.BROKEN] * 2, strict=True)
    ]
    assert [a.setting for a in opened(*several[:4]).answers] == [
        f"RCI (N = 190) on {name}" for name in "abcd"
    ]
    assert list(map(str, opened(*several).answers)) == ["5 settings: no gain (3), broken (2)."]
    assert [row.network for row in opened(*several).rows] == [*"abcde"]


def test_what_other_attackers_reach_is_named():
    whole = judgement(VerdictName.NO_FAILURE_FOUND, 0.6)
    table = other_text_table(opened(whole, judgement(VerdictName.BROKEN, 0.02, threat=VICTIM)).rows)
    assert (table.heads, table.rows) == (("victim/unknown",), (("broken: 2.0 [0.0, 7.0]",),))
    assert not other_text_table(opened(whole).rows).rows


def test_the_facts_say_on_what_the_answer_rests(make_run):
    run = load_run(make_run())
    facts = opening_of(run).facts
    rows = [r for r in run.rows if r.subject.defence == "rci" and r.threat == WHOLE_BATCH]
    attacks = [r for r in rows if r.measured and r.attack not in ("clean", "random-sign")]
    (everything,) = [r for r in rows if r.attack == "ensemble"]
    # As many forwards as backwards: together one evaluation.
    assert facts["Gradient evaluations per image, at most"] == f"{everything.backwards:,.0f}"
    assert (facts["Attacks"], facts["Stopped early"]) == (str(len(attacks)), "no")
    (judged,) = [j for j in run.judgements if j.threat == WHOLE_BATCH]
    passed = sum(check.passed for check in judged.checks)
    assert facts["Checks"].startswith(f"{passed} of {len(judged.checks)} passed; open: ")
    assert "†" in facts["Intervals"] and opened(STANDARD).facts["Intervals"] == "95%."


def test_a_defence_that_was_not_reached_before_the_stop_has_its_row(make_run):
    attacks = [(attack, "rci") for attack, _ in ACCURACIES]
    run = load_run(make_run(finished=False, missing=[*attacks, ("pgd-10", "standard")]))
    found = opening_of(run)
    assert [(answer.setting, answer.verdict) for answer in found.answers] == [
        ("RCI (N = 48) on erm", "not settled (incomplete)")
    ]
    table = row_text_table(found.rows)
    assert table.rows[0][table.heads.index("Verdict")] == "not settled: not run yet"
    assert found.facts["Stopped early"].startswith("yes")
    assert {*run.verdicts.defence} == {"rci"}
    write_reports(run.path)  # with figures, in which it has no dot
    assert "| not settled: not run yet |" in (run.path / "report.md").read_text()


def test_networks_without_a_defence_are_answered_for():
    found = opened(STANDARD)
    assert found.answers[0].setting == "Standard inference on erm"
    assert "base model" not in found.answers[0].figures
    assert [row.bare for row in found.rows] == [None]
    assert "Base model" not in row_text_table(found.rows).heads


CLAIM = Claim(0.72, WHOLE_BATCH, BUDGET, attack="pgd-10")


def test_a_claim_is_answered_by_the_reason_of_its_verdict():
    claimed = judgement(VerdictName.NOT_SETTLED, 0.7, claim=CLAIM)
    told = replace(claimed, verdict=replace(claimed.verdict, reason="Claimed: 72.0% of answers."))
    assert opened(told).answers[0].figures == "Claimed: 72.0% of answers."


def test_a_report_opens_with_one_judgement_a_subject_of_one_attacker_and_budget():
    def one(n, threat=WHOLE_BATCH, eps=8 / 255, defence="rci"):
        return SimpleNamespace(
            subject=Subject("erm", defence, 128, n),
            perturbation=structs.replace(BUDGET, eps=eps),
            threat=threat,
            verdict=SimpleNamespace(claim=None),
        )

    first, second = one(128), one(190)
    alone = one(256, VICTIM)
    others = [one(128, VICTIM), one(190, eps=4 / 255), one(None, defence="standard")]
    assert opens_with([others[0], first, others[1], second, alone, others[2]]) == [first, second, alone]
    assert opens_with([others[2]]) == [others[2]]
    assert opened().answers == (Answer("", NO_VERDICT),)


def test_the_figures_of_an_opening_are_those_of_the_judgements(make_run):
    run = load_run(make_run())
    found = opening_of(run)
    judged = {j.subject.defence: j.verdict for j in run.judged if j.threat == WHOLE_BATCH}
    (row,) = found.rows
    assert row.robust.estimate == judged["rci"].accuracy.as_attacked
    assert row.bare.estimate == judged["standard"].accuracy.estimate
    assert row.chance == judged["rci"].broken_at and row.judged[0].threat == WHOLE_BATCH
    assert {str(j.threat) for j in row.others} == {"batch/known", "victim/unknown"}
    shown = dict(zip(row_text_table(found.rows).heads, row_text_table(found.rows).rows[0], strict=True))
    assert shown["Robust accuracy"] == f"{100 * judged['rci'].accuracy.as_attacked:.1f} (4 batches)"
    assert f"(base model {shown['Base model']}%" in found.answers[0].figures
    assert shown["Clean (base)"] == "88.3 (90.6)"


def test_trainings_of_a_recipe_share_a_row_with_their_mean_and_range():
    names = ("erm-1", "erm-2", "erm-3", "resnet-20", "vit-1")
    several = [
        judgement(verdict, left, subject=structs.replace(RCI, checkpoint=name))
        for name, left, verdict in zip(
            names,
            (0.01, 0.02, 0.06, 0.1, 0.2),
            [VerdictName.NO_GAIN] * 2 + [VerdictName.BROKEN] * 3,
            strict=True,
        )
    ]
    rows = opened(*several).rows
    assert [row.network for row in rows] == ["erm (3 trainings)", "resnet-20", "vit-1"]
    assert rows[0].robust == (pytest.approx(0.03), 0.01, 0.06, "3.0 (1.0 to 6.0)")
    table = row_text_table(rows)
    assert table.rows[0][table.heads.index("Verdict")] == "no gain (2), broken (1)"
    assert table.rows[1][table.heads.index("Robust accuracy")] == "10.0 [5.0, 15.0]"


def test_a_run_from_python_is_told_an_expression(make_run):
    invocation = json.loads((make_run("p") / "run.json").read_text())["invocations"][0] | {"command": []}
    for option, said in (
        ("--all", "all=True"),
        ("--until settled", "until='settled'"),
    ):
        settle = SETTLE | {"option": option}
        run, _ = outlook(make_run, "p", invocations=[invocation], outlook=[settle])
        assert opening_of(run).next.command == f"run.again({said})"


def outlook(make_run, name, **changes):
    path = make_run(name)
    manifest = json.loads((path / "run.json").read_text()) | changes
    (path / "run.json").write_text(sealed(manifest))
    return load_run(path), path


SETTLE = {"purpose": "settle", "option": "--until settled", "images": 25_600}
ALL = {"purpose": "all", "option": "--all", "images": 2_000_000}


def test_what_comes_next_is_a_command_with_its_price(make_run):
    run, _ = outlook(make_run, "a", outlook=[ALL, SETTLE])
    found = opening_of(run).next
    assert found == NextCommand("a longer run", "csrobust eval runs/a/run.toml --until settled", 25_600)
    assert str(found) == "Next step: a longer run (about 25,600 gradients or more):"


def test_without_an_outlook_an_open_verdict_names_the_images_that_settle_it(make_run):
    run, _ = outlook(make_run, "c")
    (victims,) = [
        j
        for j in run.judgements
        if j.verdict.rule == "interval contains the threshold" and str(j.threat) == "victim/unknown"
    ]
    figure = victims.verdict.gain
    # 16 victims, an interval that has to shorten to the distance from its estimate to the margin.
    reach = max(figure.estimate - figure.low, figure.high - figure.estimate)
    needed = victims.examples * (reach / abs(figure.estimate - victims.verdict.bar)) ** 2
    assert (
        victims.verdict.examples_to_settle == pytest.approx(needed, abs=1)
        and "and about 750 are expected to settle it" in victims.verdict.reason
    )
    at_the_bar = replace(figure, estimate=victims.verdict.bar + 0.002)
    assert replace(victims.verdict, gain=at_the_bar).examples_to_settle is None
    assert next_command(run, [victims]).purpose == NOTHING  # their number is fixed
    whole, _ = outlook(make_run, "w", outlook=[ALL])
    assert next_command(whole, [victims]).command.endswith("--all")
    whole.manifest.last.options["until"] = "settled"  # which --all is refused beside
    assert next_command(whole, [victims]).purpose == NOTHING
    case = structs.replace(victims.case, threat=structs.replace(victims.case.threat, inputs="batch"))
    images = [replace(victims, case=case)]
    assert str(next_command(run, images)) == "Next step: 754 images:"
    assert next_command(run, images).command.endswith("runs/c/run.toml --limit 754 --out runs/c-754")


def test_the_next_step_is_what_the_program_would_run_for_the_verdict_that_is_open(make_run):
    run, _ = outlook(make_run, "n")
    (victims,) = [
        j for j in run.judgements if j.verdict.name == VerdictName.NOT_SETTLED and j.threat == VICTIM
    ]
    case = to_builtins(victims.case.setting)
    attacks = SETTLE | {"case": case, "rung": "before a positive verdict", "attacks": ["mosaic-16"]}
    batches = attacks | {"rung": "more examples", "attacks": ["pgd-10"], "batches": 40}
    wider = attacks | {"rung": "more examples", "attacks": ["pgd-10", "fgsm"], "examples": 512}
    told = "mosaic-16", "40 random batches of pgd-10", "every attack on 512 images"
    for need, purpose in zip((attacks, batches, wider), told, strict=True):
        run, _ = outlook(make_run, "n", outlook=[need])
        assert next_command(run, [victims]).purpose == purpose
    alone = replace(victims, verdict=replace(victims.verdict, gain=None))  # which no other attack settles
    of_base = NextCommand("attacks on its base model", "csrobust eval runs/n/run.toml --standard")
    assert next_command(run, [alone]) == of_base._replace(about="victim/unknown")
    other = replace(victims, case=structs.replace(victims.case, attack="x", threat=WHOLE_BATCH))
    assert next_command(run, [other]).purpose != told[2]  # it is another verdict's


def test_an_unfinished_run_is_finished_first(make_run):
    run, _ = outlook(make_run, "d", outlook=[SETTLE], finished=False)
    assert opening_of(run).next == NextCommand("what is missing", "csrobust eval runs/d/run.toml")


def test_the_run_file_is_where_the_last_command_wrote_it(make_run):
    invocation = json.loads((make_run("f") / "run.json").read_text())["invocations"][0]
    invocation["options"]["out"] = "elsewhere/f"
    run, _ = outlook(make_run, "f", outlook=[SETTLE], invocations=[invocation])
    assert opening_of(run).next.command == "csrobust eval elsewhere/f/run.toml --until settled"


def test_a_next_step_names_the_attacker_that_the_report_does_not_open_with():
    step = NextCommand("512 images", "csrobust eval", about="victim/unknown")
    assert str(step) == "Next step for victim/unknown: 512 images:"
    assert str(NextCommand("")) == ""


@pytest.mark.parametrize(
    ("data", "called"),
    [
        ("npz:data/cifar10_test.npz", "cifar10"),
        ("folder:my/images/", "images"),
        ("digits", "digits"),
        (None, "data in memory"),
    ],
)
def test_the_title_says_what_was_evaluated_on_which_data(make_run, data, called):
    path = make_run()
    manifest = json.loads((path / "run.json").read_text())
    manifest["data"]["name"] = data
    (path / "run.json").write_text(sealed(manifest))
    assert opening_of(load_run(path)).title == f"RCI (N = 48) on erm ({called}), linf 8/255"
