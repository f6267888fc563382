"""`python PROGRAM --smoke`: a benchmark at its smallest, in seconds, with nothing that is not in the tree.

`tests/bench/test_smoke.py` runs all of them, so that none stays that no longer runs.
"""

import atexit
import shutil
import sys
import tempfile


def smoke(words: str = "", *, needs: str = "") -> None:
    """Where --smoke is all that was typed: these words in its place.

    Args:
        words: in which FOLDER is one that goes again at the end.
        needs: what else must be there; without it nothing can run, and this is said.
    """
    if sys.argv[1:] != ["--smoke"]:
        return
    if needs:
        sys.exit(f"no smoke run: needs {needs}")
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    sys.argv[1:] = words.replace("FOLDER", folder).split()
