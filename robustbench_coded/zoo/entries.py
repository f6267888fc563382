"""The table of the zoo: every defence, by family. Needs no torch."""

from robustbench_coded.zoo.entry import ZooEntry, family

GOOD, BROKEN = False, True

ENTRIES: tuple[ZooEntry, ...] = (
    *family(
        "masked",
        ("rounding", "masked_gradients:known_rounding", BROKEN, "rounded pixels: no gradient at all"),
        ("saturated", "masked_gradients:known_saturated", BROKEN, "logits so large that no slope is left"),
        ("misleading-gradient", "masked_gradients:known_misleading", BROKEN, "gradients point the wrong way"),
        ("shattered", "masked_gradients:known_shattered", BROKEN, "a ripple hides the slope"),
        ("nan-gradient", "masked_gradients:known_no_number", BROKEN, "gradients are NaN"),
        ("hidden-direction", "hidden_direction:known", BROKEN, "weak where no gradient points"),
        ("saturated-wide", "masked_gradients:known_saturated_wide", GOOD, "large logits, and robust: 80%"),
        ("shattered-wide", "masked_gradients:known_shattered_wide", GOOD, "a ripple, and robust: 80%"),
        ("one-hot-wide", "masked_gradients:known_one_hot_wide", GOOD, "hard answers, and robust: 80%"),
        ("coarse-rounding", "coarse_rounding:known", GOOD, "rounding that takes perturbations away: 90%"),
    ),
    *family(
        "masked",
        ("one-hot-0.1", "same_answers:known_one_hot", BROKEN, "its network's class, a decoy's slope"),
        ("pinned-0.1", "same_answers:known_pinned", BROKEN, "its network's class, a margin that never moves"),
    ),
    *family(
        "masked",
        ("one-hot-0.2", "same_answers:known_one_hot", BROKEN, "its network's class, a decoy's slope"),
        ("pinned-0.2", "same_answers:known_pinned", BROKEN, "its network's class, a margin that never moves"),
        eps=0.2,
    ),
    *family(
        "masked",
        ("one-hot-0.3", "same_answers:known_one_hot", BROKEN, "its network's class, a decoy's slope"),
        ("pinned-0.3", "same_answers:known_pinned", BROKEN, "its network's class, a margin that never moves"),
        eps=0.3,
    ),
    *family(
        "wrong base",
        ("other-base-0.1", "same_answers:known_other_base", BROKEN, "the same, and another network as base"),
        ("wrong-base-weak", "wrong_base:known_weak", BROKEN, "the checkpoint itself, a fragile base named"),
        ("wrong-base-strong", "wrong_base:known_strong", GOOD, "robust, and not what it names: 80%"),
    ),
    *family(
        "wrong base",
        ("other-base-0.2", "same_answers:known_other_base", BROKEN, "the same, and another network as base"),
        eps=0.2,
    ),
    *family(
        "wrong base",
        ("other-base-0.3", "same_answers:known_other_base", BROKEN, "the same, and another network as base"),
        eps=0.3,
    ),
    *family(
        "noisy",
        ("coin-flip", "coin_flip:known", GOOD, "right everywhere, but for a 5% coin: 95%"),
        ("noise-wide", "noisy_linear:known_wide", GOOD, "noise before a linear model, wide margins"),
        ("median-of-noise", "median_of_noise:known", GOOD, "median score of nine noisy copies"),
        ("heavy-noise", "heavy_noise:known", GOOD, "Cauchy noise on the score, wide margins"),
        ("sampling-module", "sampling:known", GOOD, "a plain module that samples inside itself"),
        ("noise-narrow", "noisy_linear:known_narrow", BROKEN, "noise before a linear model, narrow margins"),
        ("random-slope", "heavy_noise:known_random_slope", BROKEN, "its slope is noise, its answers are not"),
        ("ensemble-decoys", "ensembles:known_decoys", BROKEN, "one of eight models, weak on average alone"),
    ),
    *family(
        "noisy",
        ("ensemble-opposed", "ensembles:known_opposed", GOOD, "one of two models; no input fools both: 50%"),
        eps=0.05,
    ),
    *family(
        "coupled",
        ("rci-linear-wide", "rci_linear:known_wide", GOOD, "linear model under RCI, wide margins: 100%"),
        ("rci-linear", "rci_linear:known", BROKEN, "linear model under RCI: 70%, as without it"),
        ("label-leak", "label_leak:known", BROKEN, "answers each input by its neighbour's pixels"),
    ),
    *family(
        "coupled",
        ("half-batch", "half_batch:known", GOOD, "half of every batch stands, whatever is done: 50%"),
        eps=0.05,
    ),
    *family(
        "test-time adapted",
        ("refit-mean", "refit:known_wide", GOOD, "scores centred on the batch, wide margins: 80%"),
        ("refit-mean-narrow", "refit:known_narrow", BROKEN, "scores centred on the batch, narrow margins"),
        eps=0.05,
    ),
    *family(
        "stateful",
        ("answer-memory", "memory:known_memory", BROKEN, "gives near-duplicates the answer they had before"),
        ("memory-reset", "memory:known_reset", BROKEN, "the same, forgotten when told to"),
        ("memory-false-reset", "memory:known_false_reset", BROKEN, "the same, not forgotten when told to"),
        ("alternating", "memory:known_alternating", BROKEN, "two models in turn, weak together"),
    ),
    *family(
        "stateful",
        ("running-mean", "memory:known_running_mean", GOOD, "scores centred on a running mean: 80%"),
        eps=0.05,
    ),
    *family(
        "lying",
        ("says-randomised", "lying:known_says_randomised", GOOD, "deterministic, whatever it says: 80%"),
        ("hidden-noise", "lying:known_hidden_noise", BROKEN, "says deterministic, and draws noise"),
        ("leak-above-16", "lying:known_leak", BROKEN, "answers by its neighbour in batches above 16"),
        ("nan-when-unsure", "lying:known_nan", BROKEN, "NaN near the boundary"),
        ("raises-when-unsure", "lying:known_raises", BROKEN, "an exception near the boundary"),
        ("edits-input", "lying:known_edits", BROKEN, "writes into the tensor it is handed"),
        ("constant", "constant:known", BROKEN, "one class for every input: 30%, and no less"),
    ),
    *family(
        "certified",
        ("smoothing", "smoothing:known", GOOD, "Gaussian smoothing with its certificate"),
        ("smoothing-thin", "smoothing:known_thin", BROKEN, "the same, its noise too small to protect"),
        ("lipschitz", "lipschitz:known", GOOD, "1-Lipschitz network with its certificate"),
        ("lipschitz-narrow", "lipschitz:known_narrow", BROKEN, "the same, its inputs too near the boundary"),
        norm="l2",
        eps=0.25,
    ),
    *family(
        "certified",
        ("trained-linear", "trained:known_linear", GOOD, "linear digits model trained on its worst case"),
        ("digits-pgd-at", "pgd_at:known", GOOD, "adversarially trained digits network"),
    ),
    *family(
        "abstaining",
        ("abstain-unsure", "abstaining:known_unsure", GOOD, "rejects a band wider than eps: 80%"),
        ("abstain-always", "abstaining:known_always", BROKEN, "rejects everything"),
        ("abstain-off-manifold", "abstaining:known_off_manifold", BROKEN, "rejects what gradients lead to"),
    ),
    *family(
        "attack-aware",
        ("edge-wide", "attack_aware:known_edge_wide", GOOD, "notices the edge of the ball, and need not"),
        ("edge-only", "attack_aware:known_edge", BROKEN, "robust at the edge of the ball alone"),
        ("off-manifold", "attack_aware:known_off_manifold", BROKEN, "robust where its slope leads"),
        ("off-grid", "attack_aware:known_off_grid", BROKEN, "robust where pixels are not of 8 bits"),
        ("grad-mode", "attack_aware:known_grad_mode", BROKEN, "robust while gradients are recorded"),
        ("train-mode", "attack_aware:known_train_mode", BROKEN, "robust until somebody calls eval()"),
        ("call-count", "attack_aware:known_call_count", BROKEN, "its slope lies from the fifth call on"),
    ),
)
