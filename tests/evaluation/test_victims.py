"""Single victims: each in a batch of its own, where it is answered, attacked and submitted alone."""

import numpy as np
import pytest
import torch

from robustbench_coded.data.arrays import dataset_in_memory
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.in_memory import InMemory
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.options.rules import check_options
from robustbench_coded.evaluation.planning.batches import VICTIMS, evaluated, victims_batch
from robustbench_coded.evaluation.session.evaluate import evaluate
from robustbench_coded.judge.intervals import TAIL, clopper_pearson
from robustbench_coded.run import load_run
from robustbench_coded.schema.words import IntervalKind
from tests.evaluation.conftest import RowMean, Wrapper, with_checks

K, N, EPS = 8, 40, 0.1


class Centred(Wrapper):
    """Scores less a share of the batch's mean: its answers tell in which batch an input was asked."""

    name, batch_dependent = "centred", True

    def __init__(self, base, share=0.3):
        self.base, self.share = base, share

    def logits(self, x, draw):
        scores = RowMean()(x)
        return scores - self.share * scores.mean(0, keepdim=True)


def images():
    generator = torch.Generator().manual_seed(3)
    x = torch.full((N, 1, 8, 8), 0.5)
    y = torch.arange(N) % 2
    x[:, 0, 0] += ((2 * y - 1) * torch.linspace(0.02, 0.2, N))[:, None]
    return (x + 0.01 * torch.rand(x.shape, generator=generator)).clamp(0, 1), y


@pytest.fixture
def run(tmp_path, monkeypatch):
    def evaluated(attacks, folder="run", victims=12, checks=False, **options):
        monkeypatch.setattr("robustbench_coded.evaluation.options.config.VICTIMS", victims)
        config = EvalConfig(
            attacks=attacks, eps=(EPS,), batch_size=(K,), standard=True,
            inputs=("batch", "victim"), out=tmp_path / folder, save_adversarials=True,
            **options,
        )  # fmt: skip
        config = with_checks(config) if checks else config
        data = dataset_in_memory(images(), name="made", source="made here")
        evaluate(
            config, None, InMemory(data=data, models={"plain": RowMean()}, defences={"centred": Centred})
        )
        return load_run(tmp_path / folder)

    return evaluated


def test_a_transfer_that_starts_from_an_attack_on_the_defence_asks_it_whole_batches(run, monkeypatch):
    sizes, answer = [], Centred.logits

    def logits(self, x, draw):
        sizes.append(len(x))
        return answer(self, x, draw)

    monkeypatch.setattr(Centred, "logits", logits)
    run(("transfer-pgd-2+init=pgd-2",))
    assert K in sizes and 1 not in sizes


def of_victims(run, attack):
    rows = run.outcomes
    rows = rows[(rows.threat == "victim/unknown") & (rows.attack == attack) & (rows.purpose == "scoring")]
    return rows.set_index("batch").sort_index()


def answers(x, numbers):
    """Margins of the victims ``numbers`` in their batches, of the examples x in the order of the run."""
    margins = []
    for number in numbers:
        batch = victims_batch(number, N, K, 0)
        logits = Centred(None).logits(x[list(batch.members)], None)[batch.victim]
        margins.append(float((logits[1] - logits[0]).abs()))
    return margins


def test_clean_victims_are_answered_in_their_own_batches(run):
    found = of_victims(run(("transfer-pgd-2",)), "clean")
    assert found.index.tolist() == [VICTIMS + number for number in range(12)]
    batches = [victims_batch(number, N, K, 0) for number in range(12)]
    assert found.slot.tolist() == [batch.victim for batch in batches]
    x = images()[0][order_of()]
    assert np.abs(found.margin).tolist() == pytest.approx(answers(x, range(12)), rel=4e-3)


def order_of():
    """The images of the data in the order in which they are evaluated."""
    data = dataset_in_memory(images(), name="made", source="made here")
    return evaluated(data, None, first=False, seed=0).numbers.tolist()


def test_32_victims_are_the_first_of_64_with_the_same_outcomes(run):
    few, many = (of_victims(run(("transfer-pgd-2",), str(n), victims=n), "transfer-pgd-2") for n in (6, 12))
    columns = ["example", "slot", "prediction", "margin"]
    assert few[columns].equals(many.iloc[:6][columns]) and len(many) == 12


def test_a_submitted_victim_is_perturbed_among_clean_inputs(run):
    made = run(("pgd-10",), checks=True, until="settled")
    names = [c.case.attack for c in made.manifest.cases if str(c.case.threat) == "victim/unknown"]
    submitted = next(name for name in names if name.startswith("from:centred/pgd-10"))
    found, clean = of_victims(made, submitted), of_victims(made, "clean")
    x = images()[0][order_of()]
    spread = []
    for number, row in enumerate(found.itertuples()):
        batch = victims_batch(number, N, K, 0)
        # One input moves the batch's mean by a K-th of its own way: all of them moved would move it by eps.
        moved = x[list(batch.members)].clone()
        sign = 1 if row.label == 0 else -1
        moved[batch.victim, 0, 0] += sign * EPS
        logits = Centred(None).logits(moved, None)[batch.victim]
        spread.append(abs(abs(row.margin) - float((logits[1] - logits[0]).abs())))
    assert max(spread) < 5e-3 and not np.allclose(found.margin, clean.margin)


def test_the_interval_of_victims_is_exact_and_for_the_evaluated_images(run):
    made = run(("transfer-pgd-2",))
    row = next(r for r in made.results if r.case.threat.one_victim and r.case.attack == "transfer-pgd-2")
    interval = row.interval()
    assert interval.kind is IntervalKind.EVALUATED_IMAGES
    # 12 independent answers, and no fewer.
    right = int(row.cell.correct.sum())
    assert (interval.estimate, interval.images, interval.batches) == (right / 12, 12, 0)
    assert (interval.low, interval.high) == clopper_pearson(right, 12, TAIL) and 0 < right < 12


@pytest.mark.parametrize("inputs", ["victim", "co-batch"])
def test_victims_where_batches_have_an_order_are_refused(inputs):
    config = EvalConfig(checkpoints=(("net", "net.pt"),), inputs=(inputs,), state="persistent")
    with pytest.raises(
        InputError, match=f"--inputs {inputs} draws each victim's batch at random; leave --state out"
    ):
        check_options(config)
    on_victims = [
        sum(each.on_victims for each in EvalConfig(state=state).requests.values())
        for state in ("reset", "persistent")
    ]
    assert on_victims[0] > 0 == on_victims[1]
