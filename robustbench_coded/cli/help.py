"""``--help`` in plain text, as wide as the terminal: options in groups, examples."""

import inspect
import shutil
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

from robustbench_coded.cli.parser import Command, Group
from robustbench_coded.evaluation.options.config import GROUPS
from robustbench_coded.options.option import REQUIRED, Option, options_of

OTHERS = "Options"
_GROUP_OF = {option.word: title for title, group in GROUPS.items() for option in options_of(group).values()}
_GROUP_OF |= dict.fromkeys(("fail-on", "junit", "quiet", "json", "help"), "Output")
_KINDS = {int: "N", float: "NUMBER", Path: "PATH"}
_HELP = Option("Print this and stop.", word="help", annotation=bool, default=False)
Row = tuple[str, str]


def width() -> int:
    """Of the terminal."""
    return max(40, shutil.get_terminal_size().columns)


def group_help(name: str, group: Group, sections: Mapping[str, Mapping[str, str]]) -> str:
    """The help of several commands.

    Args:
        sections: by their titles, commands and what they do, in a line.
    """
    lines = [f"Usage: {name} COMMAND ...", "", *_wrapped(group.text, "  "), ""]
    for title, rows in sections.items():
        lines += [f"{title}:", *_table(list(rows.items())), ""]
    return "\n".join(lines[:-1])


def command_help(command: Command) -> str:
    """The help of one command."""
    free = [p for p in command.parameters.values() if p.positional]
    arguments = "".join(f" {_typed(p)}" if p.default is REQUIRED else f" [{_typed(p)}]" for p in free)
    lines = [f"Usage: {command.name}{arguments} [OPTIONS]", ""]
    for paragraph in inspect.cleandoc(command.text).partition("\n\nArgs:")[0].split("\n\n"):
        lines += [*_wrapped(paragraph, "  "), ""]
    for title, rows in _sections(command):
        lines += [f"{title}:", *_table(rows), ""]
    lines += ["Examples:", *(f"  {line}" for line in command.examples)] if command.examples else []
    return "\n".join(lines).rstrip("\n")


def first_line(text: str) -> str:
    """The sentence that says what a command does."""
    return " ".join(inspect.cleandoc(text).partition("\n\n")[0].split())


def _sections(command: Command) -> Iterator[tuple[str, list[Row]]]:
    given = [*command.parameters.values(), _HELP]
    if free := [p for p in given if p.positional]:
        yield "Arguments", [_row(p) for p in free]
    given = [p for p in given if not p.positional]
    for title in (OTHERS, *GROUPS):
        if shown := [p for p in given if _GROUP_OF.get(p.word, OTHERS) == title]:
            yield title, [_row(p) for p in shown]


def _typed(option: Option) -> str:
    return f"{option.flag} ..." if option.several else option.flag


def _row(option: Option) -> Row:
    """How an option is written and what it does; values are TEXT, PATH, N or NUMBER."""
    default = option.default
    if option.positional:
        return _typed(option), option.help
    if option is _HELP:
        return "-h, --help", option.help
    if option.kind is bool:
        switch = f"{option.flag} / --no-{option.word}" if default else option.flag
        return switch, option.help + (f" [default: {option.word}]" if default else "")
    kind = "TEXT" if option.read is not None else _KINDS.get(option.kind, "TEXT")
    if default is REQUIRED:
        return f"{option.flag} {kind}", f"{option.help} [required]"
    shown = option.shown if default in ((), [], None, "") else written(option, default)
    return f"{option.flag} {kind}", option.help + (f" [default: {shown}]" if shown else "")


def written(option: Option, value: object) -> str:
    """A value as it is typed."""
    write = option.write or str
    return ",".join(map(write, value)) if isinstance(value, tuple | list) else write(value)


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text, width(), initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )


def _table(rows: list[Row]) -> list[str]:
    """Two columns; what is too wide for the first has a line of its own."""
    column = min(max((len(first) for first, _ in rows), default=0), max(12, width() // 3)) + 4
    lines = []
    for first, second in rows:
        wrapped = textwrap.wrap(second, max(20, width() - column), break_on_hyphens=False) or [""]
        if len(first) + 4 > column:
            lines.append(f"  {first}")
            first = ""
        lines.append(f"  {first:<{column - 2}}{wrapped[0]}".rstrip())
        lines += [f"{'':{column}}{line}" for line in wrapped[1:]]
    return lines
