"""The rows of a run: every planned attack, and per threat model `strongest`, `ensemble` and `naive-min`.

    measured_rows(outcomes, planned) -> list[Row]

`planned` has one row per attack of the plan: the key columns (`outcomes.KEYS`), examples_planned (the victims
under `victim` and `co-batch` threats), draws, batch_dependent, randomised, and, where a defence names no base
model, has_base. Outcomes of replicate 0 alone make the rows; further replicates serve `components.py`.

Who may use what:

* `clean` and `random-sign` are candidates, too: an attacker can always leave the input alone or add noise.
  Clean outcomes serve every budget and, since a victim keeps its batch and slot, every threat; random signs
  serve their own budget where whole batches are attacked.
* `*/known` also gets the perturbations of `*/unknown`, scored on the draws that its own attacks were made
  for.
* `strongest` is chosen on selection draws like the ensemble, so its own accuracy is unbiased; ties go to the
  attack planned first. In a deterministic defence, and where the draw is known, selecting and scoring
  outcomes are the same, nothing is random to the attacker, and there is no `naive-min` row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from robustbench_coded.statistics.ensemble import (
    Candidate,
    aligned,
    ensemble,
    naive_min,
    strongest,
    worst_case,
)
from robustbench_coded.statistics.intervals import Interval, accuracy_interval
from robustbench_coded.statistics.outcomes import Cell, RowKey, cells, row_keys

NULLS = ("clean", "random-sign")
COMBINED = ("strongest", "ensemble", "naive-min")
Cells = dict[tuple[RowKey, str], Cell]


@dataclass(frozen=True)
class Row:
    """One row of summary.csv before it is counted out."""

    key: RowKey
    cell: Cell | None  # scoring outcomes; None while there are none
    clean: Cell | None  # unperturbed inputs: the same examples and draws
    examples_planned: int
    batch_dependent: bool  # of the defence
    randomised: bool
    complete: bool
    sources: tuple[RowKey, ...]  # the attacks it was made from, whose costs it bears
    has_base: bool = True  # whether the defence names a base model
    # Of combined rows: which attack `strongest` is, and on how many draws was chosen (0: nothing random).
    strongest_attack: str = ""
    selection_draws: int = 0

    @property
    def unit_is_batch(self) -> bool:
        """Whether outcomes come in batches: not where each victim had a batch of its own."""
        return self.batch_dependent and not one_victim(self.key.threat)

    def interval(self) -> Interval | None:
        """The accuracy with its 95% interval; None while there are no outcomes."""
        if self.cell is None:
            return None
        return accuracy_interval(self.cell.correct, self.cell.batch, batch_dependent=self.unit_is_batch)


def measured_rows(outcomes: pd.DataFrame, planned: pd.DataFrame) -> list[Row]:
    """Rows in the order of the plan, those of one threat model together and its combined rows after them."""
    found = cells(outcomes)
    groups: dict[RowKey, list[Row]] = {}
    for key, facts in zip(row_keys(planned), planned.to_dict("records")):
        cell = _nonempty(found.get((key, "scoring")))
        row = Row(
            key=key,
            cell=cell,
            clean=_clean_like(cell, key, found),
            examples_planned=int(facts["examples_planned"]),
            batch_dependent=bool(facts["batch_dependent"]),
            randomised=bool(facts["randomised"]),
            complete=cell is not None and len(cell.example) >= int(facts["examples_planned"]),
            sources=(key,),
            has_base=bool(facts.get("has_base", True)),
        )
        groups.setdefault(threat_model(key), []).append(row)
    everything = [row for rows in groups.values() for row in rows]
    return [row for rows in groups.values() for row in [*rows, *_combined(rows, everything, found)]]


def threat_model(key: RowKey) -> RowKey:
    """The key without its attack: equal for the rows that `strongest` and `ensemble` are made from."""
    return key._replace(attack="", step_size=None)


def _combined(rows: Sequence[Row], everything: Sequence[Row], found: Cells) -> list[Row]:
    """The rows made from several attacks under one threat model; none before there are outcomes."""
    attacks = [row for row in rows if row.key.attack not in NULLS]
    if not attacks:
        return []
    model = attacks[0]
    known = model.key.threat.endswith("/known")
    usable = [*attacks, *inherited(model.key, everything), *_nulls(model.key, everything)]
    candidates = aligned([made for row in usable if (made := _candidate(row, found, known)) is not None])
    if not candidates or not len(candidates[0].scoring.example) or not len(candidates[0].scoring.draw):
        return []
    best = strongest(candidates)
    combined = {"strongest": candidates[best].scoring}
    if model.randomised and not known:
        combined |= {"ensemble": ensemble(candidates, best), "naive-min": naive_min(candidates)}
        selection_draws = len(candidates[0].selection.draw)
    else:
        combined |= {"ensemble": worst_case(candidates)}
        selection_draws = 0
    planned = max(row.examples_planned for row in attacks)
    everybody = tuple(candidate.key for candidate in candidates)
    return [
        Row(
            key=threat_model(model.key)._replace(attack=name),
            cell=cell,
            clean=_clean_like(cell, model.key, found),
            examples_planned=planned,
            batch_dependent=model.batch_dependent,
            randomised=model.randomised,
            complete=all(row.complete for row in attacks) and len(cell.example) >= planned,
            sources=(candidates[best].key,) if name == "strongest" else everybody,
            has_base=model.has_base,
            strongest_attack=candidates[best].key.attack,
            selection_draws=selection_draws,
        )
        for name, cell in combined.items()
    ]


def _candidate(row: Row, found: Cells, known: bool) -> Candidate | None:
    """The row as an attack to choose; None while its outcomes to choose by are missing."""
    if row.cell is None:
        return None
    seen = known or not row.randomised
    selection = row.cell if seen else _nonempty(found.get((row.key, "selection")))
    return None if selection is None else Candidate(row.key, selection, row.cell)


def inherited(key: RowKey, everything: Sequence[Row]) -> list[Row]:
    """Attacks of the attacker who differs only in not knowing the draw."""
    inputs, _, randomness = key.threat.partition("/")
    if randomness != "known":
        return []
    weaker = threat_model(key)._replace(threat=f"{inputs}/unknown")
    return [row for row in everything if threat_model(row.key) == weaker and row.key.attack not in NULLS]


def _nulls(key: RowKey, everything: Sequence[Row]) -> list[Row]:
    """Random signs and the clean inputs, as measured under this threat, else where they mean the same."""
    signs = threat_model(key)._replace(threat="")
    served = []
    for attack, serves in (
        ("random-sign", lambda row: threat_model(row.key)._replace(threat="") == signs),
        ("clean", lambda row: _setting(row.key) == _setting(key)),
    ):
        rows = [row for row in everything if row.key.attack == attack and serves(row)]
        own = [row for row in rows if row.key.threat == key.threat]
        # A victim that is left alone sits in a clean batch; one with random signs has clean co-batched
        # inputs, and one that nobody attacks has no signs at all.
        same = [row for row in rows if not one_victim(row.key.threat)]
        if attack == "random-sign" and not key.threat.startswith("batch"):
            same = []
        served += (own or same)[:1]
    return served


def _clean_like(cell: Cell | None, key: RowKey, found: Cells) -> Cell | None:
    """Clean outcomes of the same examples and, where there are several, the same draws."""
    if cell is None:
        return None
    clean = [
        (other.threat, made)
        for (other, purpose), made in found.items()
        if other.attack == "clean" and purpose == "scoring" and _setting(other) == _setting(key)
    ]
    # Those of the same threat first, then those of whole batches.
    clean.sort(key=lambda pair: (pair[0] != key.threat, one_victim(pair[0])))
    for _, made in clean:
        if np.isin(cell.example, made.example).all() and np.isin(cell.draw, made.draw).all():
            return made.at_examples(cell.example).at_draws(cell.draw)
    return None


def _setting(key: RowKey) -> tuple[str, str, int | None, int | None]:
    return key.checkpoint, key.defence, key.k, key.n


def _nonempty(cell: Cell | None) -> Cell | None:
    return cell if cell is not None and cell.correct.size else None


def one_victim(threat: str) -> bool:
    """Whether each scored example was the victim of a batch of its own."""
    return threat.startswith(("victim", "co-batch"))
