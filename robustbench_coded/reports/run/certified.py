"""What lies between the attacks and the certificates of a run, as a table."""

from collections.abc import Sequence

from robustbench_coded.reports.text.formatting import (
    budget_text,
    inference_text,
    percent,
    subject_text,
    with_interval,
)
from robustbench_coded.reports.text.text_table import TextTable
from robustbench_coded.results.certified import CertifiedRow

CERTIFIED = "Certified, unknown and broken"
CERTIFIED_LEGEND = (
    "Certified: answers that no perturbation within eps can change to a wrong one, with a 95% interval "
    "over examples. Broken: answers that are wrong under the ensemble of all attacks. Unknown: neither. "
    "Bounds account for float32 rounding. Those of Gaussian smoothing are probabilities of a right answer, "
    "and all of them hold together with probability 99.9%."
)


def certified_sentences(rows: Sequence[CertifiedRow]) -> list[str]:
    """A sentence for each row, as the terminal has it."""
    said = []
    for row in rows:
        if row.certified is None:
            found = f"not certified: {row.missing}"
        else:
            others = f"unknown {percent(row.unknown)}, broken {percent(row.broken)}"
            found = f"certified {with_interval(row.certified)}, {others} ({row.method})"
        subject, budget = subject_text(row.key.subject, with_k=True), budget_text(row.key.budget)
        said.append(f"{subject}, {row.key.threat}, {budget}: {found}")
    return said


def certified_text_table(rows: Sequence[CertifiedRow]) -> TextTable:
    """A row per subject, threat model and budget."""
    heads = (
        "Checkpoint", "Inference", "Threat", "Budget", "Certified", "Unknown", "Broken", "How",
    )  # fmt: skip
    lines = [
        (
            row.key.checkpoint,
            inference_text(row.key.subject, with_k=True),
            str(row.key.threat),
            budget_text(row.key.budget),
            with_interval(row.certified, missing="–"),
            percent(row.unknown),
            percent(row.broken),
            row.method or f"not certified: {row.missing}",
        )
        for row in rows
    ]
    return TextTable(heads, tuple(lines), frozenset({"Unknown", "Broken"}))
