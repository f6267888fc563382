"""Outcome files that are read again."""

import os

import pytest

from robustbench_coded.runs import outcomes
from robustbench_coded.runs.outcomes import SCHEMA, DamagedFile, read_unit, write_outcomes


@pytest.fixture
def file(tmp_path):
    write_outcomes(tmp_path / "one.parquet", SCHEMA.empty_table(), {"unit": "one", "right_scoring": 3})
    return tmp_path / "one.parquet"


def test_an_unchanged_file_is_read_once_and_what_is_handed_out_is_nobody_elses(file, monkeypatch):
    first = read_unit(file, "one")[1]
    first["right_scoring"] = 0
    monkeypatch.setattr(outcomes, "read_table", lambda path: pytest.fail("read again"))
    assert read_unit(file, "one")[1]["right_scoring"] == 3


def test_a_file_that_was_changed_in_place_is_checked_again(file):
    read_unit(file, "one")
    content = file.read_bytes()
    before = file.stat()
    with file.open(
        "r+b"
    ) as open_file:  # the last byte, because not every version of pyarrow reads all others
        open_file.seek(len(content) - 1)
        open_file.write(bytes([content[-1] ^ 1]))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    with pytest.raises(DamagedFile):
        read_unit(file, "one")


def test_memory_is_bounded(file, monkeypatch):
    monkeypatch.setattr(outcomes, "MOST_BYTES", -1)
    kept = outcomes._Cache()
    rows, metadata = read_unit(file, "one")
    for name in ("a", "b"):
        kept.put(file.with_name(name), (1, 1, 1), rows, metadata)
    assert kept.get(file.with_name("a"), (1, 1, 1)) is None
