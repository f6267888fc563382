"""Runs the code cells of notebooks in this process and stores what they show: no notebook server is needed.

python docs/notebooks/run_cells.py          writes the outputs of all notebooks in this folder
"""

import ast
import contextlib
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def main() -> None:
    for path in sorted(HERE.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            notebook = run_notebook(json.loads(path.read_text()))
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
        print(path.name)


def run_notebook(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook with the outputs of its code cells, run in order in one namespace."""
    names: dict[str, Any] = {"__name__": "__main__"}
    count = 0
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            count += 1
            cell["execution_count"] = count
            cell["outputs"] = list(_run(compile_cell("".join(cell["source"])), names, count))
    return notebook


def compile_cell(source: str) -> tuple[Any, Any]:
    """The cell's statements, and its last expression if it ends in one."""
    tree = ast.parse(source)
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = compile(ast.Expression(tree.body.pop().value), "cell", "eval")  # type: ignore[attr-defined]
    return compile(tree, "cell", "exec"), last


def _run(cell: tuple[Any, Any], names: dict[str, Any], count: int) -> Iterator[dict[str, Any]]:
    statements, last = cell
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(statements, names)
        value = None if last is None else eval(last, names)
    if printed.getvalue():
        yield {"name": "stdout", "output_type": "stream", "text": _lines(printed.getvalue())}
    if value is not None:
        data = {"text/plain": _lines(repr(value))}
        if hasattr(value, "_repr_html_"):
            data["text/html"] = _lines(value._repr_html_())
        yield {"data": data, "execution_count": count, "metadata": {}, "output_type": "execute_result"}


def _lines(text: str) -> list[str]:
    return text.rstrip("\n").splitlines(keepends=True)


if __name__ == "__main__":
    main()
