"""``csrobust eval run.toml``: options out of a file; what is typed behind it comes before them."""

import tomllib
from pathlib import Path
from typing import Any

import typer

from robustbench_coded.errors import InputError, did_you_mean


def options_from_file(context: typer.Context, path: Path | None) -> Path | None:
    """Makes the entries of a file the defaults of a command's options.

    The file of a run folder means that folder, unless ``--out`` names another.

    Raises:
        InputError: the file can't be read, or an entry is no option or of the wrong kind.
    """
    if path is None:
        return None
    from robustbench_coded.runs.folder import MANIFEST  # imports pandas, which help does without

    options = {param.name: param for param in context.command.params if param.name != "config"}
    found = {"out": str(path.parent)} if (path.parent / MANIFEST).exists() else {}
    for key, value in _read(path).items():
        name = {"json": "as_json"}.get(key, key.replace("-", "_"))
        if name not in options or name == "help":
            near = did_you_mean(key, options)
            raise InputError(f"{path}: there is no option {key!r}; {near}`csrobust eval --help` lists them")
        found[name] = _as_typed(f"{path}: {key}", options[name], value)
    context.default_map = {**(context.default_map or {}), **found}
    return path


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        looks_like_one = path.suffix in ("", ".pt", ".pth", ".th", ".safetensors")
        hint = f"; a checkpoint is named with --ckpt {path}" if looks_like_one else ""
        raise InputError(f"{path}: can't be read ({error.strerror}){hint}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a TOML file ({error})") from error


def _as_typed(where: str, option: Any, value: Any) -> Any:
    """A value as the command line would have it: text, but for switches."""
    if option.is_flag:
        if not isinstance(value, bool):
            raise InputError(f"{where} is {value!r}; write true or false")
        return value
    several = value if isinstance(value, list) else [value]
    for one in several:
        if isinstance(one, bool) or not isinstance(one, str | int | float):
            raise InputError(f"{where} is {str(one).lower()}; write text, a number, or a list of them")
    texts = [one if isinstance(one, str) else repr(one) for one in several]
    return texts if option.multiple else ",".join(texts)
