"""Single examples of a run: those that fell furthest, with their images before and after the attack, and what
every defence answered to one of them.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from robustbench_coded.errors import InputError
from robustbench_coded.judge.case_results import CaseResult
from robustbench_coded.judge.outcomes import Cell
from robustbench_coded.judge.run import RunData
from robustbench_coded.reports.run.tables import main_perturbation
from robustbench_coded.reports.text import formatting
from robustbench_coded.runs.folder import stores_inputs
from robustbench_coded.schema.case import WHOLE_BATCH, Case
from robustbench_coded.schema.words import COMBINED, STANDARD, STRONGEST

AGAIN = "evaluate with save_adversarials=True (--save-adversarials)"


@dataclass(frozen=True)
class WorstExample:
    """One example under the strongest attack on a subject.

    Attributes:
        case: of the attack that was the strongest.
        right: draws with the right answer.
        draws: scoring draws.
        answers: class -> draws that answered with it, the most frequent first.
        margin: mean over the draws of the true class's logit less the largest other one.
    """

    case: Case
    example: int
    label: int
    right: int
    draws: int
    answers: dict[int, int]
    margin: float


def worst_examples(run: RunData, count: int) -> list[WorstExample]:
    """Under each subject's strongest attack (batch/unknown) those that fell furthest, ``count`` in all.

    Defended subjects come first; standard inference is looked at only where nothing else was run.
    """
    judged = run.manifest.judged_perturbations
    main = main_perturbation([row for row in run.rows if row.perturbation in judged])
    strongest = [r for r in run.results if r.case.attack == STRONGEST and r.case.threat == WHOLE_BATCH]
    usable = [r for r in strongest if r.case.perturbation == main and r.cell is not None and r.clean]
    defended = [r for r in usable if r.case.subject.defence != STANDARD] or usable
    examples: list[WorstExample] = []
    for i, result in enumerate(defended):
        share = (count - len(examples)) // (len(defended) - i)
        examples += _of_result(run, result, share)
    return examples


def outcomes_of(outcomes: pd.DataFrame, key: Case) -> pd.DataFrame:
    """The scoring outcomes of one case."""
    mask = (outcomes["purpose"] == "scoring").to_numpy(dtype=bool)
    for name, value in key.as_columns().items():
        column = outcomes[name]
        same = column.isna() if value is None else (column == value).fillna(False)
        mask = mask & same.to_numpy(dtype=bool)
    return outcomes[mask]


def _of_result(run: RunData, result: CaseResult, count: int) -> list[WorstExample]:
    attacked, clean = result.cell, result.clean
    assert attacked is not None and clean is not None  # as `worst_examples` takes them
    source = result.sources[0]
    outcomes = outcomes_of(run.outcomes, source)
    margin = outcomes.groupby("example")["margin"].mean().reindex(attacked.example).to_numpy()
    fell = clean.correct.sum(axis=1) - attacked.correct.sum(axis=1)
    order = np.lexsort((attacked.example, margin, -fell))[:count]
    return [
        WorstExample(
            case=source,
            example=int(attacked.example[i]),
            label=int(attacked.label[i]),
            right=int(attacked.correct[i].sum()),
            draws=len(attacked.draw),
            answers=answers(attacked, int(i)),
            margin=float(margin[i]),
        )
        for i in order
        if fell[i] > 0
    ]


class PerturbedExample(NamedTuple):
    """An example that fell, before and after the strongest attack.

    Attributes:
        about: which example, under which attack, and what was answered.
        clean, perturbed: images [C, H, W], float32 in [0, 1].
    """

    about: WorstExample
    clean: np.ndarray
    perturbed: np.ndarray

    @property
    def difference(self) -> np.ndarray:
        """``perturbed`` less ``clean``, [C, H, W]."""
        return self.perturbed - self.clean


def perturbed_examples(run: RunData, count: int, images: Any = None) -> list[PerturbedExample]:
    """`Run.examples`.

    Args:
        images: the data set in memory; None where the run names its data.
    """
    from robustbench_coded.data.registry import load_data  # this imports torch, which reports do without

    if not stores_inputs(run.path):
        raise InputError(f"{run.path} stores no perturbed inputs; {AGAIN}")
    if images is None:
        manifest = run.manifest
        images = load_data(str(manifest.identity.data), data_dir=manifest.last.options.get("data_dir"))
    found = []
    for worst in worst_examples(run, count):
        clean = images.batch([worst.example])[0][0].numpy()
        found.append(PerturbedExample(worst, clean, _perturbed(run, worst, clean)))
    return found


def _perturbed(run: RunData, worst: WorstExample, clean: np.ndarray) -> np.ndarray:
    """What the attack made of an example; the image itself where it left it alone."""
    from robustbench_coded.runs.adversarials import EVERY, DamagedAdversarials, read_adversarials

    outcomes = outcomes_of(run.outcomes, worst.case)
    place = outcomes[outcomes["example"] == worst.example].iloc[0]
    for unit in run.units_of(worst.case):
        try:
            evaluations = read_adversarials(run.path, unit)
        except DamagedAdversarials as error:
            raise InputError(f"{run.path}: {error}; {AGAIN}") from error
        for given in evaluations:
            if given.batch == place["batch"] and given.victim in (EVERY, place["slot"]):
                changed = (given.slots == int(place["slot"])).nonzero()
                return given.x[changed[0, 0]].numpy() if len(changed) else clean
    return clean


def answer_text(answered: dict[int, int]) -> str:
    """``class 3 in 8 draws, class 5 in 2``."""
    names = {answer: f"class {answer}" if answer >= 0 else "no answer" for answer in answered}
    first, *others = (f"{names[answer]} in {count}" for answer, count in answered.items())
    unit = "draw" if max(answered.values()) == 1 else "draws"
    return ", ".join([f"{first} {unit}", *others])


def answers(cell: Cell, example: int) -> dict[int, int]:
    """Class -> draws, the most frequent first, of one example of a cell."""
    counted = Counter(cell.prediction[example].tolist())
    return dict(sorted(counted.items(), key=lambda pair: (-pair[1], pair[0])))


def example_text_table(run: RunData, example: int) -> formatting.TextTable:
    """A row per attack that was scored on the example, with its answers over the scoring draws.

    Raises:
        InputError: the run has no outcomes for the example.
    """
    outcomes = run.outcomes
    outcomes = outcomes[outcomes["example"] == example]
    scored = [
        (result, place[0])
        for result in run.results
        if result.cell is not None and result.case.attack not in COMBINED
        and len(place := (result.cell.example == example).nonzero()[0])
    ]  # fmt: skip
    if not scored:
        raise InputError(f"--example {example}: {run.path} has no outcomes for it; {_known(run, example)}")
    figures: formatting.Columns[tuple[Any, int]] = {
        "Label": lambda entry: entry[0].cell.label[entry[1]],
        "Right": lambda entry: f"{entry[0].cell.correct[entry[1]].sum()} of {len(entry[0].cell.draw)}",
        "Answers": lambda entry: answer_text(answers(entry[0].cell, entry[1])),
        "Margin": lambda entry: f"{outcomes_of(outcomes, entry[0].case)['margin'].mean():.2f}",
    }
    about = formatting.of_part(
        {**formatting.SUBJECT, **formatting.THREAT, **formatting.ATTACKED_BY}, lambda entry: entry[0].case
    )
    return formatting.TextTable.of(scored, {**about, **figures}, {"Label", "Right", "Margin"})


def _known(run: RunData, example: int) -> str:
    """Which examples a run has."""
    known = {int(i) for result in run.results if result.cell is not None for i in result.cell.example}
    if not known:
        return "its examples are none yet"
    near = min(known, key=lambda i: abs(i - example))
    return f"its {len(known)} examples lie between {min(known)} and {max(known)}, the nearest is {near}"
