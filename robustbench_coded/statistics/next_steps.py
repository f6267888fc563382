"""What would answer a check that is not passed, and what would settle an open verdict."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

WITHOUT_GRADIENTS = "without the defence's gradients"


@dataclass(frozen=True)
class NextStep:
    """Attacks to run, or something else to do.

    Attributes:
        do: what to do where no attack is asked for, as "run the probe".
        attacks: names, in order.
        how: how the attacks are to be run, as "at that eps"; empty for the settings of the run.
    """

    do: str = ""
    attacks: tuple[str, ...] = ()
    how: str = ""

    def __str__(self) -> str:
        """One clause; attacks as the option to paste behind the command of the run."""
        if not self.attacks:
            return self.do
        option = f"add --attacks {','.join(self.attacks)}"
        return f"{self.how}, {option}" if self.how else option


def run_attacks(*attacks: str, how: str = "") -> NextStep | None:
    """The step that runs ``attacks``, each once; None without any."""
    return NextStep(attacks=tuple(dict.fromkeys(attacks)), how=how) if attacks else None


def merged_steps(steps: Iterable[NextStep]) -> tuple[NextStep, ...]:
    """The steps in their order; those that run attacks in the same way are one step, with all its attacks.

    An attack that an earlier step names is not named again.
    """
    merged: dict[tuple[str, str], NextStep] = {}
    named: set[str] = set()
    for step in steps:
        fresh = tuple(attack for attack in step.attacks if attack not in named)
        if step.attacks and not fresh:
            continue
        named.update(fresh)
        before = merged.setdefault((step.do, step.how), replace(step, attacks=()))
        merged[step.do, step.how] = replace(before, attacks=(*before.attacks, *fresh))
    return tuple(merged.values())
