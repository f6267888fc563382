"""Published defences by name, ``published:jpeg``: every file of this folder with a RECORD. Needs no torch.

The records are read from the source without running it. So adding a defence is adding a file: its record, and
``build(model)`` or, where it needs images that are not evaluated, ``build(model, pool)``.
"""

import ast
import importlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from robustbench_coded.defences.named import register, register_pooled
from robustbench_coded.defences.published.record import Record

PREFIX = "published:"


@dataclass(frozen=True)
class PublishedDefence:
    """One file of this folder.

    Attributes:
        name: as typed after ``published:``.
        description: the first line of the file.
        builds: whether the file builds a defence; others are inferences, trainings or networks.
        pooled: whether it needs images that are not evaluated.
    """

    name: str
    description: str
    record: Record
    builds: bool
    pooled: bool

    @property
    def label(self) -> str:
        """As tables name it: what stands before the colon of its description."""
        return self.description.partition(":")[0]

    @property
    def module(self) -> str:
        return f"{__package__}.{self.name.replace('-', '_')}"

    def build(self, model: Any, pool: Any = None) -> Any:
        """The defence around a model, told of every batch."""
        from robustbench_coded.defences.global_generators import seeded_globally
        from robustbench_coded.defences.per_batch import per_batch

        module = importlib.import_module(self.module)
        with seeded_globally(0):  # weights that it draws are the same in every worker
            built = module.build(model, pool) if self.pooled else module.build(model)
        built.name = PREFIX + self.name
        return per_batch(built)


def _read(path: Path) -> PublishedDefence | None:
    """The defence of a file; None for a file without a record."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == ["RECORD"]:
            assert isinstance(node.value, ast.Call)
            values = {str(given.arg): ast.literal_eval(given.value) for given in node.value.keywords}
            built = [f for f in tree.body if isinstance(f, ast.FunctionDef) and f.name == "build"]
            pooled = bool(built) and len(built[0].args.args) == 2
            first = (ast.get_docstring(tree) or "").partition("\n")[0]
            name = path.stem.replace("_", "-")
            return PublishedDefence(name, first, Record(**values), bool(built), pooled)
    return None


def _all() -> dict[str, PublishedDefence]:
    found = [_read(path) for path in sorted(Path(__file__).parent.glob("*.py"))]
    return {defence.name: defence for defence in found if defence is not None}


PUBLISHED: dict[str, PublishedDefence] = _all()
register({PREFIX + d.name: partial(d.build) for d in PUBLISHED.values() if d.builds})
register_pooled(PREFIX + d.name for d in PUBLISHED.values() if d.pooled)
