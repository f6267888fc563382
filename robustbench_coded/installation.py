"""How csrobust is installed: its extras, and that the package ``attacks`` beside this one is its own."""

import sys
from importlib.util import find_spec
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]


def require_own_attacks() -> None:
    """Raises ImportError where ``attacks`` is another package, or is missing.

    ``attacks`` is a common name: a folder of that name beside the user's script comes first on Python's path.
    Finding the package does not run it.
    """
    try:
        spec = find_spec("attacks")
    except ValueError:  # sys.modules has a module without a spec
        spec = None
    places = [] if spec is None else [*(spec.submodule_search_locations or ()), spec.origin or ""]
    if any(Path(place).resolve() == HOME / "attacks" for place in places):
        return
    if spec is None and "attacks" not in sys.modules:
        raise ImportError(f"csrobust's own package 'attacks' is missing from {HOME}; install csrobust again")
    place = places[0] if places else "a module without a file"
    raise ImportError(
        f"another package named 'attacks' hides csrobust's own: {place}; rename that one, run from another "
        "folder, or install csrobust into a virtual environment of its own"
    )


def install_line(extra: str) -> str:
    """The command that adds an extra; of no index, where anybody could register the name."""
    return f"pip install -e '.[{extra}]' in a checkout of csrobust"
