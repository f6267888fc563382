"""The command line, called in process: starting Python with torch costs seconds."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from robustbench_coded.cli import app
from robustbench_coded.cli.main import main
from robustbench_coded.cli.parser import Command, Group, command_of, values_of


def every_command() -> dict[str, Command]:
    """The commands by name, those that are plugged in, and of groups ``paper gan`` ..., too."""

    def within(commands, path):
        for name, entry in commands.items():
            if isinstance(entry, Group):
                yield from within(entry.commands, f"{path}{name} ")
            else:
                yield f"{path}{name}", command_of(f"csrobust {path}{name}", entry)

    return dict(within(app.commands(), ""))


def parsed(*words):
    """The arguments of a command line's function; nothing is run."""
    command, rest = app.find([*words])
    assert isinstance(command, Command), words
    return values_of(command, rest)


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
