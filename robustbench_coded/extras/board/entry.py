"""One line of the board as typed data: the fields of RobustBench's model_info, and what randomness needs.

``board.json`` holds a `Board`, ``board.schema.json`` the JSON schema of that class. Accuracies are fractions.
"""

import re

import msgspec
from msgspec import Struct

from robustbench_coded.schema.words import IntervalKind

FORMAT = 2


class Figure(Struct, frozen=True):
    """An accuracy, or a difference of two, with its 95% interval and what that is about; null without one."""

    estimate: float
    kind: IntervalKind | None
    low: float | None = None
    high: float | None = None


class _Sourced(Struct, frozen=True):
    source: str

    @property
    def link(self) -> str | None:
        """The page of an arXiv id, or of an issue as OWNER/REPOSITORY#NUMBER; None for other sources."""
        if match := re.fullmatch(r"(?:arXiv )?(\d{4}\.\d{5})", self.source):
            return f"https://arxiv.org/abs/{match[1]}"
        match = re.fullmatch(r"([\w.-]+/[\w.-]+)#(\d+)", self.source, re.ASCII)
        return f"https://github.com/{match[1]}/issues/{match[2]}" if match else None


class Break(_Sourced, frozen=True):
    """Result of an evaluation by others."""

    says: str


class Dispute(_Sourced, frozen=True):
    """Positions of critics of a defence and of its authors, where neither is settled."""

    critics: str
    authors: str


class BoardEntry(Struct, frozen=True, kw_only=True):
    """One defence on one checkpoint under one threat model and perturbation.

    Attributes:
        id: of the defence on this checkpoint in this run; it names its page.
        name, link, authors, venue, dataset, architecture, additional_data, number_forward_passes, eps,
            clean_acc, reported, footnote: as in RobustBench's model_info. ``reported`` is the
            accuracy that the run weighed as a claim, ``number_forward_passes`` images through the network for
            one answered input, ``footnote`` how the setting differs from the paper's. Null: not known.
        claim: what the paper claims, in words.
        randomness, coupling: what is drawn anew, what couples the inputs of a batch; '' for nothing.
        usual_acc, usual_attack: the lowest of FGSM, PGD-10 and PGD-100 on fresh draws.
        ensemble: accuracy under the ensemble of all attacks, which decides the verdict; strongest_attack: the
            one of these that leaves least.
        base_acc, gain: of the base model under its own ensemble, and the paired difference.
        forwards, backwards: images per scored example that the evaluation cost.
        breaks: published evaluations by others that left little or no gain.
        lowered: those that found less than is claimed, and a gain all the same.
        disputes: what critics and authors say where neither is settled; no verdict depends on it.
        run, run_sha256: the folder's name, and the hash of its run.json.
        stored: whether perturbed inputs are stored, so that `csrobust verify` can score them again.
    """

    id: str
    name: str
    link: str | None = None
    authors: str | None = None
    venue: str | None = None
    year: int | None = None
    dataset: str
    architecture: str | None = None
    checkpoint: str
    defence: str
    k: int | None = None
    n: int | None = None
    additional_data: bool | None = None
    number_forward_passes: float | None = None
    threat: str
    norm: str
    eps: float
    eps_space: str
    randomised: bool
    batch_dependent: bool
    randomness: str = ""
    coupling: str = ""
    claim: str = ""
    footnote: str = ""
    clean_acc: float | None = None
    reported: float | None = None
    usual_acc: float | None = None
    usual_attack: str | None = None
    ensemble: Figure | None = None
    strongest_attack: str = ""
    base_acc: float | None = None
    gain: Figure | None = None
    examples: int = 0
    draws: int = 0
    verdict: str
    reason: str
    open_checks: tuple[str, ...] = ()
    forwards: float | None = None
    backwards: float | None = None
    breaks: tuple[Break, ...] = ()
    lowered: tuple[Break, ...] = ()
    disputes: tuple[Dispute, ...] = ()
    run: str
    run_sha256: str
    stored: bool = False

    @property
    def kind(self) -> str:
        """Whether its answers are random, depend on the batch, both, or neither."""
        parts = ["random"] * self.randomised + ["batch-dependent"] * self.batch_dependent
        return ", ".join(parts) or "deterministic"


class Board(Struct, frozen=True, kw_only=True):
    """The content of board.json."""

    format: int = FORMAT
    csrobust: str
    entries: tuple[BoardEntry, ...]


def schema() -> bytes:
    """The JSON schema of board.json."""
    text = msgspec.json.encode(msgspec.json.schema(Board))
    # Python 3.13 takes the indentation of the code out of docstrings, earlier ones leave it there.
    return msgspec.json.format(re.sub(rb"(\\n) +", rb"\1", text), indent=2) + b"\n"


def encoded(board: Board) -> bytes:
    """board.json: indented, floats as they are."""
    return msgspec.json.format(msgspec.json.encode(board), indent=1) + b"\n"
