"""Verdicts for a pipeline: ``--fail-on`` ends with an exit code of its own, ``--junit`` writes a test report.

`judge.tried` says which verdicts count, and what has to be tried for them to say anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from robustbench_coded.errors import InputError, did_you_mean
from robustbench_coded.reports.text.escape import one_line
from robustbench_coded.schema.words import VerdictName

if TYPE_CHECKING:
    from robustbench_coded.judge.judgements import Judgement
    from robustbench_coded.schema.case import Subject

# As they are typed: no blanks, and without the article of a sentence.
TYPED = {
    "broken": VerdictName.BROKEN,
    "no-gain": VerdictName.NO_GAIN,
    "worse-than-base": VerdictName.WORSE_THAN_BASE,
    "claim-refuted": VerdictName.CLAIM_REFUTED,
    "not-settled": VerdictName.NOT_SETTLED,
}
NEGATIVE = tuple(verdict for verdict in TYPED.values() if verdict != VerdictName.NOT_SETTLED)


def verdicts_named(text: str) -> tuple[VerdictName, ...]:
    """``claim-refuted,no-gain`` as verdicts. What is broken has no gain that counts, and no word for both.

    Raises:
        InputError: one of them is no verdict that a run can fail on.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in TYPED:
            choices = ", ".join(TYPED)
            raise InputError(f"--fail-on {name!r}: {did_you_mean(name, TYPED)}choose from {choices}")
    return (*(TYPED[name] for name in names), *[VerdictName.BROKEN] * ("no-gain" in names))


def failing(judgements: Sequence[Judgement], verdicts: Sequence[VerdictName]) -> list[str]:
    """A line for each judgement whose verdict is one of ``verdicts``."""
    return [
        f"{judgement.name}: {judgement.verdict.name}. {judgement.verdict.reason}"
        for judgement in judgements
        if judgement.verdict.name in verdicts
    ]


def write_junit(
    path: Path,
    judgements: Sequence[Judgement],
    verdicts: Sequence[VerdictName],
    untried: Sequence[tuple[Subject, str]] = (),
) -> None:
    """Writes a test case for each judgement in JUnit's XML, and one with an error for what was not tried.

    A case fails where its verdict is one of ``verdicts``; it is skipped where it is not settled otherwise.
    """

    def kind(judgement: Judgement) -> str:
        if judgement.verdict.name in verdicts:
            return "failure"
        return "skipped" if judgement.verdict.name == VerdictName.NOT_SETTLED else "system-out"

    kinds = [kind(judgement) for judgement in judgements]
    counts = {"failures": kinds.count("failure"), "skipped": kinds.count("skipped"), "errors": len(untried)}
    counts = {"tests": len(judgements) + len(untried)} | counts
    suite = ElementTree.Element("testsuite", {"name": "csrobust"} | {n: str(c) for n, c in counts.items()})
    for subject, reason in untried:
        name, of = one_line(subject.defence), one_line(subject.checkpoint)
        case = ElementTree.SubElement(suite, "testcase", classname=of, name=name)
        ElementTree.SubElement(case, "error", message=one_line(reason))
    for judgement, said in zip(judgements, kinds, strict=True):
        name, of = one_line(judgement.name), one_line(judgement.subject.checkpoint)
        case = ElementTree.SubElement(suite, "testcase", classname=of, name=name)
        text = one_line(f"{judgement.verdict.name}. {judgement.verdict.reason}")
        messages = {"failure": str(judgement.verdict.name), "skipped": text}
        part = ElementTree.SubElement(case, said, {"message": messages[said]} if said in messages else {})
        part.text = None if said == "skipped" else text
    content = ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise InputError(f"--junit: {path} can't be written ({error.strerror}); give another file") from error
