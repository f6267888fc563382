"""The order of attacks in a sequential evaluation: expected damage per image, learned as the run goes.

    damage_per_image(row, cost, seen) -> float

What an attack is expected to take away is what it took from the other subjects of the run; where it has not
run yet, a guess by what it knows. Its cost are the image gradients of its first units, scoring included.
"""

from collections.abc import Sequence

from attacks.naming import parse
from robustbench_coded.evaluation.planning.cases import AttackCase

# Of the clean accuracy, where nothing has been measured yet. Gradients of the base model serve any batch:
# their inputs can be scored in many random partitions, which settles words where batches are few.
GUESSED = {"transfer": 1.0, "aware": 0.95, "fresh": 0.9, "fixed": 0.8}
OTHERWISE = 0.7
ONE_STEP = 0.4
IN_ANY_BATCH = 3.0


def damage_per_image(row: AttackCase, cost: float, seen: Sequence[float]) -> float:
    """Accuracy that an attack is expected to take away, for each image gradient.

    Args:
        row: the attack on its subject.
        cost: image gradients, or the seconds that they take.
        seen: shares of the clean accuracy that the same attack took from other subjects of the run.
    """
    name = parse(row.attack)
    guess = ONE_STEP if name.algorithm == "fgsm" else GUESSED.get(name.estimator, OTHERWISE)
    expected = sum(seen) / len(seen) if seen else guess
    if row.subject.batch_dependent and name.estimator == "transfer" and not seen:
        expected *= IN_ANY_BATCH
    return expected / max(cost, 1e-9)
