import pytest
import torch

from robustbench_coded.evaluation.planning.streams import stream


def numbers(generator):
    return torch.rand(8, generator=generator).tolist()


def test_a_stream_is_named_by_seed_batch_purpose_and_index_alone():
    name = (3, 5, "scoring", 2)
    torch.manual_seed(0)
    first = numbers(stream(*name))
    torch.rand(100)
    assert numbers(stream(*name)) == first
    others = [
        (4, 5, "scoring", 2),
        (3, 6, "scoring", 2),
        (3, 5, "selection", 2),
        (3, 5, "attack", 2),
        (3, 5, "scoring", 3),
    ]
    assert all(numbers(stream(*other)) != first for other in others)


def test_the_global_generator_is_neither_read_nor_moved():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    stream(0, 0, "attack", 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_numeral_never_runs_into_the_next():
    assert numbers(stream(1, 11, "start", 0)) != numbers(stream(11, 1, "start", 0))


def test_an_unknown_purpose_is_refused():
    with pytest.raises(ValueError, match="purpose out of"):
        stream(0, 0, "other", 0)  # type: ignore[arg-type]
