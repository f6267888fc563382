"""What ``--time`` leaves out, under planted forecasts: nothing here is timed."""

import pytest

from robustbench_coded.evaluation.planning.cases import AttackCase, Subject
from robustbench_coded.evaluation.planning.time_limit_plan import (
    FEWEST_BATCHES,
    OPENING,
    choose,
    is_settled,
    left_out,
    next_rows,
    sentences,
    settled_already,
    sizes_within,
    time_text,
)
from robustbench_coded.schema.threat_model import ThreatModel

STANDARD = Subject("erm", "standard", "standard", 128, None, False, False, False, 128)
RCI = Subject("erm", "rci:N=190", "rci", 128, 190, True, True, True, 190)
# In the order of the presets, seconds for 100 examples on RCI; a tenth of it on standard inference.
SECONDS = {
    "clean": 1,
    "fgsm": 2,
    "pgd-10": 10,
    "pgd-100": 100,
    "eot10-pgd-20": 60,
    "fixed-pgd-10": 10,
    "aware-pgd-10": 20,
    "transfer-pgd-20": 20,
    "aware-pgd-20+init=transfer-pgd-20": 50,
    "transfer-apgd-mt-20": 60,
}
SIZES = [100, 200, 300, 1000]


def row(subject, attack, inputs="batch"):
    randomness = "known" if attack.startswith("aware") else "unknown"
    return AttackCase(subject, ThreatModel(inputs, randomness), attack, "linf", 8 / 255, "pixel", None)


ROWS = [row(STANDARD, name) for name in SECONDS if not name.startswith(("aware", "transfer"))]
ROWS += [row(RCI, name) for name in SECONDS]


def cost(row, examples):
    return SECONDS[row.attack] * examples / 100 / (1 if row.subject == RCI else 10)


def on(subject, choice):
    return [row.attack for row in choice.rows if row.subject == subject]


def test_with_enough_time_nothing_waits():
    total = sum(cost(row, 1000) for row in ROWS)
    choice = choose(ROWS, cost, total, SIZES)
    assert choice.rows == tuple(ROWS) and choice.waiting == () and choice.fits
    assert choice.examples == 1000 and choice.seconds == pytest.approx(total)
    assert sentences(choice, total, 1000) == []


def test_examples_go_before_attacks():
    choice = choose(ROWS, cost, sum(cost(row, 250) for row in ROWS), SIZES)
    assert choice.waiting == () and choice.examples == 200


@pytest.mark.parametrize(
    ("seconds", "papers"),
    [
        (35, ["fgsm"]),
        (55, ["fgsm", "pgd-10"]),
        (160, ["fgsm", "pgd-10", "pgd-100"]),
    ],
)
def test_the_paper_s_attacks_and_one_strong_one_on_each_subject_come_first(seconds, papers):
    choice = choose(ROWS, cost, seconds, SIZES)
    assert sorted(on(RCI, choice)) == sorted(["clean", *papers, "transfer-pgd-20"])
    assert choice.examples == 100 and choice.fits
    assert choice.seconds <= seconds
    assert set(choice.waiting) == set(ROWS) - set(choice.rows)


def test_standard_inference_is_attacked_whatever_that_costs():
    choice = choose(ROWS, cost, 0.5, SIZES)
    # Its most damning attack, not its cheapest: a weak one would make every defence look bad beside it.
    assert on(STANDARD, choice) == ["clean", "eot10-pgd-20"]
    assert on(RCI, choice) == ["clean", "transfer-pgd-20"]
    assert choice.examples == 100 and not choice.fits
    assert any("may not suffice" in text for text in sentences(choice, 0.5, 1000))


def test_rows_that_were_begun_are_finished():
    begun = row(RCI, "pgd-100")
    assert begun not in choose(ROWS, cost, 60, SIZES).rows
    assert begun in choose(ROWS, cost, 60, SIZES, kept={begun.key}).rows


def spent(waiting, seconds, settled=(), harm=None):
    """Attacks that get time, as ``{subject: attacks in their order}``, and the seconds left.

    Args:
        harm: damage of each attack; by default all do the same, so that the cheapest does most per second.
    """
    got = {STANDARD: [], RCI: []}
    harm = harm or dict.fromkeys(SECONDS, 1)
    waiting = list(waiting)
    while chosen := next_rows(
        waiting,
        settled,
        lambda row: harm[row.attack] / cost(row, 100),
        lambda row: cost(row, 100),
        seconds,
    ):
        assert len({row.subject for row in chosen}) == len(chosen)  # any of them may settle the word
        for one in chosen:
            got[one.subject].append(one.attack)
            seconds -= cost(one, 100)
        waiting = [one for one in waiting if one not in chosen]
    assert all(cost(one, 100) > seconds for one in waiting if not is_settled(one, settled))
    return got, seconds


def test_what_is_left_is_spent_on_the_open_subject_alone_until_nothing_fits():
    waiting = choose(ROWS, cost, 55, SIZES).waiting
    settled = {row(STANDARD, "clean").key.setting}
    got, left = spent(waiting, 105, settled)
    assert got[STANDARD] == []
    # pgd-100 is the paper's and comes first; after it nothing fits.
    assert got[RCI] == ["pgd-100"] and left == 5
    got, left = spent(waiting, 95, settled)
    assert got[RCI] == ["fixed-pgd-10", "aware-pgd-10", "aware-pgd-20+init=transfer-pgd-20"]
    assert left == 15


def test_the_most_expected_damage_per_second_comes_first():
    waiting = [one for one in ROWS if one.attack in ("fixed-pgd-10", "aware-pgd-10", "eot10-pgd-20")]
    harm = {"fixed-pgd-10": 0.1, "aware-pgd-10": 0.4, "eot10-pgd-20": 0.9}
    settled = {row(STANDARD, "clean").key.setting}
    assert spent(waiting, 1000, settled, harm)[0][RCI] == ["aware-pgd-10", "eot10-pgd-20", "fixed-pgd-10"]


def test_nothing_gets_time_where_everything_is_settled():
    settled = {one.key.setting for one in ROWS}
    assert spent(ROWS, 1000, settled) == ({STANDARD: [], RCI: []}, 1000)


def test_one_threat_model_may_be_open_where_another_is_settled():
    victim = row(RCI, "transfer-pgd-20", "victim")
    settled = {row(RCI, "clean").key.setting}
    chosen = next_rows([victim, *ROWS], settled, lambda row: 1.0, lambda row: 1.0, 10)
    assert victim in chosen and {one.threat.inputs for one in chosen if one.subject == RCI} == {"victim"}


def test_attacks_on_one_victim_come_behind_those_on_batches():
    victim = row(RCI, "transfer-pgd-20", "victim")
    choice = choose([victim, *ROWS], cost, 30, SIZES)
    assert victim in choice.waiting and row(RCI, "transfer-pgd-20") in choice.rows


def test_the_report_says_what_was_left_out_where_and_what_it_takes():
    choice = choose(ROWS, cost, 30, SIZES)
    assert sentences(choice, 30, 1000) == [f"{OPENING}30s, only 100 of 1,000 examples were evaluated."]
    texts = left_out(choice.waiting, lambda row: cost(row, 100), 30)
    assert (
        f"{OPENING}30s, pgd-100 (batch/unknown) was left out on erm behind standard, "
        + ("erm behind rci K=128 N=190: about 1.8m.")
        in texts
    )
    assert len(texts) == len({(r.attack, r.threat) for r in choice.waiting})
    assert settled_already([row(RCI, "pgd-100"), row(RCI, "aware-pgd-10")], 30) == [
        f"{OPENING}30s, nothing more was run on erm behind rci K=128 N=190, whose verdict was settled: "
        "pgd-100 (batch/unknown), aware-pgd-10 (batch/known) left out."
    ]


def test_sizes_are_whole_batches_and_never_fewer_than_stated():
    assert sizes_within(1000, 128) == [512, 640, 768, 896, 1000]
    assert sizes_within(1000, 128)[0] == FEWEST_BATCHES * 128
    assert sizes_within(300, 128) == [300]
    assert sizes_within(512, 128) == [512]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1s"), (45, "45s"), (60, "1m"), (90, "1.5m"), (1800, "30m"), (5400, "1.5h")]
)
def test_times_are_written_as_they_are_given(seconds, text):
    assert time_text(seconds) == text
