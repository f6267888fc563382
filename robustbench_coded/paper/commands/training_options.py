"""Options of the commands that train, measure and draw, and the folders that they write into."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer

from robustbench_coded.errors import InputError

Text = str | None
Number = float | None
Count = int | None

Quiet = Annotated[bool, typer.Option("--quiet", help="Print no progress.")]
DataDir = Annotated[Path | None, typer.Option(help="Folder in which to look for data sets.")]
FirstSeed = Annotated[int, typer.Option(help="First seed.")]
Arch = Annotated[str, typer.Option(help="Architecture, a name of `csrobust list models`.")]
TestData = Annotated[Text, typer.Option(help="Images to score on; the test split of --data.")]
Epochs = Annotated[Count, typer.Option(help="Passes over the training images.")]
LearningRate = Annotated[Number, typer.Option(help="Peak or initial learning rate.")]
WeightDecay = Annotated[Number, typer.Option(help="Weight decay of SGD.")]
Validation = Annotated[Number, typer.Option(help="Share of the training images held out.")]
Precision = Annotated[Text, typer.Option(help="float32, bfloat16 or auto.")]
Device = Annotated[Text, typer.Option(help="cpu, cuda ...; auto uses CUDA if available.")]


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
