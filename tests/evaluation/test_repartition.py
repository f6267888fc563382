"""Random partitions of the examples into other batches."""

import math

import pytest

from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.batches import partition
from robustbench_coded.evaluation.planning.cases import AttackCase, Subject
from robustbench_coded.evaluation.planning.partition_choice import depends_on_batch, partition_units
from robustbench_coded.evaluation.planning.partitions import (
    ROOM,
    partitions_to_settle,
    partitions_wanted,
    repartition,
)
from robustbench_coded.evaluation.planning.rounds import RoundUnitMaker, rounds_for
from robustbench_coded.schema.threat_model import WHOLE_BATCH


@pytest.mark.parametrize(("examples", "rule"), [(40, "pad"), (37, "pad"), (37, "shrink"), (37, "drop")])
def test_each_scored_example_is_scored_once_in_each_partition_and_in_other_batches(examples, rule):
    base = partition(examples, 8, rule)
    scored = [member for batch in base for member in batch.members[: batch.scored]]
    seen, batches = set(range(len(base))), set()
    for number in (1, 2, 3):
        made = repartition(base, rule, 0, number)
        assert [batch.k for batch in made] == [batch.k for batch in base]
        assert sorted(m for batch in made for m in batch.members[: batch.scored]) == sorted(scored)
        # What fills a batch up is scored elsewhere.
        assert {m for batch in made for m in batch.members} <= set(scored)
        assert not seen & {batch.index for batch in made}
        seen |= {batch.index for batch in made}
        batches |= {frozenset(batch.members) for batch in made}
    assert len(batches) == 3 * len(base)
    assert repartition(base, rule, 0, 1) == repartition(base, rule, 0, 1) != repartition(base, rule, 1, 1)


@pytest.mark.parametrize(
    ("examples", "batches", "k", "wanted"),
    [(640, 5, 128, 100), (5120, 40, 128, 13), (256, 2, 128, 128), (64, 8, 8, 8), (1000, 1000, 1, 2)],
)
def test_as_many_as_make_500_batches_and_no_more_than_examples(examples, batches, k, wanted):
    assert partitions_wanted(examples, batches, k) == wanted


def test_no_more_partitions_than_are_likely_to_settle_a_word():
    # 0 of n leaves 1 - tail^(1/n); 5 batches a partition.
    tail, bar = 0.0015, 0.03
    batches = math.log(tail) / math.log1p(-ROOM * bar)
    assert partitions_to_settle(0.0, 100, 5, bar, tail) == math.ceil(batches / 5) == 51
    several = [partitions_to_settle(left, 100, 5, bar, tail) for left in (0.0, 0.001, 0.005, 0.01, 0.02)]
    assert several == sorted(several) and 51 < several[2] < 100
    assert partitions_to_settle(0.05, 100, 5, bar, tail) == 100  # nothing settles that: as many as ever
    assert partitions_to_settle(0.0, 100, 5, 0.9, 0.025) == 2


def test_few_partitions_are_the_first_units_of_all():
    subject = Subject("a", "rci:N=190", "rci", 128, 190, True, True, True, 190)
    case = AttackCase(subject, WHOLE_BATCH, "transfer-pgd-20", "linf", 0.1, "pixel", None)
    config = EvalConfig(checkpoints=(("a", "a.pt"),))
    maker = RoundUnitMaker(config, 640, 190, {"checkpoints": {"a": ""}}, rounds_for(config, 640))
    few, every = (partition_units(case, maker, 640, enough) for enough in (lambda wanted, batches: 51, None))
    assert few == every[: len(few)] and [unit.id for unit in few] == [unit.id for unit in every[: len(few)]]
    assert sum(len(unit.partitions) for unit in every) == 100
    assert 51 <= sum(len(unit.partitions) for unit in few) < 51 + len(few[0].partitions)
    assert len(few) > 4  # several workers share them


@pytest.mark.parametrize(
    ("attack", "depends"),
    [
        ("clean", False),
        ("random-sign", False),
        ("transfer-pgd-20", False),
        ("transfer-apgd-t-100", False),
        ("pgd-20", True),
        ("eot10-pgd-20", True),
        ("square-100", True),
        ("aware-pgd-20+init=transfer-pgd-20", True),
        ("pgd-20+init=transfer-pgd-20", True),
        ("torchattacks:PGD+steps=10", True),
    ],
)
def test_gradients_of_the_base_model_know_no_batch(attack, depends):
    subject = Subject("a", "rci:N=12", "rci", 8, 12, True, True, True, 12)
    case = AttackCase(subject, WHOLE_BATCH, attack, "linf", 0.1, "pixel", None)
    assert depends_on_batch(case) == depends
