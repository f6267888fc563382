"""The operator family by name: which operator, and how wide the margins are."""

from functools import partial

from robustbench_coded.zoo.operators import cuts, sampled, scores
from robustbench_coded.zoo.operators.monotone import known_monotone
from robustbench_coded.zoo.operators.sampled import known_sampled

ROW = 63  # of the pattern that every entry looks for

known_softmax = partial(known_monotone, "op-softmax", ROW, scores.softmax)
known_sigmoid = partial(known_monotone, "op-sigmoid", ROW, scores.sigmoid)
known_tanh = partial(known_monotone, "op-tanh", ROW, scores.tanh)
known_clamp = partial(known_monotone, "op-clamp", ROW, scores.clamp)
known_one_hot = partial(known_monotone, "op-one-hot", ROW, scores.one_hot_votes)
known_winners = partial(known_monotone, "op-top-k", ROW, scores.winners)
known_median = partial(known_monotone, "op-median", ROW, scores.median_filter)
known_ranks = partial(known_monotone, "op-ranks", ROW, scores.ranks)
known_pooled = partial(known_monotone, "op-max-pool", ROW, scores.pooled_ties)
known_sign = partial(known_monotone, "op-sign", ROW, scores.sign)
known_floor = partial(known_monotone, "op-floor", ROW, scores.floor)
known_where = partial(known_monotone, "op-where", ROW, scores.where)
known_assigned = partial(known_monotone, "op-assigned", ROW, scores.assigned)
known_in_place = partial(known_monotone, "op-in-place", ROW, scores.in_place)
known_thermometer = partial(known_monotone, "op-thermometer", ROW, scores.thermometer)
known_nearest_code = partial(known_monotone, "op-nearest-code", ROW, scores.nearest_code)
known_gathered = partial(known_monotone, "op-gather", ROW, scores.gathered_code)
known_placed = partial(known_monotone, "op-nonzero", ROW, scores.placed)
known_majorities = partial(known_monotone, "op-majority", ROW, scores.majorities)
known_two_bounds = partial(known_monotone, "op-two-bounds", ROW, scores.two_bounds)
known_mapped = partial(known_monotone, "op-vmap", ROW, scores.mapped)
known_bit_depth = partial(known_monotone, "op-bit-depth", ROW, scores.bit_depth)
known_silent = partial(known_monotone, "op-silent-backward", ROW, cuts.silent_backward)
known_lying = partial(known_monotone, "op-lying-backward", ROW, cuts.lying_backward)
known_detached = partial(known_monotone, "op-detach", ROW, cuts.detached)
known_without_graph = partial(known_monotone, "op-no-grad", ROW, cuts.without_graph)
known_numpy = partial(known_monotone, "op-numpy", ROW, cuts.through_numpy)
known_in_python = partial(known_monotone, "op-python", ROW, cuts.in_python)
known_bernoulli = partial(known_sampled, "op-bernoulli", ROW, sampled.bernoulli)
known_gumbel = partial(known_sampled, "op-gumbel", ROW, sampled.gumbel)
known_compared = partial(known_sampled, "op-drawn-mask", ROW, sampled.compared)

known_sign_wide = partial(known_monotone, "op-sign-wide", ROW, scores.sign, wide=True)
known_clamp_wide = partial(known_monotone, "op-clamp-wide", ROW, scores.clamp, wide=True)
known_bit_depth_wide = partial(known_monotone, "op-bit-depth-wide", ROW, scores.bit_depth, wide=True)
known_winners_wide = partial(known_monotone, "op-top-k-wide", ROW, scores.winners, wide=True)
known_without_graph_wide = partial(known_monotone, "op-no-grad-wide", ROW, cuts.without_graph, wide=True)
known_bernoulli_wide = partial(known_sampled, "op-bernoulli-wide", ROW, sampled.bernoulli, wide=True)
known_gumbel_wide = partial(known_sampled, "op-gumbel-wide", ROW, sampled.gumbel, wide=True)
