"""The self-tests of each subject in the report."""

from pathlib import Path

from robustbench_coded.judge.judgements import SelfTestResult
from robustbench_coded.judge.run import load_run
from robustbench_coded.reports.run.text_tables import selftest_count_table, selftest_table
from robustbench_coded.schema.case import Subject

DIGITS = Path(__file__).parents[2] / "reports" / "digits"
SUBJECT = Subject("a", "rci", 8, 12)
TESTS = (
    SelfTestResult("steps uphill", "passed", "It rises by 3.", {"rise": 3.0}),
    SelfTestResult("finite differences", "failed", "40% are off.", {"off": 0.4}),
    SelfTestResult("planted perturbations", "not applicable", "There are two classes.", {}),
)


def test_what_failed_is_named_beside_the_number_that_passed():
    assert selftest_count_table({SUBJECT: TESTS}).rows == (
        ("a", "RCI (K = 8, N = 12)", "1", "finite differences", "planted perturbations"),
    )
    rows = selftest_table({SUBJECT: TESTS}).rows
    assert [row[2:] for row in rows] == [(test.name, test.outcome, test.finding) for test in TESTS]


def test_every_subject_of_a_committed_report_stands_in_its_details():
    run = load_run(DIGITS)
    assert len(run.selftests) == 12 and all(len(tests) >= 8 for tests in run.selftests.values())
    written = (DIGITS / "details.md").read_text(encoding="utf-8")
    section = written.split("## Self-tests of answers and gradients")[1].split("\n## ")[0]
    for tests in run.selftests.values():
        assert all(test.name in section for test in tests)
