"""``run.toml``: options as a file that ``csrobust eval run.toml`` repeats. Its keys are the options of the
command line without their hyphens; its values are what stands behind them.
"""

import json
from collections.abc import Iterator
from typing import Any

from robustbench_coded.evaluation.options.config import EvalConfig, options

# How a command was typed, not what it evaluates. The folder is where the file lies, so that a run that is
# moved still names itself.
_NEVER = {"overwrite", "out"}


def run_toml(config: EvalConfig) -> str | None:
    """The options that are not at their defaults, as TOML; None where a name holds bytes that are no text."""
    lines = [f"{key} = {_toml(value)}" for key, value in _entries(config)]
    first = "# csrobust eval run.toml repeats this evaluation; options behind it change it."
    text = "\n".join([first, *lines, ""])
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    return text


def _entries(config: EvalConfig) -> Iterator[tuple[str, Any]]:
    for name, option in options().items():
        value = getattr(config, name)
        if name in _NEVER or value == option.default:
            continue
        write = option.write or (lambda each: each)
        yield option.word.replace("-", "_"), [*map(write, value)] if option.several else write(value)


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):  # as JSON, but for the one character that TOML escapes and JSON does not
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)
