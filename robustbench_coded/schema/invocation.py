"""One command or call that brought a run up to date, and the claim that it tests."""

import math
from typing import Any

from msgspec import Struct, field

from robustbench_coded.schema.case import BudgetKey
from robustbench_coded.schema.claim import Claim, ClaimedAccuracy, setting_of_claim
from robustbench_coded.schema.threat_model import ThreatModel


class Resolved(Struct, frozen=True, kw_only=True):
    """Options after defaults were filled in; threads and group_images decide the last bits of outcomes."""

    eps: tuple[float, ...] = ()
    device: str | None = None
    threads: int | None = None
    group_images: int | None = None


class GitState(Struct, frozen=True, kw_only=True):
    """The checkout that computed: commit, and whether files were changed. None outside a checkout."""

    commit: str | None = None
    dirty: bool | None = None


class Machine(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What computed."""

    system: str | None = None
    processor: str | None = None
    device: str | None = None
    gpu: str | None = None


class Invocation(Struct, frozen=True, kw_only=True):
    """One command or call that brought the folder up to date. ``options`` are those of EvalConfig."""

    time: str = ""
    command: tuple[str, ...] = ()
    options: dict[str, Any] = {}
    resolved: Resolved = field(default_factory=Resolved)
    versions: dict[str, Any] = {}
    git: GitState = field(default_factory=GitState)
    machine: Machine = field(default_factory=Machine)

    def count(self, option: str) -> int | None:
        """An option that is a count of at least 1, if it was stored as one."""
        value = self.options.get(option)
        return value if type(value) is int and value > 0 else None

    @property
    def attacks(self) -> tuple[str, ...]:
        """The names of the attacks that were asked for, those of presets one by one."""
        names = self.options.get("attacks")
        listed = names if isinstance(names, list | tuple) else ()
        return tuple(name for name in listed if isinstance(name, str))

    @property
    def margin(self) -> float | None:
        """The gain that counts, a fraction; None where it was not stored."""
        value = _finite(self.options.get("margin"))
        return None if value is None or not 0 <= value <= 100 else value / 100

    @property
    def claim(self) -> Claim | None:
        """What was claimed, with the defaults of what it did not say filled in."""
        value = _finite(self.options.get("claim"))
        if value is None or not 0 <= value <= 1:
            return None
        inputs = self.options.get("inputs")
        threat, eps = setting_of_claim(
            self.options.get("claim_threat"),
            _finite(self.options.get("claim_eps")),
            inputs if isinstance(inputs, list | tuple) else (),
            self.resolved.eps,
        )
        about = self.options.get("claim_accuracy", ClaimedAccuracy.MEAN)
        norm, space = (self.options.get(name, default) for name, default in _BUDGET)
        try:
            parsed, which = ThreatModel.parse(str(threat)), ClaimedAccuracy(about)
        except ValueError:
            return None
        budget = None if eps is None else BudgetKey(str(norm), eps, str(space))
        attack = self.options.get("claim_attack")
        return Claim(value, parsed, budget, which, attack if isinstance(attack, str) else None)


_BUDGET = (("norm", "linf"), ("eps_space", "pixel"))


def _finite(value: Any) -> float | None:
    """A stranger's number; None unless it is one."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else None
