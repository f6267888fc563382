"""Perturbed inputs of other rows, for a row that attacks nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robustbench_coded.runs.adversarials import Evaluation


class SubmittedInputs:
    """Perturbed inputs on their way to the process that scores them.

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
