"""Accuracy after the perturbed images have been rounded to 8 bits, as a file of pictures would hold them."""

from collections.abc import Iterator, Sequence

from attacks.submitted import EIGHT_BITS, SEVERAL, split_submitted
from robustbench_coded.reports.text.formatting import (
    budget_text,
    inference_text,
    interval,
    is_submitted,
    percent,
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


def _at_8_bits(lines: Sequence[SummaryRow], attack: str) -> SummaryRow | None:
    """The same perturbed inputs, rounded."""
    for line in lines:
        if not is_submitted(line.attack):
            continue
        _, name, transforms = split_submitted(line.attack)
        own = (name, transforms) == (attack, (EIGHT_BITS,))
        further = line.attack == f"{attack}+{EIGHT_BITS[0]}={EIGHT_BITS[1]}"
        if own or further or (line.attack == attack and EIGHT_BITS in transforms):
            return line
    return None


def _whole_batch(lines: Sequence[SummaryRow], attack: str) -> Iterator[SummaryRow]:
    return (x for x in lines if x.attack == attack and x.threat == WHOLE_BATCH)


def _setting(line: SummaryRow) -> tuple:
    return line.subject, line.budget, line.threat


def _accuracy(line: SummaryRow | None) -> str:
    if line is None or line.accuracy is None:
        return "–"
    return f"{percent(line.accuracy)} {interval(line.low, line.high)}"
