"""What is plugged in: found by name, loaded when it is asked for, and missed in words."""

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from robustbench_coded import extensions
from robustbench_coded.cli.main import main
from robustbench_coded.errors import InputError

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
TABLES = tomllib.loads(PYPROJECT.read_text())["project"]["entry-points"]


def forget():
    """What was found, and the commands that it made."""
    for kept in (extensions._of_checkout, extensions.points_of, extensions.load):
        kept.cache_clear()


@pytest.fixture
def plugged(monkeypatch, tmp_path):
    """Installs these entry points in place of all others."""
    monkeypatch.setattr(extensions, "CHECKOUT", tmp_path)

    def install(*points):
        monkeypatch.setattr(
            "importlib.metadata.entry_points", lambda group: [p for p in points if p.group == group]
        )
        forget()

    yield install
    forget()


@pytest.mark.parametrize(
    ("group", "name"), [(group.removeprefix("csrobust."), name) for group in TABLES for name in TABLES[group]]
)
def test_each_loads(group, name):
    assert extensions.load(group, name) is extensions.all_of(group)[name]


def test_a_name_is_taken_once(plugged):
    plugged(*(EntryPoint("mine", value, "csrobust.defences") for value in ("one:ZOO", "two:ZOO")))
    with pytest.raises(
        InputError, match=r"^one:ZOO and two:ZOO are both called mine in csrobust\.defences; u"
    ):
        extensions.points_of("defences")


@pytest.mark.parametrize("words", [("train", "--recipe", "erm"), ("paper",), ("board", "--help")])
def test_an_old_installation_is_named(plugged, capsys, words):
    plugged()
    assert main(list(words)) == 2
    assert capsys.readouterr().err == (
        f"csrobust: the command {words[0]} is not installed; install csrobust again (pip install -e . in a "
        "checkout)\n"
    )


def test_the_core_does_without(plugged, capsys):
    plugged()
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert "  inspect " in shown and "  paper " not in shown and "  verify " not in shown
    assert main(["list", "defences"]) == 0
    assert "published:" not in capsys.readouterr().out
    with pytest.raises(InputError, match=r"csrobust\.processes has no cmd; install csrobust again"):
        extensions.load("processes", "cmd")


def test_other_packages_may_plug_in(plugged, capsys):
    """A command of another package comes last, and one that is misspelt is told of it."""
    plugged(EntryPoint("shine", "tests.test_extensions:shine_command", "csrobust.commands"))
    assert main(["shine"]) == 0
    assert capsys.readouterr().out == "shining\n"
    assert main(["--help"]) == 0
    assert "\nOthers:\n  shine  Shine.\n\nOptions:\n" in capsys.readouterr().out
    assert main(["shin"]) == 2
    assert "did you mean 'shine'?" in capsys.readouterr().err


def shine_command() -> int:
    """Shine."""
    print("shining")
    return 0
