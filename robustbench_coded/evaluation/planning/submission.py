"""Where the perturbed inputs of a row come from that attacks nothing: units of other rows, and transforms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attacks.submitted import Transforms

if TYPE_CHECKING:
    from robustbench_coded.evaluation.planning.plan import Unit
    from robustbench_coded.runs.adversarials import Evaluation

# Of the attacker's own draws, by which the target's worst of several perturbed inputs is found.
CHOICE_DRAWS = 2


@dataclass(frozen=True)
class Submission:
    """Perturbed inputs that were made elsewhere, one forward pass for each draw of the target.

    Attributes:
        sources: units of one attack each, which hold its perturbed inputs; of several attacks the target
            takes the worst for each input, or each batch, on the attacker's own draws.
        transforms: what is done to the perturbed inputs first.
    """

    sources: tuple[tuple[Unit, ...], ...]
    transforms: Transforms = ()

    @property
    def questions(self) -> int:
        """Forward passes that choosing costs, beside those of scoring."""
        return CHOICE_DRAWS * len(self.sources) if len(self.sources) > 1 else 0

    def as_data(self) -> dict[str, Any]:
        """What decides the submitted inputs, as JSON data; ids of units are hashes of what decides theirs."""
        return {
            "version": 1,
            "sources": [[unit.id for unit in source] for source in self.sources],
            "transforms": [list(transform) for transform in self.transforms],
        }


class SubmittedInputs:
    """Perturbed inputs on their way to whoever scores them.

    In the process that has the run folder they are read when they are asked for. Sent to another process they
    travel as they are, once: that process may have no disk in common with this one, and sends none back.

    Args:
        read: gives, for each source, the perturbed inputs of the unit's batches by the index of the batch.
    """

    def __init__(self, read: Callable[[], list[dict[int, Evaluation]]] | None):
        self._read = read

    def read(self) -> list[dict[int, Evaluation]]:
        """For each source the evaluations of the unit's batches, by batch."""
        if self._read is None:
            raise RuntimeError("perturbed inputs were asked for where they have been sent from")
        return self._read()

    def __reduce__(self) -> tuple[Any, ...]:
        if isinstance(self._read, _Sent) or self._read is None:
            return SubmittedInputs, (None,)
        return SubmittedInputs, (_Sent(self._read()),)


@dataclass(frozen=True)
class _Sent:
    """What was read in another process."""

    content: list[dict[int, Evaluation]]

    def __call__(self) -> list[dict[int, Evaluation]]:
        return self.content
