"""docs/protocol.md: its table is that of the code, its sentence names what runs."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from attacks.presets import NAMED, PRESETS
from benchmarks.errors.ablation import ENTRIES
from robustbench_coded.evaluation.protocol.rungs import RUNGS, VERSION
from robustbench_coded.judge.rules import RULES, decide
from robustbench_coded.schema.words import Rung
from tests.judge.test_verdict import DECIDES, GOOD

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "protocol.md").read_text()
ABLATION = list(csv.DictReader((ROOT / "reports" / "zoo" / "ablation.csv").open()))


def names(attacks):
    return ", ".join(f"`{name}`" for name in attacks)


def table():
    lines = ["| rung | what runs | attacks | where the gradient is hidden |", "| --- | --- | --- | --- |"]
    for rung in RUNGS:
        hidden = "" if rung.hidden == rung.shown else names(rung.hidden)
        if rung.hidden[-len(rung.shown) :] == rung.shown and hidden:
            hidden = f"{names(rung.hidden[: -len(rung.shown)])}, then the others"
        lines.append(f"| {rung.name} | {rung.says} | {names(rung.shown)} | {hidden} |")
    return "\n".join(lines)


def needs_table():
    """What each rule needs, of the figures by which it decides in tests/judge/test_verdict.py."""
    alike = {}
    for rule in RULES:
        needs = decide(replace(GOOD, **DECIDES[rule.name])).needs
        asked = ", ".join(rung for rung in needs.rungs if rung not in (Rung.QUICK, Rung.CONFIRM)) or "nothing"
        alike.setdefault(f"{asked}{', of its base alone' if needs.base_alone else ''}", []).append(rule.name)
    lines = [f"| {', '.join(rules)} | {needs} |" for needs, rules in alike.items()]
    return "\n".join(["| rules | needs |", "| --- | --- |", *lines])


@pytest.mark.parametrize(("place", "made"), [("rungs", table), ("needs", needs_table)])
def test_the_tables_of_the_page_are_those_of_the_code(place, made):
    shown = PAGE.split(f"<!-- {place}: begin -->\n")[1].split(f"\n<!-- {place}: end -->")[0]
    assert shown == made(), f"paste this into docs/protocol.md:\n{made()}"


def test_the_ablation_names_rungs_and_changed_verdicts():
    named = [name.replace("/", "-") for name in ENTRIES]
    assert list(dict.fromkeys(row["defence"] for row in ABLATION)) == named
    assert {row["left_out"] for row in ABLATION} <= {"", *(rung.name for rung in RUNGS)}
    assert all(row["verdict"] != row["verdict_without"] for row in ABLATION if row["left_out"])


def test_the_page_names_the_version():
    assert f"protocol {VERSION}" in PAGE


def test_every_adaptive_attack_stands_in_a_rung():
    assert set(NAMED) == {
        "fgsm", "pgd-10", "pgd-100", "eot10-pgd-20", "aware-pgd-10", "transfer-pgd-20",
    }  # fmt: skip
    told = {name for rung in RUNGS for name in (*rung.shown, *rung.hidden)}
    assert {*PRESETS["paper"], *PRESETS["adaptive"]} <= told
    assert all(callable(rung.asks) and rung.says for rung in RUNGS)
