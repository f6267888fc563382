"""What makes evaluations of entries quick: verdicts rest on outcomes, whatever is written about them."""

import pytest

from robustbench_coded.reports import write


@pytest.fixture(autouse=True)
def nothing_written(monkeypatch):
    """No report and no figures, which take longer than most of these evaluations."""
    monkeypatch.setattr(write, "write_reports_of", lambda run, *, final=False: None)
