"""Options of the commands that train, measure and draw, and the folders that they write into."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from robustbench_coded.errors import InputError
from robustbench_coded.options.option import Option, last, option, options_of
from robustbench_coded.options.values import counts

Quiet = Annotated[bool, Option("Print no progress.")]
DataDir = Annotated[Path | None, Option("Folder in which to look for data sets.")]
FirstSeed = Annotated[int, Option("First seed.")]


@dataclass(frozen=True)
class TrainingOptions:
    """Options of a training; None is `TrainConfig`'s default."""

    arch: str | None = option(None, "Architecture, a name of `csrobust list models`.")
    data: str | None = option(None, "Training images, as for eval.")
    test_data: str | None = option(None, "Images to score on; the test split of --data.")
    data_dir: Path | None = option(None, "Folder in which to look for data sets.")
    epochs: int | None = option(None, "Passes over the training images.")
    schedule: str | None = option(None, "one-cycle, paper (350 epochs) or milestones.")
    milestones: tuple[int, ...] | None = option(
        None, "Epochs after which the rate is divided by 10: 100,250.", read=last(partial(counts, least=1))
    )
    batch_size: int | None = option(None, "Images a step.")
    learning_rate: float | None = option(None, "Peak or initial learning rate.")
    momentum: float | None = option(None, "Momentum of SGD.")
    weight_decay: float | None = option(None, "Weight decay of SGD.")
    augmentation: str | None = option(None, "auto, none, shift or shift-flip.")
    start: str | None = option(
        None, "Checkpoint to train further, a file or a shipped name; default: random weights."
    )
    defence: str | None = option(None, "Defence to train behind, as for eval.")
    dropout: float | None = option(None, "Dropout rate after the second batch-norm of each block.")
    validation: float | None = option(None, "Share of the training images held out.")
    precision: str | None = option(None, "float32, bfloat16 or auto.")
    device: str | None = option(None, "cpu, cuda ...; auto uses CUDA if available.")
    seed: int | None = option(None, "First seed.")


TRAINING = options_of(TrainingOptions)


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options of a training that were given.

    Raises:
        InputError: architecture or data are not among them.
    """
    for name in ("arch", "data"):
        if options.get(name) is None:
            raise InputError(f"--{name} is missing; `csrobust list {name if name == 'data' else 'models'}`")
    return {name: value for name, value in options.items() if value is not None}


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
