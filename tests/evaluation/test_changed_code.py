"""Code in memory that changes between two calls, as in a notebook: no figure is that of the code before."""

import functools
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

from robustbench_coded import InputError, evaluate
from robustbench_coded.run import load_run
from robustbench_coded.runs.folder import sealed
from tests.evaluation.conftest import SMALL as FEW
from tests.evaluation.conftest import RowMean, labelled
from tests.run_folders import computed, digests

SMALL = {**FEW, "attacks": "fgsm", "eps": 0.01, "workers": 1}
MODEL = RowMean().eval()
SIGN = 1


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def clean(run):
    return run.summary.set_index("attack").accuracy["clean"]


def closure(sign):
    return lambda x: MODEL(x) * sign


def by_global(x):
    return MODEL(x) * SIGN


class Signed(torch.nn.Module):
    def __init__(self, sign):
        super().__init__()
        self.sign, self.model = sign, MODEL

    def forward(self, x):
        return self.model(x) * self.sign


class Answers:
    def __init__(self, sign):
        self.sign = sign

    def answer(self, x):
        return MODEL(x) * self.sign


def stepping(size):
    def mine(model, x, y, eps):
        x = x.clone()
        x[:, 0, 0] -= size * eps * (2 * y - 1)[:, None]
        return x

    return mine


def of_global(sign):
    global SIGN
    SIGN = sign
    return by_global


def scaled(x, sign):
    return MODEL(x) * sign


class LeavesOut(Answers):
    def __getstate__(self):
        return {}


SETTINGS = types.ModuleType("settings_in_memory")


def by_name(x):
    return MODEL(x) * getattr(SETTINGS, "sign")  # noqa: B009 (as users write it)


def of_module(sign):
    SETTINGS.sign = sign
    return by_name


MAKERS = {
    "read by its name in a string": of_module,
    "left out of a state": lambda sign: LeavesOut(sign).answer,
    "closure": closure,
    "global": of_global,
    "module": lambda sign: Signed(sign).eval(),
    "method": lambda sign: Answers(sign).answer,
    "partial": lambda sign: functools.partial(scaled, sign=sign),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_changed_network_is_refused_where_the_folder_has_results_of_another(make):
    first = evaluate({"f": make(1)}, labelled(), out="run", **SMALL)
    with pytest.raises(
        InputError, match=r"was made with a different version of model f \(changed: .*\); give another out"
    ):
        evaluate({"f": make(-1)}, labelled(), out="run", **SMALL)
    assert clean(first) == clean(load_run(first.path)) == 1


def test_without_out_nothing_is_taken_over_and_nothing_lost():
    runs = [evaluate({"f": closure(sign)}, labelled(), **SMALL) for sign in (1, 1, -1)]
    assert [clean(run) for run in runs] == [1, 1, 0]
    assert len({run.path for run in runs}) == 3
    assert [clean(load_run(run.path)) for run in runs] == [1, 1, 0]


@pytest.mark.long
def test_a_defence_that_answers_clean_images_as_another_does_is_another():
    given = [lambda x: MODEL(x), lambda x: MODEL((20 * x).round() / 20)]
    x, _ = labelled()
    assert torch.equal(given[0](x), given[1](x))
    evaluate({"rows": MODEL}, labelled(), defences={"mine": given[0]}, out="run", **SMALL)
    with pytest.raises(InputError, match="different version of defence mine on rows"):
        evaluate({"rows": MODEL}, labelled(), defences={"mine": given[1]}, out="run", **SMALL)


class OfTheEnvironment(Signed):
    """Reads its sign where no code shows it."""

    def __init__(self, model):
        super().__init__(int(os.environ["SIGN"]))
        self.identity = os.environ["SIGN"]


def test_settings_that_a_defence_declares_as_its_identity_belong_to_its_code(monkeypatch):
    given = {"defences": OfTheEnvironment, "out": "run", **SMALL}
    monkeypatch.setenv("SIGN", "1")
    evaluate(MODEL, labelled(), **given)
    before = digests(Path("run"))
    monkeypatch.setenv("SIGN", "-1")
    with pytest.raises(InputError, match=r"a different version of defence .* \(changed: identity\)"):
        evaluate(MODEL, labelled(), **given)
    assert digests(Path("run")) == before


def test_two_attacks_of_one_code_have_a_row_each_and_a_changed_one_is_refused():
    given = {**SMALL, "attacks": [stepping(-1), stepping(1), "fgsm"], "eps": 0.1}
    run = evaluate(MODEL, labelled(), out="run", **given)
    left = run.summary.set_index("attack").accuracy
    assert left["in_memory:mine"] == 1 and left["in_memory:mine_2"] < 1
    with pytest.raises(
        InputError, match=r"a different version of attack in_memory:mine \(changed: stepping.mine\)"
    ):
        evaluate(MODEL, labelled(), out="run", **{**given, "attacks": [stepping(1)]})
    more = evaluate(MODEL, labelled(), out="run", **{**given, "attacks": [stepping(-1), "pgd-2"]})
    assert {"in_memory:mine", "in_memory:mine_2", "fgsm", "pgd-2"} <= set(more.summary.attack)


def test_what_changes_while_it_is_asked_keeps_no_run_from_going_on():
    class Counting:
        def __init__(self):
            self.asked, self.cache = 0, None

        def answer(self, x):
            self.asked += 1
            self.cache = x if self.cache is None else self.cache
            return MODEL(x)

    counting = Counting()
    run = evaluate({"f": counting.answer}, labelled(), **SMALL)
    again = run.again(attacks="fgsm,pgd-2")
    assert again.path == run.path and {"fgsm", "pgd-2"} <= set(again.summary.attack)
    counting.cache = None
    with pytest.raises(InputError, match="a different version of model f"):
        run.again(attacks="fgsm,pgd-4")


def test_code_that_cannot_be_read_is_computed_anew_and_a_stopped_run_goes_on():
    with Path("log").open("w") as log:

        def logging(x):
            print(len(x), file=log)
            return MODEL(x)

        def held():
            return digests(Path("run")).keys()

        evaluate({"f": logging}, labelled(), out="run", **SMALL)
        before = held()
        run = evaluate({"f": logging}, labelled(), out="run", **SMALL)
        after = held()
        assert not before & after
        assert any(
            "all was computed anew: " in note and "TextIOWrapper" in note for note in run.manifest.notes
        )
        manifest = json.loads(Path("run/run.json").read_text())
        Path("run/run.json").write_text(sealed({**manifest, "finished": False}))
        evaluate({"f": logging}, labelled(), out="run", **SMALL)
        assert held() == after


SCRIPT = """
import sys
import torch
from robustbench_coded import evaluate
from tests.evaluation.conftest import SMALL, RowMean, labelled

model, sign = RowMean().eval(), float(sys.argv[1])
evaluate({"f": lambda x: model(x) * sign}, labelled(), out="run", attacks="fgsm", workers=1, **SMALL)
"""


@pytest.mark.long
def test_in_another_process_the_same_closure_goes_on_and_a_changed_one_is_refused():
    Path("notebook.py").write_text(SCRIPT)

    def run(sign):
        environment = {**os.environ, "PYTHONPATH": ":".join(filter(None, sys.path))}
        command = [sys.executable, "notebook.py", sign]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    assert run("1").returncode == 0
    before = computed(Path("run"))
    again = run("1")
    assert again.returncode == 0 and "goes on with the run" in again.stderr
    assert computed(Path("run")) == before
    changed = run("-1")
    assert changed.returncode and "a different version of model f (changed: lambda)" in changed.stderr
