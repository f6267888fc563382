"""The record of an entry, the lowest accuracy that anybody has shown, and tries to set a new one.

A try is a finished run whose attacks, together, are compared with those of the record's run. It has that
run's seed, and so its images, batches and draws: nobody can draw seeds until one is lucky, and with another
seed few images would be common. p is the probability, at most, that attacks which are no stronger come out as
low. Times the number of tries at the entry so far it has to be below `CHANCE`.

* Deterministic answers: an image that only one of both fools is a fair coin (McNemar's exact test).
* Random answers: bets on the mean difference of each image, which hold whatever the distribution. Batches may
  share their draws, so the signs of the differences of batches in a draw have to agree.
* Answers that depend on their batch: bets on images and on random batches have to agree, as in
  `judge.anytime`, on differences in the same random batches. Without such batches there is no test.
"""

import io
import json
import shutil
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.planning.cases import code_names
from robustbench_coded.extensions import load
from robustbench_coded.extras.board.entries import board_of, finished_run, next_try, run_hash
from robustbench_coded.extras.board.entry import BoardEntry, Record
from robustbench_coded.extras.board.submit import LEFT_OUT
from robustbench_coded.judge.anytime import upper_end
from robustbench_coded.judge.case_results import CaseResult
from robustbench_coded.judge.intervals import TAIL, clopper_pearson
from robustbench_coded.judge.run import Run
from robustbench_coded.reports.compare.pairing import same_data
from robustbench_coded.runs import log
from robustbench_coded.runs.folder import RunFolder
from robustbench_coded.schema.words import ENSEMBLE

CHANCE = 0.01
RECORDS = "records"  # the folder of the runs that set one
_TAILS = np.geomspace(1e-9, 0.4, 2000)


def read_tries(board: Path) -> list[Record]:
    """The log of tries in a board's folder, in its order; a last line that was torn is none.

    Raises:
        InputError: a line can't be read.
    """
    file = board / log.NAME
    try:
        lines = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
        return [msgspec.json.decode(line, type=Record) for line in lines]
    except (OSError, ValueError) as error:
        raise InputError(f"{file} can't be read as a log of tries ({error}); restore it") from error


def try_record(folders: Sequence[Path], path: Path, out: Path, **options: Any) -> list[Record]:
    """Tries whether a run sets a new record of the entries that it is about, and logs each try.

    Args:
        folders: of the board: runs, and what `csrobust submit` wrote.
        path: the run, with its perturbed inputs.
        out: the folder of the board, which has the log and the runs of records.
        options: of `csrobust verify`, which scores the perturbed inputs again.

    Raises:
        InputError: the run is about no entry, not finished, no try, or not what scoring it again finds.
    """
    run = finished_run(path)
    with RunFolder(out, "board.json"):
        tries = read_tries(out)
        board, runs = board_of(folders, tries)
        cases = {result.case for result in run.results}
        tested = [entry for entry in board.entries if entry.ensemble and entry.ensemble.kind]
        about = [entry for entry in tested if entry.setting.of_attack(ENSEMBLE) in cases]
        if not about:
            there = "; ".join(entry.key for entry in tested)
            raise InputError(f"{path} attacks no entry that has an interval; on the board: {there or 'none'}")
        made = [_tried(entry, runs[entry.run], run, out, tries) for entry in about]
        with redirect_stdout(io.StringIO()) as said:
            load("commands", "verify")(path, as_json=True, draws=None, seed=None, **options)
        if wrong := [row for row in json.loads(said.getvalue()) if not row["holds"]]:
            fault = "{attack}: {differing} of {outcomes} answers differ, {outside} inputs outside eps or box"
            fault = wrong[0]["problem"] or fault.format_map(wrong[0])
            raise InputError(f"{path} is not what scoring it again finds: {fault}")
        if any(each.holds for each in made):
            left_out = shutil.ignore_patterns(*LEFT_OUT)
            shutil.copytree(path, _folder(out, made[0]), ignore=left_out, dirs_exist_ok=True)
        log.append(out, made)
    return made


def _folder(out: Path, record: Record) -> Path:
    return out / RECORDS / record.sha256[:16]


def _tried(entry: BoardEntry, own: Run, run: Run, out: Path, tries: Sequence[Record]) -> Record:
    assert entry.record is not None
    stored, case = _folder(out, entry.record), entry.setting.of_attack(ENSEMBLE)
    holder = finished_run(stored) if stored.exists() else own
    if run_hash(holder) != entry.record.sha256:
        raise InputError(f"{holder.path} is not the run that set the record of {entry.key}; restore it")
    earlier = [each for each in tries if each.entry == entry.key]
    sha256, attack, mine, its = run_hash(run), _attacks_of(run), run.manifest, holder.manifest
    new, old = (next(r for r in each.results if r.case == case) for each in (run, holder))
    weights = {
        facts and facts.sha256 for each in (mine, its) for facts in [each.checkpoint(entry.checkpoint)]
    }
    pairs = paired(new, old)
    faults = {
        f"its seed is {mine.identity.seed}, the record's is {its.identity.seed}": (
            mine.identity.seed != its.identity.seed
        ),
        "its images, network or state are not those of the record's run": (
            not same_data(mine, its) or len(weights) > 1 or mine.identity.state != its.identity.state
        ),
        "the same outcomes were tried before": (
            sha256 in (entry.record.sha256, *(each.sha256 for each in earlier))
        ),
        f"{attack} was tried before, and an attack has one try": attack in (each.attack for each in earlier),
        f"its attacks gave {new.faulty} results that are no perturbed inputs": new.faulty > 0,
        "it lacks images, draws or random batches of the record's run, or has no interval": pairs is None,
    }
    if pairs is None or any(faults.values()):
        fault = next(fault for fault, present in faults.items() if present)
        command = next_try(str(holder.path), holder, entry.batch_dependent)
        raise InputError(f"{run.path} is no try at {entry.key}: {fault}; {command} makes one")
    p, count = p_value(pairs, new), len(earlier) + 1
    return Record(
        accuracy=float(pairs["new"].mean()),
        attack=attack,
        run=run.name,
        sha256=sha256,
        date=run.manifest.last.time[:10],
        next_try=next_try(f"{RECORDS}/{sha256[:16]}", run, entry.batch_dependent),
        entry=entry.key,
        before=float(pairs["old"].mean()),
        p=p,
        tries=count,
        holds=p * count < CHANCE,
    )


def _attacks_of(run: Run) -> str:
    """The attacks that the commands of a run name, with the hash of the code of others."""
    names = dict.fromkeys(name for command in run.manifest.invocations for name in command.attacks)
    code = {name: run.manifest.code.get(code_names("", "", name)[2]) for name in names}
    return ", ".join(f"{name} ({of.digest[:8]})" if of else name for name, of in code.items())


def paired(new: CaseResult, old: CaseResult) -> pd.DataFrame | None:
    """The answers to both attacks, a row for each image in each part: in each draw of its batch, or in each
    random batch. None where an answer to the old attack has none to the new one, or nothing is tested.

    Returns:
        columns ``image``, ``part``, ``new`` and ``old``: whether the answers are right.
    """
    if new.in_random_batches and old.in_random_batches:
        sides = [result.played(TAIL)[1] for result in (new, old)]
        count = min(len(side.number) for side in sides)
        mine, its = ((side.example[:count], side.number[:count], side.correct[:count]) for side in sides)
        if not all(map(np.array_equal, mine[:2], its[:2])):
            return None
        return pd.DataFrame({"image": mine[0], "part": mine[1], "new": mine[2], "old": its[2]})
    known = [(interval := result.interval()) and interval.kind for result in (new, old)]
    if not all(known) or new.in_random_batches or old.in_random_batches or not (new.cell and old.cell):
        return None
    images, draws = old.cell.example, old.cell.draw
    if not (np.isin(images, new.cell.example).all() and np.isin(draws, new.cell.draw).all()):
        return None
    cell = new.cell.at_examples(images).at_draws(draws)
    if not np.array_equal(cell.batch, old.cell.batch):
        return None
    image, batch = (np.repeat(each, len(draws)) for each in (images, cell.batch))
    part = batch * len(draws) + np.tile(np.arange(len(draws)), len(images))
    right = {"new": cell.correct.ravel(), "old": old.cell.correct.ravel()}
    return pd.DataFrame({"image": image, "part": part, **right})


def p_value(pairs: pd.DataFrame, new: CaseResult) -> float:
    """The probability, at most, of differences as large if the new attack were no stronger; 1 from 0.4 on."""
    difference = pairs["new"].astype(float) - pairs["old"]
    images, parts = (difference.groupby(pairs[by]).mean().to_numpy() for by in ("image", "part"))
    ends = [(_sign_end, images)]
    if new.randomised or new.batch_dependent:
        ends = [(upper_end, images), (upper_end if new.in_random_batches else _sign_end, parts)]
    share = max(new.looks, 1) * (len(new.random_batches) if new.in_random_batches else 1)
    place = bisect_left(_TAILS, True, key=lambda tail: all(end(d, tail / share) < 0 for end, d in ends))
    return float(_TAILS[place]) if place < len(_TAILS) else 1.0


def _sign_end(values: np.ndarray, tail: float) -> float:
    """Below 0 where so few of the values that are not 0 are above it with probability at most ``tail``."""
    above, apart = int((values > 0).sum()), int((values != 0).sum())
    return clopper_pearson(above, apart, tail)[1] - 0.5 if apart else 1.0
