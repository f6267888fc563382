"""Which attacks are measured on the larger number of images."""

import torch

from benchmarks.peers.nearest_parity import OURS, SUBJECTS, Found, _chosen


def test_the_second_round_has_the_two_nearest_of_ours_and_of_the_others_in_the_cell():
    def found(library, name, distance):
        return Found(library, name, torch.full((3,), distance), 101.0)

    cell = [found(OURS, "a", 3.0), found(OURS, "b", 1.0), found(OURS, "c", 2.0)]
    cell += [found("adv-lib", "d", 2.0), found("adv-lib", "e", 9.0), found("foolbox", "f", 8.0)]
    last = SUBJECTS[-1]
    table = {(last.network.name, "l2", 50): cell, (last.network.name, "l2", 200): cell[:1]}
    assert _chosen(table, last, "l2", 50) == {(OURS, "b"), (OURS, "c"), ("adv-lib", "d"), ("foolbox", "f")}
    assert _chosen(table, last, "l1", 50) == set()
