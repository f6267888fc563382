"""What the probe of a defence measures."""

from dataclasses import dataclass, field

# Changes below this share of the largest logit are rounding. Another batch size may be computed by another
# algorithm, on a GPU in less precision, hence the looser second figure.
ROUNDING = 1e-4
ROUNDING_ACROSS_SIZES = 1e-2
# Draws that are compared with each other.
DRAWS = 4
# Share of clean inputs without an answer up to which these are errors of a defence like any other.
UNANSWERED = 0.05


@dataclass(frozen=True)
class ProbeResult:
    """What was measured. Changes are the largest absolute change of any logit, in units of logits.

    Attributes:
        k: inputs in the batch.
        scale: largest absolute logit.
        shape: of the logits, which should be (k, classes).
        unanswered: share of inputs, over DRAWS draws, with a logit that is NaN or infinite. Where it is 1
            nothing else was measured.
        same_draw: change between two answers to one input under one draw.
        other_draws: change between draws.
        global_state: change when nothing but the process's global random generators differs.
        co_batched: change of the other answers when one co-batched input is changed.
        co_batched_by: what was done to it in the worst case.
        all_co_batched: change of one answer when all the other inputs are changed.
        cross_gradient: gradient of half the answers with respect to the inputs of the other half, as a share
            of the gradient with respect to their own.
        other_size: change of the first answers when the batch is cut in half; None where draws or co-batched
            inputs differ anyway.
        other_size_error: what happened when half a batch was asked, if it failed.
        other_slot: change of an answer when its input moves to another slot, the others as before; None
            where draws belong to slots.
        grouped: change between ``logits_grouped`` and ``logits``; None where there is no ``logits_grouped``.
        no_gradient: why logits cannot be differentiated in the input, a clause; empty where they can.
        zero_gradients: share of inputs at which cross-entropy has gradient zero in every pixel.
        zero_margin_gradients: the same for the gap between the two largest logits.
        nan_gradients: share of inputs with NaN or infinite gradients.
        double: change between float32 and float64; None where the defence cannot be cast.
        training_layers: batch normalisation and dropout left in training mode, by name.
    """

    k: int
    scale: float
    shape: tuple[int, ...]
    unanswered: float
    same_draw: float = 0.0
    other_draws: float = 0.0
    global_state: float = 0.0
    co_batched: float = 0.0
    co_batched_by: str = ""
    all_co_batched: float = 0.0
    cross_gradient: float = 0.0
    other_size: float | None = None
    other_size_error: str | None = None
    other_slot: float | None = None
    grouped: float | None = None
    no_gradient: str = ""
    zero_gradients: float = 0.0
    zero_margin_gradients: float = 0.0
    nan_gradients: float = 0.0
    double: float | None = None
    training_layers: tuple[str, ...] = field(default=())

    @property
    def randomised(self) -> bool:
        """Whether some draw gave another answer."""
        return self.moved(self.other_draws)

    @property
    def batch_dependent(self) -> bool:
        """Whether some answer followed its co-batched inputs."""
        return (
            self.moved(self.co_batched) or self.moved(self.all_co_batched) or self.cross_gradient > ROUNDING
        )

    def moved(self, change: float, rounding: float = ROUNDING) -> bool:
        """Whether a change is more than rounding."""
        # NaN compares false with everything; it must count as a change.
        return not change <= rounding * self.scale
