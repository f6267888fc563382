"""Random batches of clean inputs with one victim each."""

import pytest
import torch
from torch import nn

from robustbench_coded import evaluate
from robustbench_coded.evaluation.planning.batches import partition
from robustbench_coded.evaluation.planning.random_batches import (
    VICTIMS_WANTED,
    random_batch,
    random_batches_wanted,
)

K, EXAMPLES, EPS = 8, 72, 0.1


@pytest.mark.parametrize(
    ("examples", "rule"), [(40, "pad"), (37, "pad"), (37, "drop"), (5, "pad"), (1, "pad")]
)
def test_every_example_is_the_victim_of_one_random_batch(examples, rule):
    batches = partition(examples, 8, rule)
    scored = [member for batch in batches for member in batch.members[: batch.scored]]
    made = [random_batch(batches, 0, number, len(batches)) for number in range(1, len(scored) + 1)]
    victims = [batch.members[slot] for batch, slot in made]
    assert sorted(victims) == sorted(scored)
    assert all(batch.k == 8 and set(batch.members) <= set(scored) for batch, _ in made)
    if examples > 8:
        assert all(len(set(batch.members)) == 8 for batch, _ in made)
        assert len({frozenset(batch.members) for batch, _ in made}) > 0.9 * len(scored)
        assert len({slot for _, slot in made}) == 8
    assert not {batch.index for batch, _ in made} & {batch.index for batch in batches}
    assert len({batch.index for batch, _ in made}) == len(made)
    assert random_batch(batches, 0, 1) == random_batch(batches, 0, 1)


def test_no_more_victims_than_examples():
    assert random_batches_wanted(100) == 100 and random_batches_wanted(10_000) == VICTIMS_WANTED


class Fragile(nn.Module):
    """Reads the class from a pixel that the attacker can turn."""

    def forward(self, x):
        score = 20 * (x[:, 0, 0, 0] - 0.5)
        return torch.stack([-score, score], dim=1)


class Mixed:
    """Moves every input a little towards its neighbour; a victim falls in any batch."""

    name, randomised, batch_dependent = "mixed", False, True

    def __init__(self, base):
        self.base = base

    def sample(self, generator, k):
        return None

    def logits(self, x, draw):
        return self.base(x + 0.001 * (x.roll(1, 0) - x))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(2, (EXAMPLES,), generator=generator)
    x = torch.rand((EXAMPLES, 1, 2, 2), generator=generator)
    x[:, 0, 0, 0] = 0.5 + 0.05 * (2 * y - 1)
    return evaluate(
        {"fragile": Fragile()}, (x, y), defences=[Mixed], attacks="transfer-pgd-10,pgd-10", eps=EPS,
        inputs=["batch", "victim"], batch_sizes=K, victims=8, threads=1,
        out=tmp_path_factory.mktemp("random-batches") / "run",
    )  # fmt: skip


def test_all_examples_are_victims_and_settle_what_eight_leave_open(run):
    row = next(r for r in run.rows if r.attack == "ensemble" and r.key.threat.one_victim)
    assert (row.accuracy, row.examples) == (0, 8)
    assert row.high == pytest.approx(1 - 0.0125 ** (1 / EXAMPLES), abs=1e-6)
    again = run.outcomes[(run.outcomes.purpose == "partition") & (run.outcomes.threat == "victim/unknown")]
    assert sorted(again.example) == list(range(EXAMPLES))
    assert again.batch.nunique() == EXAMPLES and not (again.prediction == again.label).any()
    # The base model leaves 0 of the same examples, so the difference has the same upper end.
    judged = next(j for j in run.judgements if j.threat.one_victim)
    assert judged.verdict.gain.high == pytest.approx(row.high, abs=1e-6)
