"""Which self-tests were run on each subject, and what they measured."""

from collections.abc import Mapping, Sequence

from robustbench_coded.reports.text.formatting import inference_text
from robustbench_coded.reports.text.text_table import TextTable
from robustbench_coded.results.selftests import SelfTestResult
from robustbench_coded.schema.case import SubjectKey

SELFTESTS_TITLE = "Self-tests of answers and gradients"
SELFTESTS_LEGEND = (
    "Each self-test asks whether answers and gradients of a subject can carry an attack; docs/self-tests.md "
    "says what each measures and when it fails. no failure found needs every one to pass or not to apply."
)


def selftest_count_table(found: Mapping[SubjectKey, Sequence[SelfTestResult]]) -> TextTable:
    """A row per subject: how many passed, and which did not."""
    rows = []
    for subject, tests in found.items():
        named = {
            outcome: [test.name for test in tests if test.outcome == outcome]
            for outcome in ("passed", "failed", "not applicable")
        }
        rows.append(
            (
                subject.checkpoint,
                inference_text(subject, with_k=True),
                str(len(named["passed"])),
                ", ".join(named["failed"]) or "none",
                ", ".join(named["not applicable"]) or "none",
            )
        )
    return TextTable(
        ("Checkpoint", "Inference", "Passed", "Failed", "Not applicable"), tuple(rows), frozenset({"Passed"})
    )


def selftest_table(found: Mapping[SubjectKey, Sequence[SelfTestResult]]) -> TextTable:
    """A row per subject and self-test, with its finding."""
    rows = [
        (subject.checkpoint, inference_text(subject, with_k=True), test.name, test.outcome, test.finding)
        for subject, tests in found.items()
        for test in tests
    ]
    return TextTable(("Checkpoint", "Inference", "Self-test", "Outcome", "Finding"), tuple(rows))
