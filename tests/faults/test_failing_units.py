"""A defence that fails leaves incomplete rows, never robust examples; once it is mended the run goes on."""

import sys

import pandas as pd
import pytest

from robustbench_coded.cli.main import run
from robustbench_coded.runs.log import read_log
from tests.run_folders import lines

MOODY = '''
import signal
from pathlib import Path

from robustbench_coded.defences.protocol import Deterministic, WrappedNetwork


class Moody(WrappedNetwork, Deterministic):
    """Standard inference, unless the file `mood` says otherwise while a run is computing."""

    name = "moody"

    def logits(self, x, draw):
        # Probes, which come before the header, are answered well.
        mood = Path("mood").read_text() if Path("run/header.json").exists() else ""
        if mood == "raise":
            raise KeyError("no\\nreason")
        if mood == "hang":
            signal.raise_signal(signal.SIGALRM)  # its time is up
        return self.base(x)


def build(model):
    return Moody(model)
'''


@pytest.fixture
def moody(tmp_path, monkeypatch):
    (tmp_path / "moody.py").write_text(MOODY)
    (tmp_path / "mood").write_text("")
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "mood"
    sys.modules.pop("moody", None)


@pytest.mark.parametrize(
    ("mood", "message"),
    [
        ("raise", "KeyError: 'no\\nreason'"),
        ("hang", "took longer than 21600 s"),
    ],
)
def test_failures_are_recorded_and_tried_again_by_the_same_command(
    evaluation, moody, tmp_path, capsys, mood, message
):
    arguments = [str(a) for a in evaluation("run", "--defence", "moody:build", attacks=1, coded=())]
    moody.write_text(mood)
    assert run(arguments) == 1
    said = capsys.readouterr().err
    assert "units failed" in said and "the same command" in said and "Traceback" not in said

    summary = pd.read_csv("run/summary.csv")
    failed = summary[summary.defence == "moody"]
    assert (failed.status == "incomplete").all() and (failed.examples == 0).all()
    assert failed.accuracy.isna().all()
    assert (summary[summary.defence != "moody"].status == "done").all()
    records = lines(tmp_path / "run", "failed")
    assert len(records) == 3 and any(r["error"].startswith(message) for r in records)

    moody.write_text("")
    assert run(arguments) == 0
    summary = pd.read_csv("run/summary.csv")
    assert (summary.status == "done").all()
    assert not read_log(tmp_path / "run").failures
    # Its own inputs, submitted again, are those of standard inference under another name.
    summary["attack"] = summary.attack.str.replace("from:moody/", "from:standard/")
    moody_rows, standard = (summary[summary.defence == name] for name in ("moody", "standard"))
    pd.testing.assert_series_equal(
        moody_rows.set_index("attack").accuracy, standard.set_index("attack").accuracy, check_index=True
    )
