"""What the figures of a probe say about a defence: contradictions to its declaration, and warnings."""

from robustbench_coded.defences.logits_shape import misshapen
from robustbench_coded.defences.probe_result import DRAWS, ROUNDING_ACROSS_SIZES, UNANSWERED, ProbeResult
from robustbench_coded.defences.protocol import Defence

_TAKEN = "answers inputs one by one as far as others in the batch go, but"
# A random defence whose numbers are drawn in the type of its inputs draws others in float64. A change of more
# than this part of what another draw changes says nothing about rounding.
AS_OTHER_DRAWS = 0.01
_DECLARE = "; let batch_dependent be True"
_OR_DRAW = (
    ", or let an input use the same random numbers whatever the others are (torch.poisson and torch.binomial "
    "take more or fewer)"
)


def contradictions(defence: Defence, result: ProbeResult) -> list[str]:
    """What it did that its declaration or the protocol rules out: one line each, to follow "it"."""
    found = []
    if wrong := misshapen(defence, result.k, result.shape):
        found.append(wrong)
    if result.unanswered > UNANSWERED:
        found.append(
            f"answers {result.unanswered:.0%} of clean inputs with NaN or infinite logits, and at most "
            f"{UNANSWERED:.0%} may be errors"
        )
    if found:
        return found
    if result.moved(result.same_draw):
        found.append(
            f"answers the same input differently under the same draw, logits moved by {result.same_draw:.2g}"
        )
    elif result.moved(result.global_state):
        found.append(
            "depends on the global random generators beside its draw, reseeding them moved logits by "
            f"{result.global_state:.2g}"
        )
    if not defence.randomised and result.randomised:
        found.append(f"says not randomised, but another draw moved logits by {result.other_draws:.2g}")
    alone = (
        _TAKEN if "batch_dependent" in getattr(defence, "undeclared", ()) else "says batch-independent, but"
    )
    mend = _DECLARE + (_OR_DRAW if defence.randomised else "")
    if not defence.batch_dependent and result.batch_dependent:
        found.append(f"says batch-independent, but {_dependence(result)}{mend}")
    elif (
        not defence.batch_dependent
        and result.other_size is not None
        and result.moved(result.other_size, ROUNDING_ACROSS_SIZES)
    ):
        found.append(f"{alone} another size of the batch moved logits by {result.other_size:.2g}{mend}")
    elif (
        not defence.batch_dependent
        and result.other_slot is not None
        and result.moved(result.other_slot, ROUNDING_ACROSS_SIZES)
    ):
        found.append(
            f"{alone} moving the inputs to other slots of the batch moved their logits by "
            f"{result.other_slot:.2g}{mend}"
        )
    if result.grouped is not None and result.moved(result.grouped, ROUNDING_ACROSS_SIZES):
        found.append(
            f"answers batches in a group (logits_grouped) otherwise than alone, by {result.grouped:.2g}"
        )
    return found


def warnings(defence: Defence, result: ProbeResult) -> list[str]:
    """What is allowed but may mislead an evaluation; one line each."""
    found = []
    if result.unanswered:
        found.append(
            f"it answers {result.unanswered:.1%} of clean inputs with NaN or infinite logits, which count as "
            "errors"
        )
    if result.zero_gradients and not result.no_gradient:
        masked = result.zero_margin_gradients < result.zero_gradients
        reason = " (those of the margin are not: saturated logits)" if masked else ""
        found.append(f"the cross-entropy gradient is zero at {result.zero_gradients:.0%} of inputs{reason}")
    if result.nan_gradients:
        found.append(f"gradients are NaN or infinite at {result.nan_gradients:.0%} of inputs")
    if _depends_on_rounding(defence, result):
        found.append(f"float64 changes logits by {result.double:.2g}: answers depend on rounding errors")
    if result.training_layers:
        names = ", ".join(result.training_layers[:3])
        more = f" and {len(result.training_layers) - 3} more" if len(result.training_layers) > 3 else ""
        found.append(f"layers in training mode: {names}{more}")
    if result.other_size_error:
        found.append(f"cannot answer {result.k // 2} inputs: {result.other_size_error}")
    if defence.randomised and not result.randomised:
        open_ = "randomised" in getattr(defence, "undeclared", ())
        said = "draws random numbers" if open_ else "says randomised"
        found.append(f"{said}, but {DRAWS} draws gave the same answers")
    if defence.batch_dependent and not result.batch_dependent:
        found.append("says batch-dependent, but no answer followed its co-batched inputs")
    return found


def _dependence(result: ProbeResult) -> str:
    if result.moved(result.co_batched):
        return (
            f"changing one co-batched input moved logits by {result.co_batched:.2g} ({result.co_batched_by})"
        )
    if result.moved(result.all_co_batched):
        return f"changing the co-batched inputs moved logits by {result.all_co_batched:.2g}"
    return f"answers have {result.cross_gradient:.2g} of their gradient in co-batched inputs"


def _depends_on_rounding(defence: Defence, result: ProbeResult) -> bool:
    """Whether float64 changes the answers, and not merely because it draws other random numbers."""
    if result.double is None or not result.moved(result.double, ROUNDING_ACROSS_SIZES):
        return False
    if result.randomised:
        return result.double < AS_OTHER_DRAWS * result.other_draws
    # A module that seeds a generator itself draws the same numbers each time, but others in float64.
    return not getattr(defence, "has_sampled", False)
