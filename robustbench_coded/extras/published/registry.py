"""Published defences by name, ``published:jpeg``: the tables of published.toml. Needs no torch. The core
finds them as ``DEFENCES``, an entry point of ``csrobust.defences``.

``[bit-depth]`` in that file is built by the class ``BitDepth(model)`` of its ``file``, or by
``BitDepth(model, pool)`` where it is ``pooled``.
"""

import importlib
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any

import msgspec

from robustbench_coded.errors import InputError

PREFIX = "published:"


@dataclass(frozen=True)
class PaperRecord:
    """A published defence.

    Attributes:
        name: as typed after ``published:``, the name of its table.
        about: its description without its end, the paper; what stands before its colon is the name in tables.
        title: the paper's title.
        arxiv: its arXiv id; where it has none, the venue, and ``authors`` who they are.
        section: where the defence is defined.
        year: of the paper.
        file: the module of this package that builds it; '' where nothing is built here.
        pooled: whether it needs images that are not evaluated.
        random: what is drawn anew for every answer; '' for a deterministic defence.
        coupling: what makes an answer depend on the co-batched inputs; '' where nothing does.
        claim: what the paper claims, with data set and budget.
        setting: how it is set here, and what is left out or done otherwise than in the paper.
        untrained: what else is otherwise around a network that was not trained behind it.
        breaks: (arXiv id, what it reports) of every evaluation by others that left little or no gain.
        lowered: the same of those that found less than is claimed, and a gain all the same.
        disputes: (arXiv id, or OWNER/REPOSITORY#ISSUE; what critics say; what the authors say) where no
            evaluation settles it. No verdict depends on it.
        spec: the inference of this project that it is, ``rci:N=1.5K``.
        recipe: the training recipe that it is, where it is a way of training.
        arch: how the name of its architecture begins, where it is a network of its own.
    """

    name: str
    about: str
    title: str
    arxiv: str
    section: str
    year: int
    claim: str
    setting: str
    file: str = ""
    pooled: bool = False
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

    @property
    def venue(self) -> str:
        """Where the paper is: ``arXiv 1711.00117``, ``ICLR 2018``."""
        return f"arXiv {self.arxiv}" if self.arxiv[:1].isdigit() else self.arxiv

    @property
    def is_record(self) -> bool:
        """True if nothing is built around a checkpoint: it is a property of one, or needs other networks."""
        return not (self.file or self.spec)

    @property
    def description(self) -> str:
        paper = f"{self.authors}, {self.venue}" if self.authors else self.venue
        disputed = "".join(f"; disputed: {source}" for source, _, _ in self.disputes)
        return f"{self.about} ({paper}{disputed})."

    @property
    def label(self) -> str:
        """As tables name it: what stands before the colon of its description."""
        return self.about.partition(":")[0]

    def stands_for(self) -> str:
        """The inference of csrobust that it is, ``rci:N=1.5K``; '' where it is built here.

        Raises:
            InputError: it is a record alone.
        """
        if self.is_record:
            raise InputError(
                f"{PREFIX}{self.name} is a property of the checkpoint, or needs networks that do not "
                "come with csrobust; name a checkpoint that has it with --ckpt, without --defence"
            )
        return self.spec

    def build(self, model: Any, pool: Any = None) -> Any:
        """The defence around a model, which sees every batch before its queries."""
        from robustbench_coded.defences.per_batch import per_batch
        from robustbench_coded.defences.sampling import seeded_globally

        module = importlib.import_module(f"{__package__}.{self.file}")
        kind = getattr(module, "".join(word.capitalize() for word in self.name.split("-")))
        with seeded_globally(0):  # weights that it draws are the same in every worker
            built = kind(model, pool) if self.pooled else kind(model)
        built.name = PREFIX + self.name
        return per_batch(built)


def _all() -> dict[str, PaperRecord]:
    tables = tomllib.loads(resources.files(__package__).joinpath("published.toml").read_text("utf-8"))
    return {name: msgspec.convert({"name": name, **tables[name]}, PaperRecord) for name in sorted(tables)}


PUBLISHED: dict[str, PaperRecord] = _all()
# As the command line names them.
DEFENCES = {PREFIX + name: defence for name, defence in PUBLISHED.items()}
