"""The board as files: index.html, board.json and its schema."""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from robustbench_coded.errors import InputError
from robustbench_coded.extras.board.entries import board_of
from robustbench_coded.extras.board.entry import Board, BoardEntry, encoded, schema
from robustbench_coded.judge.run import RunData
from robustbench_coded.reports.render.html import page
from robustbench_coded.reports.run.methodology import commands_of
from robustbench_coded.reports.text.formatting import (
    counted,
    inference_text,
    interval,
    kinds_text,
    short_perturbation_text,
)
from robustbench_coded.runs.atomic import write_bytes, write_text
from robustbench_coded.schema.case import Subject
from robustbench_coded.schema.words import IntervalKind, VerdictName

STYLE = """
a { color: var(--mark); }
td a { font-weight: 600; }
#rows td.short, #rows td.number { overflow-wrap: normal; }
#rows td.number { white-space: nowrap; }
#rows td .attack { min-width: 9rem; white-space: normal; overflow-wrap: anywhere; }
#rows { font-size: .86rem; }
details dl { grid-template-columns: minmax(0, 2fr) minmax(0, 3fr); }
dt { overflow-wrap: anywhere; }
#rows th, #rows th * { white-space: normal; overflow-wrap: normal; vertical-align: bottom; }
@media screen and (min-width: 40.01rem) { #rows th, #rows td { padding-inline: .28rem; } }
@media screen and (max-width: 40rem) {
#rows { font-size: inherit; }
#rows td small { flex-basis: 100%; }
}
"""
FILTERS = ("Data", "Threat model", "Norm", "Kind", "Verdict")
COLUMNS = {
    "Defence": "the name of the defence; it leads to what is known of it",
    "Year": "of the paper",
    "Verdict": "by fixed rules: docs/verdicts.md",
    "Data": "the data set, and the checkpoint",
    "Threat model": "what the attacker controls, whether the draw is known, norm and eps",
    "Kind": "whether predictions are random or depend on the batch",
    "Clean": "accuracy on unperturbed inputs, in percent",
    "Claim": "the accuracy that the run tested as a claim",
    "FGSM, PGD": "the lowest accuracy under FGSM, PGD-10 and PGD-100, which many papers report",
    "All attacks": "accuracy under the strongest attack on each image or batch, with its 95% interval. "
    f"{kinds_text(tuple(IntervalKind))}",
    "Base model": "the same for the base model",
    "Cost": "forward and backward passes of an image that attacks spent on each example",
}


def sizes_of(board: Board) -> str:
    """``35 defences, 107 verdicts``: by their names; one may stand around several networks."""
    names = {entry.name for entry in board.entries}
    return f"{counted(len(names), 'defence')}, {counted(len(board.entries), 'verdict')}"


def index_page(board: Board, details: Sequence[dict[str, Any]] = ()) -> str:
    """The table of all entries, and the details of each defence (`details_of`)."""
    choices = {name: list(dict.fromkeys(_choice(entry, name) for entry in board.entries)) for name in FILTERS}
    return page(
        "board.html.j2",
        more_style=STYLE,
        title=f"Leaderboard: {sizes_of(board)} under adaptive attack",
        verdicts=[f"{count} {name}" for name, count in Counter(e.verdict for e in board.entries).items()],
        entries=[(entry, {name: _choice(entry, name) for name in FILTERS}) for entry in board.entries],
        columns=COLUMNS,
        choices=choices,
        details=details,
        perturbation=short_perturbation_text,
        between=lambda figure: interval(figure.low, figure.high, figure.kind),
    )


def details_of(run: RunData, entries: Sequence[BoardEntry]) -> dict[str, Any]:
    """Values of board_entry.html.j2: one defence on one checkpoint, under every threat model of its run.

    Args:
        entries: those of this defence, of one id.
    """
    first = entries[0]
    subject = Subject(first.checkpoint, first.defence, first.k, first.n)
    checkpoint = run.manifest.checkpoint(first.checkpoint)
    rows = [row for row in run.rows if row.subject == subject]
    return {
        "subtitle": f"{inference_text(subject, with_k=True)}, {first.dataset}",
        "entries": entries,
        "first": first,
        "judgements": [j for j in run.judgements if j.subject == subject],
        "probed": next((probe.warnings for probe in run.manifest.probes if probe.subject == subject), ()),
        "cases": [(threat, list(cases)) for threat, cases in groupby(rows, lambda row: str(row.threat))],
        "kinds": kinds_text([row.interval_kind for row in rows]),
        "weights": None if checkpoint is None else checkpoint.sha256,
        "refuted": [entry for entry in entries if entry.verdict == VerdictName.CLAIM_REFUTED],
        "commands": commands_of(run),
    }


def _choice(entry: BoardEntry, name: str) -> str:
    by_name = {"Data": entry.dataset, "Threat model": entry.threat, "Norm": entry.norm, "Kind": entry.kind}
    return by_name.get(name, entry.verdict)


def write_board(folders: Sequence[Path], out: Path) -> Board:
    """Reads run folders and submitted entries and writes the site of their defences; the same bytes again.

    Args:
        folders: each a run folder, or what `csrobust submit` wrote.
        out: where index.html goes.

    Raises:
        InputError: a folder that is neither, is not finished, or whose files were changed.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; give a folder")
    board, runs = board_of(folders)
    names = dict.fromkeys(entry.id for entry in board.entries)
    groups = [[entry for entry in board.entries if entry.id == name] for name in names]
    details = [details_of(runs[group[0].run], group) for group in groups]
    write_text(out / "index.html", index_page(board, details))
    write_bytes(out / "board.json", encoded(board))
    write_bytes(out / "board.schema.json", schema())
    return board
