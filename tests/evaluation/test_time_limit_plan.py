"""What ``--time`` leaves out, under planted forecasts: nothing here is timed."""

import pytest

from robustbench_coded.evaluation.planning.cases import AttackCase, Subject
from robustbench_coded.evaluation.planning.time_limit_plan import (
    FEWEST_BATCHES,
    OPENING,
    choose,
    sentences,
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


def test_with_enough_time_nothing_is_left_out():
    total = sum(cost(row, 1000) for row in ROWS)
    choice = choose(ROWS, cost, total, SIZES)
    assert choice.rows == tuple(ROWS) and choice.left_out == () and choice.fits
    assert choice.examples == 1000 and choice.seconds == pytest.approx(total)
    assert sentences(choice, cost, total, 1000) == []


def test_examples_go_before_attacks():
    choice = choose(ROWS, cost, sum(cost(row, 250) for row in ROWS), SIZES)
    assert choice.left_out == () and choice.examples == 200


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (30, ["clean", "transfer-pgd-20"]),
        (50, ["clean", "aware-pgd-10", "transfer-pgd-20"]),
        (100, ["clean", "aware-pgd-10", "transfer-pgd-20", "aware-pgd-20+init=transfer-pgd-20"]),
    ],
)
def test_the_most_damning_attacks_come_first(seconds, expected):
    choice = choose(ROWS, cost, seconds, SIZES)
    assert on(RCI, choice) == expected
    assert choice.examples == 100 and choice.fits
    assert choice.seconds <= seconds


def test_standard_inference_is_attacked_whatever_that_costs():
    choice = choose(ROWS, cost, 0.5, SIZES)
    # Its most damning attack, not its cheapest: a weak one would make every defence look bad beside it.
    assert on(STANDARD, choice) == ["clean", "eot10-pgd-20"]
    assert on(RCI, choice) == ["clean", "transfer-pgd-20"]
    assert choice.examples == 100 and not choice.fits
    assert any("may not suffice" in text for text in sentences(choice, cost, 0.5, 1000))


def test_rows_that_were_begun_are_finished():
    begun = row(RCI, "pgd-100")
    assert begun not in choose(ROWS, cost, 60, SIZES).rows
    assert begun in choose(ROWS, cost, 60, SIZES, kept={begun.key}).rows


def test_attacks_on_one_victim_come_behind_those_on_batches():
    victim = row(RCI, "transfer-pgd-20", "victim")
    choice = choose([victim, *ROWS], cost, 30, SIZES)
    assert victim in choice.left_out and row(RCI, "transfer-pgd-20") in choice.rows


def test_the_report_says_what_was_left_out_where_and_what_it_takes():
    choice = choose(ROWS, cost, 30, SIZES)
    texts = sentences(choice, cost, 30, 1000)
    assert texts[0] == f"{OPENING}30s, only 100 of 1,000 examples were evaluated."
    assert (
        f"{OPENING}30s, pgd-100 (batch/unknown) was left out on erm behind standard, "
        + ("erm behind rci K=128 N=190: about 1.8m.")
        in texts
    )
    assert len(texts) == 1 + len({(r.attack, r.threat) for r in choice.left_out})


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
