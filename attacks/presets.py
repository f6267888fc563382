"""Attacks that are run together, by the name of the set."""

# What the adaptive presets run where a defence's operators hide its gradient, and nowhere else.
RELAXED = ("relaxed-pgd-20+momentum=1", "relaxed-eot4-apgd-ce-50")
# And where there is no gradient even then.
LAST_RESORT = ("square-1000",)
# What they run where inputs are answered together, and nowhere else. A step there follows the sum of the
# losses of a batch. Cross-entropy is flat where an answer is right by far and steep where it is wrong, and
# most of the gradient of the sum serves inputs that need none; the margin gives every input its share.
COUPLED = ("pgd-100+loss=margin+momentum=1", "aware-pgd-20+loss=margin")

# What they run where other attacks leave something. The first of these follows the gradient that a defence
# shows: only where operators hide it, that waits for what the relaxed attacks leave.
FOLLOWS_SHOWN = "eot10-pgd-20"
SECOND_STAGE = (
    FOLLOWS_SHOWN,
    "pgd-100+momentum=1",
    "aware-pgd-20+init=transfer-pgd-20",
    *COUPLED,
    "apgd-mt-20",
    "greedy-20",
    "parts-60",
    "growing-48",
    "transfer-apgd-mt-20",
    *RELAXED,
    *LAST_RESORT,
)

PRESETS: dict[str, tuple[str, ...]] = {
    "paper": ("fgsm", "pgd-10", "pgd-100"),
    "adaptive": (
        FOLLOWS_SHOWN,
        "pgd-100+momentum=1",
        "fixed-pgd-10",
        "aware-pgd-10",
        "transfer-pgd-20",
        "aware-pgd-20+init=transfer-pgd-20",
        *COUPLED,
        # The margin and other classes: what cross-entropy alone leaves on a robust network.
        "apgd-mt-20",
        # Few values at a time: what notices that all of them moved.
        "greedy-20",
        # Values that move one way, or in one place: what notices that they moved both ways, or everywhere.
        "parts-60",
        # Balls that grow from the clean input: what notices how far it was moved.
        "growing-48",
        "transfer-apgd-mt-20",
        *RELAXED,
        *LAST_RESORT,
    ),
    # In the place of AutoAttack's standard suite (attacks/in_turn.py, benchmarks/robust_bench.md).
    "aa": ("aa-100",),
}
PRESETS["full"] = (
    *PRESETS["paper"],
    *PRESETS["adaptive"],
    "transfer-apgd-ce-100",
    "transfer-apgd-t-100",
    "eot20-apgd-ce-100",
    "aware-apgd-ce-50",
    "gmsa3avg-pgd-20",
    "gmsa3min-pgd-20",
    "bpda-pgd-20",
    "eotauto-pgd-20",
    "apgd-ce-100",
    "apgd-mt-100+closest=2",
    "square-750+closest=5",
    "apgd-dlr-100",
    "spsa-2000",
    # What all others leave close to the boundary.
    "crossover-80",
)
