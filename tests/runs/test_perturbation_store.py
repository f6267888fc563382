"""Perturbed inputs of a run while it lasts: what comes back is what was put, or nothing."""

import pytest
import torch

from robustbench_coded.runs.adversarials import (
    FOLDER,
    Adversarials,
    PerturbationStore,
    PerturbedDigest,
    sum_of,
)

UNIT = "0123456789abcdef0123"


def tensors(seed=0):
    clean = torch.rand(2, 4, 1, 3, 3, generator=torch.Generator().manual_seed(seed))
    x = clean.clone()
    x[0, 1] += 1 / 3
    x[1, 2:] -= 1 / 7
    found = Adversarials()
    found.add([5, 6], [-1, -1], None, clean, x)
    return found.tensors(), x


def test_what_comes_back_is_exact(tmp_path):
    store = PerturbationStore(tmp_path)
    put, x = tensors()
    store.put(UNIT, put)
    first, second = PerturbationStore(tmp_path).get(UNIT)
    assert (first.batch, second.batch) == (5, 6) and first.slots.tolist() == [1]
    assert torch.equal(first.x, x[0, 1:2]) and torch.equal(second.x, x[1, 2:])
    store.remove()
    assert UNIT not in store and not (tmp_path / FOLDER).exists()


def test_inputs_find_their_batch_in_any_order_and_a_batch_may_have_none(tmp_path):
    put, x = tensors()
    order = torch.tensor([2, 0, 1])
    shuffled = {
        "batch": torch.tensor([5, 8, 6]),
        "victim": torch.full((3,), -1),
        "known": torch.full((3,), -1),
        "evaluation": torch.tensor([0, 2, 2])[order],
        "slot": put["slot"][order],
        "x": put["x"][order],
    }
    store = PerturbationStore(tmp_path)
    store.put(UNIT, shuffled)
    assert UNIT in store
    first, none, second = store.get(UNIT)
    assert (first.batch, none.batch, second.batch) == (5, 8, 6)
    assert none.x.shape == (0, 1, 3, 3) and torch.equal(first.x, x[0, 1:2])
    assert second.slots.tolist() == [3, 2] and torch.equal(second.x, x[1, [3, 2]])


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b[:40] + b"\0" * (len(b) - 40), lambda b: b""]
)
def test_what_a_crash_left_behind_is_missing(tmp_path, damage):
    store = PerturbationStore(tmp_path)
    store.put(UNIT, tensors()[0])
    (file,) = (tmp_path / FOLDER).iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert store.get(UNIT) is None


def test_there_is_only_so_much_room(tmp_path):
    store = PerturbationStore(tmp_path, most=10)
    store.put(UNIT, tensors()[0])
    assert UNIT not in store
    store.put(UNIT, tensors()[0], whatever_the_size=True)
    assert UNIT in store


def test_the_digest_knows_inputs_and_examples_and_no_batches():
    x = torch.rand(6, 1, 3, 3, generator=torch.Generator().manual_seed(3))

    def digest(*pieces):
        found = []
        for examples in pieces:
            one = PerturbedDigest()
            one.add(examples, x[list(examples)])
            found.append(str(one))
        return sum_of(found)

    whole = digest(range(6))
    assert whole == digest((3, 1), (0, 5, 2, 4)) != digest(range(5))
    swapped = PerturbedDigest()
    swapped.add([1, 0, 2, 3, 4, 5], x)
    assert str(swapped) != whole
    assert sum_of([whole, None]) is None
