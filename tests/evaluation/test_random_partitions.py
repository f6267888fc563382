"""A batch-dependent defence in few batches: what many random batches of the same inputs add."""

import json

import pytest
import torch
from torch import nn

from robustbench_coded import evaluate
from robustbench_coded.results.run import load_run

K, EXAMPLES, EPS = 16, 80, 0.1


class Fragile(nn.Module):
    """Reads the class from a pixel that the attacker can turn."""

    def forward(self, x):
        score = 20 * (x[:, 0, 0, 0] - 0.5)
        return torch.stack([-score, score], dim=1)


class Survives:
    """In a share of all batches, by what they hold, the class comes from a pixel that nobody can turn."""

    name, randomised, batch_dependent = "survives", False, True

    def __init__(self, base, share):
        self.base, self.share = base, share

    def sample(self, generator, k):
        return None

    def logits(self, x, draw):
        fate = (1e4 * x.detach().double().sum()) % 1
        right = 20 * (x[:, 0, 1, 1] - 0.5)
        robust = torch.stack([-right, right], dim=1)
        return torch.where(fate < self.share, robust, self.base(x))


def images(seed):
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(2, (EXAMPLES,), generator=generator)
    x = torch.rand((EXAMPLES, 1, 2, 2), generator=generator)
    x[:, 0, 0, 0] = 0.5 + 0.05 * (2 * y - 1)
    x[:, 0, 1, 1] = 0.5 + 0.4 * (2 * y - 1)
    return x, y


def measured(out, share, seed=0, attacks="transfer-pgd-10"):
    run = evaluate(
        {"fragile": Fragile()}, images(seed), defences=[lambda base: Survives(base, share)], attacks=attacks,
        eps=EPS, batch_sizes=K, threads=1, out=out,
    )  # fmt: skip
    row = next(r for r in run.rows if r.attack == "ensemble" and r.key.threat.whole_batch and r.key.k == K)
    return run, row


def word(run):
    return next(j.verdict.word for j in run.judgements if j.subject.k == K)


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """Nothing survives."""
    out = tmp_path_factory.mktemp("partitions") / "run"
    return out, *measured(out, share=0.0)


def test_nothing_right_in_many_batches_settles_what_five_leave_open(honest):
    _, run, row = honest
    assert row.accuracy == 0 and row.high == pytest.approx(1 - 0.0125 ** (1 / 80), abs=1e-6)
    assert row.high_batches > 0.5  # five batches alone
    again = run.outcomes[(run.outcomes.purpose == "partition") & (run.outcomes.attack != "clean")]
    assert set(again.attack) == {"transfer-pgd-10"} and again.draw.nunique() == K
    assert (again.groupby("draw").example.nunique() == EXAMPLES).all()
    assert again.batch.nunique() == K * EXAMPLES // K and again.batch.min() == EXAMPLES // K
    # The accuracy is that of the scoring draws alone.
    assert set(run.summary.draws) == {1}


def test_five_batches_leave_a_clean_accuracy_uncertain_and_random_partitions_do_not(honest):
    _, run, _ = honest
    clean = next(row for row in run.rows if row.attack == "clean" and row.key.k == K)
    # All are right: 0 wrong of as many batches as there are examples.
    assert clean.accuracy == 1 and clean.low == pytest.approx(0.025 ** (1 / 80), abs=1e-6)
    judged = next(j.verdict.clean for j in run.judgements if j.subject.k == K)
    assert judged.low == pytest.approx(clean.low, abs=1e-6)
    again = run.outcomes[(run.outcomes.purpose == "partition") & (run.outcomes.attack == "clean")]
    assert again.draw.nunique() == K  # at most as many as there are examples in a batch
    assert (again.groupby("draw").example.nunique() == EXAMPLES).all()


def test_the_same_command_scores_no_partition_twice_and_another_attack_keeps_them(honest):
    out = honest[0]
    files = {file: file.stat().st_mtime_ns for file in (out / "outcomes").iterdir()}
    assert measured(out, share=0.0)[1].high == honest[2].high
    assert files == {file: file.stat().st_mtime_ns for file in (out / "outcomes").iterdir()}
    _, row = measured(out, share=0.0, attacks="transfer-pgd-10,fgsm")
    assert row.high == honest[2].high
    assert files.items() <= {file: file.stat().st_mtime_ns for file in (out / "outcomes").iterdir()}.items()
    rows = json.loads((out / "run.json").read_text())["rows"]
    assert {row["attack"]: len(row["partitions"]) for row in rows if row["partitions"]} == {
        "clean": 1,
        "transfer-pgd-10": 1,
    }
    assert load_run(out).failures == ()


def test_one_batch_in_ten_that_survives_as_a_whole_is_seen_and_gets_no_short_interval(tmp_path):
    for seed in range(20):  # until chance hides the survivors from five batches
        run, row = measured(tmp_path / str(seed), share=0.1, seed=seed)
        if row.accuracy == 0:
            break
    assert row.accuracy == 0 and "partition" in set(run.outcomes.purpose)
    assert row.high > 0.1
    assert word(run) == "not settled"
