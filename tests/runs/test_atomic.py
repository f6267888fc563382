"""A committed file is on the disk before it has its name, and its name before the next one is written."""

import os
from pathlib import Path

from robustbench_coded.runs import atomic


def test_the_file_is_forced_to_the_disk_then_renamed_then_its_folder(tmp_path, monkeypatch):
    path = tmp_path / "unit" / "file"
    seen = []

    def force(descriptor):
        forced = Path(f"/proc/self/fd/{descriptor}").readlink()
        seen.append(("folder" if forced.is_dir() else forced.read_bytes(), path.exists()))

    monkeypatch.setattr(os, "fsync", force)
    atomic.write_bytes(path, b"outcomes")
    assert seen == [(b"outcomes", False), ("folder", True)]
    atomic.write_bytes(path, b"others", synced=False)
    assert len(seen) == 2 and path.read_bytes() == b"others"
