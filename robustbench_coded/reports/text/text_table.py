"""A plain table of texts, for every format."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TextTable:
    """Texts in rows under titles; nothing is escaped yet.

    Attributes:
        numbers: columns that hold numbers, aligned to the right and sorted by value.
    """

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[str] = frozenset()
