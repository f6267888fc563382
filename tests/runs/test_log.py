"""The log of a run: what its lines say together, and what becomes of damaged ones."""

import os

import pytest

from robustbench_coded.runs import log
from robustbench_coded.runs.log import NAME, Began, Changed, Done, Dropped, Failed, append, mend, read_log


def test_the_last_line_of_a_unit_counts(tmp_path):
    append(tmp_path, [Failed("a", "out of memory"), Failed("b", "out of memory"), Done("c", "1", {})])
    append(
        tmp_path, [Done("a", "2", {"right": 3}, {"seconds": 1.5}), Done("d", "3", {}), Dropped(("c", "b"))]
    )
    append(
        tmp_path,
        [
            Done("d", "3", {}),
            Failed("d", "no answer", 2, "trace"),
            log.Tested("t", {"tests": [1]}),
            log.Tested("t", {}),
        ],
    )
    lines = read_log(tmp_path)
    assert list(lines.done) == ["a"]
    assert lines.done["a"] == Done("a", "2", {"right": 3}, {"seconds": 1.5})
    assert lines.failures == {"d": Failed("d", "no answer", 2, "trace")}
    assert lines.selftests == {"t": {}}
    assert read_log(tmp_path / "nowhere").done == {}


def test_changes_count_from_where_a_command_began(tmp_path):
    for number, notes, unit in ((1, "old", "a"), (2, "new", "b")):
        append(tmp_path, [Began(number), Changed(fields={"notes": [notes]}), Done(unit, "1", {})])
    lines = read_log(tmp_path)
    assert {
        number: [change.fields["notes"] for change in changes] for number, changes in lines.changes.items()
    } == {1: [["old"]], 2: [["new"]]}
    assert list(lines.done) == ["a", "b"]  # outcomes are those of the folder, whichever command made them


@pytest.mark.parametrize("cut", [1, 10, 30])
def test_a_torn_last_line_is_none_and_is_cut_off(tmp_path, cut):
    append(tmp_path, [Done("a", "1", {}), Done("b", "2", {})])
    file = tmp_path / NAME
    file.write_bytes(file.read_bytes()[:-cut])
    assert list(read_log(tmp_path).done) == ["a"]
    mend(tmp_path)
    append(tmp_path, [Done("c", "3", {})])
    assert list(read_log(tmp_path).done) == ["a", "c"]


@pytest.mark.parametrize("line", [b"\xff[1, 2", b'"text"', b"[" * 100_000, b'{"event": "done"}', b""])
def test_a_line_that_cannot_be_read_costs_no_other(tmp_path, line):
    append(tmp_path, [Done("a", "1", {})])
    with (tmp_path / NAME).open("ab") as file:
        file.write(line + b"\n")
    append(tmp_path, [Done("b", "2", {})])
    assert list(read_log(tmp_path).done) == ["a", "b"]


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path, monkeypatch):
    append(tmp_path, [Done("a", "1", {})])
    before = (tmp_path / NAME).read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            append(tmp_path, [Done("b", "2", {})])
    assert (tmp_path / NAME).read_bytes() == before
