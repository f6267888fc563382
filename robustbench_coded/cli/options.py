"""Options that several commands describe alike, beside those of ``eval`` (`eval_options.py`), and how their
values are read: times, comma lists, NAME=PATH, folders.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer

from robustbench_coded.errors import InputError

Text = str | None
Number = float | None
Count = int | None

# Wherever something is read or printed.
AsJson = Annotated[bool, typer.Option("--json", help="Print one machine-readable object.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print no progress.")]
RunFolder = Annotated[Path, typer.Argument(help="Run folder.")]
RunFolders = Annotated[list[Path], typer.Argument(help="Run folders.")]
DataDir = Annotated[Path | None, typer.Option(help="Folder in which to look for data sets.")]
DataDirText = Annotated[Text, typer.Option("--data-dir", help="Folder in which to look for data sets.")]
FirstSeed = Annotated[int, typer.Option(help="First seed.")]

# Of trainings.
Arch = Annotated[str, typer.Option(help="Architecture, a name of `csrobust list models`.")]
TestData = Annotated[Text, typer.Option(help="Images to score on; the test split of --data.")]
Epochs = Annotated[Count, typer.Option(help="Passes over the training images.")]
LearningRate = Annotated[Number, typer.Option(help="Peak or initial learning rate.")]
WeightDecay = Annotated[Number, typer.Option(help="Weight decay of SGD.")]
Validation = Annotated[Number, typer.Option(help="Share of the training images held out.")]
Precision = Annotated[Text, typer.Option(help="float32, bfloat16 or auto.")]
Device = Annotated[Text, typer.Option(help="cpu, cuda ...; auto uses CUDA if available.")]
TensorBoard = Annotated[Path | None, typer.Option(help="Folder for TensorBoard's logs.")]


def seconds(text: str, option: str) -> float:
    """``90s``, ``30m`` or ``2h`` in seconds; a bare number is refused, because its unit is unknown."""
    units = {"s": 1, "m": 60, "h": 3600}
    try:
        value = float(text.strip()[:-1]) * units[text.strip()[-1:]]
    except (ValueError, KeyError) as error:
        raise InputError(f"{option} {text!r} is not a time; write 90s, 30m or 2h") from error
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{option} {text!r} is no time; write 90s, 30m or 2h")
    return value


def counts(text: str, option: str, least: int | None = None, *, example: str = "8,16,32") -> tuple[int, ...]:
    """Comma-separated whole numbers, of at least ``least`` where it is not checked elsewhere."""
    values = []
    for part in text.split(","):
        try:
            value = int(part)
        except ValueError as error:
            raise InputError(
                f"{option} {part.strip()!r} is not a whole number; write for example {example}"
            ) from error
        if least is not None and value < least:
            raise InputError(f"{option} {value} is too small; give {least} or more")
        values.append(value)
    return tuple(dict.fromkeys(values))


def named_paths(texts: list[str], option: str) -> tuple[tuple[str, str], ...]:
    """``NAME=PATH`` or ``PATH`` (named after the file) as (name, path) pairs with different names."""
    pairs: list[tuple[str, str]] = []
    for text in texts:
        name, separator, path = text.partition("=")
        # A path may hold an equals sign itself: then what stands before it is a path, not a name.
        if not separator or "/" in name or _exists(text):
            name, path = Path(text).stem, text
        if not name or not path:
            raise InputError(f"{option} {text!r} is not PATH or NAME=PATH")
        if name in dict(pairs):
            raise InputError(
                f"{option}: two checkpoints are named {name!r}; give them names, {option} NAME=PATH"
            )
        pairs.append((name, path))
    return tuple(pairs)


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # longer than any path, for example
        return False


def made(folder: Path) -> Path:
    """Makes a folder: hours of work are not to end at one that can't be written.

    Raises:
        InputError: it is a file, or the system refuses it.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out: {folder} is a file; give a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out: {folder} can't be written ({error.strerror}); give another") from error
    return folder


@contextmanager
def made_for(folder: Path) -> Iterator[Path]:
    """`made`, and removed again where the work is refused and the folder is empty.

    Raises:
        InputError: as `made`.
    """
    was_there = folder.exists()
    made(folder)
    try:
        yield folder
    except InputError:
        if not was_there:
            with suppress(OSError):  # something is in it
                folder.rmdir()
        raise
