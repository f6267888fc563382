"""How reports name subjects, perturbations, attacks and threat models, in words that say what was done; and a
plain table of texts, for every format.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, TypeVar

from msgspec import structs

from attacks.attack import AnyAttack, Attack, Submitted, read_attack
from attacks.presets import PRESETS
from robustbench_coded.judge.intervals import Interval
from robustbench_coded.judge.paired import Difference
from robustbench_coded.schema import words
from robustbench_coded.schema.case import Perturbation, Subject
from robustbench_coded.schema.words import CLEAN, STANDARD

T = TypeVar("T")
Columns = Mapping[str, Callable[[T], object]]  # head -> what stands under it in the row of an item


@dataclass(frozen=True)
class TextTable:
    """Texts in rows under titles; nothing is escaped yet.

    Attributes:
        numbers: columns that hold numbers, aligned to the right and sorted by value.
    """

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[str] = frozenset()

    @classmethod
    def of(cls, items: Iterable[T], columns: Columns[T], numbers: Iterable[str] = ()) -> "TextTable":
        """A row for each item."""
        rows = tuple(tuple(str(text_of(item)) for text_of in columns.values()) for item in items)
        return cls(tuple(columns), rows, frozenset(numbers))

    def split(self, count: int) -> Iterator[tuple[tuple[str, ...], "TextTable"]]:
        """A table for all rows that begin with the same ``count`` texts: these, and the rest of the rows."""
        groups: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
        for row in self.rows:
            groups.setdefault(row[:count], []).append(row[count:])
        for same, rows in groups.items():
            yield same, TextTable(self.heads[count:], tuple(rows), self.numbers)

    def with_columns(self, shown: Sequence[bool]) -> "TextTable":
        """The table with those of its columns that are shown."""
        heads, *rows = (
            tuple(text for text, show in zip(row, shown, strict=True) if show)
            for row in (self.heads, *self.rows)
        )
        return TextTable(heads, tuple(rows), self.numbers & {*heads})

    def without_empty(self, heads: Collection[str]) -> "TextTable":
        """The table without those of these columns that say nothing in any row."""
        columns = zip(*self.rows, strict=True) if self.rows else (() for _ in self.heads)
        said = zip(self.heads, columns, strict=True)
        return self.with_columns([head not in heads or any(texts) for head, texts in said])

    def without_constants(self, heads: Collection[str] | None = None) -> tuple["TextTable", str]:
        """The table without those of these columns that are empty or say the same in every row, and what they
        say.

        Args:
            heads: all columns by default, of which a single row keeps those that say something.
        """
        if not self.rows:
            return self, ""
        keeps = heads is None and len(self.rows) < 2
        said = [set(filter(None, column)) for column in zip(*self.rows, strict=True)]
        same = [
            (heads is None or head in heads) and len(texts) < 2 and not (keeps and texts)
            for head, texts in zip(self.heads, said, strict=True)
        ]
        parts = [
            f"{head if len(head) == 1 else head[:1].lower() + head[1:]} {text}"
            for head, texts, drop in zip(self.heads, said, same, strict=True)
            for text in texts
            if drop
        ]
        return self.with_columns([not drop for drop in same]), "; ".join(parts)


INFERENCE = {STANDARD: "Standard inference", "rci": "RCI", "coded": "Coded inference"}

# What an attacker of a threat model may do, by the parts of its name.
THREAT_PARTS = {
    "batch": "the attacker perturbs all K inputs of a batch, each within eps and in [0, 1]",
    "victim": "the attacker perturbs a single input per batch within eps, the other K - 1 are clean",
    "co-batch": "the attacker perturbs one input within eps and chooses the other K - 1 anywhere in [0, 1]",
    "unknown": "the defence draws its randomness after the attack",
    "known": "the attacker knows the scored draw, with a separate attack for each draw",
}


def hiding_text(operator: Mapping[str, Any]) -> str:
    """A clause about a hiding operator: "gradients vanish in softmax at scale 150 (32 calls)".

    Args:
        operator: ``operator``, ``calls`` and ``scale``, from ``attacks.relaxation.record.Operator.plain``.
    """
    scale, calls = operator.get("scale"), operator.get("calls", 0)
    at = "" if scale is None else f" at scale {scale:.3g}"
    return f"gradients vanish in {operator['operator']}{at} ({counted(calls, 'call')})"


def percent(accuracy: float | None) -> str:
    """``28.7``; a fraction that is missing is a dash."""
    return "–" if accuracy is None else f"{100 * accuracy:.1f}"


# The one mark of intervals, and the legend of it.
MARKS = {words.IntervalKind.EVALUATED_IMAGES: "†", words.IntervalKind.POPULATION: "", None: ""}
_MARKED = "Intervals marked † are for the evaluated images."


def kinds_text(kinds: Collection[words.IntervalKind | None]) -> str:
    """A legend of the intervals' kinds: a sentence for each that is there."""
    marked = words.IntervalKind.EVALUATED_IMAGES in kinds
    texts = {
        words.IntervalKind.POPULATION: f"{'Unmarked intervals' if marked else 'Intervals'} are for the "
        "population (the data distribution).",
        words.IntervalKind.EVALUATED_IMAGES: _MARKED,
    }
    return " ".join(text for kind, text in texts.items() if kind in kinds)


def interval(low: float | None, high: float | None, kind: words.IntervalKind | None) -> str:
    """``[25.1, 32.4]`` in percent with the mark of its kind, empty where there is none."""
    if low is None or high is None or kind is None:
        return ""
    return f"[{100 * low:.1f}, {100 * high:.1f}]{MARKS[kind]}"


def batches_text(count: int) -> str:
    """``1 batch``, ``1,024 batches``."""
    return "1 batch" if count == 1 else f"{count:,} batches"


def attacked_text(figure: Interval) -> str:
    """``28.7 [25.1, 32.4]`` in percent; where a batch is answered together the accuracy as attacked, ``6.0 (5
    batches)``.
    """
    ends = interval(figure.low, figure.high, figure.kind)
    if figure.own is not None:
        ends = f"({batches_text(figure.own[1])})"
    return f"{percent(figure.as_attacked)} {ends}".rstrip()


def rebatched_text(figure: Interval | None) -> str:
    """``10.9 [0.0, 13.0]†``: the same inputs in random batches; '' where they were not scored there."""
    if figure is None or figure.own is None or figure.kind is None:
        return ""
    return f"{percent(figure.estimate)} {interval(figure.low, figure.high, figure.kind)}"


def with_interval(figure: Interval | None, missing: str = "") -> str:
    """``28.7 [25.1, 32.4]``, or ``6.0 (5 batches; re-batched 10.9 [0.0, 13.0]†)``; ``missing`` where there
    is none.
    """
    if figure is None:
        return missing
    again = rebatched_text(figure)
    return (
        f"{attacked_text(figure).removesuffix(')')}; re-batched {again})" if again else attacked_text(figure)
    )


def difference_text(difference: Difference | None) -> str:
    """``+4.2 [+1.0, +7.4]†`` in percentage points, each with its sign; the estimate alone without an
    interval, and ``identical`` where it can't be anything but 0. '' without a difference.
    """
    if difference is None:
        return ""
    if difference.low == difference.high:
        return "identical"
    estimate, low, high = (100 * end for end in (difference.estimate, difference.low, difference.high))
    ends = "" if difference.kind is None else f" [{low:+z.1f}, {high:+z.1f}]{MARKS[difference.kind]}"
    return f"{estimate:+z.1f}{ends}"


def pixels(size: float) -> str:
    """``8/255`` where that is what a size is, else a decimal number."""
    short = abs(size - round(size, 3)) < 1e-12  # 0.1 is what was given, not 25.5/255
    ratio = Fraction(size * 255).limit_denominator(16)
    if not short and ratio.numerator and abs(float(ratio) / 255 - size) < 1e-9 and size < 0.25:
        over = f"{ratio.numerator}" if ratio.denominator == 1 else f"{float(ratio):g}"
        return f"{over}/255"
    return f"{size:g}"


def perturbation_text(perturbation: Perturbation) -> str:
    """``linf, eps 8/255 (pixel)``."""
    return f"{perturbation.norm}, eps {pixels(perturbation.eps)} ({perturbation.eps_space})"


def short_perturbation_text(perturbation: Any) -> str:
    """``linf 8/255``, with the space where it is not that of pixels."""
    space = "" if perturbation.eps_space == "pixel" else f" ({perturbation.eps_space})"
    return f"{perturbation.norm} {pixels(perturbation.eps)}{space}"


def inference_text(subject: Subject, *, with_k: bool = False) -> str:
    """``RCI (N = 190)``, with the batch size where a table has several."""
    kind, bracket, options = subject.defence.partition("[")
    sizes = [("K", subject.k if with_k else None), ("N", subject.n)]
    shown = ", ".join(f"{name} = {value}" for name, value in sizes if value is not None)
    name = f"{INFERENCE.get(kind, kind)}{bracket}{options}"
    return f"{name} ({shown})" if shown else name


def subject_text(subject: Subject, *, with_k: bool = False) -> str:
    """``RCI (N = 190) on resnet20``."""
    return f"{inference_text(subject, with_k=with_k)} on {subject.checkpoint}"


# What tables say first of anything that has a subject, a threat model, a perturbation and an attack.
SUBJECT: Columns[Any] = {
    "Network": lambda row: row.subject.checkpoint,
    "Defence": lambda row: inference_text(row.subject, with_k=True),
}
THREAT: Columns[Any] = {"Threat model": lambda row: row.threat}
PERTURBATION: Columns[Any] = {"Perturbation budget": lambda row: perturbation_text(row.perturbation)}
ATTACKED_BY: Columns[Any] = {
    "Attack": lambda row: row.attack,
    "Perturbation budget": lambda row: "" if row.attack == CLEAN else perturbation_text(row.perturbation),
}


def of_part(columns: Columns[Any], part: Callable[[Any], Any]) -> Columns[Any]:
    """The columns of what has these facts in a part of it."""

    def through(text_of: Callable[[Any], object]) -> Callable[[Any], object]:
        return lambda row: text_of(part(row))

    return {head: through(text_of) for head, text_of in columns.items()}


@lru_cache(maxsize=4096)
def parsed_attack(name: str) -> AnyAttack | None:
    """The parts of an attack's name, None for a name of another version or of a combined row."""
    try:
        return read_attack(name)
    except ValueError:
        return None


def papers_attack(attack: str) -> str | None:
    """The paper's name for an attack that it ran: ``fgsm``, ``pgd-10``, ``pgd-100`` or ``clean``, else None.

    A stated step size is still the paper's attack, which states none.
    """
    if attack == "clean":
        return attack
    named = parsed_attack(attack)
    if not isinstance(named, Attack) or named.draws > 1:
        return None
    plain = str(structs.replace(named, step_size=None, eot=None, relaxed=False))
    return plain if plain in PRESETS["paper"] else None


def papers_set(data: str) -> str | None:
    """``cifar10`` or ``cifar100`` for data of that name, or in a file of that name; None for any other."""
    if data.startswith("npz:"):
        stem = re.split(r"[/\\]", data)[-1].lower().replace("-", "")
        return next((name for name in ("cifar100", "cifar10") if name in stem), None)
    return data if data in ("cifar10", "cifar100") else None


def is_submitted(attack: str) -> bool:
    """True if it is perturbed inputs that were made elsewhere, submitted again."""
    return isinstance(parsed_attack(attack), Submitted)


def counted(count: int, noun: str) -> str:
    """``1 unit``, ``2 units``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3.4 h``."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def incomplete_text(examples: int, planned: int) -> str:
    """Missing part of an incomplete row."""
    if not examples:
        return "not run yet"
    return f"{examples:,} of {planned:,}" if examples < planned else "attacks missing"


def series(texts: Sequence[str]) -> str:
    """``a, b and c``."""
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}" if texts else "none"
