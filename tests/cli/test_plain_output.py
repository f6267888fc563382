"""Standard output that knows few letters: the answer is printed all the same."""

import io
import sys

import pytest

from robustbench_coded.cli.main import main
from tests.reports.conftest import *  # noqa: F403  invented runs


@pytest.mark.parametrize("encoding", ["ascii", "cp437", "cp1252"])
def test_a_code_page_loses_no_figure(make_run, monkeypatch, encoding):
    path = make_run()
    printed = {}
    for name in ("utf-8", encoding):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=name)
        monkeypatch.setattr(sys, "stdout", stream)
        assert main(["show", str(path)]) == 0
        stream.flush()
        printed[name] = stream.buffer.getvalue().decode(name)
    whole, plain = printed["utf-8"], printed[encoding]
    assert "]§" in whole and ("]§" in plain or "]#" in plain)
    assert "marked §" in whole and ("marked §" in plain or "marked #" in plain)
    assert "\\u" not in plain and len(whole.splitlines()) == len(plain.splitlines())
