"""Sentences come from the figures of the run at hand."""

import re

import pytest

from robustbench_coded.reports.render.html import html_report
from robustbench_coded.reports.render.markdown import markdown_report
from robustbench_coded.reports.render.sections import report_of
from robustbench_coded.reports.run.methodology import limits_of
from robustbench_coded.reports.run.opening import opening_of
from robustbench_coded.run import load_run
from tests.reports.conftest import BROKEN_BASE

pytestmark = pytest.mark.long


def report(path):
    run = load_run(path)
    return report_of(run, opening_of(run))


def test_no_report_calls_anything_robust(make_run):
    safe = {
        **BROKEN_BASE,
        ("pgd-10", "batch/unknown"): (0.0, 0.88),
        ("transfer-pgd-20", "batch/unknown"): (None, 0.88),
    }
    for name, accuracies in (("broken", None), ("safe", safe)):
        written = report(make_run(name, **({} if accuracies is None else {"accuracies": accuracies})))
        text = markdown_report(written) + html_report(written)
        assert not re.search(r"(?<!cs)robust(?! accuracy|ness\))", text.lower())


def test_what_each_attack_does_and_the_table_of_all_rows_stand_in_html_alone(make_run):
    written = report(make_run(failed=[("fgsm", "rci")]))
    shown = [section.id for section in written.sections if not section.detail]
    assert shown == [
        "others",
        "accuracies",
        "accuracies",
        "why",
        "checks",
        "failures",
        "limits",
        "measured",
        "again",
    ]
    assert {section.id for section in written.sections if section.detail} >= {"attacks", "cost"}
    text = markdown_report(written)
    page = html_report(written)
    assert "PGD-10: PGD" not in text and "<dt>pgd-10</dt><dd>PGD-10: PGD" in page
    assert page.count("<details") == 1 and page.index('id="cost"') > page.index("<details")


def test_what_was_not_tried_is_said(make_run):
    def untried(run):
        return re.findall(r"Threat model not evaluated: (\S+)", " ".join(limits_of(load_run(run))))

    assert untried(make_run(accuracies=BROKEN_BASE)) == ["victim", "co-batch", "known"]
    assert untried(make_run("all")) == ["co-batch"]
