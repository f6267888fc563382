"""How much of the product runs before the first batch is attacked: functions called, and their files.

    python benchmarks/speed/first_batch.py [--files]

``evaluate("digits-erm", defences=["rci:N=190"])`` with the default attacks, from the call to the return of
the first attack's ``perturb``; the controls do not count. A function counts once however often it is called,
lambdas and comprehensions not at all, nor what happens at import, bodies of classes among it.
"""

import argparse
import inspect
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGES = tuple(f"{ROOT / package}/" for package in ("robustbench_coded", "attacks"))


class _FirstBatch(BaseException):
    """The first batch is attacked."""


def functions_called() -> set[CodeType]:
    """Runs the evaluation under a profiler, and stops it where the first attack returns."""
    from robustbench_coded import evaluate

    called: set[CodeType] = set()
    attacked = f"{ROOT / 'attacks'}/"

    def note(frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        is_function = code.co_flags & inspect.CO_OPTIMIZED and not code.co_name.startswith("<")
        if event == "call" and code.co_filename.startswith(PACKAGES) and is_function:
            called.add(code)
        if event == "return" and code.co_name == "perturb" and code.co_filename.startswith(attacked):
            raise _FirstBatch

    with tempfile.TemporaryDirectory() as folder:
        sys.setprofile(note)
        try:
            evaluate("digits-erm", defences=["rci:N=190"], out=f"{folder}/run")
        except _FirstBatch:
            pass
        finally:
            sys.setprofile(None)
    return called


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--files", action="store_true", help="also how many functions each file has among them"
    )
    given = parser.parse_args()
    called = functions_called()
    files = Counter(str(Path(code.co_filename).relative_to(ROOT)) for code in called)
    print(f"{len(called)} functions in {len(files)} files")
    if given.files:
        for name, count in files.most_common():
            print(f"{count:4} {name}")


if __name__ == "__main__":
    main()
