"""Published defences by name, ``published:jpeg``: every record of this folder's files, JPEG for jpeg. Needs
no torch. The core finds them as ``DEFENCES``, an entry point of ``csrobust.defences``.

The records are read from the source without running it. So adding a defence is adding a record ``BIT_DEPTH``
and a class ``BitDepth(model)`` or, where it needs images that are not evaluated, ``BitDepth(model, pool)``.
"""

import ast
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustbench_coded.errors import InputError

PREFIX = "published:"


@dataclass(frozen=True)
class PaperRecord:
    """A published defence. Every value is a literal, so that it can be read without running the file.

    Attributes:
        about: its description without its end, the paper; what stands before its colon is the name in tables.
        title: the paper's title.
        arxiv: its arXiv id; where it has none, the venue, and ``authors`` who they are.
        section: where the defence is defined.
        year: of the paper.
        random: what is drawn anew for every answer; '' for a deterministic defence.
        coupling: what makes an answer depend on the co-batched inputs; '' where nothing does.
        claim: what the paper claims, with data set and budget.
        setting: how it is set here, and what is left out or done otherwise than in the paper.
        untrained: what else is otherwise around a network that was not trained behind it.
        breaks: (arXiv id, what it reports) of every evaluation by others that left little or no gain.
        lowered: the same of those that found less than is claimed, and a gain all the same.
        disputes: (arXiv id, or OWNER/REPOSITORY#ISSUE; what critics say; what the authors say) where no
            evaluation settles it. No verdict depends on it.
        spec: the inference of this project that it is, ``rci:N=1.5K``, where the file builds nothing.
        recipe: the training recipe that it is, where it is a way of training.
        arch: how the name of its architecture begins, where it is a network of its own.

    What follows is read off the file and not written in it:

    Attributes:
        name: as typed after ``published:``.
        file: where it is defined.
        pooled: whether it needs images that are not evaluated.
    """

    about: str
    title: str
    arxiv: str
    section: str
    year: int
    claim: str
    setting: str
    random: str = ""
    coupling: str = ""
    authors: str = ""
    breaks: tuple[tuple[str, str], ...] = ()
    lowered: tuple[tuple[str, str], ...] = ()
    disputes: tuple[tuple[str, str, str], ...] = ()
    spec: str = ""
    recipe: str = ""
    arch: str = ""
    untrained: str = ""
    name: str = ""
    file: str = ""
    pooled: bool = False

    @property
    def venue(self) -> str:
        """Where the paper is: ``arXiv 1711.00117``, ``ICLR 2018``."""
        return f"arXiv {self.arxiv}" if self.arxiv[:1].isdigit() else self.arxiv

    @property
    def is_training(self) -> bool:
        """True if it is a property of the checkpoint, so that nothing can be built around another one."""
        return bool(self.recipe or self.arch)

    @property
    def description(self) -> str:
        paper = f"{self.authors}, {self.venue}" if self.authors else self.venue
        disputed = "".join(f"; disputed: {source}" for source, _, _ in self.disputes)
        return f"{self.about} ({paper}{disputed})."

    @property
    def label(self) -> str:
        """As tables name it: what stands before the colon of its description."""
        return self.description.partition(":")[0]

    @property
    def module(self) -> str:
        return f"{__package__}.{self.file}"

    def stands_for(self) -> str:
        """The inference of csrobust that it is, ``rci:N=1.5K``; '' where it is built here.

        Raises:
            InputError: it is a way of training.
        """
        if self.is_training:
            raise InputError(
                f"{PREFIX}{self.name} is a property of the checkpoint; name one that has it with --ckpt, "
                "without --defence"
            )
        return self.spec

    def build(self, model: Any, pool: Any = None) -> Any:
        """The defence around a model, which sees every batch before its queries."""
        from robustbench_coded.defences.per_batch import per_batch
        from robustbench_coded.defences.sampling import seeded_globally

        module = importlib.import_module(self.module)
        with seeded_globally(0):  # weights that it draws are the same in every worker
            kind = getattr(module, _class_of(self.name))
            built = kind(model, pool) if self.pooled else kind(model)
        built.name = PREFIX + self.name
        return per_batch(built)


def _class_of(name: str) -> str:
    """``BitDepth`` for ``bit-depth``."""
    return "".join(word.capitalize() for word in name.split("-"))


def _read(path: Path) -> list[PaperRecord]:
    """The defences of a file: its assignments ``NAME = PaperRecord(...)``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    records = []
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("PaperRecord("):
            assert isinstance(node.value, ast.Call)
            values = {str(given.arg): ast.literal_eval(given.value) for given in node.value.keywords}
            name = ast.unparse(node.targets[0]).lower().replace("_", "-")
            kind = classes.get(_class_of(name))
            pooled = kind is not None and any(
                isinstance(n, ast.arg) and n.arg == "pool" for n in ast.walk(kind)
            )
            records.append(PaperRecord(**values, name=name, file=path.stem, pooled=pooled))
    return records


def _all() -> dict[str, PaperRecord]:
    records = [defence for path in Path(__file__).parent.glob("*.py") for defence in _read(path)]
    return {defence.name: defence for defence in sorted(records, key=lambda defence: defence.name)}


PUBLISHED: dict[str, PaperRecord] = _all()
# As the command line names them.
DEFENCES = {PREFIX + name: defence for name, defence in PUBLISHED.items()}
