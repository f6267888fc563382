"""Sentences come from the figures of the run at hand."""

import re
from pathlib import Path

import pytest

from robustbench_coded.reports.run.design_table import design_text_table
from robustbench_coded.reports.run.document import document_of
from robustbench_coded.reports.run.findings import without_design
from robustbench_coded.reports.run.undercuts import undercut_text, undercuts
from robustbench_coded.results.run import load_run
from robustbench_coded.statistics.intervals import TAIL
from robustbench_coded.statistics.paired import paired_difference

pytestmark = pytest.mark.long

COMMITTED = Path(__file__).parents[2] / "reports" / "cifar10-resnet20"
BASE = {
    ("clean", "batch/unknown"): (0.95, 0.9),
    ("random-sign", "batch/unknown"): (0.9, 0.8),
    ("pgd-10", "batch/unknown"): (0.0, 0.5),
}


@pytest.fixture(scope="module")
def committed():
    return load_run(COMMITTED)


def told_of(run):
    return [undercut_text(undercut) for undercut in undercuts(run)]


def with_attack(attack, threat, accuracy):
    return BASE | {(attack, threat): (None, accuracy)}


def test_a_stronger_attack_is_told_with_its_threat_model_and_how_much_it_takes(make_run):
    run = load_run(make_run(accuracies=with_attack("transfer-pgd-20", "batch/unknown", 0.1)))
    (sentence,) = told_of(run)
    rci = run.summary[(run.summary.defence == "rci") & (run.summary.threat == "batch/unknown")]
    left = 100 * rci[rci.attack == "transfer-pgd-20"].accuracy.iloc[0]
    papers = 100 * rci[rci.attack == "pgd-10"].accuracy.iloc[0]
    assert "under batch/unknown (linf, eps 8/255 (pixel)) transfer-pgd-20" in sentence
    assert f"leaves {left:.1f}% [" in sentence
    assert f"pgd-10, the strongest of the paper's attacks here, leaves {papers:.1f}%." in sentence
    assert f"is {papers - left:.1f} points [" in sentence


def test_the_largest_difference_is_told_first(committed):
    told = told_of(committed)
    sizes = [float(re.search(r"is ([0-9.]+) points", sentence)[1]) for sentence in told]
    assert len(sizes) > 5 and sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("accuracy", [0.5, 0.9])
def test_nothing_is_told_where_the_papers_attack_is_the_strongest(make_run, accuracy):
    accuracies = with_attack("transfer-pgd-20", "batch/unknown", accuracy)
    assert told_of(load_run(make_run(accuracies=accuracies))) == []


def test_the_attacker_who_knows_less_is_named_first(make_run):
    both = with_attack("eot10-pgd-20", "batch/unknown", 0.2) | {("aware-pgd-10", "batch/known"): (None, 0.0)}
    (sentence,) = told_of(load_run(make_run(accuracies=both)))
    assert "eot10-pgd-20" in sentence
    only = with_attack("aware-pgd-10", "batch/known", 0.0)
    (sentence,) = told_of(load_run(make_run("other", accuracies=only)))
    assert "under batch/known" in sentence


def test_the_document_opens_with_an_answer_and_the_word_of_each_verdict(make_run):
    run = load_run(make_run())
    document = document_of(run)
    answered, words = document.opening
    assert answered.startswith("RCI (N = 48) on erm keeps ") and "not settled, because" in answered
    for judgement in run.judgements:
        if judgement.subject.defence == "rci":
            assert judgement.verdict.word in words


def test_without_an_undercut_the_answer_is_about_all_attacks_together(make_run):
    run = load_run(make_run(accuracies=with_attack("transfer-pgd-20", "batch/unknown", 0.9)))
    answered, _, reason = document_of(run).opening
    assert answered.startswith("RCI (N = 48) on erm classifies ") and "under all attacks combined" in answered
    judged = next(judgement for judgement in run.judgements if judgement.subject.defence == "rci")
    assert reason.endswith(judged.verdict.reason)


def test_an_undercut_is_the_answer_in_the_words_of_a_person():
    answered, counts = document_of(load_run(COMMITTED.parent / "digits-sweep")).opening
    assert answered == (
        "RCI (K = 64, N = 96) on coded keeps 21.4% under pgd-10 at eps 0.3 (linf), batch/unknown, but only "
        "0.0% [0.0, 1.4] under transfer from its own base model (transfer-pgd-20): no gain over the bare "
        "network (0.0%)."
    )
    assert counts.startswith("Verdict: of 5 judgements")


def test_an_undercut_by_another_attacker_is_a_finding_and_not_the_answer(make_run):
    run = load_run(make_run(accuracies=with_attack("aware-pgd-10", "batch/known", 0.1)))
    (finding,) = told_of(run)
    assert "under batch/known" in finding
    assert "pgd-10 under batch/unknown, the strongest of the paper's attacks here, leaves" in finding
    answered = document_of(run).opening[0]
    assert re.findall(r"\w+/(?:un)?known", answered) == ["batch/unknown"]
    assert "all attacks combined" in answered and "aware" not in answered


def test_an_undercut_by_the_same_attacker_is_named_before_a_larger_one(make_run):
    accuracies = with_attack("transfer-pgd-20", "batch/unknown", 0.3) | {
        ("transfer-pgd-20", "victim/unknown"): (None, 0.0)
    }
    (finding,) = told_of(load_run(make_run(accuracies=accuracies)))
    assert "under batch/unknown" in finding and "victim" not in finding


def test_no_report_calls_anything_robust(make_run):
    from robustbench_coded.reports.render.markdown import markdown_details, markdown_report
    from robustbench_coded.reports.render.sections import sections_of

    safe = {
        **BASE,
        ("pgd-10", "batch/unknown"): (0.0, 0.88),
        ("transfer-pgd-20", "batch/unknown"): (None, 0.88),
    }
    for name, accuracies in (("broken", None), ("safe", safe)):
        changes = {} if accuracies is None else {"accuracies": accuracies}
        document = document_of(load_run(make_run(name, **changes)))
        sections = sections_of(document)
        text = markdown_report(document, sections) + markdown_details(document, sections)
        assert not re.search(r"(?<!cs)robust", text.lower())


def test_what_was_not_tried_is_said(make_run):
    limits = " ".join(document_of(load_run(make_run(accuracies=BASE))).limits)
    for threat in ("known", "victim", "co-batch"):
        assert f"no row under a {threat} threat model" in limits
    everything = " ".join(document_of(load_run(make_run("all"))).limits)
    assert "no row under a known threat model" not in everything
    assert "no row under a victim threat model" not in everything
    assert "no row under a co-batch threat model" in everything


def test_facts_name_everything_that_decides_the_numbers(make_run):
    facts = document_of(load_run(make_run(seed=7))).facts
    text = "\n".join(f"{fact.about}: {fact.text}" for fact in facts)
    for said in (
        "the first 128 of 10000 examples",
        "sha256 dddddddddddddddd",
        "normalisation stored: imagenet (mean 0.485, deviation 0.229)",
        "linf, eps 8/255 (pixel)",
        "pgd-10: PGD, 10 steps, step size 2/255, random start; one fresh draw at each step",
        "eot10-pgd-20: PGD, 20 steps, step size 2/255, random start; 10 fresh draws averaged",
        "means over 4 draws made after the attack; attacks are chosen on 3 other draws",
        "2 separate attacks are each scored on the draw they know",
        "Seed: 7",
        "K = 32; pad:",
        "torch 2.9; commit 0123456789ab; device cpu",
        "128 under batch/known and batch/unknown; 16 under victim/unknown",
    ):
        assert said in text, said


def test_a_guessed_normalisation_comes_with_the_figures_it_was_guessed_by(make_run):
    import json

    path = make_run()
    manifest = json.loads((path / "run.json").read_text())
    manifest["checkpoints"][0]["normalisation"] |= {
        "source": "guessed",
        "examples": 512,
        "candidates": [["imagenet", 0.416, 0.904], ["cifar10", 0.42, 0.902]],
        "not_separable": ["cifar10"],
    }
    (path / "run.json").write_text(json.dumps(manifest))
    facts = [fact.text for fact in document_of(load_run(path)).facts if fact.about == "Recognition"]
    assert "imagenet 0.416 (90.4% right), cifar10 0.420 (90.2% right)" in facts[0]
    assert "not separable: cifar10" in facts[0]


def test_what_a_peer_says_of_itself_stands_beside_what_it_leaves(make_run):
    accuracies = BASE | {("autoattack:rand", "batch/unknown"): (None, 0.75)}
    findings = document_of(load_run(make_run(accuracies=accuracies, peer_standing=0.869))).findings
    told = [text for text in findings if "autoattack" in text]
    assert len(told) == 1
    assert "autoattack:rand itself reports 86.9%" in told[0]
    assert "on fresh draws its inputs leave 75.0% [" in told[0]


def test_replicates_tell_where_the_uncertainty_comes_from(make_run):
    one = document_of(load_run(make_run("one", accuracies=BASE)))
    assert one.components.rows == ()
    document = document_of(load_run(make_run("three", accuracies=BASE, replicates=3)))
    rows = {(row[1], row[3]): row[5:] for row in document.components.rows}
    draw, batch, partition, attack = rows["RCI (K = 32, N = 48)", "pgd-10"]
    assert float(draw) > 0
    assert float(batch) >= 0
    # Every replicate has the same number of right answers.
    assert float(partition) == float(attack) == 0
    assert rows["Standard inference", "pgd-10"][0] == "–"


def test_the_bound_by_batches_stands_beside_that_by_examples(make_run):
    from robustbench_coded.reports.render.markdown import markdown_details
    from robustbench_coded.reports.render.sections import sections_of

    zero = BASE | {("transfer-pgd-20", "batch/unknown"): (None, 0.0)}
    document = document_of(load_run(make_run(accuracies=zero)))
    text = markdown_details(document, sections_of(document))
    assert "Upper, by batches" in text
    assert "| 60.2 |" in text  # 0 of 4 batches


def test_the_largest_difference_holds_among_all_that_were_looked_at(make_run):
    several = with_attack("eot10-pgd-20", "batch/unknown", 0.2) | {
        ("aware-pgd-10", "batch/known"): (None, 0.1)
    }
    run = load_run(make_run(accuracies=several))
    (sentence,) = told_of(run)
    assert "error shared by 2 comparisons" in sentence
    rows = {(str(row.key.threat), row.key.attack): row for row in run.results if row.key.defence == "rci"}
    pair = rows["batch/unknown", "pgd-10"], rows["batch/unknown", "strongest"]
    low, high = (f"{100 * end:.1f}" for end in _ends(paired_difference(*pair, TAIL / 2)))
    assert f"[{low}, {high}] (error shared by 2 comparisons)." in sentence
    assert _ends(paired_difference(*pair)) != _ends(paired_difference(*pair, TAIL / 2))


def _ends(difference):
    return difference.low, difference.high


def test_counts_of_verdicts_share_one_error(committed):
    run = committed
    sure = [j for j in run.judgements if j.verdict.word == "no gain"]
    closest = max(sure, key=lambda judgement: judgement.verdict.gain.high)
    assert run.words_together([closest]) == ["no gain"]
    assert set(run.words_together([closest] * 30)) == {"not settled"}


def test_the_opening_says_what_stands_with_the_shared_error_and_counts_what_it_leaves_open():
    answered, counted = document_of(load_run(COMMITTED.parent / "cifar10-recipes")).opening
    assert answered.endswith("(transfer-pgd-20): no gain over the bare network (0.0%).")
    assert "not settled in 19 and no gain in 2" in counted
    assert "adjusted for their number (Holm); one by one, no gain in 14" in counted


FOUR = ("pgd-20", "aware-pgd-20", "pgd-20+init=transfer-pgd-20", "aware-pgd-20+init=transfer-pgd-20")


def test_the_design_is_a_table_or_the_command_that_makes_it(make_run):
    left = dict(zip(FOUR, (0.6, 0.4, 0.3, 0.2)))
    threats = {name: "batch/known" if name.startswith("aware") else "batch/unknown" for name in FOUR}
    cells = {(name, threats[name]): (None, left[name]) for name in FOUR}
    run = load_run(make_run("all", accuracies=BASE | cells))
    assert without_design(run) == []
    plain, started, starting = (row[3:] for row in design_text_table(run.judgements).rows)
    assert plain[0] == "pgd-20" and started[0] == FOUR[2]
    shown = [float(cell.split()[0]) for cell in (*plain[1:], *started[1:], *starting[1:3])]
    a, b, knowing, c, d, knowing_started, unknown, known = shown
    assert knowing == pytest.approx(a - b, abs=0.11) and knowing_started == pytest.approx(c - d, abs=0.11)
    assert unknown == pytest.approx(a - c, abs=0.11) and known == pytest.approx(b - d, abs=0.11)
    interaction = float(starting[3].split()[1])
    assert starting[3].startswith("interaction ") and interaction == pytest.approx(a - b - c + d, abs=0.21)
    three = {key: cell for key, cell in cells.items() if key[0] != FOUR[2]}
    (told,) = without_design(load_run(make_run("three", accuracies=BASE | three)))
    assert "were not separated for" in told and f"--attacks paper,adaptive,{FOUR[2]} separates" in told
