"""Attacks that are run together, by the name of the set, and those that plans and checks ask for.

The product names attacks here and nowhere else; ``{}`` stands for a number. ``LISTED`` has the names that
``csrobust list attacks`` prints.
"""

from attacks.catalogue import AUTOATTACK

ONE_STEP = "fgsm"
USUAL = "pgd-20"
AVERAGED = "eot{}-pgd-20"
OF_LENGTH, AUTO_OF_LENGTH = "pgd-{}", "apgd-ce-{}"
TRANSFER = "transfer-pgd-20"
FROM_TRANSFER = "{}-pgd-40+init=transfer-pgd-20"  # of an estimator: goes on from what transfers

# What the adaptive presets run where a defence's operators hide its gradient, and nowhere else.
RELAXED = ("relaxed-pgd-20+momentum=1", "relaxed-eot4-apgd-ce-50")
# And where there is no gradient even then.
LAST_RESORT = ("square-1000",)
# What they run where inputs are answered together, and nowhere else. A step there follows the sum of the
# losses of a batch. Cross-entropy is flat where an answer is right by far and steep where it is wrong, and
# most of the gradient of the sum serves inputs that need none; the margin gives every input its share.
COUPLED = ("pgd-100+loss=margin+momentum=1", "aware-pgd-20+loss=margin")

# What they run where each input is answered by chance, and nowhere else: gradients averaged over draws can be
# led by a draw that is out of reach, and that of a known draw by the likeliest class.
JOINT = ("joint-33", "aware-joint-33")

# The rungs of the protocol (docs/protocol.md) that name attacks, each in its order. Rows of every table:
NAMED = (ONE_STEP, "pgd-10", "pgd-100", AVERAGED.format(10), "aware-pgd-10", TRANSFER)
FOLLOWS_SHOWN = NAMED[3]
# One cheap attack: gradients of the base model serve any batch, and follow no operator that hides a gradient.
QUICK, QUICK_HIDDEN = (TRANSFER, NAMED[1]), (TRANSFER, RELAXED[0])
# Where other attacks leave something, the cheaper ones first; smoothed ones before all where operators hide
# the gradient.
ADAPTIVE = (
    "fixed-pgd-10",
    "aware-pgd-20+init=transfer-pgd-20",
    COUPLED[1],
    "transfer-apgd-mt-20",
    # The margin and other classes: what cross-entropy alone leaves on a robust network.
    "apgd-mt-20",
    "pgd-100+momentum=1",
    COUPLED[0],
    *JOINT,
)
ADAPTIVE_HIDDEN = (*RELAXED, *LAST_RESORT)
# Before a positive verdict. Values that move one way, or in one place: what notices that they moved both
# ways, or everywhere. Balls that grow from the clean input: what notices how far it was moved. Smooth moves:
# what switches without any margin falling.
DEFERRED = ("parts-60", "growing-48", "switch-20")
# On victims: through the base model first, before a positive verdict through the defence with its draw
# unknown and known.
ON_VICTIMS = (TRANSFER, "pgd-10+loss=margin+momentum=1", "aware-pgd-10+loss=margin")
# Of presets, what only an open verdict needs.
SECOND_STAGE = (FOLLOWS_SHOWN, *ADAPTIVE[1:], *DEFERRED, *ADAPTIVE_HIDDEN)

# What checks ask for.
ANOTHER_LOSS, TWICE_THE_LOSS = "apgd-mt-20", "apgd-mt-40"
SEARCHES = (*LAST_RESORT, "random-1000")
ROUNDABOUT = ("bpda-pgd-20", "spsa-2000")  # where gradients of the defence find less than what has none
# Without gradients to begin with, after the cheapest of all: a difference between the two lengths asks for
# the next one. Then what is stronger.
BY_LABELS = ("surrogate-pgd-20", "rays-400", "rays-800")
BY_LABELS_STRONGER = ("hopskipjump-800", *LAST_RESORT)

# Attacks on a checkpoint, submitted to a defence around it. All steps for all examples: what stops at the
# first wrong answer hardly leaves the checkpoint's boundary.
THROUGH_CHECKPOINT = (TRANSFER, "transfer-apgd-mt-20")
# Where the checkpoint itself samples, and its gradients must come with draws.
OF_SAMPLING = (FOLLOWS_SHOWN, ANOTHER_LOSS)
# What the default runs where nothing else settles a network's verdict.
RECOMBINED = "crossover-160"
# What runs only before a positive verdict, then with twice the starts while these find more.
RESTARTED = "mosaic-8"

# Of csrobust sweep: the attacks of Table 10, and the one that shows what they miss.
SWEEP = (ONE_STEP, "pgd-10", TRANSFER)
# Of csrobust screen. Transfer needs no gradient of the defence and one victim; the rest is for defences that
# transfer does not break, and for networks whose gradients hide something.
SCREENED = (
    USUAL,
    TRANSFER,
    RELAXED[0],
    "aware-pgd-20+init=transfer-pgd-20",
    "aware-pgd-20",
    FOLLOWS_SHOWN,
    ANOTHER_LOSS,
    *LAST_RESORT,
)
STUDIED = ("pgd-10", TRANSFER)  # in ablations

PRESETS: dict[str, tuple[str, ...]] = {
    "paper": NAMED[:3],
    "adaptive": (*NAMED[3:], *ADAPTIVE, *DEFERRED, *ADAPTIVE_HIDDEN),
    # In the place of AutoAttack's standard suite (attacks/composite.py, benchmarks/peers/robust_bench.md).
    "aa": ("aa-100",),
}
# In l0, where none of the others is at home: random pixels run beside all of them as random signs.
PRESETS["sparse"] = (
    "spgd-u-100",
    "spgd-p-100+loss=margin",
    "sigma-zero-100",
    "sparse-rs-1000",
    "eot10-spgd-u-20",
    "aware-spgd-u-20",
    "transfer-spgd-u-100",
    "transfer-sigma-zero-100",
)
# All of these, and whatever the default can come to: what checks ask for, and the last resort where nothing
# else settles a verdict.
PRESETS["full"] = tuple(
    dict.fromkeys(
        (
            *PRESETS["paper"],
            *PRESETS["adaptive"],
            USUAL,
            *THROUGH_CHECKPOINT,
            *OF_SAMPLING,
            *ON_VICTIMS,
            "aware-pgd-10",
            *(FROM_TRANSFER.format(estimator) for estimator in ("eot10", "aware")),
            "transfer-apgd-ce-100",
            "transfer-apgd-t-100",
            "eot20-apgd-ce-100",
            "aware-apgd-ce-50",
            "apgd-ce-100",
            "apgd-dlr-100",
            *ROUNDABOUT,
            *SCREENED,
            TWICE_THE_LOSS,
            *SEARCHES,
            *BY_LABELS,
            *BY_LABELS_STRONGER,
            RESTARTED,
            # What all others leave close to the boundary.
            RECOMBINED,
        )
    )
)


LISTED: dict[str, str] = {
    "fgsm": "one step of eps from the clean input (arXiv 1412.6572)",
    "pgd-10": "10 steps of eps/4 from a random start, last iterate (arXiv 1706.06083)",
    "pgd-100": "100 steps of eps/8",
    "pgd-100@1/255": "100 steps of a stated size",
    "pgd-100+momentum=1": "follows the gradients of all steps so far, and of all draws (arXiv 1710.06081)",
    "pgd-10+restarts=5": "the best of 5 random starts, chosen on the attacker's own draws",
    "pgd-10+target=3": "towards class 3; every attack of this package takes a target",
    "eot10-pgd-20+loss=margin": "raises the margin loss instead of cross-entropy (or loss=dlr)",
    "eot10-pgd-20": "gradients averaged over 10 fresh draws each step (arXiv 1707.07397)",
    "fixed-pgd-10": "one surrogate draw for the whole attack",
    "aware-pgd-10": "knows the draw it is scored on; a separate attack for each",
    "transfer-pgd-20": "gradients of the base model",
    "bpda-pgd-20": "the defence forwards, the base model's gradient backwards (arXiv 1802.00420)",
    "surrogate-pgd-20": "gradients of a small network taught the defence's answers (arXiv 1602.02697)",
    "relaxed-pgd-20+momentum=1": "the defence as it is, operators that hide its gradient smooth backwards",
    "relaxed-eot4-apgd-ce-50": "the same for Auto-PGD on 4 draws; relaxed- goes before any of these",
    "parts-60": "only up, only down, half as far, and in halves of the image: five steps each",
    "growing-48": "in balls of growing radius, as long as the larger one holds more: six steps each",
    "joint-33": "16 draws held, as many of them fooled together as can be (idea: arXiv 2206.06737)",
    "switch-20": "smooth moves to where the answer jumps, then 20 steps behind the jump",
    "mosaic-8": "PGD from 8 starts, the best pixels of all their results for each example",
    "crossover-160": "PGD's results, recombined in 160 generations, where they end close to the boundary",
    "aa-100": "apgd-ce-100, apgd-mt-100, square-750, each on what is left, then more on what came closest; "
    "on random targets all of them on everything, and PGD with momentum",
    "apgd-ce-100": "Auto-PGD on cross-entropy, 100 steps (arXiv 2003.01690)",
    "apgd-dlr-100": "Auto-PGD on the difference of logits ratio",
    "apgd-t-100": "Auto-PGD on the targeted ratio, 100 steps for each of up to 9 targets",
    "apgd-mt-20": "Auto-PGD on the margin, then towards 3 more classes, each run from the best point so far",
    "eot2-apgd-mt-20": "the same on the mean loss of 2 draws",
    "eot20-apgd-ce-100": "Auto-PGD whose step control and best point use the mean loss of 20 draws",
    "transfer-apgd-ce-100": "Auto-PGD on the base model",
    "aware-apgd-ce-50": "Auto-PGD that knows the scored draw",
    "aware-pgd-20+init=transfer-pgd-20": "goes on from another attack's result",
    "square-1000": "random squares, 1000 queries, no gradients (arXiv 1912.00049)",
    "random-1000": "1000 random points of the ball, the best one kept",
    "spsa-1000": "gradients from differences of 1000 queries (arXiv 1802.05666)",
    "rays-1000": "directions of signs, 1000 queries for labels alone (arXiv 2006.12792)",
    "hopskipjump-1000": "along the decision boundary, 1000 queries for labels alone (arXiv 1904.02144)",
    "fmn-100": "fast minimum norm: the nearest wrong answer in any norm (arXiv 2102.12827)",
    "fab-100": "fast adaptive boundary: the nearest wrong answer in linf, l2 or l1 (arXiv 1907.02044)",
    "pdpgd-300": "primal-dual proximal steps: the nearest wrong answer in linf, l2 or l1 (arXiv 2106.01538)",
    "spgd-u-100": "sparse PGD in l0, a mask and colours; colours of all pixels move (arXiv 2405.05075)",
    "spgd-p-100": "the same, colours of the chosen pixels move",
    "sigma-zero-100": "the fewest pixels that give a wrong answer (arXiv 2402.01879)",
    "sparse-rs-1000": "random pixels in l0, 1000 queries, no gradients (arXiv 2006.12834)",
    "torchattacks:PGD+steps=10": "an attack of the torchattacks package, with its constructor's options",
    "my_module:MyAttack+steps=10": "a class or function of your own (docs/your-attack.md)",
    "autoattack:standard": "pyautoattack: " + ", ".join(AUTOATTACK),
}

# Algorithms as papers write them; others with a capital.
AUTHORS_WRITE = {
    **{name: name.upper() for name in ("fgsm", "pgd", "spsa", "fmn", "fab", "pdpgd", "aa", "apgd-ce")},
    **{name: name.upper() for name in ("apgd-dlr", "apgd-t", "apgd-mt")},
    "sparse-rs": "Sparse-RS",
    "rays": "RayS",
    "hopskipjump": "HopSkipJump",
    "spgd-u": "sPGD-u",
    "spgd-p": "sPGD-p",
}
