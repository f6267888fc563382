"""Which subject each subject of a comparison is set against.

The baseline of a subject is the one that differs in one respect alone: another run, another checkpoint or
another defence, whichever the baseline's name is a name of.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from robustbench_coded.errors import InputError
from robustbench_coded.schema.case import SubjectKey


class Contender(NamedTuple):
    """One subject of one run."""

    run: str
    subject: SubjectKey


Counterpart = Callable[[Contender], Contender | None]


def baseline_of(
    runs: dict[str, str], contenders: Sequence[Contender], name: str | None
) -> tuple[Counterpart, str]:
    """For each contender the one it is compared with (None for none), and the baseline in words.

    Args:
        runs: name -> path of each run.
        name: of a run, a checkpoint or a defence; None takes the first run, or standard inference where
            there is one run alone.

    Raises:
        InputError: the name is none of these.
    """
    if name is None:
        if len(runs) > 1:
            name = next(iter(runs))
        elif any(c.subject.defence == "standard" for c in contenders):
            name = "standard"
        else:
            return lambda contender: None, "none: the one run has no standard inference"
    by_path = {path: key for key, path in runs.items()}
    name = by_path.get(name.rstrip("/"), name)
    if name in runs:
        return _in_run(name, contenders), f"run {name}"
    if any(c.subject.checkpoint == name for c in contenders):
        known = set(contenders)
        return lambda c: _if_known(
            c._replace(subject=c.subject._replace(checkpoint=name)), known
        ), f"checkpoint {name}"
    if any(c.subject.defence == name for c in contenders):
        return _of_defence(name, contenders), f"defence {name}"
    known_names = [
        *runs,
        *{c.subject.checkpoint: None for c in contenders},
        *{c.subject.defence: None for c in contenders},
    ]
    raise InputError(
        f"--baseline {name!r} is no run, checkpoint or defence here; choose from "
        + ", ".join(dict.fromkeys(known_names))
    )


def _if_known(contender: Contender, known: set[Contender]) -> Contender | None:
    return contender if contender in known else None


def _in_run(name: str, contenders: Sequence[Contender]) -> Counterpart:
    """The same subject in the baseline run; else its only one of the same inference, or checkpoint."""
    there = [c for c in contenders if c.run == name]

    def counterpart(contender: Contender) -> Contender | None:
        mine = contender.subject
        for alike in (
            lambda s: s == mine,
            lambda s: s[1:] == mine[1:],
            lambda s: s.checkpoint == mine.checkpoint and s.defence != "standard" != mine.defence,
        ):
            found = [c for c in there if alike(c.subject)]
            if len(found) == 1:
                return found[0]
            if found:
                return None
        return None

    return counterpart


def _of_defence(name: str, contenders: Sequence[Contender]) -> Counterpart:
    """The baseline defence on the same checkpoint and run: of the same K and N, else K, else the only one."""

    def counterpart(contender: Contender) -> Contender | None:
        mine = contender.subject
        there = [
            c
            for c in contenders
            if (c.run, c.subject.checkpoint, c.subject.defence) == (contender.run, mine.checkpoint, name)
        ]
        for alike in (
            lambda s: (s.k, s.n) == (mine.k, mine.n),
            lambda s: s.k == mine.k,
            lambda s: True,
        ):
            found = [c for c in there if alike(c.subject)]
            if len(found) == 1:
                return found[0]
        return None

    return counterpart
