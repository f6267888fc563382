"""Options of the commands that train, measure and draw, and the folders that they write into."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.options.option import Option

Text = str | None
Number = float | None
Count = int | None

Quiet = Annotated[bool, Option("Print no progress.")]
DataDir = Annotated[Path | None, Option("Folder in which to look for data sets.")]
FirstSeed = Annotated[int, Option("First seed.")]
Arch = Annotated[str, Option("Architecture, a name of `csrobust list models`.")]
TestData = Annotated[Text, Option("Images to score on; the test split of --data.")]
Epochs = Annotated[Count, Option("Passes over the training images.")]
LearningRate = Annotated[Number, Option("Peak or initial learning rate.")]
WeightDecay = Annotated[Number, Option("Weight decay of SGD.")]
Validation = Annotated[Number, Option("Share of the training images held out.")]
Precision = Annotated[Text, Option("float32, bfloat16 or auto.")]
Device = Annotated[Text, Option("cpu, cuda ...; auto uses CUDA if available.")]


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
