"""What would settle an open verdict: the next steps of its checks, each attack named once."""

import re
from collections.abc import Sequence

# Everything up to the attacks, and the attacks: "run pgd-20 and square-1000".
_RUNS = re.compile(r"(?P<asks>.*\brun) (?P<attacks>\S+(?: and \S+)*)")

AT_THAT_EPS = " at that eps"


def merged_steps(steps: Sequence[str]) -> tuple[str, ...]:
    """The steps in their order; those that run attacks in the same way are one step, with all its attacks.

    An attack that an earlier step names is not named again.
    """
    merged: dict[str, dict[str, None]] = {}
    named: set[str] = set()
    for step in steps:
        found = _RUNS.fullmatch(step)
        asks, attacks = (found["asks"], found["attacks"].split(" and ")) if found else (step, [])
        fresh = [attack for attack in attacks if attack not in named]
        if fresh or not found:
            merged.setdefault(asks, {}).update(dict.fromkeys(fresh))
            named.update(fresh)
    return tuple(f"{asks} {_listed(list(attacks))}" if attacks else asks for asks, attacks in merged.items())


def as_option(step: str) -> str:
    """A step that runs attacks, with these as an option to paste behind the command of the run."""
    steps, that_eps, _ = step.partition(AT_THAT_EPS)
    found = _RUNS.fullmatch(steps)
    if found is None:
        return step
    attacks = dict.fromkeys(found["attacks"].split(" and "))
    return f"{found['asks'].removesuffix('run')}add --attacks {','.join(attacks)}{that_eps}"


def _listed(attacks: Sequence[str]) -> str:
    """``a, b and c``."""
    *others, last = attacks
    return f"{', '.join(others)} and {last}" if others else last
