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

    def without_constants(self) -> tuple["TextTable", str]:
        """The table without empty columns and those that say the same in every row, and what these say.

        A row that is the only one keeps its texts.
        """
        single = len(self.rows) < 2
        same = [
            len(set(column)) == 1 and not (single and column[0]) for column in zip(*self.rows, strict=True)
        ]
        if not self.rows:
            return self, ""
        said = [
            f"{head}: {text}"
            for head, text, drop in zip(self.heads, self.rows[0], same, strict=True)
            if drop and text
        ]
        heads = tuple(head for head, drop in zip(self.heads, same, strict=True) if not drop)
        rows = tuple(
            tuple(text for text, drop in zip(row, same, strict=True) if not drop) for row in self.rows
        )
        return TextTable(heads, rows, self.numbers), "; ".join(said)
