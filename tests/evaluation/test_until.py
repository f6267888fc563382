"""``--until``: what can't change any more stops, whatever happened in between, and nothing else does."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec import structs
from robustbench_coded.evaluation.planning.rounds import looks_of, rounds_of
from torch import nn

from robustbench_coded import evaluate
from robustbench_coded.engine.run import Engine
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.planning.random_batches import victims_to_settle
from robustbench_coded.reports import write
from robustbench_coded.session.listener import Listener
from robustbench_coded.session.manifest import checked_rounds, extended
from robustbench_coded.statistics.clustered import clopper_pearson
from robustbench_coded.statistics.correlation import Correlation
from robustbench_coded.statistics.random_batches import random_batch_high

pytestmark = pytest.mark.long

K, EXAMPLES, EPS = 8, 160, 0.1
ATTACKS = "pgd-10,transfer-pgd-10,aware-pgd-10"


class Reads(nn.Module):
    """Reads the class from one of two pixels: the attacker can turn the first, and never the second."""

    def __init__(self, pixel):
        super().__init__()
        self.pixel = pixel

    def forward(self, x):
        score = 20 * (x[:, 0, self.pixel, self.pixel] - 0.5)
        return torch.stack([-score, score], dim=1)


def images():
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(2, (EXAMPLES,), generator=generator)
    x = torch.rand((EXAMPLES, 1, 2, 2), generator=generator)
    x[:, 0, 0, 0] = 0.5 + 0.05 * (2 * y - 1)
    x[:, 0, 1, 1] = 0.5 + 0.4 * (2 * y - 1)
    return x, y


def measured(out, pixel=0, until="settled", **more):
    options = {"defences": ["rci:N=12"], "attacks": ATTACKS, "margin": 20.0, **more}
    return evaluate(
        {"net": Reads(pixel)}, images(), eps=EPS, batch_sizes=K, draws=2, selection_draws=2, threads=1,
        until=until, out=out, **options,
    )  # fmt: skip


def attacked(run, defence):
    """Attack -> examples, of the rows that attack."""
    rows = run.summary[run.summary.defence == defence]
    combined = ("clean", "random-sign", "strongest", "ensemble", "naive-min")
    return {row.attack: row.examples for row in rows.itertuples() if row.attack not in combined}


def content(path):
    """What must not depend on how a run came about: every committed byte and every figure."""
    files = [*sorted((path / "outcomes").iterdir()), path / "summary.csv", path / "verdicts.csv"]
    return {file.name: file.read_bytes() for file in files}


@pytest.fixture(scope="module", autouse=True)
def without_figures():
    """They take half the time of so small a run, and say nothing of when it stops."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "figures_of", lambda *args, **more: [])
        yield


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    return measured(tmp_path_factory.mktemp("until") / "run")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return measured(tmp_path_factory.mktemp("until") / "whole", until=None)


def test_rounds_double_and_batches_are_looked_at_from_five_on():
    assert rounds_of(640, 128) == (128, 256, 640)
    assert rounds_of(10_000, 128) == (128, 256, 512, 1024, 2048, 4096, 10_000)
    assert rounds_of(100, 128) == (100,)
    assert looks_of((128, 256, 640), 128, batch_dependent=True) == (3,)
    assert looks_of((128, 256, 640), 16, batch_dependent=True) == (1, 2, 3)
    assert looks_of((128, 256, 640), 128, batch_dependent=False) == (1, 2, 3)
    assert looks_of((128, 256), 128, batch_dependent=True) == (2,)


def test_a_broken_defence_stops_early_with_the_word_of_the_whole_run(stopped, whole):
    stop = next(stop for stop in stopped.manifest.sequential.stops if stop.defence == "rci")
    assert (stop.word, stop.threat) == ("no gain", "batch/unknown")
    assert (stop.examples, stop.planned, stop.batches) == (64, EXAMPLES, 8)
    assert stop.attacks == ("transfer-pgd-10",) and "aware-pgd-10" in stop.spared
    assert 3 * stop.images < stop.images_planned
    words = {(j.subject, j.threat): j.verdict.word for j in whole.judgements}
    assert {j.subject.defence for j in stopped.judgements} == {"standard", "rci"}
    assert all(words[j.subject, j.threat] == j.verdict.word for j in stopped.judgements)


def test_rows_are_done_with_the_examples_they_met_and_the_paper_s_with_all(stopped):
    assert attacked(stopped, "rci") == {"transfer-pgd-10": 64, "pgd-10": EXAMPLES}
    assert set(stopped.summary.status) == {"done"}
    text = (stopped.path / "report.md").read_text()
    assert "When the verdicts fell" in text and "64 of 160" in text


def test_intervals_of_what_may_stop_are_wider_than_those_of_a_fixed_number(stopped, whole):
    def high(run, attack, defence):
        row = run.summary.query("attack == @attack and defence == @defence and threat == 'batch/unknown'")
        return row.ci_high.item()

    assert high(stopped, "pgd-10", "rci") == high(whole, "pgd-10", "rci")
    assert high(stopped, "ensemble", "standard") > 1 - 0.025 ** (1 / EXAMPLES)


class Notes(Listener):
    def __init__(self):
        self.said = []

    def note(self, text):
        self.said.append(text)


SETTLED = "every verdict is settled; the paper's attacks go on to all examples"


def test_it_says_when_nothing_is_left_to_settle(tmp_path):
    notes = Notes()
    measured(tmp_path / "run", listener=notes)
    assert notes.said.count(SETTLED) == 1
    assert notes.said.index(SETTLED) > max(i for i, text in enumerate(notes.said) if "settled: " in text)


def test_what_withstands_runs_to_its_end(tmp_path):
    notes = Notes()
    run = measured(tmp_path / "run", pixel=1, listener=notes)
    assert SETTLED not in notes.said
    assert run.manifest.sequential.stops == ()
    assert set(attacked(run, "rci").values()) == {EXAMPLES}
    assert set(ATTACKS.split(",")) <= set(attacked(run, "rci"))


def test_an_interrupted_run_in_another_order_stops_at_the_same_batch_with_the_same_bytes(
    stopped, tmp_path, monkeypatch
):
    class Impatient(Listener):
        left = 9

        def unit_done(self, unit, correct, scored):
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt

    run = Engine.run

    def backwards(engine, units, limit):  # workers give units back in any order
        yield from run(engine, units[::-1], limit)

    monkeypatch.setattr(Engine, "run", backwards)
    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path / "run", listener=Impatient())
    again = measured(tmp_path / "run")
    assert again.manifest.sequential == stopped.manifest.sequential
    assert content(again.path) == content(stopped.path)


def test_a_finished_run_decides_the_same_again_and_goes_on_to_its_end_without_the_option(stopped, tmp_path):
    copy = shutil.copytree(stopped.path, tmp_path / "run")
    again = measured(copy)  # although it knows all outcomes from the start
    assert again.manifest.sequential == stopped.manifest.sequential
    assert content(again.path) == content(stopped.path)
    taken = {unit.id for row in again.manifest.rows for unit in row.units}
    before = {unit: (copy / "outcomes" / f"{unit}.parquet").stat().st_mtime_ns for unit in taken}
    full = measured(copy, until=None)
    assert before == {unit: (copy / "outcomes" / f"{unit}.parquet").stat().st_mtime_ns for unit in taken}
    assert set(attacked(full, "rci").values()) == {EXAMPLES}
    assert full.manifest.finished and set(full.summary.status) == {"done"}


def test_rounds_of_other_defences_in_the_folder_are_not_lost(stopped, tmp_path):
    copy = shutil.copytree(stopped.path, tmp_path / "run")
    with pytest.raises(
        InputError, match=r"RCI \(K = 8, N = 12\) on net under batch/unknown at eps 0.1, which"
    ):
        measured(copy, defences=["rci:N=16"])
    assert content(copy) == content(stopped.path)
    both = measured(copy, defences=["rci:N=12", "rci:N=16"])
    assert {stop.n for stop in both.manifest.sequential.stops if stop.defence == "rci"} == {12, 16}


def test_rows_that_checks_asked_for_stand_behind_those_of_rounds_after_an_interruption_too(stopped):
    found = stopped.manifest
    asked = structs.replace(found.rows[-1], eps=1.0, for_check=True)
    left = structs.replace(found, rows=(asked,), sequential=None)
    assert extended(left, found).rows == (*found.rows, asked)
    # Without rounds rows keep their places, however the folder came about.
    assert extended(left, structs.replace(found, sequential=None)).rows == (asked, *found.rows)


@pytest.mark.parametrize(
    "apart", [{"eps": 1.0, "for_check": True}, {"attack": "pgd-77", "threat": "batch/known"}]
)
def test_what_checks_asked_for_in_rounds_need_not_be_named_by_the_command(stopped, apart):
    found = stopped.manifest
    planned = {row.key for row in found.rows if row.threat == "batch/unknown"}
    asked = next(row for row in found.rows if row.looks and row.attack == "transfer-pgd-10")
    others = tuple(row for row in found.rows if row.key in planned)
    checked_rounds(structs.replace(found, rows=(*others, structs.replace(asked, **apart))), planned, Path())
    with pytest.raises(InputError, match="which this command leaves out"):
        other_threat = structs.replace(asked, threat="batch/known")
        checked_rounds(structs.replace(found, rows=(*others, other_threat)), planned, Path())


def test_until_a_claim_is_refuted_nothing_else_is_attacked(tmp_path):
    run = measured(tmp_path / "run", until="claim", claim=0.9)
    (stop,) = run.manifest.sequential.stops
    assert (stop.defence, stop.word) == ("rci", "claim refuted") and stop.examples < EXAMPLES
    assert run.manifest.sequential.questions == 1
    assert set(attacked(run, "standard")) == {"pgd-10"}  # the paper's, which always runs in full


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"until": "claim"}, "--until claim needs a claim; add --claim 72%"),
        ({"time": 60.0}, "--until and --time both choose what runs"),
        ({"replicates": 2}, "leave --replicates out"),
        ({"inputs": ("batch", "collateral")}, "collateral damage has none"),
        ({"until": "bored"}, "--until 'bored' is not known; choose settled or claim"),
    ],
)
def test_what_cannot_be_combined_is_refused(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        measured(tmp_path / "run", **{"until": "settled", **options})


def test_few_victims_and_random_batches_settle_what_one_victim_keeps(stopped, tmp_path):
    run = measured(tmp_path / "run", inputs=("batch", "victim"))
    stop = next(stop for stop in run.manifest.sequential.stops if stop.threat == "victim/unknown")
    assert (stop.word, stop.attacks) == ("no gain", ("transfer-pgd-10",))
    assert stop.examples == EXAMPLES // K and stop.planned == 64  # one victim of each batch
    row = next(row for row in run.results if row.key.threat.one_victim and row.key.attack == "ensemble")
    (others,) = row.partitions.playable
    assert stop.examples < len(others.correct) <= EXAMPLES and row.looks == 3
    assert row.interval().high < 0.2 < clopper_pearson(0, stop.examples, 0.025 / 3 / 4)[1]
    assert (
        content(run.path).items()
        >= {name: data for name, data in content(stopped.path).items() if name.endswith("parquet")}.items()
    )


@pytest.mark.parametrize(("left", "bar"), [(0.0, 0.03), (0.0, 0.2), (0.01, 0.1)])
def test_no_more_victims_than_settle_a_word_are_scored(left, bar):
    known = Correlation(0.0, 0.3)
    found = victims_to_settle(left, 640, bar, 0.001, known, 64)
    assert 1 < found < 640

    def high(victims):
        return random_batch_high(np.arange(victims) < round(left * victims), 0.001, known, 64)

    assert high(found) < bar and high(found // 2) > bar
    # Where the outcomes of a batch are alike, more are needed; where nothing settles it, all are scored.
    assert victims_to_settle(left, 640, bar, 0.001, Correlation(0.05, 0.3), 64) > found
    assert victims_to_settle(0.2, 640, bar, 0.001, known, 64) == 640
