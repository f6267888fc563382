"""Signs of a wrong part where no batch-norm remembers any: unread features, and logits that are too large."""

from functools import partial

import pytest
import torch
from torch import nn

from robustbench_coded.data.registry import load_data
from robustbench_coded.models.candidates import Candidate
from robustbench_coded.models.comparison import unread_features
from robustbench_coded.models.decision import Evidence, Stated, contradictions
from robustbench_coded.models.labelled_accuracy import labelled
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.models.normalisation import KNOWN
from robustbench_coded.models.recognition import recognise_network

IMAGES = 640
STATED = "sequential-8-f64-l64-a-l64-a-l[activation=relu]"


class Skipping(nn.Module):
    """Three linear layers, the second beside a connection around it, which no weight shows."""

    def __init__(self, skips):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        self.skips = skips

    def features(self, x):
        x = self.fc1(x.flatten(1)).relu()
        return self.fc2(x).relu() + (x if self.skips else 0)

    def forward(self, x):
        return self.fc3(self.features(x))


@pytest.fixture(scope="module")
def digits():
    data = load_data("digits")
    return data.batch(range(IMAGES))


@pytest.fixture
def network(digits):
    """Random but for the last layer, which is fitted to its features."""
    x, y = digits
    torch.manual_seed(0)
    network = Skipping(True).requires_grad_(False)
    known = torch.cat([network.features(x), torch.ones(len(x), 1)], 1)
    fitted = torch.linalg.lstsq(known, 4 * nn.functional.one_hot(y, 10).float()).solution
    network.fc3.weight.copy_(fitted[:-1].T)
    network.fc3.bias.copy_(fitted[-1])
    return network


def said_of(network, x, y):
    return unread_features(network, network, x, y, classes=10)


def test_a_missing_connection_is_noticed_and_the_network_as_it_was_is_believed(network, digits):
    assert said_of(network, *digits) == ()
    network.skips = False
    (said,) = said_of(network, *digits)
    assert said.startswith("its last layer does not read its features: of 640 labelled images ")


def test_classes_without_enough_images_say_nothing(network, digits):
    network.skips = False
    assert said_of(network, *(part[:199] for part in digits)) == ()


def test_a_network_that_ends_in_no_linear_layer_of_its_classes_says_nothing(network, digits):
    network.skips = False
    ended = nn.Sequential(network, nn.Linear(10, 12), nn.Unflatten(1, (12, 1)), nn.Flatten())
    assert said_of(ended, *digits) == ()


def test_a_model_that_answers_in_pieces_is_seen_as_a_whole(network, digits):
    network.skips = False
    x, y = digits
    pieces = partial(torch.split, split_size_or_sections=10)
    said = unread_features(network, lambda x: torch.cat([*map(network, pieces(x))]), x, y, classes=10)
    assert said == said_of(network, x, y) != ()


def test_a_file_read_as_a_stack_without_its_connection_is_refused(network, digits, tmp_path):
    torch.save(network.state_dict(), tmp_path / "a.pt")
    checkpoint = load_checkpoint(tmp_path / "a.pt", arch=STATED, normalize="none")
    found = recognise_network(checkpoint, *digits)
    assert any("does not read its features" in said for said in found.warnings)
    assert "and chance is 10.0%" in found.refusal


@pytest.mark.parametrize(("larger", "said"), [(1, False), (100, True)])
def test_logits_far_too_large_are_said(network, digits, larger, said):
    x, y = digits
    own = labelled(lambda x: larger * network(x), x, y)
    none = KNOWN[1]["none"]
    chosen = Evidence(Candidate(STATED, none), labelled=own)
    clauses = list(contradictions(chosen, (), Stated(None, none, "given", None)))
    assert [one.startswith("its logits are ") for one in clauses] == [True] * said
