"""Entries of the leaderboard: what each run says of each subject and its claims, checked against its
source.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from msgspec import structs

from attacks.presets import ONE_STEP
from robustbench_coded.defences.options import parse_defence
from robustbench_coded.errors import InputError
from robustbench_coded.extras.board.entry import Board, BoardEntry, Break, Dispute, Figure
from robustbench_coded.extras.board.submit import Source, SubmittedEntry, source_at
from robustbench_coded.extras.published.registry import PREFIX, PUBLISHED, PaperRecord
from robustbench_coded.judge import intervals, paired, summary
from robustbench_coded.judge.judgements import Judgement
from robustbench_coded.judge.rules import decide
from robustbench_coded.judge.run import GO_ON, RunData, run_data
from robustbench_coded.reports.text import formatting
from robustbench_coded.reports.text.formatting import papers_attack
from robustbench_coded.runs.folder import MANIFEST, stores_inputs
from robustbench_coded.schema.case import WHOLE_BATCH, Subject
from robustbench_coded.schema.manifest import CheckpointFacts
from robustbench_coded.schema.words import CLEAN, ENSEMBLE, STANDARD
from robustbench_coded.version import __version__

_INFERENCES = {parse_defence(record.spec).kind: record for record in PUBLISHED.values() if record.spec}


def published_as(subject: Subject, checkpoint: CheckpointFacts | None) -> PaperRecord | None:
    """The published defence that a subject is: by the name of its defence, or of its training or network."""
    if subject.defence.startswith(PREFIX):
        return PUBLISHED.get(subject.defence.removeprefix(PREFIX).partition("[")[0])
    if subject.defence != STANDARD:
        return _INFERENCES.get(subject.defence.partition("[")[0])
    if checkpoint is None:
        return None
    # A network that was trained behind another defence and is evaluated without it is no defence of its own.
    recipe = "" if checkpoint.metadata.get("defence") else str(checkpoint.metadata.get("recipe", ""))
    arch = checkpoint.arch or ""
    for record in PUBLISHED.values():
        if (record.recipe and record.recipe == recipe) or (record.arch and arch.startswith(record.arch)):
            return record
    return None


def finished_run(path: Path) -> RunData:
    """A run folder, read.

    Raises:
        InputError: it can't be read, or outcomes are missing.
    """
    run = run_data(path)
    if run.missing:
        raise InputError(f"{path} is not complete: {run.missing}; {GO_ON}")
    return run


def board_of(folders: Sequence[Path]) -> tuple[Board, dict[str, RunData]]:
    """The entries of all folders, and by its name the run that each came from, in the order of ``folders``.

    Args:
        folders: each a run folder, or what `csrobust submit` wrote.

    Raises:
        InputError: a folder that is neither, is not finished, or whose files were changed; two of one name;
            or no entry.
    """
    sources = [source_at(folder) for folder in folders]
    if twice := [name for name, count in Counter(source.name for source in sources).items() if count > 1]:
        raise InputError(f"two folders are named {twice[0]}, which names a run on the board; rename one")
    runs = {source.name: finished_run(source.path) for source in sources}
    entries = [entry for source in sources for entry in entries_of(runs[source.name], source)]
    if not entries:
        raise InputError("these runs have no published defence; csrobust submit makes an entry of your own")
    entries.sort(key=lambda e: (e.threat != str(WHOLE_BATCH), e.dataset, e.norm, e.name, e.checkpoint))
    return Board(csrobust=__version__, entries=tuple(entries)), runs


def entries_of(run: RunData, source: Source) -> Iterator[BoardEntry]:
    """The entries of a run: of the submitted subject, or of every defence and every published training."""
    submitted = source.entry
    digest = hashlib.sha256((run.path / MANIFEST).read_bytes()).hexdigest()
    for judgement in run.judgements:
        subject = judgement.subject
        known = published_as(subject, run.manifest.checkpoint(subject.checkpoint))
        if submitted is not None:
            if (subject.defence, subject.checkpoint) != (submitted.defence, submitted.checkpoint):
                continue
        elif known is None:
            continue
        yield _entry(run, judgement, known, source, digest)


def entry_id(run: str, subject: Subject) -> str:
    """A name for files, of letters, digits and hyphens."""
    parts = (run, subject.checkpoint, subject.defence, subject.k and f"k{subject.k}")
    text = "-".join(str(part) for part in (*parts, subject.n and f"n{subject.n}") if part)
    short = re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower()
    return f"{short[:80]}-{hashlib.blake2b(text.encode(), digest_size=3).hexdigest()}"


def _entry(
    run: RunData, judgement: Judgement, known: PaperRecord | None, source: Source, digest: str
) -> BoardEntry:
    subject, verdict = judgement.subject, judgement.verdict
    checkpoint = run.manifest.checkpoint(subject.checkpoint)
    rows = [row for row in run.rows if row.case.setting == judgement.case.setting]
    planned = next(case for case in run.manifest.cases if case.case.subject == subject)
    usual = _lowest([row for row in rows if row.attack != CLEAN and papers_attack(row.attack)])
    whole = next(row for row in rows if row.attack == ENSEMBLE)
    fgsm = next((row for row in rows if row.attack == ONE_STEP), None)
    columns = _statements(known, source.entry, _trained_behind(checkpoint, planned.spec))
    if columns.get("reported") is None and verdict.claim is not None:
        columns["reported"] = verdict.claim.value
    if sequence := planned.sequence:
        each = (planned.batch_size or 0) // sequence
        columns["name"] += ", persistent state"
        columns["footnote"] += f"; over sequences of {sequence} batches of {each}"
    # A break by others outweighs that these attacks found no failure.
    verdict = decide(replace(verdict, breaks=tuple(entry.source for entry in columns["breaks"])))
    return BoardEntry(
        id=entry_id(source.name, subject),
        **columns,
        dataset=_data_name(run),
        architecture=None if checkpoint is None else checkpoint.arch,
        **structs.asdict(judgement.case.subject),
        number_forward_passes=None if fgsm is None else fgsm.forwards,
        threat=str(judgement.threat),
        **structs.asdict(judgement.perturbation),
        randomised=planned.randomised,
        batch_dependent=planned.batch_dependent,
        clean_acc=None if verdict.clean is None else verdict.clean.estimate,
        usual_acc=None if usual is None else usual.accuracy,
        usual_attack=None if usual is None else usual.attack,
        ensemble=_figure(verdict.accuracy),
        strongest_attack=whole.strongest_attack,
        base_acc=None if verdict.base is None else verdict.base.estimate,
        gain=_figure(verdict.gain),
        examples=whole.examples,
        draws=whole.draws,
        verdict=str(verdict.name),
        reason=verdict.reason,
        open_checks=verdict.open_checks,
        forwards=whole.forwards,
        backwards=whole.backwards,
        run=source.name,
        run_sha256=digest,
        stored=stores_inputs(run.path),
    )


def _trained_behind(checkpoint: CheckpointFacts | None, spec: str) -> str:
    """How a checkpoint was trained behind the defence of a row; empty where it was not."""
    metadata = {} if checkpoint is None else checkpoint.metadata
    if metadata.get("defence") != spec:
        return ""
    start, epochs = str(metadata.get("start") or "").partition(" ")[0], metadata.get("epoch")
    length = formatting.counted(epochs or 0, "epoch")
    text = f"the network was trained behind it ({metadata.get('recipe')}, {length}"
    return f"{text} from {start})" if start else f"{text})"


def _statements(known: PaperRecord | None, submitted: SubmittedEntry | None, trained: str) -> dict[str, Any]:
    """Statements about a defence that are not measured: its submitter's, else its record's.

    Args:
        trained: how the network was trained behind the defence; empty where it was not.
    """
    if submitted is not None:
        data = {name: getattr(submitted, name) for name in ("name", "link", "authors", "venue", "year")}
        data |= {name: getattr(submitted, name) for name in ("randomness", "coupling", "claim", "reported")}
        breaks, lowered = submitted.breaks, tuple[tuple[str, str], ...]()
        data |= {"footnote": submitted.setting, "additional_data": submitted.additional_data}
    else:
        assert known is not None
        on_arxiv = known.arxiv[:1].isdigit()
        breaks, lowered = known.breaks, known.lowered
        data = {
            "name": known.label,
            "link": f"https://arxiv.org/abs/{known.arxiv}" if on_arxiv else None,
            "venue": known.venue,
            "year": known.year,
            "randomness": known.random,
            "coupling": known.coupling,
            "claim": known.claim,
            "footnote": "; ".join(filter(None, (known.setting, trained or known.untrained))),
        }
    groups = {"breaks": breaks, "lowered": lowered}
    data["disputes"] = () if known is None or submitted else tuple(Dispute(*row) for row in known.disputes)
    return {**data, **{name: tuple(Break(*item) for item in those) for name, those in groups.items()}}


def _data_name(run: RunData) -> str:
    """The data set as tables name it; of a file its name alone."""
    kind, _, rest = (run.manifest.identity.data or "").partition(":")
    return PurePath(rest).stem if kind in ("npz", "folder") and rest else run.manifest.data.name or kind


def _lowest(rows: Sequence[summary.SummaryRow]) -> summary.SummaryRow | None:
    measured = [row for row in rows if row.accuracy is not None and row.done]
    return min(measured, key=lambda row: row.accuracy or 0.0, default=None)


def _figure(interval: intervals.Interval | paired.Difference | None) -> Figure | None:
    if interval is None:
        return None
    ends = (interval.low, interval.high) if interval.kind else ()
    return Figure(interval.estimate, interval.kind, *ends)
