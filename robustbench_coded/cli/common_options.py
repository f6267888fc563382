"""Options that several commands describe alike, beside those of ``eval`` (`eval_options.py`)."""

from pathlib import Path
from typing import Annotated

import typer

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
