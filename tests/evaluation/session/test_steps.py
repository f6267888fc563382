"""The steps of whole evaluations: verdicts first, then the table; what runs follows from the folder alone."""

import shutil
from dataclasses import replace
from functools import partial

import msgspec
import pytest
import torch
from msgspec import structs
from torch import nn

from attacks import crossover
from attacks.presets import NAMED
from robustbench_coded import user_code
from robustbench_coded.data.arrays import dataset_in_memory
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.engine.run import Engine
from robustbench_coded.evaluation.execution.in_memory import InMemory
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.batches import FIRST_VICTIMS
from robustbench_coded.evaluation.protocol.plan import Need, Results
from robustbench_coded.evaluation.protocol.rungs import next_step, wider
from robustbench_coded.evaluation.session import evaluate as session
from robustbench_coded.evaluation.session.listener import Listener
from robustbench_coded.evaluation.session.planning import CHEAP_IMAGES, EXTRAS_SHARE, planned_evaluation
from robustbench_coded.evaluation.setup.prepare import made_ready
from robustbench_coded.judge.run import load_manifest
from robustbench_coded.reports import write
from robustbench_coded.run import load_run
from robustbench_coded.runs.folder import RunFolder, read_run
from robustbench_coded.runs.outcomes import TOGETHER
from tests.evaluation.conftest import with_checks
from tests.run_folders import computed, digests, steps

K, EXAMPLES, EPS = 8, 640, 0.1
ATTACKS = "pgd-10,transfer-pgd-10,aware-pgd-10,fixed-pgd-10"
COMBINED = ("clean", "random-sign", "strongest", "ensemble")


class Reads(nn.Module):
    """Reads the class from one of two pixels: the attacker can turn the first, and never the second."""

    def __init__(self, pixel):
        super().__init__()
        self.pixel = pixel

    def forward(self, x):
        score = 20 * (x[:, 0, self.pixel, self.pixel] - 0.5)
        return torch.stack([-score, score], dim=1)


class Rounds(Reads):
    """Rounds what it reads, so that torch's gradient is zero everywhere."""

    def forward(self, x):
        return super().forward((50 * x).round() / 50)


class Rectified(Reads):
    """The same behind a ReLU for each pixel."""

    def forward(self, x):
        return super().forward(torch.relu(x))


class Copies:
    """Asks several times about each input."""

    name, randomised, batch_dependent = "many", False, False

    def __init__(self, copies, model):
        self.copies, self.base = copies, model

    def sample(self, generator, k):
        return None

    def logits(self, x, draw):
        return self.base(x.repeat(self.copies, 1, 1, 1)).unflatten(0, (self.copies, -1)).mean(0)

    def images(self, k):
        return self.copies * k


def images(examples=EXAMPLES, near=1.0, side=2):
    """Pixel 0 says the class by a margin that eps reaches on a share ``near`` of the images.

    Of smaller images than 32 x 32, more are affordable: here all attacks on all of them.
    """
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(2, (examples,), generator=generator)
    x = torch.rand((examples, 1, side, side), generator=generator)
    margin = torch.where(torch.rand(examples, generator=generator) < near, 0.05, 0.3)
    x[:, 0, 0, 0] = 0.5 + margin * (2 * y - 1)
    x[:, 0, 1, 1] = 0.5 + 0.4 * (2 * y - 1)
    return x, y


def given(
    out, pixel=0, *, network=None, examples=EXAMPLES, near=1.0, side=2, attacks=ATTACKS, checks=False, **more
):
    """The options of an evaluation, and what is in memory."""
    options = {"defence": ("rci:N=12",), "draws": 2, "selection_draws": 2, "batch_size": (K,), **more}
    chosen = tuple(attacks.split(","))
    config = EvalConfig(eps=(EPS,), threads=1, out=out, attacks=chosen, **options)
    if checks:
        config = with_checks(config)
    data = dataset_in_memory(images(examples, near, side), name="pixels", source="a test")
    return config, InMemory(data, {"net": network or Reads(pixel)}, {})


def measured(out, pixel=0, listener=None, **more):
    config, in_memory = given(out, pixel, **more)
    return load_run(session.evaluate(config, listener, in_memory))


class Told(Listener):
    """Keeps the verdicts that are told."""

    def __init__(self):
        self.stops = []

    def settled(self, stop):
        self.stops.append(stop)


def attacked(run, defence):
    """Attack -> images that it perturbed in their own batches, of the rows that attack."""
    rows = run.outcomes
    rows = rows[(rows.defence == defence) & (rows.purpose == "scoring") & ~rows.attack.isin(COMBINED)]
    return rows.groupby("attack", observed=True).example.nunique().to_dict()


def words(run):
    return {(j.subject, str(j.threat)): j.verdict.name for j in run.judgements}


def rungs(path):
    """Of each step, by what is written in the log."""
    return [step["rung"] for step in steps(path)]


def content(path):
    """What must not depend on how a run came about: every committed byte, figure and decision."""
    names = ("summary.csv", "verdicts.csv", TOGETHER)
    return {"steps": steps(path), **{name: (path / name).read_bytes() for name in names}}


@pytest.fixture(scope="module", autouse=True)
def without_figures():
    """They take half the time of so small a run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "figures_of", lambda *args, **more: [])
        yield


@pytest.fixture(scope="module")
def told():
    return Told()


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, told):
    return measured(tmp_path_factory.mktemp("steps") / "run", until="settled", listener=told)


RUNS = {
    "settled": {"until": "settled"},
    "whole": {},
    "wider": {"until": "settled", "examples": 1280, "near": 0.5},
    "named": {"attacks": "pgd-100,transfer-pgd-10", "examples": 1280, "side": 32},
    "withstands": {"pixel": 1, "checks": True, "examples": 64, "until": "settled"},
    "victims": {"until": "settled", "inputs": ("batch", "victim")},
}
HAS = {
    "whole": {"named rows"},
    "wider": {"more examples"},
    "named": {"named rows"},
    "withstands": {"adaptive", "cross-examination", "before a positive verdict"},
    "victims": {"confirm"},
}


def recorded(path):
    """The steps of a run."""
    return [msgspec.convert(step, Need) for step in steps(path)]


def replay(evaluation, path):
    """What the protocol decides today from the outcomes of a folder."""
    metadata = read_run(path, list(digests(path)))[1]
    results, more = Results(), []
    for size in evaluation.plan.sizes[evaluation.plan.sizes.index(evaluation.plan.start) :]:
        plan = evaluation.plan.at(size, more)
        while plan.about and (step := next_step(plan, results)) is not None:
            results = evaluation.results((*results.steps, step), path, metadata)
        more = wider(plan, results)
    return list(results.steps)


@pytest.mark.parametrize("name", RUNS)
def test_a_recorded_run_replayed_gives_the_same_steps(tmp_path, monkeypatch, name):
    monkeypatch.setattr(RunFolder, "remove", lambda folder, units: None)  # random batches of fewer images
    config, in_memory = given(tmp_path / "run", **RUNS[name])
    path = session.evaluate(config, None, in_memory)
    prepared, _ = made_ready(config, in_memory)
    evaluation = planned_evaluation(prepared, load_manifest(path), path)
    steps = recorded(path)
    assert replay(evaluation, path) == steps and len(steps) > 2
    assert {"clean", "quick", *HAS.get(name, ())} <= {step.rung for step in steps}
    begun = {(record.case.subject, record.case.attack) for record in load_manifest(path).cases}
    ran = {(case.subject.subject, case.attack) for step in steps for case in step.cases}
    assert begun <= ran and all(step.reason and step.gradients >= 0 for step in steps)


@pytest.mark.parametrize(("copies", "defences", "first"), [
    (7, (), 256), (8, (), K), (8, ("rci:N=12",), 256),
])  # fmt: skip
def test_a_slow_defence_gets_its_first_verdict_from_one_batch(tmp_path, copies, defences, first):
    config, in_memory = given(tmp_path / "run", defence=defences, until="settled")
    answers = {"many": partial(Copies, copies)}
    prepared, _ = made_ready(config, replace(in_memory, defences=answers))
    evaluation = planned_evaluation(prepared, None, tmp_path / "run")
    sizes = evaluation.plan.sizes
    assert (evaluation.plan.start, sizes[0], sizes[-1]) == (first, first, EXAMPLES)
    text = f"many passes {copies} images through the network for each input"
    said = f"{text}: the first verdicts are from {K} images" in evaluation.notes
    assert said == (first == K)


def test_until_settled_begins_no_row_that_cannot_change_a_word(stopped, told):
    assert {(stop.case.subject.defence, stop.verdict) for stop in told.stops} == {
        ("rci", "broken"), ("standard", "broken"),
    }  # fmt: skip
    stop = next(stop for stop in told.stops if stop.case.subject.defence == "rci")
    assert (stop.examples, stop.planned, stop.case.attack) == (256, EXAMPLES, "transfer-pgd-10")
    assert attacked(stopped, "rci") == {"transfer-pgd-10": 256} and attacked(stopped, "standard") == {
        "pgd-10": 256
    }
    assert not (stopped.summary.attack == "random-sign").any()
    row = stopped.summary[stopped.summary.attack == "transfer-pgd-10"].iloc[0]
    random = stopped.outcomes[stopped.outcomes.purpose == "random"]
    scored = random[random.attack == "transfer-pgd-10"].example.nunique()
    assert row.examples_planned == row.examples == scored  # those of its interval


def test_words_that_fell_early_are_those_of_all_examples(stopped, tmp_path):
    whole = measured(tmp_path / "whole", all=True)
    assert set(attacked(whole, "rci").values()) == {EXAMPLES}
    assert set(ATTACKS.split(",")) <= set(attacked(whole, "rci"))
    assert words(stopped).items() <= words(whole).items()


def test_what_withstands_meets_every_attack_before_it_is_believed(tmp_path):
    told = Told()
    run = measured(tmp_path / "run", pixel=1, examples=64, until="settled", listener=told)
    assert set(ATTACKS.split(",")) <= set(attacked(run, "rci"))
    assert told.stops == []  # checks that these few attacks leave open
    assert set(words(run).values()) == {"not settled"}


def test_a_run_that_is_finished_decides_the_same_again_and_goes_on_to_all(stopped, tmp_path):
    copy = shutil.copytree(stopped.path, tmp_path / "run")
    again = measured(copy, until="settled")  # although it knows all outcomes from the start
    assert again.manifest.sequential == stopped.manifest.sequential
    assert content(again.path) == content(stopped.path)
    taken = {unit for row in again.manifest.cases for unit in row.all_units}
    before = computed(copy)
    full = measured(copy, all=True)
    kept = taken & digests(copy).keys()
    attacks = {unit for row in again.manifest.cases for unit in row.units}
    assert attacks <= kept  # random batches of 256 images make way for those of all
    assert attacks.isdisjoint(computed(copy)[len(before) :])
    assert set(attacked(full, "rci").values()) == {EXAMPLES}
    assert full.manifest.finished and set(full.summary.status) == {"done"}
    assert words(stopped).items() <= words(full).items()


class Impatient(Listener):
    def __init__(self, units):
        self.units = units

    def unit_done(self, unit, correct, scored, draws=1):
        self.units -= 1
        if not self.units:
            raise KeyboardInterrupt


@pytest.mark.parametrize("units", [1, 4, 7])
def test_an_interrupted_run_in_another_order_has_the_same_bytes(stopped, tmp_path, monkeypatch, units):
    run = Engine.run

    def backwards(engine, units):  # workers give units back in any order
        yield from run(engine, units[::-1])

    monkeypatch.setattr(Engine, "run", backwards)
    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path / "run", until="settled", listener=Impatient(units))
    again = measured(tmp_path / "run", until="settled")
    assert again.manifest.sequential == stopped.manifest.sequential
    assert content(again.path) == content(stopped.path)


LARGE = {"examples": 2560, "side": 32, "attacks": "paper,adaptive"}


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    return measured(tmp_path_factory.mktemp("default") / "run", **LARGE)


def test_by_default_the_named_rows_have_256_examples_and_all_has_a_price(default):
    rows = attacked(default, "rci")
    assert {name: rows[name] for name in NAMED} == dict.fromkeys(NAMED, 256)
    assert set(attacked(default, "standard")) == {"fgsm", "pgd-10", "pgd-100"}  # the others do not apply
    (outlook,) = [outlook for outlook in default.manifest.outlook if outlook.purpose == "all"]
    assert outlook.option == "--all" and outlook.images > CHEAP_IMAGES
    assert {word for (subject, _), word in words(default).items() if subject.defence == "rci"} == {"broken"}
    assert rungs(default.path).index("confirm") < rungs(default.path).index("named rows")


def test_a_default_run_is_completed_alike_after_an_interruption(default, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path / "run", listener=Impatient(30), **LARGE)
    run = measured(tmp_path / "run", **LARGE)
    assert content(run.path) == content(default.path)
    assert run.manifest.sequential == default.manifest.sequential


def test_what_is_named_runs_and_all_else_costs_at_most_half_as_much(tmp_path):
    config, in_memory = given(tmp_path / "run", attacks="pgd-3,transfer-pgd-3", limit=96)
    path = session.evaluate(config, None, in_memory)
    named = {"clean", "random-sign", "pgd-3", "transfer-pgd-3"}
    costs = [(s, c, cost) for s in recorded(path) for c, cost in zip(s.cases, s.costs, strict=True)]
    own = sum(cost for step, c, cost in costs if c.attack in named and not step.batches)
    others = sum(cost for _, _, cost in costs) - own
    assert 0 < others <= EXTRAS_SHARE * own
    run = load_run(path)
    assert {"pgd-3", "transfer-pgd-3"} <= set(attacked(run, "rci")) and set(run.summary.status) == {"done"}


class Clock(Listener):
    """The time is up after so many units; a test has no other clock."""

    def __init__(self, units):
        self.units = units

    def unit_done(self, unit, correct, scored, draws=1):
        self.units -= 1

    def monotonic(self):
        return 0.0 if self.units > 0 else 100.0


@pytest.mark.parametrize("units", [3, 9, 17])
def test_a_run_that_time_stops_is_reported_and_goes_on_to_the_same_bytes(
    default, tmp_path, monkeypatch, units
):
    clock = Clock(units)
    monkeypatch.setattr(user_code.time, "monotonic", clock.monotonic)
    run = measured(tmp_path / "run", time=50.0, listener=clock, **LARGE)
    assert not run.manifest.finished and run.manifest.protocol.stopped
    assert (run.path / "report.md").is_file() and run.manifest.protocol.rungs[0] == "clean"
    assert set(words(default).values()) == {"broken"}
    assert set(words(run).values()) <= {"not settled", "broken"}
    clock.units = 10**6
    again = measured(tmp_path / "run", time=50.0, listener=clock, **LARGE)
    assert again.manifest.finished and content(again.path) == content(default.path)


class StopsWhereMoreExamplesRun(Clock):
    def __init__(self):
        super().__init__(10**6)

    def begun(self, step, open_inputs):
        self.units = 1 if step.wider else self.units


def test_a_run_that_stops_among_more_examples_has_the_figures_of_fewer(tmp_path, monkeypatch):
    clock = StopsWhereMoreExamplesRun()
    monkeypatch.setattr(user_code.time, "monotonic", clock.monotonic)
    run = measured(tmp_path / "run", time=50.0, listener=clock, **RUNS["wider"])
    ensembles = run.summary[run.summary.attack == "ensemble"]
    assert set(ensembles.examples) == {256} and set(ensembles.status) == {"done"}
    assert not any("no attack has all of its outcomes" in j.verdict.reason for j in run.judgements)
    clock.begun = lambda *_: None
    clock.units = 10**6
    again = measured(tmp_path / "run", time=50.0, listener=clock, **RUNS["wider"])
    assert content(again.path) == content(measured(tmp_path / "whole", **RUNS["wider"]).path)


def test_a_run_that_is_stopped_has_no_positive_verdict(tmp_path):
    """Every attack and check that it began may have passed: rungs are left."""
    options = {"pixel": 1, "defence": (), "examples": 64, "attacks": "paper,adaptive"}
    run = measured(tmp_path / "run", **options)
    assert set(words(run).values()) == {"no failure found"}
    protocol = structs.replace(run.manifest.protocol, stopped=True)
    stopped = replace(run, manifest=structs.replace(run.manifest, protocol=protocol))
    assert set(words(stopped).values()) == {"not settled"}
    assert "incomplete" in {j.verdict.rule for j in stopped.judgements}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"until": "settled", "all": True}, "leave one of them out"),
        ({"until": "bored"}, "--until 'bored' is not known; choose settled"),
    ],
)
def test_what_cannot_be_combined_is_refused(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        measured(tmp_path / "run", **options)


def test_victims_are_settled_by_random_batches(tmp_path):
    told = Told()
    measured(tmp_path / "run", until="settled", inputs=("batch", "victim"), listener=told)
    stop = next(stop for stop in told.stops if str(stop.case.threat) == "victim/unknown")
    assert (stop.verdict, stop.case.attack) == ("broken", "transfer-pgd-10")
    assert stop.examples > FIRST_VICTIMS  # the victims of random batches, too


@pytest.mark.parametrize(("network", "runs"), [(Rectified, True), (Reads, False)])
def test_crossover_is_the_last_resort_on_few_images_of_a_small_network(tmp_path, monkeypatch, network, runs):
    monkeypatch.setattr(crossover, "LONG", 4)
    alone = {"defence": (), "draws": 1, "selection_draws": 1, "batch_size": (128,)}
    run = measured(tmp_path / "run", network=network(1), examples=12, attacks="pgd-10", checks=True, **alone)
    assert set(words(run).values()) == {"not settled"}
    assert ("crossover-160" in attacked(run, "standard")) == runs


def test_where_an_operator_hides_the_gradient_smoothed_attacks_come_first(tmp_path):
    options = {"defence": (), "until": "settled", "attacks": "paper,adaptive"}
    run = measured(tmp_path / "run", network=Rounds(0), **options)
    ran = {name for name in attacked(run, "standard") if not name.startswith("from:")}
    assert ran == {"relaxed-pgd-20+momentum=1"}


def test_the_attacks_of_checks_run_on_the_examples_of_the_others(tmp_path):
    options = {"defence": (), "until": "settled", "attacks": "paper,adaptive"}
    told = Told()
    run = measured(tmp_path / "run", pixel=1, examples=8 * EXAMPLES, listener=told, **options)
    assert set(words(run).values()) == {"no failure found"}
    assert [stop.verdict for stop in told.stops] == ["no failure found"]
    examples = {row.attack: row.examples for row in run.summary.itertuples() if row.attack not in COMBINED}
    assert examples["pgd-10"] == examples["square-200"] < 8 * EXAMPLES
