"""Where ``--ckpt`` points: a file, or by name a checkpoint that comes with the package. Imports no torch."""

import tomllib
from functools import cache
from itertools import islice
from pathlib import Path

from robustbench_coded.errors import InputError, did_you_mean

MOST_LISTED = 10_000  # files of a folder whose names are compared
ENDINGS = (".pt", ".pth", ".th", ".safetensors")

# The wheel holds a copy of checkpoints/ inside the package; a checkout has the folder itself.
_HOMES = (Path(__file__).parents[1] / "shipped", Path(__file__).parents[2] / "checkpoints")


@cache
def shipped() -> dict[str, Path]:
    """Name -> file of every checkpoint that comes with the package."""
    home = next((home for home in _HOMES if (home / "manifest.toml").is_file()), None)
    files = [] if home is None else sorted(home.glob("*.safetensors"), key=lambda path: path.stem)
    return {path.stem: path for path in files}


def descriptions() -> dict[str, str]:
    """Name -> what a shipped checkpoint is, for a listing."""
    texts = {}
    for name, path in shipped().items():
        entry = tomllib.loads((path.parent / "manifest.toml").read_text())[path.name]
        accuracy = f"clean accuracy {100 * entry['accuracy']:.1f}%"
        texts[name] = f"{entry['arch']} on {entry['data']}, recipe {entry['recipe']}, {accuracy}"
    return texts


def split_entry(named: str | Path) -> tuple[Path, str | None]:
    """File and entry of ``FILE#ENTRY``, one of its networks; None where a file has that very name."""
    text, mark, entry = str(named).rpartition("#")
    if not mark or not text or not entry or Path(named).exists():
        return Path(named), None
    return Path(text), entry


def present(named: str | Path) -> Path:
    """The file that ``--ckpt`` means, without ``#ENTRY``: the path where it exists, else the shipped
    checkpoint of that name.

    Raises:
        InputError: there is none; a file beside it, or a shipped checkpoint, with a similar name is named.
    """
    try:
        path = split_entry(named)[0]
        path = path if path.exists() else shipped().get(str(path), path)
        exists, file = path.exists(), path.is_file()
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise InputError(f"{named}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if not exists:
        beside = path.parent.iterdir() if path.parent.is_dir() else ()
        near = did_you_mean(path.name, [*shipped(), *(file.name for file in islice(beside, MOST_LISTED))])
        raise InputError(
            f"{named}: no such file; {near}--ckpt takes a .pt, .pth, .th or .safetensors file, or a name of "
            "`csrobust list checkpoints`"
        )
    if not file:
        inside = sorted(each for each in path.glob("*.*") if each.suffix in ENDINGS)
        kinds = "--ckpt takes a .pt, .pth, .th or .safetensors file"
        raise InputError(f"{path}: not a file; {f'name the file in it, {inside[0]}' if inside else kinds}")
    return path
