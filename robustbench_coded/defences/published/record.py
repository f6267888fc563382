"""What a published defence says of itself, as plain data at the top of its file. Needs no torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Record:
    """A published defence. Every value is a literal, so that it can be read without running the file.

    Attributes:
        title: the paper's title.
        arxiv: its arXiv id; where it has none, the venue.
        section: where the defence is defined.
        year: of the paper.
        random: what is drawn anew for every answer; '' for a deterministic defence.
        coupling: what makes an answer depend on the co-batched inputs; '' where nothing does.
        claim: what the paper claims, with data set and budget.
        setting: how it is set here, and what is left out or done otherwise than in the paper.
        untrained: what else is otherwise around a network that was not trained behind it.
        breaks: (arXiv id, what it reports) of every evaluation by others that left little or no gain.
        lowered: the same of those that found less than is claimed, and a gain all the same.
        spec: the inference of this project that it is, ``rci:N=1.5K``, where the file builds nothing.
        recipe: the training recipe that it is, where it is a way of training.
        arch: how the name of its architecture begins, where it is a network of its own.
    """

    title: str
    arxiv: str
    section: str
    year: int
    random: str
    coupling: str
    claim: str
    setting: str
    breaks: tuple[tuple[str, str], ...] = ()
    lowered: tuple[tuple[str, str], ...] = ()
    spec: str = ""
    recipe: str = ""
    arch: str = ""
    untrained: str = ""

    @property
    def is_training(self) -> bool:
        """Whether it is a property of the checkpoint, so that nothing can be built around another one."""
        return bool(self.recipe or self.arch)
