"""Accuracy after the perturbed images have been rounded to 8 bits, as a file of pictures would hold them."""

from collections.abc import Iterator, Sequence

from attacks.submitted import EIGHT_BITS, SEVERAL, split_submitted
from robustbench_coded.reports.text.formatting import (
    accuracy_text,
    budget_text,
    inference_text,
    is_submitted,
)
from robustbench_coded.reports.text.text_table import TextTable
from robustbench_coded.schema.controls import ENSEMBLE, STRONGEST
from robustbench_coded.schema.threat_model import WHOLE_BATCH
from robustbench_coded.statistics.summary import SummaryRow

EIGHT_BITS_TITLE = "At 8 bits"
EIGHT_BITS_LEGEND = (
    "Accuracy after every pixel is rounded to the nearest multiple of 1/255 within eps. If it rises, the "
    "attack loses strength when images are stored with 8 bits. If it falls, the defence reacts to pixel "
    "values that 8-bit images cannot have. Ensemble: the subject's own attacks after rounding, the "
    "strongest by the attacker's own draws. Rounded images count as attacks of their own in every ensemble."
)


def eight_bits_text_table(lines: Sequence[SummaryRow]) -> TextTable:
    """A row per subject and budget whose strongest attack was scored at 8 bits."""
    rows = []
    for strongest in _whole_batch(lines, STRONGEST):
        like = [x for x in lines if (x.subject, x.budget, x.threat) == _setting(strongest)]
        attack = next((x for x in like if x.attack == strongest.strongest_attack), None)
        at_8 = _at_8_bits(like, strongest.strongest_attack)
        if attack is None or at_8 is None:
            continue
        ensemble = next((x for x in like if x.attack == ENSEMBLE), None)
        rows.append(
            (
                strongest.subject.checkpoint,
                inference_text(strongest.subject, with_k=True),
                budget_text(strongest.budget),
                attack.attack,
                _accuracy(attack),
                _accuracy(at_8),
                _accuracy(ensemble),
                _accuracy(_at_8_bits(like, SEVERAL) or at_8),
            )
        )
    figures = ("As found", "At 8 bits", "Ensemble", "Ensemble at 8 bits")
    heads = ("Checkpoint", "Inference", "Budget", "Strongest", *figures)
    return TextTable(heads, tuple(rows), frozenset(figures))


def _at_8_bits(rows: Sequence[SummaryRow], attack: str) -> SummaryRow | None:
    """The same perturbed inputs, rounded."""
    for row in rows:
        if not is_submitted(row.attack):
            continue
        _, name, transforms = split_submitted(row.attack)
        own = (name, transforms) == (attack, (EIGHT_BITS,))
        further = row.attack == f"{attack}+{EIGHT_BITS[0]}={EIGHT_BITS[1]}"
        if own or further or (row.attack == attack and EIGHT_BITS in transforms):
            return row
    return None


def _whole_batch(rows: Sequence[SummaryRow], attack: str) -> Iterator[SummaryRow]:
    return (x for x in rows if x.attack == attack and x.threat == WHOLE_BATCH)


def _setting(row: SummaryRow) -> tuple:
    return row.subject, row.budget, row.threat


def _accuracy(row: SummaryRow | None) -> str:
    if row is None or row.accuracy is None:
        return "–"
    return accuracy_text(row.accuracy, row.low, row.high)
