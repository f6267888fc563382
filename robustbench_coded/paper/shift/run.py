"""Accuracy under covariate shift: an ordinary evaluation of each set, without attacks, and one report."""

from dataclasses import dataclass, replace
from pathlib import Path

from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.run_unit import UnitFailure
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.session.evaluate import IncompleteRun, evaluate
from robustbench_coded.evaluation.session.listener import Listener
from robustbench_coded.evaluation.setup.checkpoints import data_named
from robustbench_coded.judge.run import load_run
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.paper.shift.corruptions import SEVERITIES
from robustbench_coded.paper.shift.estimates import ShiftRun
from robustbench_coded.paper.shift.report import write_shift_report
from robustbench_coded.paper.shift.sets import ShiftSet, plain, sets_of


@dataclass(frozen=True)
class ShiftConfig:
    """Checkpoints, inferences and sets of a shift run.

    Attributes:
        evaluation: checkpoints, inferences, batches, draws, seed and machine; its ``data`` and ``attacks``
            are not used.
        data: what `sets_of` takes, or ``auto``.
        corruptions: names; empty for all that the images can have.
        severities: from 1 to 5.
        baseline: the checkpoint whose standard inference errors are divided by; None for the first.
    """

    evaluation: EvalConfig
    data: tuple[str, ...] = ("auto",)
    corruptions: tuple[str, ...] = ()
    severities: tuple[int, ...] = SEVERITIES
    baseline: str | None = None

    def __post_init__(self) -> None:
        if len(self.evaluation.batch_size) > 1:
            raise InputError("--batch-size: one size at a time; make a run of each")
        names = [name for name, _ in self.evaluation.checkpoints]
        if self.baseline is not None and self.baseline not in names:
            raise InputError(f"--baseline {self.baseline}: no such checkpoint; given: {', '.join(names)}")

    @property
    def sets(self) -> list[ShiftSet]:
        """In the order in which they are evaluated.

        Raises:
            InputError: a checkpoint or data are not usable, or a corruption or severity is unknown.
        """
        options, specs = self.evaluation, self.data
        if "auto" in specs:
            given = [
                load_checkpoint(path, arch=options.arch, name=name) for name, path in options.checkpoints
            ]
            own = data_named(replace(options, data="auto"), given)
            specs = tuple(own if spec == "auto" else spec for spec in specs)
        parts = (sets_of(spec, self.corruptions, self.severities, options.data_dir) for spec in specs)
        return [one for part in parts for one in part]

    @property
    def finished(self) -> ShiftRun:
        """The runs of all sets, read from their folders."""
        base = self.baseline or self.evaluation.checkpoints[0][0]
        return ShiftRun(self.out, {one: load_run(self.out / one.folder) for one in self.sets}, base)

    @property
    def out(self) -> Path:
        """The folder that has those of the sets."""
        return self.evaluation.out or Path("runs") / plain(f"shift {self.evaluation.checkpoints[0][0]}")


def shift(config: ShiftConfig, listener: Listener | None = None) -> Path:
    """Evaluates every set in a folder of its own, or goes on with it, and writes the report of all.

    Returns:
        the folder.

    Raises:
        InputError: the options, a checkpoint, the data or a folder are not usable.
        IncompleteRun: some units failed; everything else is finished and reported.
        RunStopped: the disk or the workers fail; finished units are kept.
        KeyboardInterrupt: stopped from outside; finished units are kept.
    """
    listener, failures = listener or Listener(), list[UnitFailure]()
    for one in config.sets:
        listener.note(f"{one.collection}: {one.name} {one.severity or ''}".rstrip())
        # At eps 0 random signs change nothing, so that unperturbed inputs are all that is answered.
        forward_only = replace(
            config.evaluation, data=one.data, attacks=(), eps=(0.0,), all=True, out=config.out / one.folder
        )
        try:
            evaluate(forward_only, listener)
        except IncompleteRun as error:
            failures += error.failures
    write_shift_report(config.finished)
    if failures:
        raise IncompleteRun(config.out, failures)
    return config.out
