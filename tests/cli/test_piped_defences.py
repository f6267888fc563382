"""``--defence "cmd: COMMAND"`` from the options to the verdict, with and without a checkpoint."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.run_folders import lines

pytestmark = pytest.mark.long

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "serve_numpy.py"
OPTIONS = ["--data", "digits", "--limit", 16, "--batch-size", 8, "--draws", 2]


@pytest.fixture
def command(tmp_path):
    """The command of the example, with weights by which the first pixels decide and changes to its source."""

    def made(*changes):
        w1 = np.eye(64, 16, dtype=np.float32) / 4
        w2 = np.eye(16, 10, dtype=np.float32)
        np.savez(tmp_path / "w.npz", w1=w1, b1=np.zeros(16, "f4"), w2=w2, b2=np.zeros(10, "f4"))
        source = EXAMPLE.read_text()
        for old, new in changes:
            assert old in source
            source = source.replace(old, new)
        (tmp_path / "serve.py").write_text(source)
        return f"cmd: {sys.executable} serve.py w.npz"

    return made


def test_a_process_alone_is_attacked_through_its_own_gradients(csrobust, command):
    answer = csrobust(
        "eval", *OPTIONS, "--defence", command(), "--attacks", "pgd-3", "--out", "run", "--no-standard"
    )
    assert answer.code == 0, answer.err
    summary = pd.read_csv("run/summary.csv").set_index("attack")
    assert (summary.status == "done").all() and set(summary.defence) == {"noisy-numpy"}
    assert summary.accuracy["pgd-3"] <= summary.accuracy["clean"]
    assert summary.backwards_per_example["pgd-3"] == 3


def test_without_gradients_it_is_asked_and_the_run_says_so(csrobust, command, digits_erm):
    silent = command(("gradients=True", "gradients=False"))
    more = ("--defence", silent, "--attacks", "pgd-2,square-5", "--out", "run")
    answer = csrobust("eval", "--ckpt", digits_erm, *OPTIONS, *more)
    assert answer.code == 0, answer.err
    summary = pd.read_csv("run/summary.csv")
    ran = set(summary[summary.defence == "noisy-numpy"].attack)
    assert "pgd-2" not in ran and {"square-5", "from:standard/pgd-2"} <= ran
    said = "gives no gradients"
    assert said in answer.err and said in Path("run/run.json").read_text()


def test_one_that_is_killed_in_the_middle_leaves_failed_units_and_one_line(csrobust, command):
    """It dies at the first question after header.json is there."""
    dies = command(
        ("import numpy as np\n", "import os\nimport numpy as np\n"),
        ("    noise =", "    os.path.exists('run/header.json') and os.kill(os.getpid(), 9)\n    noise ="),
    )
    arguments = ["eval", *OPTIONS, "--defence", dies, "--attacks", "pgd-2", "--out", "run"]
    answer = csrobust(*arguments)
    assert answer.code == 1 and "units failed" in answer.err and "Traceback" not in answer.err
    failures = [line["error"] for line in lines(Path("run"), "failed")]
    assert failures and all("SIGKILL" in error for error in failures)
    summary = pd.read_csv("run/summary.csv")
    assert (summary.status == "incomplete").all() and summary.accuracy.isna().all()

    command()  # mended, and the same command goes on
    assert csrobust(*arguments).code == 0
    assert (pd.read_csv("run/summary.csv").status == "done").all()


def test_what_it_has_underneath_is_only_believed_with_a_checkpoint(csrobust, command):
    on_a_network = command(("gradients=True)", "gradients=True, base=True)"))
    answer = csrobust("eval", *OPTIONS, "--defence", on_a_network, "--attacks", "pgd-2")
    assert answer.code == 2 and "--ckpt" in answer.err


def test_it_is_probed_alone_too(csrobust, command):
    answer = csrobust("inspect", "--data", "digits", "--batch-size", 8, "--defence", command())
    assert answer.code == 0 and answer.out.startswith("noisy-numpy on noisy-numpy\n")
