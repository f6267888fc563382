"""Which attacks are scored in other batches than they were made in."""

from types import SimpleNamespace

import numpy as np
import pytest

from robustbench_coded.evaluation.planning import partition_choice
from robustbench_coded.evaluation.planning.cases import AttackCase, Subject
from robustbench_coded.evaluation.planning.partition_choice import chosen_for_partitions
from robustbench_coded.schema.threat_model import ONE_VICTIM, WHOLE_BATCH
from robustbench_coded.schema.words import VerdictWord
from robustbench_coded.statistics.case_results import CaseResult
from robustbench_coded.statistics.intervals import Interval
from robustbench_coded.statistics.outcomes import Cell
from robustbench_coded.statistics.verdict import Verdict

SUBJECT = Subject("a", "rci:N=12", "rci", 8, 12, True, True, True, 12)


def case(attack, threat=WHOLE_BATCH):
    return AttackCase(SUBJECT, threat, attack, "linf", 0.1, "pixel", None)


def row(key, right=0):
    number = np.arange(64)
    prediction = np.where(number < right, number % 2, 9)[:, None].astype(np.int32)
    cell = Cell(number, number // 8, number % 2, np.arange(1), prediction)
    return CaseResult(key, cell, None, 64, True, True, True, ())


@pytest.fixture
def chosen(monkeypatch):
    """What is chosen where one threat model has this word alone, and another one with all the others."""

    def choose(cases, word, adjusted, threat=WHOLE_BATCH, right=(0,), together=True):
        ensemble = row(cases[0].key.of_attack("ensemble")._replace(threat=threat))
        verdict = Verdict(word, "", Interval(0.0, 0.0, 0.023), 0.03, compared=True)
        run = SimpleNamespace(
            judgements=(SimpleNamespace(key=ensemble.key, verdict=verdict),),
            results=(ensemble, *(row(one.key, r) for one, r in zip(cases, right))),
            manifest=None,
        )
        monkeypatch.setattr(partition_choice, "words_together", lambda *of: [adjusted])
        return chosen_for_partitions(run, cases, together=together)

    return choose


def test_a_word_that_does_not_hold_with_the_others_is_open(chosen):
    cases = [case("transfer-pgd-20")]
    assert chosen(cases, VerdictWord.NO_GAIN, VerdictWord.NOT_SETTLED) == cases
    assert chosen(cases, VerdictWord.NO_GAIN, VerdictWord.NO_GAIN) == []
    assert chosen(cases, VerdictWord.NO_GAIN, VerdictWord.NOT_SETTLED, together=False) == []
    assert chosen(cases, VerdictWord.NOT_SETTLED, VerdictWord.NOT_SETTLED, together=False) == cases


def test_the_attack_that_leaves_least_is_chosen_and_none_that_leaves_the_margin(chosen):
    cases = [case("transfer-pgd-20"), case("transfer-apgd-mt-20"), case("pgd-20")]
    open_ = (VerdictWord.NOT_SETTLED, VerdictWord.NOT_SETTLED)
    assert chosen(cases, *open_, right=(1, 0, 0)) == [cases[1]]
    assert chosen(cases, *open_, right=(2, 2, 0)) == []  # 3.1% of 64, and pgd-20 depends on its batch


def test_a_victim_takes_the_inputs_of_the_same_attack_on_whole_batches(chosen):
    victim, whole = case("transfer-pgd-20", ONE_VICTIM), case("transfer-pgd-20")
    open_ = (VerdictWord.NOT_SETTLED, VerdictWord.NOT_SETTLED)
    assert chosen([victim, whole], *open_, threat=ONE_VICTIM, right=(0, 0)) == [victim]
    assert chosen([victim], *open_, threat=ONE_VICTIM) == []  # nobody attacked the other examples
