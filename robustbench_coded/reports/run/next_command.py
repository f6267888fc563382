"""What would change the answer: the need of an open verdict, as the command that runs it, or in Python as one
expression.

next_command(run, unsettled) -> NextCommand
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from robustbench_coded.judge.judgements import Judgement
from robustbench_coded.judge.run import RunData
from robustbench_coded.judge.verdict import CONTAINS_THRESHOLD, rounded
from robustbench_coded.reports.text import escape
from robustbench_coded.reports.text.formatting import series
from robustbench_coded.runs.folder import RUN_FILE
from robustbench_coded.schema.case import WHOLE_BATCH
from robustbench_coded.schema.manifest import Outlook
from robustbench_coded.schema.words import BESIDE, STANDARD, Rung, VerdictName

NOTHING = "No further run on these images is expected to change this."


class NextCommand(NamedTuple):
    """A command and what it brings; no command if the run is settled.

    Attributes:
        purpose: empty where nothing would change the answer.
        images: gradient evaluations that it costs, about; None where run.json does not say.
        about: threat models of the open verdicts; empty where one of them attacks whole batches.
    """

    purpose: str
    command: str = ""
    images: int | None = None
    about: str = ""

    def __str__(self) -> str:
        """``Next step: mosaic-16 (about 25,600 gradients):``, behind which the command stands."""
        if self.purpose in ("", NOTHING):
            return self.purpose
        more = " or more" * self.command.endswith(("--until settled", "until='settled')"))  # behind this step
        cost = "" if self.images is None else f" (about {self.images:,} gradients{more})"
        of = f" for {self.about}" if self.about else ""
        return f"Next step{of}: {self.purpose}{cost}{':' if self.command else '.'}"


def next_command(run: RunData, unsettled: Sequence[Judgement]) -> NextCommand:
    """The step that a reader can take next.

    Args:
        unsettled: the judgements of the run that are open.
    """
    manifest = run.manifest
    if not manifest.finished or run.failures:
        return NextCommand("what is missing", _command(run, ()))
    everything = None
    whole = next((entry for entry in manifest.outlook if entry.purpose == "all"), None)
    if whole and not manifest.last.options.get("until"):  # --all beside it is refused
        everything = _as_planned(f"all attacks on {manifest.data.examples or 0:,} images", run, whole)
    if unsettled:
        threats = dict.fromkeys(str(j.threat) for j in unsettled)
        attackers = "" if str(WHOLE_BATCH) in threats else series([*threats])
        return _settling(run, unsettled, everything)._replace(about=attackers)
    about = [j for j in run.judgements if j.subject.defence != STANDARD] or run.judgements
    if about and not any(j.verdict.name == VerdictName.NO_FAILURE_FOUND for j in about):
        return NextCommand("")  # what has fallen stays where it is
    return everything or NextCommand(NOTHING)


def _settling(run: RunData, unsettled: Sequence[Judgement], everything: NextCommand | None) -> NextCommand:
    """Its base model, where that was not attacked; else what the first open verdict needs that has anything
    left to run; of those that every image left open more images, of data that has them.
    """
    verdicts = [judgement.verdict for judgement in unsettled]
    if any((v.compared and v.gain is None) or BESIDE in v.open_checks for v in verdicts):
        return NextCommand("attacks on its base model", _command(run, ["--standard"]))
    settings = [judgement.case.setting for judgement in unsettled]
    for entry in (entry for entry in run.manifest.outlook if entry.purpose == "settle"):
        if entry.case in settings or not entry.attacks:
            return _as_planned(need_text(entry) if entry.attacks else "a longer run", run, entry)
    return everything or _more(run, unsettled)


def _as_planned(purpose: str, run: RunData, outlook: Outlook) -> NextCommand:
    """A further command that the evaluation itself has priced."""
    return NextCommand(purpose, _command(run, outlook.option.split()), outlook.images or None)


def _command(run: RunData, options: Sequence[str]) -> str:
    """The last command of the run with more options, by its run.toml; of a run that was called from Python
    the expression.
    """
    if not run.manifest.last.command:
        return _expression(options)
    return escape.shell(["csrobust", "eval", f"{_folder(run)}/{RUN_FILE}", *options])


def _expression(options: Sequence[str]) -> str:
    """``run.again(limit=1280, out='runs/a-1280')``."""
    arguments = []
    for option, value in pairwise([*options, "--"]):
        if option.startswith("--"):
            given = int(value) if value.isdecimal() else value
            shown = True if value.startswith("--") else given
            arguments.append(f"{option[2:].replace('-', '_')}={shown!r}")
    return f"run.again({', '.join(arguments)})"


def _folder(run: RunData) -> str:
    """Where the last command wrote the run."""
    return str(run.manifest.last.options.get("out") or f"runs/{run.name}")


def _more(run: RunData, unsettled: Sequence[Judgement]) -> NextCommand:
    """The same rows on as many images, which are another run, as are expected to settle it; no more than the
    data has. The number of victims is fixed.
    """
    beyond, most = "", run.manifest.data.available or 0
    for judgement in (j for j in unsettled if j.verdict.rule == CONTAINS_THRESHOLD):
        wanted = judgement.verdict.examples_to_settle
        if wanted is None or judgement.case.threat.one_victim:
            continue
        if wanted > most:
            beyond = beyond or f"about {rounded(wanted)} images, but this data set has only {most:,}"
            continue
        options = ["--limit", str(wanted), "--out", f"{_folder(run)}-{wanted}"]
        return NextCommand(f"{wanted:,} images", _command(run, options))
    return NextCommand(beyond or NOTHING)


def need_text(need: Outlook) -> str:
    """The next step of a verdict, in a clause."""
    if need.batches:
        return f"{need.batches:,} random batches of {series(need.attacks)}"
    if need.rung == Rung.MORE_EXAMPLES:
        return f"every attack on {need.examples:,} images"
    return series(need.attacks)
