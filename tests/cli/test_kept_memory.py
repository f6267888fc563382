"""`--state persistent`: a sequence is one unit and one cluster, and gives the same bytes after a kill."""

import signal
import subprocess
import sys

import pandas as pd
import pytest

from tests.run_folders import outcomes

DEFENCE = """
import os
import signal
from pathlib import Path

import torch


def begun(log):
    return log.exists() and '"done"' in log.read_text()


class Drifting:
    "Moves towards uniform answers with everything that it is asked; dies once, where a file says so."

    name, randomised, batch_dependent, remembers = "drifting", False, True, True

    def __init__(self, model):
        self.base = model
        self.reset()

    def reset(self):
        self.asked = 0

    def sample(self, generator, k):
        return None

    def logits(self, x, draw):
        self.asked += len(x)
        dies = Path(__file__).with_name("dies")  # names a run folder, in which something is committed
        if self.asked == 16 and dies.exists() and begun(Path(dies.read_text(), "log.jsonl")):
            dies.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.base(x) * 0.9 ** (self.asked / 16)


build = Drifting
"""


@pytest.fixture
def command(tmp_path, digits_erm):
    """The arguments of an evaluation of eight sequences of three batches of eight, into a folder."""
    (tmp_path / "drifting.py").write_text(DEFENCE)

    def of(out, *more, sequence=3):
        return [
            "eval", "--ckpt", digits_erm, "--data", "digits", "--limit", 72, "--all", "--batch-size", 8,
            "--defence", tmp_path / "drifting.py:build", "--state", f"persistent:{sequence}",
            "--attacks", "pgd-3,square-10", "--eps", 0.1, "--threads", 1, "--out", out, "--quiet", *more,
        ]  # fmt: skip

    return of


def contents(run):
    return {
        path.relative_to(run): path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.parent.name == "outcomes" or path.name in ("summary.csv", "verdicts.csv")
    }


@pytest.mark.long
def test_killed_in_a_sequence_resumed_and_in_workers_it_gives_the_same_bytes(csrobust, command, tmp_path):
    assert csrobust(*command(tmp_path / "whole")).code == 0
    whole = contents(tmp_path / "whole")
    # The defence ends the process in the second batch of an attacked sequence.
    killed = [str(word) for word in command(tmp_path / "killed")]
    program = "import sys; from robustbench_coded.cli.main import main; sys.exit(main(sys.argv[1:]))"
    (tmp_path / "dies").write_text(str(tmp_path / "killed"))
    ended = subprocess.run([sys.executable, "-c", program, *killed], capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert not (tmp_path / "dies").exists()
    committed = contents(tmp_path / "killed")
    assert 0 < len(committed) < len(whole)
    assert csrobust(*command(tmp_path / "killed")).code == 0
    assert csrobust(*command(tmp_path / "workers", "--workers", 2)).code == 0
    assert contents(tmp_path / "killed") == whole == contents(tmp_path / "workers")
    rows = pd.read_csv(tmp_path / "whole" / "summary.csv")
    own = rows[rows.defence == "drifting[state=3x8]"]
    assert set(own.k) == {24} and {"pgd-3", "square-10"} < set(own.attack) and set(own.status) == {"done"}
    of_attack = outcomes(tmp_path / "whole").query("defence == 'drifting[state=3x8]' and attack == 'pgd-3'")
    assert of_attack.batch.nunique() == 3 and len(of_attack) == 72
    # The third batch of a sequence is answered after sixteen other inputs.
    clean = outcomes(tmp_path / "whole").query("attack == 'clean'")
    margins = clean.pivot(index="example", columns="defence", values="margin")
    kept = margins["drifting[state=3x8]"] / margins["standard"]
    slots = clean[clean.defence != "standard"].set_index("example").slot
    assert kept[slots < 8].median() == pytest.approx(0.9**0.5, abs=0.005)
    assert kept[slots >= 16].median() == pytest.approx(0.9**1.5, abs=0.005)
    answer = csrobust(*command(tmp_path / "whole", sequence=4))
    assert (
        answer.code == 2 and "--state persistent over 3 batches, not persistent over 4 batches" in answer.err
    )


def test_a_defence_without_a_memory_has_none_to_keep(csrobust, digits_erm):
    arguments = ["--ckpt", digits_erm, "--data", "digits", "--limit", 32, "--state", "persistent"]
    answer = csrobust("eval", *arguments, "--attacks", "fgsm", "--defence", "published:jpeg")
    assert answer.code == 2
    assert answer.err.strip() == (
        "csrobust: --state persistent: no defence here has remembers = True and so a state to keep; "
        "leave it out"
    )
