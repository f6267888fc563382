"""The one exception that means 'the user's input is wrong', and what a mistyped name may have meant."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(Exception):
    """Wrong input from the user: one line that says what, where and how to mend it.

    The command line prints the message on standard error and exits with code 2; any other exception is
    a fault of the program or of the machine and exits with code 1.
    """

    def __init__(self, message: str):
        # A hostile file name or key may hold newlines or escape codes; the message must stay one line.
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in message))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``did you mean pgd-10? `` for the known name closest to what was typed; empty where none is close."""
    lower = {each.lower(): each for each in known}
    near = get_close_matches(name.lower(), lower, n=1)
    return f"did you mean {lower[near[0]]}? " if near else ""
