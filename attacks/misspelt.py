"""What a mistyped name of an attack may have meant."""

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches


def corrections(text: str, words: Sequence[str]) -> Iterator[str]:
    """The text with its misspelt words replaced by known ones, the closest first: ``pdg-7``, ``pgd-7``.

    Args:
        words: those that names are made of; one may hold hyphens itself (``apgd-ce``).
    """
    pieces = re.split(r"([-+@=:])", text)
    # Words with hyphens are tried first: two or more pieces together may stand for one.
    for length in (3, 1):
        for start in range(0, len(pieces), 2):
            written = "".join(pieces[start : start + length])
            if not re.match("[A-Za-z]{3}", written) or written in words:
                continue
            for word in get_close_matches(written.lower(), words, n=3, cutoff=0.6):
                yield "".join([*pieces[:start], word, *pieces[start + length :]])
