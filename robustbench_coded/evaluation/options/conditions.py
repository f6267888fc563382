"""Prepared options, as planning, workers and reports receive them."""

from dataclasses import dataclass

from robustbench_coded.schema.case import Perturbation


@dataclass(frozen=True)
class Conditions:
    """How every case of an evaluation is attacked and scored: with the case it decides the outcomes.

    Attributes:
        seed: names all streams of random numbers.
        draws, selection_draws: of a randomised defence, to score on and to choose attacks by.
        aware_attacks: separate attacks where the draw is known, each for one scoring draw.
        victims: of the threat models with one victim in a batch.
        early_stop: whether attacks may stop on misclassified examples where nothing is random.
        keeps_adversarials: whether perturbed inputs are stored.
    """

    seed: int
    draws: int
    selection_draws: int
    aware_attacks: int
    victims: int
    early_stop: bool
    keeps_adversarials: bool

    @property
    def known_draws(self) -> int:
        """Scoring draws that are attacked one by one where the attacker knows them."""
        return min(self.aware_attacks, self.draws)


@dataclass(frozen=True)
class RequestedAttacks:
    """The requested attacks and attackers, and their limits.

    Attributes:
        attacks: names, presets expanded.
        victim_attacks: also run against one victim among clean co-batched inputs.
        relaxed_attacks: those of ``attacks`` that run only where an operator hides the gradient.
        second_attacks: those of ``attacks`` that run only where the others leave something.
        inputs: what the attackers control.
        perturbations: of one norm and space, the radii in their order.
        claimed: the threat model and radius that a claim is about; None without a claim.
        standard: whether standard inference is named as a defence, which the claim is about, too.
    """

    attacks: tuple[str, ...]
    victim_attacks: tuple[str, ...]
    relaxed_attacks: tuple[str, ...]
    second_attacks: tuple[str, ...]
    inputs: tuple[str, ...]
    perturbations: tuple[Perturbation, ...]
    claimed: tuple[str, float | None] | None = None
    standard: bool = False

    @property
    def norm(self) -> str:
        return self.perturbations[0].norm


@dataclass(frozen=True)
class WorkerProcesses:
    """Where units are computed.

    Attributes:
        engine: ``local`` or ``ray``.
        workers: processes; None for this one, or one for each of several accelerators.
    """

    engine: str = "local"
    workers: int | None = None
