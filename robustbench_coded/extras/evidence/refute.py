#!/usr/bin/env python3
"""Shows that a claimed accuracy does not hold, from the files beside it. Needs torch and numpy alone.

    python refute.py

claim.json     what was claimed, and what was measured
inputs.npz     clean and perturbed [B, K, C, H, W] inputs in [0, 1], label [B, K], scored [B, K],
               draw [B, R, A, K]: R draws of A permutations for each batch (empty without permutation),
               encoder [N, K] and decoder [K, N] of coded inference (empty for standard inference)
model.pt2      the network, pixels to logits, as torch.export wrote it

A draw is a permutation p of the batch: slot s of the encoder holds input p[s]. The batch is mixed by the
encoder, answered by the network, un-mixed by the decoder and put back in order; the logits of the A
permutations are averaged.
"""

import json
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent


def answer(network, x, permutations, encoder, decoder):
    """Logits [K, classes] for one batch x [K, C, H, W] under one draw [A, K]."""
    if encoder is None:
        return network(x)
    if permutations.shape[1] == 0:
        permutations = torch.arange(len(x))[None]
    total = torch.zeros(())
    for p in permutations:
        mixed = (encoder @ x[p].flatten(1)).unflatten(1, x.shape[1:])
        decoded = decoder @ network(mixed)
        logits = torch.empty_like(decoded)
        logits[p] = decoded
        total = total + logits
    return total / len(permutations)


def accuracy(network, x, label, scored, draw, encoder, decoder):
    """Accuracy over the scored inputs of all batches and draws, and how many answers it is of."""
    right = count = 0
    for b in range(len(x)):
        found = torch.stack([answer(network, x[b], p, encoder, decoder).argmax(1) for p in draw[b]])
        correct = found == label[b]
        right += int((correct & scored[b]).sum())
        count += len(correct) * int(scored[b].sum())
    return right / count, count


def furthest(clean, perturbed, claim):
    """The largest distance of a perturbed input from its clean one, in the norm of the claim."""
    moved = (perturbed - clean).flatten(2)
    if claim["eps_space"] == "normalized":
        deviation = torch.tensor(claim["deviation"])
        moved = moved / deviation.repeat_interleave(moved.shape[2] // len(deviation))
    if claim["norm"] == "l0":
        return int((perturbed != clean).any(2).flatten(2).sum(2).max())
    order = {"linf": torch.inf, "l2": 2, "l1": 1}[claim["norm"]]
    return float(torch.linalg.vector_norm(moved, ord=order, dim=2).max())


@torch.no_grad()
def main():
    claim = json.loads((HERE / "claim.json").read_text())
    stored = {name: torch.from_numpy(array) for name, array in np.load(HERE / "inputs.npz").items()}
    network = torch.export.load(HERE / "model.pt2").module()
    coded = stored["encoder"].numel() > 0
    parts = (stored["label"], stored["scored"], stored["draw"])
    matrices = (stored["encoder"], stored["decoder"]) if coded else (None, None)
    print(f"claimed:   {claim['claim']:.1%} of {claim['defence']} on {claim['checkpoint']}" + claim["about"])
    print(f"threat:    {claim['threat']}, {claim['norm']}, eps {claim['eps']:.6g} ({claim['eps_space']})")
    distance = furthest(stored["clean"], stored["perturbed"], claim)
    print(f"budget:    the furthest input moved by {distance:.6g}; box [0, 1]: {in_box(stored['perturbed'])}")
    clean, count = accuracy(network, stored["clean"], *parts, *matrices)
    print(f"clean:     {clean:.1%} of {count} answers")
    measured, count = accuracy(network, stored["perturbed"], *parts, *matrices)
    low, high = claim["interval"]
    print(f"perturbed: {measured:.1%} of {count} answers")
    print(f"recorded:  {claim['measured']:.1%} in the whole run, 95% interval {low:.1%} to {high:.1%}")
    inside = in_box(stored["perturbed"]) and distance <= claim["eps"] * (1 + 1e-5)
    refuted = inside and measured < claim["claim"]
    print("The claim does not hold on these inputs." if refuted else "These inputs do not refute the claim.")
    return 0 if refuted else 1


def in_box(x):
    return bool(((x >= 0) & (x <= 1)).all())


if __name__ == "__main__":
    raise SystemExit(main())
