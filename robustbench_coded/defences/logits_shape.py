"""Whether logits have the shape that the protocol asks for."""

from robustbench_coded.defences.protocol import Defence, reject_class


def misshapen(defence: Defence, k: int, shape: tuple[int, ...]) -> str | None:
    """What is wrong with the shape of the logits of k inputs, if anything."""
    if len(shape) != 2 or shape[0] != k:
        return f"answers {k} inputs with logits of shape {shape}, not ({k}, classes)"
    classes, reject = getattr(defence.base, "classes", None), reject_class(defence)
    if reject is not None and not 0 <= reject < shape[1]:
        return f"rejects by class {reject}, of {shape[1]} logits for each input"
    if classes is not None and reject is not None and shape[1] == classes:
        return (
            f"rejects by class {reject}, which its base model answers as a class of its own: rejecting takes "
            f"one more logit than the {classes} classes"
        )
    if classes is not None and shape[1] - (reject is not None) != classes:
        return f"answers with {shape[1]} logits for each input, its base model has {classes} classes"
    return None if shape[1] > 1 else "answers with one logit for each input: there is nothing to choose from"


def too_few_classes(defence: Defence, logits: int, highest: int) -> str | None:
    """What is wrong with so many logits where labels go up to ``highest``, if anything."""
    classes = logits - (reject_class(defence) is not None)
    if highest < classes:
        return None
    return f"answers {classes} classes, and labels go up to {highest}: no input of that class could be right"
