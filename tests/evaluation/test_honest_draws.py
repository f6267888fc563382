"""What would flatter or slander a defence: each test fails when the evaluation does one of these wrongs."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.errors.zoo_judged import evaluate_entry
from robustbench_coded.data.arrays import dataset_in_memory
from robustbench_coded.evaluation.execution.in_memory import InMemory
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.session.evaluate import evaluate
from robustbench_coded.run import load_run
from tests.evaluation.conftest import RowMean, Wrapper

pytestmark = pytest.mark.long

K, BATCHES = 16, 6


class ManyKeys:
    """Each draw looks along one of very many directions: what fools one draw does nothing to another."""

    name, randomised, batch_dependent, base = "many-keys", True, False, None

    def sample(self, generator, k):
        return torch.randn(64, generator=generator).sign() / 8

    def logits(self, x, draw):
        score = 8 * (x[:, 0, 0].mean(-1) - 0.5) + 12 * (x.flatten(1) - 0.5)[:, 8:] @ draw[8:].to(x)
        return torch.stack([-score, score], 1)


class WatchedBatch(Wrapper):
    """Answers depend on the batch; remembers how many came together."""

    batch_dependent = True

    def __init__(self, base):
        self.base = base
        self.sizes = set()

    def logits(self, x, draw):
        self.sizes.add(len(x))
        return self.base(x - 0.2 * (x.mean(0, keepdim=True) - 0.5))


class SamplesInside(nn.Module):
    """Takes its noise from torch's own generator; remembers the noise that attacks and scoring saw."""

    seen: ClassVar[dict[bool, set[float]]] = {False: set(), True: set()}

    def __init__(self, base):
        super().__init__()
        self.base = base

    def forward(self, x):
        noise = torch.randn(len(x))
        self.seen[x.requires_grad].add(float(noise[0]))
        return self.base(x) + noise[:, None] * torch.tensor([1.0, -1.0]) / 4


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Evaluates a defence in memory on easy data; the outcomes by purpose."""

    monkeypatch.setattr("robustbench_coded.evaluation.options.config.VICTIMS", 4)

    def evaluated(attacks, defence, **options):
        x = torch.full((K * BATCHES, 1, 8, 8), 0.5)
        y = torch.arange(len(x)) % 2
        x[:, 0, 0] += ((2 * y - 1) * (0.1 + torch.arange(len(x)) / 300))[:, None]
        config = EvalConfig(
            attacks=attacks, eps=(0.2,), batch_size=(K,), standard=False,
            out=tmp_path / "run", **options,
        )  # fmt: skip
        data = dataset_in_memory((x, y), name="easy", source="made here")
        evaluate(config, None, InMemory(data=data, models={"plain": RowMean()}, defences={"it": defence}))
        return load_run(tmp_path / "run")

    return evaluated


def accuracies(run, threat="batch/unknown"):
    table = run.summary[run.summary.threat == threat]
    return dict(zip(table.attack, table.accuracy, strict=True))


def test_scoring_uses_draws_that_no_attack_has_seen(run):
    found = run(("fixed-pgd-10", "pgd-10", "aware-pgd-10"), lambda base: ManyKeys())
    # A third of the examples lies within eps of the boundary that all draws share.
    assert accuracies(found)["fixed-pgd-10"] > 0.5
    # The same attack breaks the draw that it knows: the defence is weak there, not the attack.
    assert accuracies(found, "batch/known")["aware-pgd-10"] < 0.2


def test_attacks_are_chosen_and_scored_on_different_draws(tmp_path):
    attacks = ["fgsm", "pgd-2", "pgd-3"]
    run = evaluate_entry("coin-flip", tmp_path / "run", n=256, attacks=attacks, standard=False).run
    found = run.outcomes
    wrong = {
        purpose: np.concatenate(
            [
                (rows.prediction != rows.label).to_numpy()
                for _, rows in found[found.purpose == purpose].sort_values("example").groupby("draw")
            ]
        )
        for purpose in ("selection", "scoring")
    }
    size = min(map(len, wrong.values()))
    shared = np.mean(wrong["selection"][:size] & wrong["scoring"][:size])
    assert abs(wrong["scoring"].mean() - 0.05) < 0.01
    assert shared < 0.01  # 0.0025 where they are independent, 0.05 where they are the same


def test_every_attack_is_scored_on_the_same_draws_whatever_ran_before(tmp_path):
    def predictions(folder, attacks):
        run = evaluate_entry("coin-flip", tmp_path / folder, n=256, attacks=attacks, standard=False).run
        rows = run.outcomes[run.outcomes.purpose == "scoring"].sort_values(["draw", "example"])
        return {name: part.prediction.tolist() for name, part in rows.groupby("attack", observed=True)}

    alone, after = predictions("alone", ["pgd-3"]), predictions("after", ["fgsm", "square-40", "pgd-3"])
    assert alone["pgd-3"] == after["pgd-3"] == after["fgsm"] == after["clean"]


@pytest.mark.parametrize("third_party", [False, True])
def test_a_batch_keeps_its_size_though_some_of_it_is_broken(run, third_party):
    if third_party:
        pytest.importorskip("torchattacks")
    watched = WatchedBatch(RowMean())
    attacks = ("pgd-5", "apgd-ce-5", "square-20", *(["torchattacks:PGD+steps=3"] if third_party else []))
    found = run(attacks, lambda base: watched)
    broken = accuracies(found)
    assert 0 < min(broken.values()) < 1
    # The probe also asks with half a batch and, for a memory, with four inputs.
    assert watched.sizes == {K, K // 2, 4}


def test_noise_of_attacks_and_of_scoring_is_never_the_same(run):
    def seen(attacks):
        SamplesInside.seen = {False: set(), True: set()}
        run(attacks, SamplesInside, overwrite=True)
        return SamplesInside.seen[True], SamplesInside.seen[False]

    probed, _ = seen(("fgsm",))  # the probe compares gradients and answers of one draw
    attacked, scored = seen(("pgd-10", "eot3-pgd-5"))
    attacked -= probed
    assert len(attacked) >= (10 + 15) * BATCHES // 2 and len(scored) >= 20 * BATCHES
    assert not attacked & scored


def test_clean_accuracy_does_not_fall_as_attacks_are_added(tmp_path):
    few = evaluate_entry("coin-flip", tmp_path / "few", attacks=["fgsm"]).run
    many = evaluate_entry(
        "coin-flip", tmp_path / "many", attacks=["fgsm", *(f"pgd-{n}" for n in range(1, 9))]
    ).run
    clean = [run.summary[run.summary.attack == "clean"].accuracy.item() for run in (few, many)]
    assert clean[0] == clean[1]
    rows = many.summary[many.summary.threat == "batch/unknown"].set_index("attack")
    line = rows.loc["ensemble"]
    assert line.ci_low <= 0.95 <= line.ci_high
