"""What verdicts on entries of the zoo come to, and the benchmark's tables of them."""

from dataclasses import replace

import pytest

from benchmarks.errors import zoo_report
from benchmarks.errors.zoo_judged import Finding, judge_entry
from zoo.known import Truth
from zoo.registry import ZOO

pytestmark = pytest.mark.long


def finding(name, word, threat="batch/unknown", truth=(0.0, 0.0), interval=(0.0, 0.0, 0.01)):
    return Finding(ZOO[name], threat, word, "Because.", (), *interval, Truth(*truth))


@pytest.mark.parametrize(
    ("name", "word", "truth", "sense", "fair"),
    [
        ("rounding", "no failure found", (0, 0), "positive", False),
        ("rounding", "not settled", (0, 0), "open", True),
        ("rounding", "broken", (0, 0), "negative", True),
        ("rounding", "refused", (0, 0), "negative", True),
        ("rounding", "worse than its base", (0, 0), "negative", True),
        ("coin-flip", "no failure found", (0.95, 0.95), "positive", True),
        ("coin-flip", "not settled", (0.95, 0.95), "open", True),
        ("coin-flip", "refused", (0.95, 0.95), "negative", False),
        ("coin-flip", "no gain", (0.95, 0.95), "negative", False),
    ],
)
def test_what_a_word_comes_to(name, word, truth, sense, fair):
    found = finding(name, word, truth=truth)
    assert (found.sense, found.fair) == (sense, fair)


def test_each_threat_model_has_a_truth_of_its_own():
    opposed = finding("ensemble-opposed", "broken", "batch/known", (0, 0))
    assert opposed.broken
    assert opposed.fair
    assert not finding("ensemble-opposed", "no failure found", "batch/known", (0, 0)).fair
    assert finding("label-leak", "no failure found", "victim/unknown", (1, 1)).fair
    assert not finding("label-leak", "no failure found", "batch/unknown", (0, 0)).fair


@pytest.mark.parametrize(("kept", "fair"), [(0.7, True), (0.9, False)])
def test_a_victim_of_what_is_broken_stands_where_it_keeps_more_than_a_whole_batch(kept, fair):
    victim = finding("rci-linear", "no gain", "victim/unknown", (kept, kept))
    assert replace(victim, whole_batch=Truth(0.7, 0.7)).fair == fair


def test_an_interval_holds_a_truth_or_reaches_its_bounds_from_the_right_side():
    assert finding("coin-flip", "not settled", truth=(0.95, 0.95), interval=(0.93, 0.94, 0.96)).holds
    assert not finding("coin-flip", "not settled", truth=(0.95, 0.95), interval=(0.96, 0.97, 0.98)).holds
    assert not finding("coin-flip", "not settled", truth=(0.95, 0.95), interval=(0.9, 0.91, 0.93)).holds
    assert finding("digits-pgd-at", "not settled", truth=(0.7, 0.92), interval=(0.8, 0.85, 0.9)).holds
    assert finding("coin-flip", "refused", truth=(0.95, 0.95), interval=(None, None, None)).holds


def test_an_entry_that_is_refused_is_judged(tmp_path):
    (found,) = judge_entry("hidden-noise", tmp_path / "run", n=64, attacks=["fgsm"])
    assert (found.verdict, found.sense, found.fair, found.estimate) == ("refused", "negative", True, None)


def test_an_entry_that_fails_half_way_is_judged(tmp_path):
    found = judge_entry("raises-when-unsure", tmp_path / "run", n=64, attacks=["fgsm", "pgd-10"])
    assert found[0].sense != "positive"
    assert found[0].fair


def test_an_entry_of_each_kind_through_one_attack(tmp_path):
    wrapper = judge_entry("one-hot-0.2", tmp_path / "wrapper", n=32, attacks=["fgsm"])
    assert wrapper[0].truth.high < 0.1
    abstaining = judge_entry("abstain-unsure", tmp_path / "abstaining", n=64, attacks=["pgd-10"])
    assert abstaining[0].estimate == pytest.approx(abstaining[0].truth.high)
    memory = judge_entry("memory-reset", tmp_path / "memory", n=64, attacks=["pgd-10"])
    assert memory[0].estimate == 0


def test_a_defence_without_a_checkpoint_is_not_compared_with_itself(tmp_path):
    (found,) = judge_entry("lipschitz", tmp_path / "alone", n=64, attacks=["pgd-10"])
    assert not [name for name in found.open_checks if "base model" in name]


def test_labels_alone_speak_for_gradients_that_are_none(tmp_path):
    """Hard answers with another model's slope, and robust: RayS is run by itself and finds no more."""
    (found,) = judge_entry("one-hot-wide", tmp_path / "robust", n=64)
    assert (found.verdict, found.open_checks) == ("no failure found", ())
    (found,) = judge_entry("constant", tmp_path / "constant", n=64)
    assert found.sense != "positive"
    assert "self-tests: gradients along the path" in found.open_checks


def test_the_matrix_counts_entries():
    def judged(name, word, threat="batch/unknown", truth=(0, 0), interval=(0.0, 0.0, 0.01)):
        found = finding(name, word, threat, truth, interval)
        return zoo_report.Judged(
            name, found.entry.family, ZOO[name].description, found.broken, threat, found.truth, found.low,
            found.estimate, found.high, word, found.sense, "Because.", ("attacks agree",), found.holds,
            found.fair,
        )  # fmt: skip

    right = {"autoattack:standard": 0.0}
    measured = [
        zoo_report.Measured((judged("rounding", "no failure found"),), {"autoattack:standard": 0.5}, 60),
        zoo_report.Measured((judged("saturated", "not settled"),), right, 60),
        zoo_report.Measured((judged("shattered", "broken"),), right, 0),
        zoo_report.Measured((judged("hidden-noise", "refused", interval=(None,) * 3),), {}, 0),
        zoo_report.Measured(
            (judged("coin-flip", "broken", truth=(0.95, 0.95), interval=(0.94, 0.95, 0.96)),),
            {"autoattack:rand": 0.8},
            0,
        ),
    ]
    text = zoo_report.report(measured)
    matrix = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| broken |")]
    assert [cell.strip() for cell in matrix[0]] == ["broken", "4", "1", "2", "1", "1", "1", "0", "0", "0"]
    matrix = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| robust |")]
    assert [cell.strip() for cell in matrix[0]] == ["robust", "1", "0", "1", "0", "0", "0", "1", "0", "0"]
    # Both kinds of open verdicts are named, and explained elsewhere.
    assert "saturated (not settled), hidden-noise (refused)" in text and "Because." not in text
    reasons = [
        line.split("|")[1].strip() for line in zoo_report.details(measured).splitlines() if "Because." in line
    ]
    assert reasons == ["`saturated`", "`hidden-noise`"]
    lines = zoo_report.table(measured).splitlines()
    assert len(lines) == 1 + 5 + 4
    assert all(line.count(",") == lines[0].count(",") for line in lines)
    # What was written is what a later run takes for the entries that it does not measure.
    before = zoo_report.measured_before(zoo_report.table(measured))
    assert list(before.values()) == measured


def test_table_and_text_agree_on_what_is_good_and_judged_broken():
    """Under the main threat model the table counts it; under another one its own sentence does."""

    def judged(name, word, threat, truth, interval, bar):
        found = replace(finding(name, word, threat, truth, interval), bar=bar)
        return zoo_report.Judged(
            name, found.entry.family, "", found.broken, threat, found.truth, found.low, found.estimate,
            found.high, word, found.sense, "", (), found.holds, found.fair,
        )  # fmt: skip

    main = judged("members-apart", "no failure found", "batch/unknown", (0.6, 0.6), (0.58, 0.6, 0.62), 0.29)
    known = judged("members-apart", "broken", "batch/known", (0.2, 0.2), (0.17, 0.2, 0.24), 0.29)
    text = zoo_report.report([zoo_report.Measured((main, known), {}, 0)])
    assert "| robust | 1 | 1 | 0 |" in text
    assert "Of 1 robust ones, it gives 1 a positive verdict, 0 a negative one and leaves 0 open." in text
    assert "- Robust with a negative verdict, under any threat model: 1. At chance level" in text
    assert "members-apart (batch/known). Above chance level: none." in text
