"""The commands of ``csrobust``; each imports what it needs when it runs: ``--help`` answers at once."""

from collections.abc import Mapping
from typing import Any

from robustbench_coded.cli.commands import evaluation, inspection, runs
from robustbench_coded.cli.help import command_help, first_line, group_help
from robustbench_coded.cli.parser import HELP, Command, Group, command_of, usual, values_of
from robustbench_coded.errors import InputError, did_you_mean
from robustbench_coded.extensions import REINSTALL, all_of, load, points_of

# As `--help` lists them, with those that are plugged in; what other packages plug in comes behind.
SECTIONS: dict[str, dict[str, Any]] = {
    "First": {
        "eval": evaluation.evaluate_command, "sweep": evaluation.sweep_command,
        "plan": evaluation.plan_command, "compare": runs.compare_command, "report": runs.report_command,
        "list": inspection.list_command,
    },
    "Look closer": {
        "screen": evaluation.screen_command, "inspect": inspection.inspect_command,
        "show": runs.show_command, "verify": None,
    },
    "Publish": {"submit": None, "board": None},
    "Reproduce the paper": {"train": None, "paper": None},
}  # fmt: skip
ORDER = {name: command for section in SECTIONS.values() for name, command in section.items()}
OWN = {name: command for name, command in ORDER.items() if command is not None}
ROOT = Group("Evaluates the adversarial robustness of randomised and batch-dependent defences.", OWN)
OPTIONS = {
    "-V, --version": "Print the version and stop.",
    "--debug": "Print tracebacks of errors; accepted anywhere in the command line.",
    "-h, --help": "Print this and stop; csrobust COMMAND --help describes a command.",
}


def commands() -> dict[str, Any]:
    """Every command of the first level, in the order of the help; those that are plugged in, too."""
    every = {**all_of("commands"), **OWN}
    return {name: every[name] for name in (*ORDER, *sorted(every.keys() - ORDER)) if name in every}


def answer(words: list[str]) -> int:
    """Runs the command that these words are, or prints its help; its exit code.

    Raises:
        InputError: they are no command.
    """
    if words[:1] in (["--version"], ["-V"]):
        from robustbench_coded.version import __version__

        print(f"csrobust {__version__}")
        return 0
    found, rest = find(words)
    if isinstance(found, str):
        print(found)
        return 0
    return run_command(found, rest)


def run_command(command: Command, words: list[str]) -> int:
    """Runs a command, or prints its help."""
    if any(word in HELP for word in words):
        print(command_help(command))
        return 0
    code = command.run(**values_of(command, words))
    return code if isinstance(code, int) else 0


def find(words: list[str]) -> tuple[Command | str, list[str]]:
    """The command that the first words name, and the others; the help of a group where they go no further."""
    name, node, rest = "csrobust", ROOT, list(words)
    while rest and rest[0] not in HELP:
        word = usual(rest.pop(0))
        if word.startswith("-"):
            raise InputError(f"no such option {word}; `{name} --help` lists them")
        entry = _entry(node, word, name)
        name = f"{name} {word}"
        if not isinstance(entry, Group):
            return command_of(name, entry), rest
        node = entry
    sections = _sections(node)
    if node is ROOT:
        sections = {**sections, "Options": OPTIONS}
    return group_help(name, node, sections), rest


def _entry(node: Group, word: str, name: str) -> Any:
    if word in node.commands:
        return node.commands[word]
    known: Mapping[str, Any] = node.commands
    if node is ROOT:
        if word in points_of("commands"):
            return load("commands", word)
        if word in ORDER:
            raise InputError(f"the command {word} is not installed; {REINSTALL}")
        known = commands()
    raise InputError(
        f"no such command {word!r}; {did_you_mean(repr(word), map(repr, known))}`{name} --help` lists them"
    )


def _sections(node: Group) -> dict[str, dict[str, str]]:
    """The commands by what they are for, with a line on each; those of other packages behind."""
    if node is not ROOT:
        return {"Commands": {name: first_line(_text(entry)) for name, entry in node.commands.items()}}
    every = commands()
    titled = {**SECTIONS, "Others": tuple(name for name in every if name not in ORDER)}
    rows = {t: {n: first_line(_text(every[n])) for n in names if n in every} for t, names in titled.items()}
    return {title: lines for title, lines in rows.items() if lines}


def _text(entry: Any) -> str:
    return entry.text if isinstance(entry, Group) else entry.__doc__ or ""
