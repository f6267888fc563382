"""Random batches of the evaluated images: who sits in them, what is scored, and which word that settles."""

import json

import pytest
import torch
from torch import nn

from robustbench_coded import evaluate
from robustbench_coded.evaluation.execution.run_unit import random_batch
from robustbench_coded.evaluation.planning.cases import ProbedSubject, planned_case
from robustbench_coded.evaluation.planning.comparisons import depends_on_batch
from robustbench_coded.judge.anytime import upper_end
from robustbench_coded.run import load_run
from robustbench_coded.schema.case import WHOLE_BATCH, Perturbation, Subject
from robustbench_coded.schema.words import VerdictName
from tests.evaluation.conftest import Wrapper
from tests.run_folders import computed

K, EXAMPLES, EPS = 16, 160, 0.1


@pytest.mark.parametrize("examples", [40, 8, 5, 1])
def test_a_random_batch_holds_different_examples_and_every_number_another_batch(examples):
    members = list(range(100, 100 + examples))
    batches = [random_batch(members, 8, 0, number, planned=5) for number in range(1, 30)]
    assert all(batch.k == 8 and set(batch.members) <= set(members) for batch in batches)
    assert all(len(set(batch.members)) == min(8, examples) == batch.scored for batch in batches)
    assert len({batch.index for batch in batches}) == 29 and min(batch.index for batch in batches) == 5
    if examples > 8:
        assert len({frozenset(batch.members) for batch in batches}) == 29
        assert {member for batch in batches for member in batch.members} == set(members)
    assert random_batch(members, 8, 0, 3, 5) == batches[2]
    assert (random_batch(members, 8, 1, 3, 5) == batches[2]) == (examples == 1)


def test_random_batches_are_drawn_independently_of_each_other():
    """Two batches of half of the images are not complements, as those of one partition are."""
    first, second = (set(random_batch(range(16), 8, 0, number, 2).members) for number in (1, 2))
    shared = [
        len(
            set(random_batch(range(16), 8, seed, 1, 2).members)
            & set(random_batch(range(16), 8, seed, 2, 2).members)
        )
        for seed in range(300)
    ]  # hypergeometric: mean 4
    assert first & second and abs(sum(shared) / 300 - 4) < 0.3


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
    subject = ProbedSubject(Subject("a", "rci", 8, 12), "rci:N=12", 8, True, True, True, 12)
    assert (
        depends_on_batch(planned_case(subject, WHOLE_BATCH, attack, Perturbation("linf", 0.1, "pixel")))
        == depends
    )


class Fragile(nn.Module):
    """Reads the class from a pixel that the attacker can turn."""

    def forward(self, x):
        score = 20 * (x[:, 0, 0, 0] - 0.5)
        return torch.stack([-score, score], dim=1)


class Survives(Wrapper):
    """In a share of all batches, by what they hold, the class comes from a pixel that nobody can turn."""

    batch_dependent = True

    def __init__(self, base, share):
        self.base, self.share = base, share

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


def measured(out, share, attacks="transfer-pgd-10", **more):
    return evaluate(
        {"fragile": Fragile()}, images(0), defences=[lambda base: Survives(base, share)], attacks=attacks,
        eps=EPS, batch_size=K, limit=EXAMPLES, first=True, threads=1, out=out, **more,
    )  # fmt: skip


def judged(run, threat="batch/unknown"):
    return next(j for j in run.judgements if j.subject.k == K and str(j.threat) == threat)


@pytest.fixture(scope="module", autouse=True)
def few_victims():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("robustbench_coded.evaluation.options.config.VICTIMS", 4)
        yield


@pytest.fixture(scope="module")
def broken(tmp_path_factory, few_victims):
    """Nothing survives: 160 images, ten disjoint batches."""
    out = tmp_path_factory.mktemp("random") / "run"
    return measured(out, 0.0, "transfer-pgd-10,pgd-10", inputs=["batch", "victim"])


@pytest.mark.parametrize("threat", ["batch/unknown", "victim/unknown"])
def test_random_batches_settle_what_ten_disjoint_ones_leave_open(broken, threat):
    verdict = judged(broken, threat).verdict
    assert verdict.name == VerdictName.BROKEN and verdict.accuracy.high <= verdict.broken_at
    assert verdict.accuracy.batches > 0 and verdict.accuracy.kind == "evaluated images"


def test_random_batches_are_scored_once_in_one_draw_and_stay_out_of_the_accuracy(broken):
    scored = broken.outcomes[
        (broken.outcomes.purpose == "random") & (broken.outcomes.threat == "batch/unknown")
    ]
    attacked = scored[scored.attack != "clean"]
    assert set(attacked.attack) == {"transfer-pgd-10"} and (attacked.groupby("draw").size() == K).all()
    assert attacked.batch.min() >= EXAMPLES // K and set(attacked.draw) == set(
        range(1, attacked.draw.max() + 1)
    )
    assert set(broken.summary[broken.summary.k == K].draws) == {1}
    victims = broken.outcomes[
        (broken.outcomes.purpose == "random") & (broken.outcomes.threat == "victim/unknown")
    ]
    assert victims.example.is_unique and victims.batch.is_unique


def test_few_batches_leave_a_clean_accuracy_uncertain_and_random_ones_do_not(broken):
    clean = next(row for row in broken.rows if row.attack == "clean" and row.case.subject.k == K)
    assert clean.accuracy == 1 and clean.low > 0.95 and clean.batches > EXAMPLES // K
    assert judged(broken).verdict.clean.low == pytest.approx(clean.low, abs=1e-6)


def test_the_same_command_scores_nothing_twice_and_another_attack_keeps_it(broken, tmp_path):
    out = broken.path
    options = {"inputs": ["batch", "victim"]}
    units = computed(out)
    measured(out, 0.0, "transfer-pgd-10,pgd-10", **options)
    assert computed(out) == units
    measured(out, 0.0, "transfer-pgd-10,pgd-10,fgsm", **options)
    assert len(computed(out)) > len(units) and len(set(computed(out))) == len(computed(out))
    rows = json.loads((out / "run.json").read_text())["cases"]
    assert {row["case"]["attack"] for row in rows if row["random_batches"]} == {"clean", "transfer-pgd-10"}
    assert load_run(out).failures == ()


@pytest.mark.long
def test_one_batch_in_ten_that_survives_as_a_whole_is_seen(tmp_path):
    run = measured(tmp_path / "run", share=0.1)
    scored = run.outcomes[(run.outcomes.purpose == "random") & (run.outcomes.attack != "clean")]
    share = (scored.groupby("draw").prediction.first() == scored.groupby("draw").label.first()).mean()
    assert 0.03 < share < 0.2
    verdict = judged(run).verdict
    assert verdict.accuracy.high > 0.1
    by_batch = (scored.prediction == scored.label).groupby(scored.draw).mean().to_numpy()
    assert verdict.accuracy.high >= upper_end(by_batch, 0.025) - 1e-6
