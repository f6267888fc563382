"""Code that changed between two commands into one folder: its results are not those of the code of today."""

import json
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits

from robustbench_coded.evaluation.setup import prepare
from robustbench_coded.runs.folder import sealed
from tests.run_folders import computed, digests

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "serve_numpy.py"
OPTIONS = (
    "--data", "digits", "--limit", 8, "--batch-size", 8, "--draws", 2, "--eps", 0.1,
    "--threads", 1, "--workers", 1,
)  # fmt: skip
DEFENCE = """
    import torch

    SCALE = {value}

    class Scaled(torch.nn.Module):
        name = "scaled"

        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model(x * SCALE)

    build = Scaled
"""
IMPORTING = """
    def build(model):
        from parts import scale
        return scale.around(model)
"""
LOADING = """
    import torch

    def build(model):
        scale = torch.load("scale.pt")
        return lambda x: model(x * scale)
"""
ARCH = """
    import torch

    class Scaled(torch.nn.Module):
        def __init__(self, classes=2):
            super().__init__()
            self.body = torch.nn.Linear(64, classes)

        def forward(self, x):
            return self.body(x.flatten(1)) * {value}
"""
ATTACK = """
    import torch

    def moved(model, x, y, eps):
        x.requires_grad_()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        return x - 2 * eps * {value} * x.grad.sign()
"""


def write(**files):
    for name, text in files.items():
        path = Path(name.replace("__", "/") + ".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))


def of_file(value):
    write(d=DEFENCE.format(value=value))
    return "--defence", "d.py:build"


def of_import(value):
    write(d=IMPORTING, parts__scale=DEFENCE.replace("build =", "around =").format(value=value))
    return "--defence", "d.py:build"


def of_module(value):
    write(own_defence_of_a_test=DEFENCE.format(value=value))
    return "--defence", "own_defence_of_a_test:build"


def of_weights(value):
    write(d=LOADING)
    torch.save(torch.tensor(value), "scale.pt")
    return "--defence", "d.py:build"


def of_attack(value):
    write(m=ATTACK.format(value=value))
    return "--attacks", "fgsm,m.py:moved"


CASES = [
    pytest.param(make, said, id=name, marks=pytest.mark.long)
    for make, said, name in (
        (of_file, "defence d.py:build on digits-erm (changed: d.py)", "a file"),
        (of_import, "defence d.py:build on digits-erm (changed: parts/scale.py)", "what it imports"),
        (
            of_module,
            "defence own_defence_of_a_test:build on digits-erm (changed: own_defence_of_a_test.py)",
            "a module",
        ),
        (of_weights, "defence d.py:build on digits-erm (changed: its tensors)", "weights that it loads"),
        (of_attack, "attack m.py:moved (changed: m.py)", "an attack"),
    )
]


@pytest.fixture
def evaluated(csrobust, digits_erm):
    def run(*more, model=("--ckpt", None)):
        named = [part or digits_erm for part in model]
        attacks = () if "--attacks" in more else ("--attacks", "fgsm")
        return csrobust("eval", *named, *OPTIONS, *attacks, *more, "--out", "run")

    return run


def assert_refused(answer, words):
    assert answer.code == 2 and answer.err.count("\n") == 1 and words in answer.err, answer.err


def manifest_of_run():
    return json.loads(Path("run/run.json").read_text())


def units_of_defences():
    return {unit for row in manifest_of_run()["cases"] if row["spec"] != "standard" for unit in row["units"]}


def figures():
    rows = pd.read_csv("run/summary.csv")
    return rows.set_index(["defence", "attack"]).accuracy.to_dict()


@pytest.mark.parametrize(("make", "words"), CASES)
def test_changed_code_is_refused_in_one_line_and_is_what_runs_anew(evaluated, make, words):
    assert evaluated(*make(1.0)).code == 0
    first = figures()
    version = f"run was made with a different version of {words}; give another --out"
    assert_refused(evaluated(*make(-0.5)), version)
    assert figures() == first
    assert evaluated(*make(-0.5), "--overwrite").code == 0
    assert figures() != first


def test_a_stopped_run_goes_on_with_the_same_code_alone(evaluated):
    def stopped():
        Path("run/run.json").write_text(sealed({**manifest_of_run(), "finished": False}))
        log = Path("run/log.jsonl")
        *kept, last = computed(Path("run"))
        log.write_text("".join(line for line in log.read_text().splitlines(True) if last not in line))
        return kept

    assert evaluated(*of_file(1.0)).code == 0
    whole, kept = Path("run/summary.csv").read_bytes(), stopped()
    version = "a different version of defence d.py:build on digits-erm (changed: d.py)"
    assert_refused(evaluated(*of_file(-0.5)), version)
    answer = evaluated(*of_file(1.0))
    assert answer.code == 0 and f"which holds {len(kept)} finished units" in answer.err
    assert Path("run/summary.csv").read_bytes() == whole
    assert len(computed(Path("run"))) == len(kept) + 1


@pytest.mark.parametrize("before", ["another", None])
def test_a_folder_that_other_code_of_csrobust_made_is_refused_and_stays_readable(
    evaluated, csrobust, monkeypatch, before
):
    assert evaluated().code == 0
    manifest, first = manifest_of_run(), figures()
    own = manifest["identity"]["csrobust"]
    manifest["identity"]["csrobust"] = before
    Path("run/run.json").write_text(sealed(manifest))
    refused = evaluated()
    words = f"by other code of csrobust ({before or 'not recorded'}, now {own}); give another --out"
    assert_refused(refused, words)
    assert "--overwrite" in refused.err
    assert csrobust("report", "run").code == 0 and figures() == first
    assert evaluated("--overwrite").code == 0
    assert manifest_of_run()["identity"]["csrobust"] == own


def test_other_code_of_csrobust_takes_another_folder(csrobust, digits_erm, monkeypatch):
    for code in ("one", "two", "two"):
        monkeypatch.setattr(prepare, "own_code", lambda code=code: code)
        assert csrobust("eval", "--ckpt", digits_erm, *OPTIONS, "--attacks", "fgsm").code == 0
    runs = {json.loads(path.read_text())["identity"]["csrobust"]: path for path in Path().rglob("run.json")}
    assert runs.keys() == {"one", "two"}
    units = [digests(run.parent).keys() for run in runs.values()]
    assert units[0] and units[0] == units[1]  # named alike, so that a change which alters none can be seen


def test_a_changed_architecture_is_refused_and_has_another_folder_of_its_own(evaluated, csrobust):
    x, y = map(torch.from_numpy, load_digits(return_X_y=True))
    means = torch.stack([x[y == label].mean(0) / 16 for label in range(10)]).float()
    torch.save({"body.weight": means, "body.bias": -means.square().sum(1) / 2}, "m.pt")
    model = ("--ckpt", "m.pt", "--arch", "arch.py:Scaled", "--normalize", "none")
    write(arch=ARCH.format(value=1))
    assert evaluated(model=model).code == 0
    write(arch=ARCH.format(value=2))
    version = "run was made with a different version of model m (changed: arch.py)"
    assert_refused(evaluated(model=model), version)
    folders = []
    for value in (1, 2):
        write(arch=ARCH.format(value=value))
        planned = csrobust("plan", *model, *OPTIONS, "--attacks", "fgsm", "--json")
        folders.append(json.loads(planned.out)["run"])
    assert folders[0] != folders[1]


@pytest.mark.long
def test_a_changed_script_of_a_process_is_refused_and_started_anew(evaluated, csrobust):
    np.savez(
        "w.npz", w1=np.eye(64, 16, dtype="f4") / 4, b1=np.zeros(16, "f4"), w2=np.eye(16, 10, dtype="f4"),
        b2=np.zeros(10, "f4"),
    )  # fmt: skip
    Path("serve.py").write_text(EXAMPLE.read_text())
    command = ("--defence", f"cmd: {sys.executable} serve.py w.npz")
    assert evaluated(*command).code == 0
    first = figures()
    Path("serve.py").write_text(
        EXAMPLE.read_text().replace("import numpy as np\n", "import numpy as np  #\n")
    )
    assert_refused(evaluated(*command), "on digits-erm (changed: serve.py)")
    assert evaluated(*command, "--overwrite").code == 0 and figures() == first


@pytest.mark.long
def test_more_attacks_and_defences_extend_a_folder_of_the_same_code(evaluated):
    assert evaluated(*of_file(0.9)).code == 0
    first = figures()
    write(e=DEFENCE.format(value=0.8).replace('"scaled"', '"other"'))
    answer = evaluated(*of_file(0.9), "--defence", "e.py", "--attacks", "fgsm,pgd-2")
    assert answer.code == 0, answer.err
    extended = figures()
    assert ("other", "pgd-2") in extended
    assert all(extended[case] == first[case] for case in first if case[1] in ("clean", "fgsm"))
    assert set(manifest_of_run()["code"]) == {
        "defence d.py:build on digits-erm",
        "defence e.py on digits-erm",
    }


@pytest.mark.long
def test_code_that_loads_modules_by_computed_names_is_computed_anew_and_the_report_says_so(evaluated):
    write(
        d="""
            import importlib

            def build(model):
                return importlib.import_module("sca" + "le").around(model)
        """,
        scale=DEFENCE.replace("build =", "around =").format(value=1.0),
    )
    more = ("--defence", "d.py:build")
    assert evaluated(*more, "--attacks", "fgsm,pgd-2").code == 0
    before = set(computed(Path("run")))
    again = evaluated(*more)
    assert (
        again.code == 0
        and "was not compared with that of the last command, and all was computed" in again.err
    )
    assert ("scaled", "pgd-2") not in figures() and ("standard", "pgd-2") in figures()
    manifest = manifest_of_run()
    assert any("may load modules by names that it computes" in note for note in manifest["notes"])
    assert "may load modules by names that it computes" in Path("run/report.md").read_text()
    units = units_of_defences()
    assert units and not units & before
    # The same command on a stopped run takes over what that has computed.
    Path("run/run.json").write_text(sealed({**manifest, "finished": False}))
    stopped = evaluated(*more)
    assert stopped.code == 0 and "and what that computed was taken over" in stopped.err
    assert units == units_of_defences()
