"""The queue: verdicts first, then the table; what it decides follows from the folder alone."""

import shutil

import pandas as pd
import pytest
import torch
from torch import nn

from attacks import crossover
from robustbench_coded import evaluate
from robustbench_coded.engine.run import Engine
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution import run_unit
from robustbench_coded.evaluation.planning.batches import FIRST_VICTIMS, fill, rounds_of
from robustbench_coded.reports import write
from robustbench_coded.session import evaluate as session
from robustbench_coded.session import queue
from robustbench_coded.session.forecast import Seconds
from robustbench_coded.session.listener import Listener

K, EXAMPLES, EPS = 8, 640, 0.1
ATTACKS = "pgd-10,transfer-pgd-10,aware-pgd-10,fixed-pgd-10"
COMBINED = ("clean", "random-sign", "strongest", "ensemble", "naive-min")


class Reads(nn.Module):
    """Reads the class from one of two pixels: the attacker can turn the first, and never the second."""

    def __init__(self, pixel):
        super().__init__()
        self.pixel = pixel

    def forward(self, x):
        score = 20 * (x[:, 0, self.pixel, self.pixel] - 0.5)
        return torch.stack([-score, score], dim=1)


def images(examples=EXAMPLES):
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(2, (examples,), generator=generator)
    x = torch.rand((examples, 1, 2, 2), generator=generator)
    x[:, 0, 0, 0] = 0.5 + 0.05 * (2 * y - 1)
    x[:, 0, 1, 1] = 0.5 + 0.4 * (2 * y - 1)
    return x, y


def measured(out, pixel=0, **more):
    options = {"defences": ["rci:N=12"], "attacks": ATTACKS, **more}
    return evaluate(
        {"net": Reads(pixel)}, images(), eps=EPS, batch_sizes=K, draws=2, selection_draws=2, threads=1,
        out=out, **options,
    )  # fmt: skip


def attacked(run, defence):
    """Attack -> examples, of the rows that attack."""
    rows = run.summary[run.summary.defence == defence]
    return {row.attack: row.examples for row in rows.itertuples() if row.attack not in COMBINED}


def words(run):
    return {(j.subject, str(j.threat)): j.verdict.word for j in run.judgements}


def content(path):
    """What must not depend on how a run came about: every committed byte and every figure."""
    files = [*sorted((path / "outcomes").iterdir()), path / "summary.csv", path / "verdicts.csv"]
    return {file.name: file.read_bytes() for file in files}


@pytest.fixture(scope="module", autouse=True)
def without_figures_and_at_one_speed():
    """Figures take half the time of so small a run; seconds are planted: an image costs a millisecond."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "figures_of", lambda *args, **more: [])
        patch.setattr(Seconds, "_time", lambda *args: 1e-3)
        yield


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    return measured(tmp_path_factory.mktemp("queue") / "run", until="settled")


@pytest.fixture
def in_seconds(monkeypatch):
    """A default evaluation that would take longer than what is given for it."""
    return lambda seconds: monkeypatch.setattr(session, "SECONDS", seconds)


def test_rounds_double_and_the_last_one_has_all():
    assert rounds_of(640, 128) == (128, 256, 640)
    assert rounds_of(10_000, 128) == (128, 256, 512, 1024, 2048, 4096, 10_000)
    assert rounds_of(100, 128) == (100,)


def test_until_settled_begins_no_row_that_cannot_change_a_word(stopped):
    assert {(stop.case.subject.defence, stop.verdict) for stop in stopped.manifest.sequential.stops} == {
        ("rci", "no gain"), ("standard", "broken"),
    }  # fmt: skip
    stop = next(stop for stop in stopped.manifest.sequential.stops if stop.case.subject.defence == "rci")
    assert (stop.examples, stop.planned, stop.attacks) == (256, EXAMPLES, ("transfer-pgd-10",))
    assert attacked(stopped, "rci") == {"transfer-pgd-10": 256} and attacked(stopped, "standard") == {
        "pgd-10": 256
    }
    assert {"pgd-10", "aware-pgd-10"} <= set(stop.skipped_attacks)
    assert not (stopped.summary.attack == "random-sign").any()


def test_words_that_fell_early_are_those_of_all_examples(stopped, tmp_path):
    whole = measured(tmp_path / "whole", all=True)
    assert set(attacked(whole, "rci").values()) == {EXAMPLES} and set(ATTACKS.split(",")) <= set(
        attacked(whole, "rci")
    )
    assert words(stopped).items() <= words(whole).items()


def test_what_withstands_meets_every_attack_before_it_is_believed(tmp_path):
    run = measured(tmp_path / "run", pixel=1, until="settled")
    assert set(ATTACKS.split(",")) <= set(attacked(run, "rci"))
    assert run.manifest.sequential.stops == ()  # checks that these few attacks leave open
    assert set(words(run).values()) == {"not settled"}


def test_a_run_that_is_finished_decides_the_same_again_and_goes_on_to_all(stopped, tmp_path):
    copy = shutil.copytree(stopped.path, tmp_path / "run")
    again = measured(copy, until="settled")  # although it knows all outcomes from the start
    assert again.manifest.sequential == stopped.manifest.sequential
    assert content(again.path) == content(stopped.path)
    taken = {unit for row in again.manifest.cases for unit in row.all_units}
    before = {unit: (copy / "outcomes" / f"{unit}.parquet").stat().st_mtime_ns for unit in taken}
    full = measured(copy, all=True)
    kept = {unit for unit in taken if (copy / "outcomes" / f"{unit}.parquet").exists()}
    attacks = {unit for row in again.manifest.cases for unit in row.units}
    assert attacks <= kept  # random batches of 256 images make way for those of all
    assert all((copy / "outcomes" / f"{unit}.parquet").stat().st_mtime_ns == before[unit] for unit in attacks)
    assert set(attacked(full, "rci").values()) == {EXAMPLES}
    assert full.manifest.finished and set(full.summary.status) == {"done"}
    assert words(stopped).items() <= words(full).items()


class Impatient(Listener):
    def __init__(self, units):
        self.units = units

    def unit_done(self, unit, correct, scored):
        self.units -= 1
        if not self.units:
            raise KeyboardInterrupt


@pytest.mark.parametrize("units", [1, 4, 7])
def test_an_interrupted_run_in_another_order_has_the_same_bytes(stopped, tmp_path, monkeypatch, units):
    run = Engine.run

    def backwards(engine, units, limit):  # workers give units back in any order
        yield from run(engine, units[::-1], limit)

    monkeypatch.setattr(Engine, "run", backwards)
    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path / "run", until="settled", listener=Impatient(units))
    again = measured(tmp_path / "run", until="settled")
    assert again.manifest.sequential == stopped.manifest.sequential
    assert content(again.path) == content(stopped.path)


def test_by_default_every_row_has_a_batch_at_least_and_the_command_ends_in_its_budget(tmp_path, in_seconds):
    in_seconds(25.0)
    run = measured(tmp_path / "run")
    rows = attacked(run, "rci")
    assert set(ATTACKS.split(",")) <= set(rows) and min(rows.values()) >= K
    assert rows["transfer-pgd-10"] == 256 > rows["aware-pgd-10"]
    (outlook,) = [outlook for outlook in run.manifest.outlook if outlook.purpose == "all"]
    assert outlook.option == "--all" and outlook.seconds > 30
    assert {word for (subject, _), word in words(run).items() if subject.defence == "rci"} == {"no gain"}
    assert {word for (subject, _), word in words(run).items() if subject.defence == "standard"} == {"broken"}
    # What the table alone has on few examples is no part of an ensemble.
    assert {row.case.attack for row in run.manifest.cases if row.table} >= {"aware-pgd-10"}


def test_attacks_that_take_longer_than_all_of_the_time_on_one_batch_are_left_to_all(tmp_path, in_seconds):
    in_seconds(4.0)
    run = measured(tmp_path / "run", attacks=f"{ATTACKS},pgd-220,pgd-240,pgd-400")
    # Steps on a batch of 8 take the network alone 8 ms, and RCI, with 12 coded images, 12 ms.
    run_on_rci = {attack for attack in attacked(run, "rci") if not attack.startswith("from:")}
    assert run_on_rci == {*ATTACKS.split(","), "pgd-220"}
    assert "pgd-400" in attacked(run, "standard")
    (outlook,) = [outlook for outlook in run.manifest.outlook if outlook.purpose == "all"]
    assert outlook.seconds > 4


def test_random_batches_run_while_there_is_time(tmp_path, in_seconds, monkeypatch):
    monkeypatch.setattr(queue.anytime, "values_needed", lambda *given: 4)  # too few: they are doubled
    monkeypatch.setattr(run_unit, "IMAGES", 40)  # units of ten batches, each of which takes 0.12 s
    attacked, clean = {}, {}
    for seconds in (0.1, 2.0, 200.0):
        in_seconds(seconds)
        run = measured(tmp_path / str(seconds), attacks="transfer-pgd-10,fgsm")
        outcomes = pd.concat(map(pd.read_parquet, (run.path / "outcomes").iterdir()))
        rows = outcomes[outcomes.purpose == "random"].groupby("attack").batch.nunique()
        attacked[seconds], clean[seconds] = rows.get("transfer-pgd-10", 0), rows.get("clean", 0)
        late = [outlook.option for outlook in run.manifest.outlook if outlook.purpose == "settle"]
        assert bool(late) == (seconds != 200.0)
    # What should settle a word may take all of the time, and what goes beyond that what is left of it.
    assert 0 == attacked[0.1] < 10 == attacked[2.0] < attacked[200.0]
    assert clean == {0.1: 10, 2.0: 20, 200.0: 0}  # a unit, what fits into a sixth; none beside all their own


def test_a_default_run_is_completed_alike_on_a_machine_of_another_speed(tmp_path, in_seconds, monkeypatch):
    in_seconds(25.0)
    whole = measured(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path / "run", listener=Impatient(6))
    monkeypatch.setattr(Seconds, "_time", lambda *args: 0.1)
    run = measured(tmp_path / "run")
    assert content(run.path) == content(whole.path)
    assert run.manifest.sequential == whole.manifest.sequential


def test_a_table_gives_every_row_a_batch_and_shares_the_rest():
    cases = [f"attack {i}" for i in range(3)]
    cost = lambda case, rounds: (0, 1, 2, 4)[rounds] * (1 + 9 * (case == "attack 2"))  # noqa: E731

    class Case(str):
        attack, subject = "pgd", None

    chosen = fill([Case(case) for case in cases], {}, (1, 2, 4), cost, 20.0)
    assert chosen == {"attack 0": 3, "attack 1": 3, "attack 2": 1}
    assert set(fill([Case(case) for case in cases], {}, (1, 2, 4), cost, 0.0).values()) == {1}


def test_until_a_claim_is_refuted_nothing_else_is_attacked(tmp_path):
    run = measured(tmp_path / "run", until="claim", claim=0.9)
    (stop,) = run.manifest.sequential.stops
    assert (stop.case.subject.defence, stop.verdict) == ("rci", "claim refuted") and stop.examples < EXAMPLES
    assert attacked(run, "standard") == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"until": "claim"}, "--until claim needs a claim; add --claim 72%"),
        ({"until": "settled", "all": True}, "leave one of them out"),
        ({"until": "settled", "inputs": ("batch", "collateral")}, "collateral damage has none"),
        ({"until": "bored"}, "--until 'bored' is not known; choose settled or claim"),
    ],
)
def test_what_cannot_be_combined_is_refused(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        measured(tmp_path / "run", **options)


def test_victims_are_settled_by_random_batches(tmp_path):
    run = measured(tmp_path / "run", until="settled", inputs=("batch", "victim"))
    stop = next(stop for stop in run.manifest.sequential.stops if str(stop.case.threat) == "victim/unknown")
    assert (stop.verdict, stop.attacks) == ("no gain", ("transfer-pgd-10",))
    assert stop.examples > FIRST_VICTIMS  # the victims of random batches, too


class Rectified(Reads):
    """The same behind a ReLU for each pixel."""

    def forward(self, x):
        return super().forward(torch.relu(x))


@pytest.mark.parametrize(
    ("network", "most", "runs"), [(Rectified, 48, True), (Rectified, 47, False), (Reads, 48, False)]
)
def test_crossover_is_the_last_resort_on_few_images_of_a_small_network(
    tmp_path, monkeypatch, network, most, runs
):
    monkeypatch.setattr(crossover, "FIRST", 4)
    monkeypatch.setattr(queue, "MOST_RELUS", most)  # 4 ReLUs, 12 images
    run = evaluate(
        {"net": network(1)}, images(12), eps=EPS, attacks="pgd-10", checks=True, draws=1, selection_draws=1,
        threads=1, out=tmp_path / "run",
    )  # fmt: skip
    assert set(words(run).values()) == {"not settled"}
    assert ("crossover-160" in attacked(run, "standard")) == runs


class Rounds(Reads):
    """Rounds what it reads, so that torch's gradient is zero everywhere."""

    def forward(self, x):
        return super().forward((50 * x).round() / 50)


def test_where_an_operator_hides_the_gradient_smoothed_attacks_come_first(tmp_path):
    run = evaluate(
        Rounds(0), images(), eps=EPS, batch_sizes=K, until="settled", threads=1, out=tmp_path / "run"
    )
    stop = run.manifest.sequential.stops[0]
    assert set(stop.attacks) == {"fgsm", "relaxed-pgd-20+momentum=1"}  # the one step costs next to nothing
    assert "pgd-10" in stop.skipped_attacks


def test_the_attacks_of_checks_run_on_the_examples_of_the_others(tmp_path):
    run = evaluate(
        Reads(1),
        images(8 * EXAMPLES),
        eps=EPS,
        batch_sizes=K,
        until="settled",
        threads=1,
        out=tmp_path / "run",
    )
    assert set(words(run).values()) == {"no failure found"}
    examples = {row.attack: row.examples for row in run.summary.itertuples() if row.attack not in COMBINED}
    assert examples["pgd-10"] == examples["square-200"] < EXAMPLES
