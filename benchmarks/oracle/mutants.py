"""Which one-character faults the tests notice: comparisons, signs and constants of what decides outcomes and
verdicts, changed one at a time.

    python -m benchmarks.oracle.mutants TABLE [--seed N] [--number N]

Each mutant meets only tests that execute its line, as one run with coverage finds: the quickest of them, as
many as take half a minute. What is computed on import meets tests of its part. Mutants run in two copies of
the last commit, side by side. TABLE has a line for each; a stopped command goes on.
"""

import argparse
import ast
import csv
import io
import os
import random
import re
import subprocess
import sys
import tempfile
import tokenize
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, pairwise
from pathlib import Path
from queue import Queue
from typing import NamedTuple

from benchmarks.smoke import smoke

ROOT = Path(__file__).parents[2]
# What is mutated, and the tests that are to notice.
PARTS = {
    "robustbench_coded/judge": "tests/judge",
    "robustbench_coded/evaluation/protocol": "tests/evaluation",
    "robustbench_coded/evaluation/execution": "tests/evaluation",
    "attacks/pgd.py": "tests/attacks",
    "attacks/apgd.py": "tests/attacks",
}
ALWAYS = "tests/known_answers"
INSTEAD = {
    "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==",
    "+": "-", "-": "+", "*": "+", "/": "*", "//": "/", "%": "+",
}  # fmt: skip
COLUMNS = ("file", "line", "column", "before", "after", "tests", "noticed_by")
ENOUGH = 30.0  # seconds that the tests of a mutant took without it
LIMIT = 600.0  # seconds; a mutant that makes a test run for ever is noticed, too


class Mutant(NamedTuple):
    """One token of a file, and what stands in its place."""

    file: str
    line: int
    column: int
    before: str
    after: str


def mutants_of(file: str, source: str) -> Iterator[Mutant]:
    """Every comparison, operator between two values, sign and number of a source."""
    places: set[tuple[int, int]] = set()
    gaps: list[tuple[tuple[int, int], tuple[int, int]]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.BinOp):
            gaps.append((_end(node.left), _start(node.right)))
        elif isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
            gaps += [(_end(a), _start(b)) for a, b in pairwise(operands)]
        elif (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)) or (
            isinstance(node, ast.Constant) and type(node.value) in (int, float)
        ):
            places.add(_start(node))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NUMBER and token.start in places:
            digit = next(i for i in range(len(token.string) - 1, -1, -1) if token.string[i].isdigit())
            other = str((int(token.string[digit]) + 1) % 10)
            yield Mutant(
                file, *token.start, token.string, f"{token.string[:digit]}{other}{token.string[digit + 1 :]}"
            )
        elif token.string in INSTEAD and (
            token.start in places or any(a <= token.start and token.end <= b for a, b in gaps)
        ):
            yield Mutant(file, *token.start, token.string, INSTEAD[token.string])


def _start(node: ast.AST) -> tuple[int, int]:
    return node.lineno, node.col_offset  # type: ignore[attr-defined]


def _end(node: ast.AST) -> tuple[int, int]:
    return node.end_lineno, node.end_col_offset  # type: ignore[attr-defined]


def drawn(root: Path, number: int, seed: int) -> list[Mutant]:
    """A random sample of all mutants, in the order of the files."""
    files = [
        file
        for part in PARTS
        for file in ([root / part] if part.endswith(".py") else (root / part).rglob("*.py"))
    ]
    found = [
        mutant
        for file in sorted(files)
        for mutant in mutants_of(str(file.relative_to(root)), file.read_text())
    ]
    return sorted(random.Random(seed).sample(found, number))


def copy_of_head(folder: Path) -> Path:
    """The tracked files of the last commit, in ``folder``, beside the shared data."""
    folder.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "x", "-C", str(folder)], input=archive, check=True)
    return folder


def pytest(copy: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Runs tests of a copy, on the code of that copy."""
    paths = os.pathsep.join(filter(None, (str(copy), os.environ.get("PYTHONPATH", ""))))
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "not long", "-p", "no:cacheprovider", *arguments],
        cwd=copy, env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True, text=True, timeout=None if "--cov" in arguments else LIMIT, check=False,
    )  # fmt: skip


def tests_by_line(copy: Path) -> tuple[dict[str, dict[int, list[str]]], dict[str, float]]:
    """File -> line -> the tests that execute it; and the seconds of every test."""
    from coverage import CoverageData  # of the group dev

    store = copy / ".coverage"
    done = pytest(
        copy, *dict.fromkeys((*PARTS.values(), ALWAYS)), "--cov", "--cov-context=test", "--cov-report=",
        "--durations=0", "-vv", COVERAGE_FILE=str(store),
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"tests fail before anything is changed:\n{done.stdout[-2000:]}")
    data = CoverageData(str(store))
    data.read()
    measured = {}
    for file in data.measured_files():
        if not Path(file).is_relative_to(copy):  # that a test wrote elsewhere
            continue
        lines = data.contexts_by_lineno(file)
        tests = {line: sorted({c.rpartition("|")[0] for c in found if c}) for line, found in lines.items()}
        measured[str(Path(file).relative_to(copy))] = tests
    seconds: dict[str, float] = {}
    for taken, name in re.findall(r"^([\d.]+)s \w+ +(tests/.*)$", done.stdout, re.MULTILINE):
        seconds[name.strip()] = seconds.get(name.strip(), 0.0) + float(taken)
    return measured, seconds


def tests_for(
    mutant: Mutant, by_line: dict[str, dict[int, list[str]]], seconds: dict[str, float]
) -> list[str]:
    """The quickest tests that execute a mutant's statement, or else those of its part."""
    lines = by_line.get(mutant.file, {})
    for line in range(mutant.line, max(mutant.line - 6, 0), -1):  # a statement may have several lines
        if line in lines:
            if lines[line]:
                return quickest(lines[line], seconds)
            break
    folder = next(tests for part, tests in PARTS.items() if mutant.file.startswith(part))
    return quickest([name for name in seconds if name.startswith((folder, ALWAYS))], seconds)


def quickest(tests: Sequence[str], seconds: dict[str, float]) -> list[str]:
    """As many tests as take `ENOUGH` together, and at least one."""
    order = sorted(tests, key=lambda name: (seconds.get(name, 0.0), name))
    spent = list(accumulate(seconds.get(name, 0.0) for name in order))
    return [name for name, sofar in zip(order, spent, strict=True) if sofar <= ENOUGH] or order[:1]


def noticed_by(mutant: Mutant, tests: Sequence[str], copy: Path) -> str:
    """The first test that fails with the mutant in place; '' for none."""
    file = copy / mutant.file
    source = file.read_text()
    lines = source.splitlines(keepends=True)
    line = lines[mutant.line - 1]
    lines[mutant.line - 1] = line[: mutant.column] + mutant.after + line[mutant.column + len(mutant.before) :]
    named = copy / "named-tests.txt"
    named.write_text("\n".join(tests))
    file.write_text("".join(lines))
    try:
        done = pytest(copy, "-x", f"@{named}")
    except subprocess.TimeoutExpired:
        return "the limit of time"
    finally:
        file.write_text(source)
    failed = [text for text in done.stdout.splitlines() if text.startswith(("FAILED", "ERROR"))]
    return "" if done.returncode == 0 else (failed or ["the collection of tests"])[0].split(" - ")[0]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", type=Path)
    parser.add_argument("--seed", type=int, default=41186)
    parser.add_argument("--number", type=int, default=120)
    parser.add_argument("--list", action="store_true", help="print the mutants, and test none")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copies: Queue[Path] = Queue()
        for name in ("a", "b"):
            copies.put(copy_of_head(Path(folder) / name / "csrobust"))
        todo = drawn(copies.queue[0], options.number, options.seed)
        if options.list:
            print(*todo, sep="\n")
            return
        by_line, seconds = tests_by_line(copies.queue[0])
        done = list(csv.reader(options.table.open(newline=""))) if options.table.exists() else [COLUMNS]
        tried = {tuple(line[:5]) for line in done}

        def line_of(mutant: Mutant) -> list[object]:
            copy, tests = copies.get(), tests_for(mutant, by_line, seconds)
            try:
                return [*mutant, len(tests), noticed_by(mutant, tests, copy)]
            finally:
                copies.put(copy)

        with options.table.open("w", newline="") as file, ThreadPoolExecutor(2) as pool:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows(done)
            for line in pool.map(line_of, [m for m in todo if tuple(map(str, m)) not in tried]):
                writer.writerow(line)
                file.flush()
    lines = list(csv.DictReader(options.table.open(newline="")))
    print(f"{sum(bool(line['noticed_by']) for line in lines)} of {len(lines)} noticed")


if __name__ == "__main__":
    smoke("FOLDER/mutants.csv --list")
    main()
