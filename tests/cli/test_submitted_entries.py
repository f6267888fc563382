"""Entries that were sent in: every one is scored again, and what hashes can't notice is found by that."""

import json
import shutil
from pathlib import Path

import pytest

from robustbench_coded.extras.board.submit import HASHES, hashes_of
from tests.run_folders import forge

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
ENTRIES = sorted(file.parent for file in (ROOT / "board-entries").glob("*/entry.toml"))


def verified(csrobust, folder, monkeypatch):
    """Exit code, rows and error of `csrobust verify` with the code that the run names."""
    monkeypatch.chdir(ROOT)  # runs name shipped checkpoints from here
    rows = json.loads((folder / "run" / "run.json").read_text())["cases"]
    specs = sorted({row["spec"] for row in rows if ":build" in row["spec"]})
    answer = csrobust("verify", folder, *(word for spec in specs for word in ("--defence", spec)), "--json")
    rows = [row for row in json.loads(answer.out or "[]") if "file" not in row]
    return answer.code, rows, answer.err


@pytest.mark.parametrize("folder", ENTRIES, ids=lambda folder: folder.name)
def test_an_entry_is_what_scoring_it_again_finds(csrobust, folder, monkeypatch):
    code, rows, err = verified(csrobust, folder, monkeypatch)
    assert code == 0, [row for row in rows if not row["holds"]] or err
    assert {row["attack"] for row in rows} >= {"fgsm", "pgd-100", "eot10-pgd-20", "transfer-pgd-20"}


@pytest.fixture
def copied(tmp_path):
    folder = tmp_path / "jitter"
    shutil.copytree(ROOT / "board-entries" / "jitter", folder)
    return folder


def test_better_outcomes_are_found_out_although_their_hashes_are_right(csrobust, copied, monkeypatch):
    run = copied / "run"
    forge(run, lambda rows: (rows["attack"] == "pgd-100") & (rows["defence"] == "jitter"))
    (copied / HASHES).write_text(hashes_of(copied))
    code, rows, _ = verified(csrobust, copied, monkeypatch)
    assert code == 1
    lying = [row for row in rows if not row["holds"]]
    assert {(row["defence"], row["attack"]) for row in lying} == {("jitter", "pgd-100")}
    assert sum(row["differing"] for row in lying) > 400


def test_a_changed_file_is_named_before_anything_is_loaded(csrobust, copied, monkeypatch):
    (copied / "code" / "jitter.py").write_text("raise SystemExit('loaded')\n")
    code, rows, err = verified(csrobust, copied, monkeypatch)
    assert (code, rows) == (2, []) and "code/jitter.py" in err
