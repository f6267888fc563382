"""How much of the examples a sequential evaluation looks at before it decides: fixed before anything runs."""


def rounds_of(examples: int, batch: int) -> tuple[int, ...]:
    """The number of examples at the end of each round: a batch, twice as many each time, then all.

    The last round at least doubles, too, so that the looks stay few: 128, 256, 640 for 640 examples in
    batches of 128.

    Args:
        examples: all that may be evaluated.
        batch: the largest batch; ends of rounds are multiples of it, but for the last one.
    """
    ends, end = [], batch
    while 2 * end <= examples:
        ends.append(end)
        end *= 2
    return (*ends, examples)
