"""Certified accuracy beside the attacks: its interval, what attacks contradict, and certified.csv."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import bdtr

from robustbench_coded.judge.case_results import CaseResult
from robustbench_coded.judge.intervals import TAIL, Interval, accuracy_interval, clopper_pearson
from robustbench_coded.judge.summary import DIGITS
from robustbench_coded.runs.certificates import Certificate
from robustbench_coded.schema.case import Case
from robustbench_coded.schema.words import ENSEMBLE, NAIVE_MIN

FALSE_ALARM = 1e-6  # that any of a certificate's comparisons contradicts a bound that holds


class Contradiction(NamedTuple):
    """An example that an attack brought below its bound."""

    attack: Case
    example: int
    bound: str


def certified_interval(certificate: Certificate, *, batch_dependent: bool) -> Interval:
    """The mean of what is certified, with a 95% interval over examples (batches, where these are answered as
    one). Probabilities count as parts of examples.
    """
    right = np.array(certificate.right, dtype=np.float64)
    mean = float(right.mean())
    if certificate.chance:
        return Interval(mean, *clopper_pearson(mean * len(right), len(right), TAIL))
    batch = np.array(certificate.batch, dtype=np.int64)
    return accuracy_interval(right > 0, batch, batch_dependent=batch_dependent)


def contradictions(certificate: Certificate, results: Iterable[CaseResult]) -> Iterator[Contradiction]:
    """Every attack's answers, and the clean ones, against a certificate.

    A certain bound is contradicted by one wrong answer in the same draw. Probabilities are contradicted by
    fewer right answers than they leave a chance of ``FALSE_ALARM``, split over examples and attacks. The row
    `naive-min` is left out: it mixes the draws of several attacks.
    """
    relevant = [r for r in results if r.cell is not None and _concerns(certificate, r.case)]
    for result in relevant:
        cell = result.cell
        assert cell is not None
        rows, examples = _matching(certificate.example, cell.example)
        if not len(rows):
            continue
        bound = np.array(certificate.right, dtype=np.float64)[rows]
        correct = cell.correct[examples]
        if certificate.chance:
            chance = bdtr(correct.sum(1), correct.shape[1], bound[:, 0])
            wrong = chance < FALSE_ALARM / (len(certificate.example) * len(relevant))
            claims = [f"right with probability {p:.4g} at least" for p in bound[:, 0]]
        else:
            columns, draws = _matching(certificate.draw, cell.draw)
            if not len(columns):
                continue
            wrong = ((bound[:, columns] > 0) & ~correct[:, draws]).any(1)
            claims = ["right whatever an attack does"] * len(rows)
        for i in np.flatnonzero(wrong):
            yield Contradiction(result.case, int(certificate.example[rows[i]]), claims[i])


def _concerns(certificate: Certificate, key: Case) -> bool:
    if key.attack == NAIVE_MIN or key.subject != certificate.subject or not certificate.covers(key.threat):
        return False
    return key.perturbation.eps == 0 or key.perturbation == certificate.perturbation


def _matching(
    ours: tuple[int, ...], theirs: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of what both have."""
    _, mine, other = np.intersect1d(np.array(ours, dtype=np.int64), theirs, return_indices=True)
    return mine, other


COLUMNS = (
    "checkpoint", "defence", "k", "n", "threat", "norm", "eps", "eps_space", "certified", "ci_low", "ci_high",
    "unknown", "broken", "ensemble", "ensemble_ci_high", "examples", "draws", "method", "missing",
    "interval_kind", "ensemble_interval_kind",
)  # fmt: skip


class CertificateContradicted(Exception):
    """A certified bound lies above what an attack left: one of them is wrong, and so is the run."""


@dataclass(frozen=True)
class CertifiedRow:
    """One ensemble and what is certified under its threat model.

    Attributes:
        case: of the ensemble.
        certified: share of answers that stay right whatever is done; None where there is no bound.
        ensemble: what its attacks leave; None while there are no outcomes.
        examples, draws: what ``certified`` is counted over.
        method: of the certificate; ``missing``: why there is none.
    """

    case: Case
    certified: Interval | None
    ensemble: Interval | None
    examples: int
    draws: int
    method: str
    missing: str

    @property
    def broken(self) -> float | None:
        """The share that attacks took."""
        return None if self.ensemble is None else 1 - self.ensemble.estimate

    @property
    def unknown(self) -> float | None:
        """The share that neither attacks took nor a bound keeps."""
        if self.ensemble is None:
            return None
        return max(0.0, self.ensemble.estimate - (self.certified.estimate if self.certified else 0.0))


def certified_rows(certificates: Sequence[Certificate], results: Sequence[CaseResult]) -> list[CertifiedRow]:
    """A row for every ensemble of a subject that was certified; of several bounds the largest.

    Raises:
        CertificateContradicted: an attack did what a bound rules out.
    """
    for certificate in certificates:
        for c in contradictions(certificate, results):
            raise CertificateContradicted(
                f"example {c.example} is certified ({certificate.method}: {c.bound}) for "
                f"{certificate.subject.defence} on {certificate.subject.checkpoint} at "
                f"{certificate.perturbation.norm} eps {certificate.perturbation.eps:g}, and "
                f"{c.attack.attack} under {c.attack.threat} broke it; the "
                "bound or the outcome is wrong: no figure of this run can be trusted"
            )
    rows = [_row(result, certificates) for result in results if result.case.attack == ENSEMBLE]
    return [row for row in rows if row is not None]


def certified_frame(rows: Sequence[CertifiedRow]) -> pd.DataFrame:
    """certified.csv: accuracies as fractions, null where there is nothing to count."""
    table = pd.DataFrame([_line(row) for row in rows], columns=list(COLUMNS))
    return table.astype({"k": "Int64", "n": "Int64"})


def _row(result: CaseResult, certificates: Sequence[Certificate]) -> CertifiedRow | None:
    of = result.case.subject, result.case.perturbation
    certificates = [c for c in certificates if (c.subject, c.perturbation) == of]
    if not certificates:
        return None
    ensemble = result.interval()
    best: tuple[Interval, Certificate] | None = None
    for certificate in certificates:
        if certificate.missing or not certificate.covers(result.case.threat):
            continue
        interval = certified_interval(certificate, batch_dependent=result.batch_dependent)
        if best is None or interval.estimate > best[0].estimate:
            best = interval, certificate
    if best is None:
        missing = next(
            (c.missing for c in certificates if c.missing), "no bound holds under this threat model"
        )
        return CertifiedRow(result.case, None, ensemble, 0, 0, "", missing)
    certified, certificate = best
    if ensemble is not None and result.complete and certified.estimate > ensemble.high:
        raise CertificateContradicted(
            f"{certified.estimate:.4f} of {certificate.subject.defence} on "
            f"{certificate.subject.checkpoint} is certified ({certificate.method}) under "
            f"{result.case.threat}, and its ensemble leaves at most "
            f"{ensemble.high:.4f}: no figure of this run can be trusted"
        )
    draws = 0 if certificate.chance else len(certificate.draw)
    return CertifiedRow(
        result.case, certified, ensemble, len(certificate.example), draws, certificate.method, ""
    )


def _line(row: CertifiedRow) -> dict[str, object]:
    key, certified, ensemble = row.case.as_columns(), row.certified, row.ensemble
    return {
        **{name: key[name] for name in COLUMNS if name in key},
        "certified": _rounded(None if certified is None else certified.estimate),
        "ci_low": _rounded(None if certified is None else certified.low),
        "ci_high": _rounded(None if certified is None else certified.high),
        "unknown": _rounded(row.unknown),
        "broken": _rounded(row.broken),
        "ensemble": _rounded(None if ensemble is None else ensemble.estimate),
        "ensemble_ci_high": _rounded(None if ensemble is None else ensemble.high),
        "examples": row.examples,
        "draws": row.draws,
        "method": row.method,
        "missing": row.missing,
        "interval_kind": None if certified is None else str(certified.kind),
        "ensemble_interval_kind": None if ensemble is None else str(ensemble.kind),
    }


def _rounded(value: float | None) -> float:
    return math.nan if value is None else round(value, DIGITS)
