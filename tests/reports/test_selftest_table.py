"""The self-tests of each subject in the report."""

from robustbench_coded.judge.judgements import SelfTestResult
from robustbench_coded.reports.run.text_tables import selftest_table
from robustbench_coded.schema.case import Subject

SUBJECT = Subject("a", "rci", 8, 12)
TESTS = (
    SelfTestResult("steps uphill", "passed", "It rises by 3.", {"rise": 3.0}),
    SelfTestResult("finite differences", "failed", "40% are off.", {"off": 0.4}),
    SelfTestResult("planted perturbations", "not applicable", "There are two classes.", {}),
)


def test_each_self_test_is_a_row_with_its_finding():
    rows = selftest_table({SUBJECT: TESTS}).rows
    assert [row[:2] for row in rows] == [("a", "RCI (K = 8, N = 12)")] * 3
    assert [row[2:] for row in rows] == [(test.name, test.outcome, test.finding) for test in TESTS]
