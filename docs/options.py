"""docs/options.md, and the types that an editor shows for `evaluate`, from the one definition of the options.

python docs/options.py
"""

import json
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from robustbench_coded.cli.help import written
from robustbench_coded.evaluation.options.config import GROUPS, OF_ARGUMENTS, options
from robustbench_coded.options.option import Option, alternatives, options_of

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "options.md"
TYPED = ROOT / "robustbench_coded" / "evaluation" / "options" / "typed.py"
HEAD = '''"""The options of ``robustbench_coded.evaluate`` as an editor completes and checks them.

`EvalConfig` is their one definition; ``docs/options.py`` writes this file from it, with the types that Python
callers may write: one value where a tuple is stored, and text or a number for a radius.
"""

from collections.abc import Sequence
from os import PathLike
from typing import Literal, TypedDict

import torch

Radius = float | str  # 8/255 or "8/255"


class EvaluateOptions(TypedDict, total=False):
    """Keyword arguments of `evaluate` besides its own; ``csrobust eval --help`` says what each does."""

'''
# Where Python callers may write more than the type of the field.
WIDER = {
    "data_dir": "str | PathLike[str] | None",
    "out": "str | PathLike[str] | None",
    "device": "str | torch.device | None",
    "norm": "str | float",
    "eps": "Radius | Sequence[Radius] | None",
    "time": "float | str | None",
    "claim": "float | str | None",
}


def main() -> None:
    PAGE.write_text(page())
    TYPED.write_text(typed())


def page() -> str:
    """The options of ``csrobust eval``, a table for each group."""
    lines = [
        "# Options",
        "",
        "Options of `csrobust eval`, besides `--fail-on`, `--junit`, `--quiet` and `--json`. `run.toml` and "
        "`evaluate(...)` take them without the hyphens in front, with underscores; in Python, `models`, "
        "`defences`, `attacks` and `data` are [arguments of their own](in-memory.md).",
    ]
    for title, group in GROUPS.items():
        lines += ["", f"## {title}", "", "| option | default | |", "| --- | --- | --- |"]
        for option in options_of(group).values():
            empty = option.default is False or option.default in ((), None)
            shown = option.shown or ("" if empty else written(option, option.default))
            default = f"`{shown}`" if shown else ""
            lines.append(f"| `{option.flag}` | {default} | {option.help} |")
    return "\n".join([*lines, ""])


def typed() -> str:
    """The content of typed.py."""
    rows = [f"    {o.name}: {_python(o)}" for o in options().values() if o.name not in OF_ARGUMENTS]
    return HEAD + "\n".join([*rows, ""])


def _python(option: Option) -> str:
    if option.name in WIDER:
        return WIDER[option.name]
    if option.several:
        return f"{option.kind.__name__} | Sequence[{option.kind.__name__}]"
    return " | ".join(_type(each) for each in alternatives(option.annotation))


def _type(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return f"Literal[{', '.join(json.dumps(word) for word in get_args(annotation))}]"
    return "None" if annotation is NoneType else annotation.__name__


if __name__ == "__main__":
    main()
