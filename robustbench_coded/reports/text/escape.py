"""Names in documents. A checkpoint may be called anything; its name must change nothing but the text
shown.

Every text passes `one_line` first: control characters, escape codes and marks that turn the direction of
writing become visible escapes. HTML is escaped by the templates.
"""

import csv
import io
import re
import shlex
from collections.abc import Iterable
from typing import Any

_MARKDOWN = {
    "\\": "&#92;",
    "`": "&#96;",
    "|": "&#124;",
    "<": "&lt;",
    ">": "&gt;",
    "&": "&amp;",
    "$": "&#36;",
    "~": "&#126;",
    "@": "&#64;",
    "*": r"\*",
    "_": r"\_",
    "[": r"\[",
    "]": r"\]",
}
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "{''}",
    "-": "-{}",  # two of them would become a dash
    "[": "{[}",  # at the start of a line of a table it would be an option of the line before
    "*": "{*}",  # likewise
    "†": r"\dag{}",
    "−": "$-$",
}
_FORMULA_STARTS = ("=", "+", "-", "@")


def one_line(text: object) -> str:
    """The text with everything that is not printable as a visible escape, a newline for example as \\\\n."""
    line = str(text)
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


def shortened(text: object, width: int) -> str:
    """One line of at most ``width`` characters; what is too long loses its middle."""
    line = one_line(text)
    if len(line) <= width:
        return line
    tail = (width - 1) // 2
    return f"{line[: width - 1 - tail]}…{line[len(line) - tail :]}"


def markdown(text: object) -> str:
    """The text within a sentence or a table cell of GitHub's Markdown, links in it not live."""
    escaped = "".join(_MARKDOWN.get(c, c) for c in one_line(text))
    escaped = escaped.replace("://", ":&#47;/")
    return re.sub(r"(?i)\bwww\.", lambda match: f"{match[0][:-1]}&#46;", escaped)


def markdown_block(text: object) -> str:
    """The text as a block of code, in a fence longer than any inside it."""
    line = one_line(text)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", line)), default=0))
    return f"{fence}\n{line}\n{fence}"


def latex(text: object, width: int = 60) -> str:
    """The text in LaTeX; letters that some engines lack are named by their number."""
    line = shortened(text, width).replace("…", "...")
    return "".join(_LATEX.get(c, c if ord(c) < 0x180 else f"U+{ord(c):04X}") for c in line)


def csv_text(text: object) -> str:
    """The text of a field of a CSV file; an apostrophe keeps spreadsheets from reading it as a formula."""
    line = one_line(text)
    return f"'{line}" if line.lstrip().startswith(_FORMULA_STARTS) else line


def csv_table(table: Any) -> str:
    """A frame as CSV: nulls empty, numbers read back unchanged, texts that no spreadsheet runs."""
    known = table.astype(object).where(table.notna(), None).itertuples(index=False)
    return csv_document(
        table.columns, ([csv_text(f) if isinstance(f, str) else f for f in row] for row in known)
    )


def csv_document(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A CSV file; None is an empty field."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()


def shell(arguments: list[str]) -> str:
    """A command line to copy, on one line whatever the arguments hold."""
    return " ".join(shlex.quote(a) if a.isprintable() else f"${_c_quoted(a)}" for a in arguments)


def _c_quoted(text: str) -> str:
    return "'" + "".join(c if c.isprintable() and c not in "\\'" else _byte_escapes(c) for c in text) + "'"


def _byte_escapes(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character.encode(errors="surrogateescape"))
