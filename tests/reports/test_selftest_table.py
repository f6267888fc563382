"""The self-tests of each subject in the report."""

from robustbench_coded.judge.judgements import SelfTestResult
from robustbench_coded.reports.run.text_tables import selftest_count_table, selftest_table
from robustbench_coded.schema.case import Subject

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
