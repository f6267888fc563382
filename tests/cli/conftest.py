"""The command line, called in process: starting Python with torch costs seconds."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import typer

from robustbench_coded.cli.app import app
from robustbench_coded.cli.main import main


def every_command():
    """The commands by name, those that are plugged in, too."""
    group = typer.main.get_command(app)
    group.list_commands(None)
    return group.commands


def outcomes(run):
    """All outcomes of a run folder."""
    return pd.concat([pd.read_parquet(path) for path in sorted((run / "outcomes").glob("*.parquet"))])


def complaints(said):
    """Standard error without the line that says what eval is about to do."""
    return "".join(line for line in said.splitlines(True) if not line.startswith("Evaluating "))


@dataclass
class Answer:
    """What a command line printed, and its exit code; without the line that says what eval is about to do."""

    code: int
    out: str
    err: str


@pytest.fixture
def csrobust(capsys, monkeypatch, tmp_path):
    """Runs ``csrobust ...`` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Answer:
        code = main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return Answer(code, captured.out, complaints(captured.err))

    return run


@pytest.fixture(scope="session")
def digits_erm() -> Path:
    """The embedded digits checkpoint."""
    return Path(__file__).parents[2] / "checkpoints" / "digits-erm.safetensors"
