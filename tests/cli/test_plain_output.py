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
    mark = "†" if encoding == "cp1252" else "?"
    assert whole.count("]†") == plain.count(f"]{mark}") > 0
    assert "marked †" in " ".join(whole.split()) and f"marked {mark}" in " ".join(plain.split())
    assert "\\u" not in plain and len(whole.splitlines()) == len(plain.splitlines())
