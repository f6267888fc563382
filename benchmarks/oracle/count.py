"""Which attack, transform, check, self-test and rule decides a verdict: the kept outcomes are judged again
without one of them at a time.

What ran later met only what an earlier attack left, so a zero is a lower bound of need: before something is
deleted, it is left out once for real.
"""

import csv
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

from msgspec import structs

from attacks.attack import Submitted, read_attack
from benchmarks.evidence import committed
from benchmarks.oracle import suites
from robustbench_coded.judge import judge, judgements, rules
from robustbench_coded.judge.verdict import Verdict
from robustbench_coded.run import Run, load_run
from robustbench_coded.schema.words import CLEAN, CONTROLS, STANDARD, CheckName

COLUMNS = (
    *(
        "kind",
        "left_out",
        "suite",
        "present",
        "wrong",
        "positive_to_open",
        "negative_to_open",
        "open_to_settled",
    ),
    "examples",
)
POSITIVE, OPEN = "no failure found", "not settled"
Said = dict[str, Verdict]


@dataclass
class Change:
    """What leaving one thing out does in one suite."""

    present: int = 0  # runs that have it
    kinds: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)


def traits_of(attack: str) -> set[tuple[str, str]]:
    """What a row's attack is made of: its algorithm, what it knows, and how it was transformed."""
    if attack in CONTROLS:
        return set()
    named = read_attack(attack)
    if isinstance(named, Submitted):
        made = {trait for trait in traits_of(str(named.attack or CLEAN)) if trait[0] == "attack"}
        done = {("transform", option) for option, _ in named.options}
        return made | (done or {("transform", "none (resubmission alone)")})
    own = {("attack", named.package or named.algorithm)}
    if named.knows != "fresh":
        own.add(("estimator", f"{named.knows}-"))
    if named.draws > 1:
        own.add(("estimator", "eot-"))
    return own | ({("estimator", "relaxed-")} if named.relaxed else set())


def said(run: Run) -> Said:
    """The verdicts on defences, by subject, threat model and perturbation."""
    return {one.name: one.verdict for one in run.judgements if one.subject.defence != STANDARD}


def without_rows(run: Run, trait: tuple[str, str]) -> Run:
    """The run as if these attacks had not run."""
    kept = tuple(record for record in run.manifest.cases if trait not in traits_of(record.case.attack))
    return Run(run.path, structs.replace(run.manifest, cases=kept))


@contextmanager
def without(kind: str, name: str) -> Iterator[None]:
    """The judge without one check, self-test or rule."""
    if kind == "rule":
        with mock.patch.object(rules, "RULES", tuple(rule for rule in rules.RULES if rule.name != name)):
            yield
    elif kind == "check":
        decide = rules.decide

        def decide_without(figures: Verdict) -> Verdict:
            left = [check for check in figures.checks if check.name.partition(":")[0] != name]
            return decide(replace(figures, checks=tuple(left)))

        with mock.patch.object(judge, "decide", decide_without):
            yield
    else:
        read: Callable[[dict[str, Any]], Any] = judgements._tests

        def read_without(data: dict[str, Any]) -> Any:
            return tuple(test for test in read(data) if test.name != name)

        with mock.patch.object(judgements, "_tests", read_without):
            yield


def omissions(run: Run, before: Said) -> Iterator[tuple[tuple[str, str], Callable[[], Said]]]:
    """What can be left out of a run, and its verdicts then. A check that passed and a rule that did not
    decide change nothing, so they are not tried.
    """
    traits = {trait for record in run.manifest.cases for trait in traits_of(record.case.attack)}
    for trait in sorted(traits):
        yield trait, lambda trait=trait: said(without_rows(run, trait))  # type: ignore[misc]
    open_checks = {name for verdict in before.values() for name in verdict.open_checks}
    judged = {
        *(
            ("check", str(name))
            for name in CheckName
            if any(check.partition(":")[0] == name for check in open_checks)
        ),
        *(("self-test", name.partition(": ")[2]) for name in open_checks if ": " in name),
        *(("rule", verdict.rule) for verdict in before.values() if verdict.rule != rules.RULES[-1].name),
    }
    for kind, name in sorted(judged):

        def again(kind: str = kind, name: str = name) -> Said:
            with without(kind, name):
                return said(Run(run.path, run.manifest))

        yield (kind, name), again


def change_of(before: Verdict, after: Verdict | None, *, broken: bool) -> str:
    """In which column a change of verdict counts; '' for none."""
    old, new = str(before.name), OPEN if after is None else str(after.name)
    if old == new:
        return ""
    if new == OPEN:
        return "positive_to_open" if old == POSITIVE else "negative_to_open"
    if (new == POSITIVE) == broken and (old == OPEN or (old == POSITIVE) != (new == POSITIVE)):
        return "wrong"
    return "open_to_settled" if old == OPEN else ""


def count_run(
    run: Run, changes: dict[tuple[str, str], Change], broken: Callable[[str], bool], name: str
) -> None:
    """Adds one run to the table."""
    before = said(run)
    for what, again in omissions(run, before):
        change = changes.setdefault(what, Change())
        change.present += 1
        after = again()
        for subject, verdict in before.items():
            kind = change_of(verdict, after.get(subject), broken=broken(subject))
            if kind:
                change.kinds[kind] += 1
                if kind == "wrong" or len(change.examples) < 3:
                    change.examples.append(name)


def write_count(folder: Path, table: Path) -> None:
    """Writes the table: a line for each thing left out in each suite where it is present."""
    lines: list[tuple[object, ...]] = []
    for suite in (*sorted(place.name for place in folder.iterdir() if place.is_dir()), "committed"):
        changes: dict[tuple[str, str], Change] = {}
        for run, name, broken in _runs(folder, suite):
            count_run(run, changes, broken, name)
        for (kind, left_out), change in sorted(changes.items()):
            numbers = [change.kinds[column] for column in COLUMNS[4:8]]
            lines.append(
                (kind, left_out, suite, change.present, *numbers, " ".join(dict.fromkeys(change.examples)))
            )
        print(f"{suite}: {len(changes)} things", flush=True)
    with table.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *sorted(lines, key=lambda line: line[:3])])


def _runs(folder: Path, suite: str) -> Iterator[tuple[Run, str, Callable[[str], bool]]]:
    """The runs of a suite with their names, and which of their verdicts must not be positive. Of a committed
    run nobody knows; there a verdict counts as true if it is negative.
    """
    if suite == "committed":
        for name, path in committed().items():
            run = load_run(path)
            negative = {name for name, verdict in said(run).items() if verdict.name not in (POSITIVE, OPEN)}
            yield run, name, negative.__contains__
        return
    for file in sorted((folder / suite).glob("*.json")):
        if not file.with_suffix("").is_dir():
            continue  # refused before anything ran
        run, found = load_run(file.with_suffix("")), suites.findings(file)
        broken = {one.threat for one in found if one.broken}

        def is_broken(subject: str, broken: set[str] = broken) -> bool:
            return subject.split(", ")[2] in broken

        yield run, file.stem, is_broken
