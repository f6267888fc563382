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
    from zoo.known import Known


EXAMPLES = 640  # five batches of 128
IN_BATCHES = 20 * 128  # of inputs that are answered together: as many outcomes as batches may be all there is


@dataclass(frozen=True)
class ZooEntry:
    """One defence of the zoo.

    Attributes:
        family: what kind of defence it is, or of deceit.
        source: ``module:NAME``, the function ``known_NAME`` of a module below ``zoo`` that
            makes the defence, its data and its truth; ``module:NAME:PART`` hands it the entry's name, too,
            and what the module calls PART.
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
        place, function, *parts = self.source.split(":")
        module = importlib.import_module(f"zoo.{place}")
        given = (self.name, *(getattr(module, part) for part in parts)) if parts else ()
        return getattr(module, f"known_{function}")(*given, n=n or self.examples, eps=self.eps)

    def build(self, model: nn.Module | None = None) -> Defence:
        """The defence with announced batches. It brings its own model: ``model`` is not used."""
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
        from robustbench_coded.evaluation.execution.in_memory import DefenceAsModel, InMemory

        known = known or self.load()
        eps, norm = (config.eps, config.norm) if config.eps else ((self.eps,), self.norm)
        standard = config.standard and known.beside is not None
        config = replace(config, defence=(self.name,), standard=standard, eps=eps, norm=norm)
        model = DefenceAsModel(per_batch(known.defence), known.k) if known.beside is None else known.beside
        source = f"the zoo's {self.name}, {len(known.x)} examples"
        data = dataset_in_memory((known.x, known.y), name=f"zoo:{self.name}", source=source)
        return config, InMemory(data=data, models={self.name: model})


def family(
    name: str,
    module: str,
    *rows: tuple[str, str, bool, str] | tuple[str, str, bool, str, float],
    norm: str = "linf",
    eps: float = 0.1,
    examples: int = EXAMPLES,
) -> list[ZooEntry]:
    """Entries of one family and module: name, function in it, whether it is broken, description, eps if it
    has its own.
    """
    return [
        ZooEntry(
            entry, name, f"{module}:{source}", broken, description, norm, own[0] if own else eps, examples
        )
        for entry, source, broken, description, *own in rows
    ]


GOOD, BROKEN = False, True

ENTRIES: tuple[ZooEntry, ...] = (
    *family(
        "masked",
        "masked_gradients",
        ("rounding", "rounding", BROKEN, "rounded pixels: no gradient at all"),
        ("saturated", "hidden_base:Scaled", BROKEN, "logits so large that no slope is left"),
        ("misleading-gradient", "hidden_base:Reversed", BROKEN, "gradients point the wrong way"),
        ("shattered", "shattered", BROKEN, "a ripple hides the slope"),
        ("nan-gradient", "hidden:NoNumber", BROKEN, "gradients are NaN"),
        ("lifted", "hidden:lifted", BROKEN, "slopes of a decoy that are no lie"),
        ("hidden-direction", "hidden_direction", BROKEN, "weak where no gradient points"),
        ("saturated-wide", "hidden_wide:Scaled", GOOD, "large logits, and robust: 80%"),
        ("shattered-wide", "shattered_wide", GOOD, "a ripple, and robust: 80%"),
        ("one-hot-wide", "hidden_wide:hard_answers", GOOD, "hard answers, and robust: 80%"),
        ("coarse-rounding", "coarse_rounding", GOOD, "rounding that takes perturbations away: 90%"),
    ),
    *(
        entry
        for eps in (0.1, 0.2, 0.3)
        for entry in family(
            "masked",
            "trained",
            (f"one-hot-{eps}", "wrapped:OneHot", BROKEN, "its network's class, a decoy's slope"),
            (f"pinned-{eps}", "wrapped:Pinned", BROKEN, "its network's class, a margin that never moves"),
            (f"lifted-{eps}", "wrapped:Lifted", BROKEN, "its network's class lifted above a decoy's logits"),
            eps=eps,
        )
    ),
    *(
        entry
        for eps in (0.1, 0.2, 0.3)
        for entry in family(
            "wrong base",
            "trained",
            (f"other-base-{eps}", "other_base", BROKEN, "the same, and another network as base"),
            eps=eps,
        )
    ),
    *family(
        "wrong base",
        "lying",
        ("wrong-base-weak", "wrong_base_weak", BROKEN, "the checkpoint itself, a fragile base named"),
        ("wrong-base-strong", "wrong_base_strong", GOOD, "robust, and not what it names: 80%"),
    ),
    *family(
        "noisy",
        "noisy",
        ("coin-flip", "coin_flip", GOOD, "right everywhere, but for a 5% coin: 95%"),
        ("noise-wide", "noise_wide", GOOD, "noise before a linear model, wide margins"),
        ("median-of-noise", "median_of_noise", GOOD, "median score of nine noisy copies"),
        ("heavy-noise", "heavy_noise", GOOD, "Cauchy noise on the score, wide margins"),
        ("sampling-module", "sampling_module", GOOD, "a plain module that samples inside itself"),
        ("noise-narrow", "noise_narrow", BROKEN, "noise before a linear model, narrow margins"),
        ("random-slope", "random_slope", BROKEN, "its slope is noise, its answers are not"),
        ("ensemble-decoys", "decoys", BROKEN, "one of eight models, weak on average alone"),
        ("ensemble-opposed", "opposed", GOOD, "one of two models; no input fools both: 50%", 0.05),
    ),
    *family(
        "random ensembles",
        "ensembles",
        ("members-together", "together", BROKEN, "three of five have to be fooled together: 20%"),
        ("members-scaled", "scaled", BROKEN, "the same, one with logits 100 times as large"),
        ("members-weighted", "weighted", BROKEN, "the same, drawn with unequal weights"),
        ("members-apart", "apart", GOOD, "of three of five only one falls at a time: 60%"),
        ("members-apart-scaled", "apart_scaled", GOOD, "the same, one with logits 100 times as large"),
        eps=0.05,
        examples=256,
    ),
    *(
        entry
        for twin, about in (
            ("", ""),
            ("-noise", ", behind tiny noise"),
            ("-scaled", ", logits scaled by batch"),
        )
        for entry in family(
            "encodings",
            "encodings",
            (
                f"sines{twin}",
                "encoded:SINES",
                BROKEN,
                f"five octaves of every pixel before a linear layer{about}",
            ),
            (
                f"sines-again{twin}",
                "encoded:SINES_AGAIN",
                BROKEN,
                f"the same, trained from another seed{about}",
            ),
            (
                f"sines-small{twin}",
                "encoded:SINES",
                GOOD,
                f"sines in a smaller ball: half stands{about}",
                0.05,
            ),
            (f"bumps{twin}", "encoded:BUMPS", GOOD, f"a soft code of 16 bins before a linear layer{about}"),
            (f"slopes{twin}", "encoded:SLOPES", GOOD, f"piecewise linear functions of every pixel{about}"),
            (
                f"levels{twin}",
                "encoded:LEVELS",
                GOOD,
                f"a soft thermometer code before a linear layer{about}",
            ),
            examples=256,
        )
    ),
    *family(
        "coupled",
        "coupled",
        ("rci-linear-wide", "rci_linear_wide", GOOD, "linear model under RCI, wide margins: 100%"),
        ("rci-linear", "rci_linear", BROKEN, "linear model under RCI: 70%, as without it"),
        ("label-leak", "label_leak", BROKEN, "answers each input by its neighbour's pixels"),
        ("half-batch", "half_batch", GOOD, "half of every batch stands, whatever is done: 50%", 0.05),
        examples=IN_BATCHES,
    ),
    *family(
        "test-time adapted",
        "coupled",
        ("refit-mean", "refit_mean", GOOD, "scores centred on the batch, wide margins: 80%"),
        ("refit-mean-narrow", "refit_mean_narrow", BROKEN, "scores centred on the batch, narrow margins"),
        eps=0.05,
        examples=IN_BATCHES,
    ),
    *family(
        "stateful",
        "coupled",
        (
            "answer-memory",
            "remembering:AnswerMemory",
            BROKEN,
            "gives near-duplicates the answer they had before",
        ),
        ("memory-reset", "remembering:MemoryWithReset", BROKEN, "the same, forgotten when told to"),
        (
            "memory-false-reset",
            "remembering:MemoryWithFalseReset",
            BROKEN,
            "the same, not forgotten when told to",
        ),
        ("alternating", "alternating", BROKEN, "two models in turn, weak together"),
    ),
    *family(
        "stateful",
        "coupled",
        ("running-mean", "running_mean", GOOD, "scores centred on a running mean: 80%"),
        eps=0.05,
        examples=IN_BATCHES,
    ),
    *family(
        "lying",
        "lying",
        ("says-randomised", "says_randomised", GOOD, "deterministic, whatever it says: 80%"),
        ("hidden-noise", "hidden_noise", BROKEN, "says deterministic, and draws noise"),
        ("leak-above-16", "leak", BROKEN, "answers by its neighbour in batches above 16"),
        ("nan-when-unsure", "silent:NanWhenUnsure", BROKEN, "NaN near the boundary"),
        ("raises-when-unsure", "silent:RaisesWhenUnsure", BROKEN, "an exception near the boundary"),
        ("edits-input", "edits", BROKEN, "writes into the tensor it is handed"),
        ("constant", "constant", BROKEN, "one class for every input: 30%, and no less"),
    ),
    *family(
        "certified",
        "certified",
        ("smoothing", "smoothing", GOOD, "Gaussian smoothing with its certificate"),
        ("smoothing-thin", "smoothing_thin", BROKEN, "the same, its noise too small to protect"),
        ("lipschitz", "lipschitz", GOOD, "1-Lipschitz network with its certificate"),
        ("lipschitz-narrow", "lipschitz_narrow", BROKEN, "the same, its inputs too near the boundary"),
        norm="l2",
        eps=0.25,
    ),
    *family(
        "certified",
        "trained",
        ("trained-linear", "linear", GOOD, "linear digits model trained on its worst case"),
        ("digits-pgd-at", "pgd_at", GOOD, "adversarially trained digits network"),
    ),
    *family(
        "abstaining",
        "abstaining",
        ("abstain-unsure", "unsure", GOOD, "rejects a band wider than eps: 80%"),
        ("abstain-always", "always", BROKEN, "rejects everything"),
        ("abstain-off-grid", "off_grid", BROKEN, "rejects pixels that are not of 8 bits"),
        ("abstain-off-manifold", "off_manifold", BROKEN, "rejects what gradients lead to"),
    ),
    *family(
        "switched",
        "switches",
        ("wrapped", "wrapped", BROKEN, "logits overflow where they are raised"),
        ("gate", "gate", BROKEN, "fragile where one half is brighter"),
        ("gate-wide", "gate_wide", GOOD, "two models, a gate between them, both robust"),
        ("border-band", "border_band", BROKEN, "fragile where its outer columns are brighter"),
        ("route", "route", BROKEN, "one of three routes is fragile"),
        ("unchecked", "unchecked", BROKEN, "stops rejecting where one half is brighter"),
        ("hashed", "hashed", BROKEN, "fragile at some values of a hash"),
    ),
    *family(
        "attack-aware",
        "attack_aware",
        ("edge-wide", "edge_wide", GOOD, "notices the edge of the ball, and need not"),
        ("edge-only", "edge", BROKEN, "robust at the edge of the ball alone"),
        ("off-manifold", "off_manifold", BROKEN, "robust where its slope leads"),
        ("off-grid", "off_grid", BROKEN, "robust where pixels are not of 8 bits"),
        ("grad-mode", "grad_mode", BROKEN, "robust while gradients are recorded"),
        ("train-mode", "train_mode", BROKEN, "robust until somebody calls eval()"),
        ("call-count", "call_count", BROKEN, "its slope lies from the fifth call on"),
        ("small-wide", "small_wide", GOOD, "notices moves above eps / 2, and need not"),
        ("small-only", "small_only", BROKEN, "robust where a pixel moved by more than eps / 2"),
        ("up-only", "up_only", BROKEN, "robust where a pixel was made darker"),
        (
            "off-lattice-wide",
            "off_lattice_wide",
            GOOD,
            "notices pixels off the data's 18 levels, and need not",
        ),
        ("off-lattice", "off_lattice", BROKEN, "robust where pixels are not of the data's 18 levels"),
        ("half-only", "half_only", BROKEN, "robust where the left half was changed"),
    ),
    *family(
        "operators",
        "operators",
        ("op-softmax", "monotone:softmax", BROKEN, "block scores through a softmax at an extreme scale"),
        ("op-sigmoid", "monotone:sigmoid", BROKEN, "pixels through a sigmoid at an extreme scale"),
        ("op-tanh", "monotone:tanh", BROKEN, "block scores through a tanh at an extreme scale"),
        ("op-clamp", "monotone:clamp", BROKEN, "block scores far outside the range they are cut to"),
        ("op-one-hot", "monotone:one_hot_votes", BROKEN, "argmax and one_hot: a vote of blocks"),
        ("op-top-k", "monotone:winners", BROKEN, "k-winners-take-all: the largest five of sixteen fire"),
        ("op-median", "monotone:median_filter", BROKEN, "median filter, rounded down"),
        ("op-ranks", "monotone:ranks", BROKEN, "the rank of zero among the pixels"),
        ("op-max-pool", "monotone:pooled_ties", BROKEN, "largest of rounded pixels, with ties"),
        ("op-sign", "monotone:sign", BROKEN, "signs of pixels"),
        ("op-floor", "monotone:floor", BROKEN, "pixels rounded down to eighths"),
        ("op-where", "monotone:where", BROKEN, "a comparison and where"),
        ("op-assigned", "monotone:assigned", BROKEN, "a mask written in place"),
        ("op-gather", "monotone:gathered_code", BROKEN, "the nearest of four code words, read by gather"),
        ("op-nonzero", "monotone:placed", BROKEN, "ones written to the places of a mask"),
        ("op-majority", "monotone:majorities", BROKEN, "majorities of votes"),
        ("op-two-bounds", "monotone:two_bounds", BROKEN, "minimum of a maximum"),
        ("op-vmap", "monotone:mapped", BROKEN, "signs under torch.vmap"),
        ("op-python", "monotone:in_python", BROKEN, "counted in Python: no gradient at all"),
        ("op-in-place", "monotone:in_place", BROKEN, "rounded and cut in place"),
        ("op-thermometer", "monotone:thermometer", BROKEN, "thermometer code from the number of a bin"),
        ("op-nearest-code", "monotone:nearest_code", BROKEN, "the nearest of four code words"),
        ("op-bit-depth", "monotone:bit_depth", BROKEN, "bytes, of which three bits are kept"),
        ("op-silent-backward", "monotone:silent_backward", BROKEN, "an autograd function without a gradient"),
        (
            "op-lying-backward",
            "monotone:lying_backward",
            BROKEN,
            "an autograd function that turns half of its gradient round",
        ),
        ("op-detach", "monotone:detached", BROKEN, "detached but for a thousandth"),
        ("op-no-grad", "monotone:without_graph", BROKEN, "rounded under no_grad"),
        ("op-numpy", "monotone:through_numpy", BROKEN, "rounded by numpy"),
        ("op-bernoulli", "sampled:bernoulli", BROKEN, "bits drawn by bernoulli"),
        ("op-gumbel", "sampled:gumbel", BROKEN, "bits drawn by gumbel_softmax, detached"),
        ("op-drawn-mask", "sampled:compared", BROKEN, "bits drawn by a comparison with noise"),
        ("op-sign-wide", "monotone_wide:sign", GOOD, "signs of pixels, and robust: 80%"),
        ("op-clamp-wide", "monotone_wide:clamp", GOOD, "cut far outside its range, and robust: 80%"),
        ("op-bit-depth-wide", "monotone_wide:bit_depth", GOOD, "three bits a pixel, and robust: 80%"),
        ("op-top-k-wide", "monotone_wide:winners", GOOD, "k-winners-take-all, and robust: 80%"),
        ("op-no-grad-wide", "monotone_wide:without_graph", GOOD, "rounded under no_grad, and robust: 80%"),
        ("op-bernoulli-wide", "sampled_wide:bernoulli", GOOD, "bits drawn by bernoulli, and robust: 80%"),
        ("op-gumbel-wide", "sampled_wide:gumbel", GOOD, "bits drawn by gumbel_softmax, and robust: 80%"),
    ),
)


ZOO: dict[str, ZooEntry] = {entry.name: entry for entry in ENTRIES}

__all__ = ["EXAMPLES", "ZOO", "ZooEntry"]
