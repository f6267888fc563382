"""The zoo by name: small defences whose robust accuracy is known, a table by family. Needs no torch until an
entry is loaded.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from robustbench_coded.defences.protocol import Defence
    from robustbench_coded.evaluation.execution.in_memory import InMemory
    from robustbench_coded.evaluation.options.config import EvalConfig
    from robustbench_coded.zoo.known import Known


EXAMPLES = 640  # five batches of 128
IN_BATCHES = 20 * 128  # of inputs that are answered together: as many outcomes as batches may be all there is


@dataclass(frozen=True)
class ZooEntry:
    """One defence of the zoo.

    Attributes:
        family: what kind of defence it is, or of deceit.
        source: ``module:function`` below ``robustbench_coded.zoo`` that makes the defence, its data and its
            truth.
        broken: whether a fair evaluation of ``batch/unknown`` must not end in ``no failure found``. All
            others are as robust as their truth says and must not be called ``no gain`` or ``broken``.
        description: one line.
        norm, eps: the budget that the truth is for, in pixel units.
        examples: how many there are by default. Where inputs are answered together, the batches count.
    """

    name: str
    family: str
    source: str
    broken: bool
    description: str
    norm: str
    eps: float
    examples: int = EXAMPLES

    def load(self, n: int | None = None) -> Known:
        """The defence with its first ``n`` examples (fewer where it has fewer) and its truth on them."""
        n = n or self.examples
        module, _, function = self.source.partition(":")
        return getattr(importlib.import_module(f"robustbench_coded.zoo.{module}"), function)(
            n=n, eps=self.eps
        )

    def build(self, model: nn.Module | None = None) -> Defence:
        """The defence alone, told of every batch. It brings its own model: ``model`` is not used."""
        from robustbench_coded.defences.per_batch import per_batch

        return per_batch(self.load().defence)

    def brings(self, config: EvalConfig, known: Known | None = None) -> tuple[EvalConfig, InMemory]:
        """The options of an evaluation of this entry, and the data and the model that it brings.

        Its base model is evaluated beside it, if it has one; its budget counts unless eps is given.

        Args:
            known: what `load` gave, of another number of examples.
        """
        from robustbench_coded.data.arrays import dataset_in_memory
        from robustbench_coded.defences.per_batch import per_batch
        from robustbench_coded.evaluation.execution.in_memory import Alone, InMemory

        known = known or self.load()
        eps, norm = (config.eps, config.norm) if config.eps else ((self.eps,), self.norm)
        standard = config.standard and known.beside is not None
        config = replace(config, defences=(self.name,), standard=standard, eps=eps, norm=norm)
        model = Alone(per_batch(known.defence), known.k) if known.beside is None else known.beside
        source = f"the zoo's {self.name}, {len(known.x)} examples"
        data = dataset_in_memory((known.x, known.y), name=f"zoo:{self.name}", source=source)
        return config, InMemory(data=data, models={self.name: model})


def family(
    name: str,
    *rows: tuple[str, str, bool, str],
    norm: str = "linf",
    eps: float = 0.1,
    examples: int = EXAMPLES,
) -> list[ZooEntry]:
    """Entries of one family and budget, each from its name, source, whether it is broken, and description."""
    return [ZooEntry(row[0], name, row[1], row[2], row[3], norm, eps, examples) for row in rows]


GOOD, BROKEN = False, True

ENTRIES: tuple[ZooEntry, ...] = (
    *family(
        "masked",
        ("rounding", "masked_gradients:known_rounding", BROKEN, "rounded pixels: no gradient at all"),
        ("saturated", "masked_gradients:known_saturated", BROKEN, "logits so large that no slope is left"),
        ("misleading-gradient", "masked_gradients:known_misleading", BROKEN, "gradients point the wrong way"),
        ("shattered", "masked_gradients:known_shattered", BROKEN, "a ripple hides the slope"),
        ("nan-gradient", "masked_gradients:known_no_number", BROKEN, "gradients are NaN"),
        ("lifted", "masked_gradients:known_lifted", BROKEN, "slopes of a decoy that are no lie"),
        (
            "hidden-direction",
            "masked_gradients:known_hidden_direction",
            BROKEN,
            "weak where no gradient points",
        ),
        ("saturated-wide", "masked_gradients:known_saturated_wide", GOOD, "large logits, and robust: 80%"),
        ("shattered-wide", "masked_gradients:known_shattered_wide", GOOD, "a ripple, and robust: 80%"),
        ("one-hot-wide", "masked_gradients:known_one_hot_wide", GOOD, "hard answers, and robust: 80%"),
        (
            "coarse-rounding",
            "masked_gradients:known_coarse_rounding",
            GOOD,
            "rounding that takes perturbations away: 90%",
        ),
    ),
    *family(
        "masked",
        ("one-hot-0.1", "trained:known_one_hot", BROKEN, "its network's class, a decoy's slope"),
        ("pinned-0.1", "trained:known_pinned", BROKEN, "its network's class, a margin that never moves"),
        (
            "lifted-0.1",
            "trained:known_lifted",
            BROKEN,
            "its network's class lifted above a decoy's logits",
        ),
    ),
    *family(
        "masked",
        ("one-hot-0.2", "trained:known_one_hot", BROKEN, "its network's class, a decoy's slope"),
        ("pinned-0.2", "trained:known_pinned", BROKEN, "its network's class, a margin that never moves"),
        (
            "lifted-0.2",
            "trained:known_lifted",
            BROKEN,
            "its network's class lifted above a decoy's logits",
        ),
        eps=0.2,
    ),
    *family(
        "masked",
        ("one-hot-0.3", "trained:known_one_hot", BROKEN, "its network's class, a decoy's slope"),
        ("pinned-0.3", "trained:known_pinned", BROKEN, "its network's class, a margin that never moves"),
        (
            "lifted-0.3",
            "trained:known_lifted",
            BROKEN,
            "its network's class lifted above a decoy's logits",
        ),
        eps=0.3,
    ),
    *family(
        "wrong base",
        ("other-base-0.1", "trained:known_other_base", BROKEN, "the same, and another network as base"),
        (
            "wrong-base-weak",
            "lying:known_wrong_base_weak",
            BROKEN,
            "the checkpoint itself, a fragile base named",
        ),
        ("wrong-base-strong", "lying:known_wrong_base_strong", GOOD, "robust, and not what it names: 80%"),
    ),
    *family(
        "wrong base",
        ("other-base-0.2", "trained:known_other_base", BROKEN, "the same, and another network as base"),
        eps=0.2,
    ),
    *family(
        "wrong base",
        ("other-base-0.3", "trained:known_other_base", BROKEN, "the same, and another network as base"),
        eps=0.3,
    ),
    *family(
        "noisy",
        ("coin-flip", "noisy:known_coin_flip", GOOD, "right everywhere, but for a 5% coin: 95%"),
        ("noise-wide", "noisy:known_noise_wide", GOOD, "noise before a linear model, wide margins"),
        ("median-of-noise", "noisy:known_median_of_noise", GOOD, "median score of nine noisy copies"),
        ("heavy-noise", "noisy:known_heavy_noise", GOOD, "Cauchy noise on the score, wide margins"),
        ("sampling-module", "noisy:known_sampling_module", GOOD, "a plain module that samples inside itself"),
        ("noise-narrow", "noisy:known_noise_narrow", BROKEN, "noise before a linear model, narrow margins"),
        ("random-slope", "noisy:known_random_slope", BROKEN, "its slope is noise, its answers are not"),
        ("ensemble-decoys", "ensembles:known_decoys", BROKEN, "one of eight models, weak on average alone"),
    ),
    *family(
        "noisy",
        ("ensemble-opposed", "ensembles:known_opposed", GOOD, "one of two models; no input fools both: 50%"),
        eps=0.05,
    ),
    *family(
        "coupled",
        (
            "rci-linear-wide",
            "coupled:known_rci_linear_wide",
            GOOD,
            "linear model under RCI, wide margins: 100%",
        ),
        ("rci-linear", "coupled:known_rci_linear", BROKEN, "linear model under RCI: 70%, as without it"),
        ("label-leak", "coupled:known_label_leak", BROKEN, "answers each input by its neighbour's pixels"),
        examples=IN_BATCHES,
    ),
    *family(
        "coupled",
        ("half-batch", "coupled:known_half_batch", GOOD, "half of every batch stands, whatever is done: 50%"),
        eps=0.05,
        examples=IN_BATCHES,
    ),
    *family(
        "test-time adapted",
        ("refit-mean", "coupled:known_refit_mean", GOOD, "scores centred on the batch, wide margins: 80%"),
        (
            "refit-mean-narrow",
            "coupled:known_refit_mean_narrow",
            BROKEN,
            "scores centred on the batch, narrow margins",
        ),
        eps=0.05,
        examples=IN_BATCHES,
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
        examples=IN_BATCHES,
    ),
    *family(
        "lying",
        ("says-randomised", "lying:known_says_randomised", GOOD, "deterministic, whatever it says: 80%"),
        ("hidden-noise", "lying:known_hidden_noise", BROKEN, "says deterministic, and draws noise"),
        ("leak-above-16", "lying:known_leak", BROKEN, "answers by its neighbour in batches above 16"),
        ("nan-when-unsure", "lying:known_nan", BROKEN, "NaN near the boundary"),
        ("raises-when-unsure", "lying:known_raises", BROKEN, "an exception near the boundary"),
        ("edits-input", "lying:known_edits", BROKEN, "writes into the tensor it is handed"),
        ("constant", "lying:known_constant", BROKEN, "one class for every input: 30%, and no less"),
    ),
    *family(
        "certified",
        ("smoothing", "certified:known_smoothing", GOOD, "Gaussian smoothing with its certificate"),
        (
            "smoothing-thin",
            "certified:known_smoothing_thin",
            BROKEN,
            "the same, its noise too small to protect",
        ),
        ("lipschitz", "certified:known_lipschitz", GOOD, "1-Lipschitz network with its certificate"),
        (
            "lipschitz-narrow",
            "certified:known_lipschitz_narrow",
            BROKEN,
            "the same, its inputs too near the boundary",
        ),
        norm="l2",
        eps=0.25,
    ),
    *family(
        "certified",
        ("trained-linear", "trained:known_linear", GOOD, "linear digits model trained on its worst case"),
        ("digits-pgd-at", "trained:known_pgd_at", GOOD, "adversarially trained digits network"),
    ),
    *family(
        "abstaining",
        ("abstain-unsure", "abstaining:known_unsure", GOOD, "rejects a band wider than eps: 80%"),
        ("abstain-always", "abstaining:known_always", BROKEN, "rejects everything"),
        ("abstain-off-grid", "abstaining:known_off_grid", BROKEN, "rejects pixels that are not of 8 bits"),
        ("abstain-off-manifold", "abstaining:known_off_manifold", BROKEN, "rejects what gradients lead to"),
    ),
    *family(
        "switched",
        ("wrapped", "switches:known_wrapped", BROKEN, "logits overflow where they are raised"),
        ("gate", "switches:known_gate", BROKEN, "fragile where one half is brighter"),
        ("gate-wide", "switches:known_gate_wide", GOOD, "two models, a gate between them, both robust"),
        ("border-band", "switches:known_border_band", BROKEN, "fragile where its outer columns are brighter"),
        ("route", "switches:known_route", BROKEN, "one of three routes is fragile"),
        ("unchecked", "switches:known_unchecked", BROKEN, "stops rejecting where one half is brighter"),
        ("hashed", "switches:known_hashed", BROKEN, "fragile at some values of a hash"),
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
        ("small-wide", "attack_aware:known_small_wide", GOOD, "notices moves above eps / 2, and need not"),
        (
            "small-only",
            "attack_aware:known_small_only",
            BROKEN,
            "robust where a pixel moved by more than eps / 2",
        ),
        ("up-only", "attack_aware:known_up_only", BROKEN, "robust where a pixel was made darker"),
        (
            "off-lattice-wide",
            "attack_aware:known_off_lattice_wide",
            GOOD,
            "notices pixels off the data's 18 levels, and need not",
        ),
        (
            "off-lattice",
            "attack_aware:known_off_lattice",
            BROKEN,
            "robust where pixels are not of the data's 18 levels",
        ),
        ("half-only", "attack_aware:known_half_only", BROKEN, "robust where the left half was changed"),
    ),
    *family(
        "operators",
        (
            "op-softmax",
            "operators:known_softmax",
            BROKEN,
            "block scores through a softmax at an extreme scale",
        ),
        (
            "op-sigmoid",
            "operators:known_sigmoid",
            BROKEN,
            "pixels through a sigmoid at an extreme scale",
        ),
        ("op-tanh", "operators:known_tanh", BROKEN, "block scores through a tanh at an extreme scale"),
        (
            "op-clamp",
            "operators:known_clamp",
            BROKEN,
            "block scores far outside the range they are cut to",
        ),
        ("op-one-hot", "operators:known_one_hot", BROKEN, "argmax and one_hot: a vote of blocks"),
        (
            "op-top-k",
            "operators:known_winners",
            BROKEN,
            "k-winners-take-all: the largest five of sixteen fire",
        ),
        ("op-median", "operators:known_median", BROKEN, "median filter, rounded down"),
        ("op-ranks", "operators:known_ranks", BROKEN, "the rank of zero among the pixels"),
        ("op-max-pool", "operators:known_pooled", BROKEN, "largest of rounded pixels, with ties"),
        ("op-sign", "operators:known_sign", BROKEN, "signs of pixels"),
        ("op-floor", "operators:known_floor", BROKEN, "pixels rounded down to eighths"),
        ("op-where", "operators:known_where", BROKEN, "a comparison and where"),
        ("op-assigned", "operators:known_assigned", BROKEN, "a mask written in place"),
        (
            "op-gather",
            "operators:known_gathered",
            BROKEN,
            "the nearest of four code words, read by gather",
        ),
        ("op-nonzero", "operators:known_placed", BROKEN, "ones written to the places of a mask"),
        ("op-majority", "operators:known_majorities", BROKEN, "majorities of votes"),
        ("op-two-bounds", "operators:known_two_bounds", BROKEN, "minimum of a maximum"),
        ("op-vmap", "operators:known_mapped", BROKEN, "signs under torch.vmap"),
        ("op-python", "operators:known_in_python", BROKEN, "counted in Python: no gradient at all"),
        ("op-in-place", "operators:known_in_place", BROKEN, "rounded and cut in place"),
        (
            "op-thermometer",
            "operators:known_thermometer",
            BROKEN,
            "thermometer code from the number of a bin",
        ),
        ("op-nearest-code", "operators:known_nearest_code", BROKEN, "the nearest of four code words"),
        ("op-bit-depth", "operators:known_bit_depth", BROKEN, "bytes, of which three bits are kept"),
        (
            "op-silent-backward",
            "operators:known_silent",
            BROKEN,
            "an autograd function without a gradient",
        ),
        (
            "op-lying-backward",
            "operators:known_lying",
            BROKEN,
            "an autograd function that turns half of its gradient round",
        ),
        ("op-detach", "operators:known_detached", BROKEN, "detached but for a thousandth"),
        ("op-no-grad", "operators:known_without_graph", BROKEN, "rounded under no_grad"),
        ("op-numpy", "operators:known_numpy", BROKEN, "rounded by numpy"),
        ("op-bernoulli", "operators:known_bernoulli", BROKEN, "bits drawn by bernoulli"),
        ("op-gumbel", "operators:known_gumbel", BROKEN, "bits drawn by gumbel_softmax, detached"),
        ("op-drawn-mask", "operators:known_compared", BROKEN, "bits drawn by a comparison with noise"),
        ("op-sign-wide", "operators:known_sign_wide", GOOD, "signs of pixels, and robust: 80%"),
        (
            "op-clamp-wide",
            "operators:known_clamp_wide",
            GOOD,
            "cut far outside its range, and robust: 80%",
        ),
        (
            "op-bit-depth-wide",
            "operators:known_bit_depth_wide",
            GOOD,
            "three bits a pixel, and robust: 80%",
        ),
        ("op-top-k-wide", "operators:known_winners_wide", GOOD, "k-winners-take-all, and robust: 80%"),
        (
            "op-no-grad-wide",
            "operators:known_without_graph_wide",
            GOOD,
            "rounded under no_grad, and robust: 80%",
        ),
        (
            "op-bernoulli-wide",
            "operators:known_bernoulli_wide",
            GOOD,
            "bits drawn by bernoulli, and robust: 80%",
        ),
        (
            "op-gumbel-wide",
            "operators:known_gumbel_wide",
            GOOD,
            "bits drawn by gumbel_softmax, and robust: 80%",
        ),
    ),
)


ZOO: dict[str, ZooEntry] = {entry.name: entry for entry in ENTRIES}

__all__ = ["EXAMPLES", "ZOO", "ZooEntry"]
