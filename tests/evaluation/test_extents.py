"""How many examples rows run on, and which of them a claim is about."""

from pathlib import Path

import pytest

from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.batches import (
    FIRST_VICTIMS,
    Extents,
    claimed_setting,
    fill,
    lanes_judged,
    partition,
    rounds_of,
)
from robustbench_coded.evaluation.planning.cases import ProbedSubject, planned_case
from robustbench_coded.schema.case import WHOLE_BATCH, Perturbation, Subject, ThreatModel
from robustbench_coded.schema.manifest import Invocation, Resolved

STANDARD = ProbedSubject(Subject("net", "standard", None, None), "standard", 128, False, False, False, 128)
RCI = ProbedSubject(Subject("net", "rci", 128, 190), "rci:N=190", 128, True, True, True, 190)
ENDS = rounds_of(10_000, 128)


def case(attack, subject=RCI, threat=WHOLE_BATCH):
    return planned_case(
        subject, threat, attack, Perturbation("linf", 0.0 if attack == "clean" else 0.1, "pixel")
    )


def test_rounds_double_until_all_examples_are_in():
    assert rounds_of(640, 128) == (128, 256, 640)
    assert ENDS == (128, 256, 512, 1024, 2048, 4096, 10_000)
    assert rounds_of(100, 128) == (100,)


def test_a_word_may_fall_after_256_examples_or_all():
    assert Extents(ENDS).first == 2 and Extents(ENDS).looks == 6
    assert Extents((100,)).first == 1 and Extents(rounds_of(4000, 1000)).first == 1
    assert Extents(rounds_of(200, 8)).first == len(rounds_of(200, 8))


def test_the_batches_of_a_row_are_cut_at_the_ends_of_rounds_whatever_it_runs_to():
    batches, row = partition(10_000, 128), case("pgd-10")
    whole = Extents(ENDS).parts(row, batches)
    assert [batch for part in whole for batch in part] == batches
    assert [len(part) for part in whole] == [1, 1, 2, 4, 8, 16, 47]
    for rounds in range(1, len(ENDS) + 1):
        assert Extents(ENDS, {row: rounds}).parts(row, batches) == whole[:rounds]


def test_few_victims_are_attacked_first_and_all_of_them_beyond_the_first_look():
    batches, row = partition(10_000, 128), case("transfer-pgd-20", threat=ThreatModel("victim", "unknown"))
    (first,) = Extents(ENDS, {row: 2}).victim_parts(row, batches, 64, 0)
    assert len(first) == FIRST_VICTIMS and {victim.batch for victim in first} <= {0, 1}  # of 256 images
    parts = Extents(ENDS, {row: 3}).victim_parts(row, batches, 64, 0)
    assert parts[0] == first and len({victim for part in parts for victim in part}) == 64
    assert len({victim.batch for victim in parts[1]}) > 30
    assert [len(part) for part in Extents(ENDS, {row: 7}).victim_parts(row, batches, 3, 0)] == [3]


def test_rows_are_never_taken_back():
    extents, row = Extents(ENDS), case("pgd-10")
    assert extents.to(row, 3) and not extents.to(row, 2) and extents.of(row) == 3


PRICES = {"clean": 1.0, "fgsm": 2.0, "pgd-10": 10.0, "pgd-100": 100.0}
TABLE = [case(attack) for attack in PRICES]


def cost(row, rounds):
    return PRICES[row.attack] * (ENDS[rounds - 1] if rounds else 0)


@pytest.mark.parametrize("seconds", [0, 20_000, 60_000, 10**6, 10**9])
def test_a_table_takes_as_long_as_it_may_and_every_row_has_a_batch(seconds):
    found = fill(TABLE, {}, ENDS, cost, seconds)
    spent = sum(cost(row, rounds) for row, rounds in found.items())
    least = sum(cost(row, 1) for row in TABLE)
    assert min(found.values()) >= 1 and spent <= max(seconds, least)
    # No row could have gone further.
    open_ones = [row for row in TABLE if found[row] < len(ENDS)]
    for row in open_ones:
        further = cost(row, found[row] + 1) - cost(row, found[row])
        if row.attack != "clean" and found[TABLE[0]] <= found[row]:
            further += cost(TABLE[0], found[row] + 1) - cost(TABLE[0], found[TABLE[0]])
        assert spent + further > seconds
    assert bool(open_ones) == (seconds < 10**9)
    # The dearer, the fewer examples; none has more than the clean inputs that it is compared with.
    assert [found[row] for row in TABLE] == sorted(found.values(), reverse=True)


def test_what_has_run_costs_nothing_again_and_stays():
    row = case("pgd-100")
    found = fill(TABLE, {row: 4}, ENDS, cost, 0)
    assert found == {TABLE[0]: 4, TABLE[1]: 1, TABLE[2]: 1, row: 4}


@pytest.mark.parametrize(
    ("options", "about"),
    [
        ({}, ("batch/unknown", 0.3)),
        ({"inputs": ("victim", "batch")}, ("victim/unknown", 0.3)),
        ({"claim_threat": "batch/known"}, ("batch/known", 0.3)),
        ({"claim_eps": 0.1}, ("batch/unknown", 0.1)),
    ],
)
def test_what_is_run_for_a_claim_is_what_the_report_weighs_it_by(options, about):
    radii = (0.1, 0.3)
    config = EvalConfig(
        checkpoints=(("net", Path("net.pt")),), claim=0.7, until="claim", eps=radii, **options
    )
    assert claimed_setting(config, radii) == about
    weighed = Invocation(options=config.as_data(), resolved=Resolved(eps=radii)).claim
    assert (str(weighed.threat), weighed.perturbation.eps) == about
    rows = [
        planned_case(RCI, ThreatModel.parse(threat), "pgd-10", Perturbation("linf", eps, "pixel"))
        for threat in ("batch/unknown", "batch/known", "victim/unknown")
        for eps in radii
    ]
    (settings,) = lanes_judged(config, rows, radii).values()
    assert [(str(key.threat), key.perturbation.eps) for key in settings] == [about]
