"""docs/protocol.md: its table is that of the code, its sentence names what runs, and it stays short."""

import ast
import csv
from pathlib import Path

import pytest

from attacks.presets import NAMED, PRESETS
from benchmarks.errors.ablation import ENTRIES
from robustbench_coded.evaluation.protocol import rungs
from robustbench_coded.evaluation.protocol.rungs import RUNGS, VERSION
from robustbench_coded.schema.words import VerdictName

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "protocol.md").read_text()
ABLATION = list(csv.DictReader((ROOT / "reports" / "zoo" / "ablation.csv").open()))
MOST_WORDS = 700
# Of the modules that decide what runs next: those of the protocol, and what plans, runs and records it.
PACKAGE = ROOT / "robustbench_coded" / "evaluation"
MODULES = [
    *(PACKAGE / "protocol").glob("*.py"),
    *(
        PACKAGE / "session" / f"{name}.py"
        for name in ("driver", "evaluation", "planning", "recording", "run_plan")
    ),
    PACKAGE / "planning" / "comparisons.py",
]
MOST_CONSTANTS = 24


def names(attacks):
    return ", ".join(f"`{name}`" for name in attacks)


def without(rung):
    """Verdicts that change where a rung is left out, and those of them that become positive."""
    changed = [row["verdict_without"] for row in ABLATION if row["left_out"] == rung]
    positive = changed.count(VerdictName.NO_FAILURE_FOUND)
    return "" if rung == "clean" else f"{len(changed)} ({positive})" if positive else str(len(changed))


def table():
    lines = [
        "| rung | what runs | attacks | where the gradient is hidden | on | skipped where | guards against | "
        "changes |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for rung in RUNGS:
        hidden = "" if rung.hidden == rung.shown else names(rung.hidden)
        if rung.hidden[-len(rung.shown) :] == rung.shown and hidden:
            hidden = f"{names(rung.hidden[: -len(rung.shown)])}, then the others"
        cells = (rung.name, rung.says, names(rung.shown), hidden, rung.runs_on, rung.skipped, rung.guards)
        lines.append(f"| {' | '.join((*cells, without(rung.name)))} |")
    return "\n".join(lines)


def test_the_table_of_the_page_is_that_of_the_code():
    shown = PAGE.split("<!-- rungs: begin -->\n")[1].split("\n<!-- rungs: end -->")[0]
    assert shown == table(), f"paste this into docs/protocol.md:\n{table()}"


def test_the_page_says_of_how_many_defences_the_changed_verdicts_are():
    assert f"of {len({row['defence'] for row in ABLATION})} defences" in PAGE
    named = [name.replace("/", "-") for name in ENTRIES]
    assert list(dict.fromkeys(row["defence"] for row in ABLATION)) == named
    assert {row["left_out"] for row in ABLATION} <= {"", *(rung.name for rung in RUNGS)}
    assert all(row["verdict"] != row["verdict_without"] for row in ABLATION if row["left_out"])


def test_the_page_is_short_and_names_the_version():
    assert len(PAGE.split()) < MOST_WORDS
    assert f"protocol {VERSION}" in PAGE


def test_about_nine_rungs_and_every_adaptive_attack_stands_in_one():
    assert 8 <= len(RUNGS) <= 10 and len({rung.name for rung in RUNGS}) == len(RUNGS)
    assert set(NAMED) == {
        "fgsm", "pgd-10", "pgd-100", "eot10-pgd-20", "aware-pgd-10", "transfer-pgd-20",
    }  # fmt: skip
    told = {name for rung in RUNGS for name in (*rung.shown, *rung.hidden)}
    assert {*PRESETS["paper"], *PRESETS["adaptive"]} <= told
    assert all(callable(rung.step) and rung.guards and rung.skipped for rung in RUNGS)


@pytest.mark.parametrize("names", [rungs.SCREEN])
def test_a_screen_is_made_of_rungs(names):
    assert set(names) <= {rung.name for rung in RUNGS}


def test_few_numbers_decide_what_runs():
    found = [
        (path.name, node.value)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and type(node.value) in (int, float) and node.value not in (0, 1, 2)
    ]
    assert len(found) <= MOST_CONSTANTS, found
