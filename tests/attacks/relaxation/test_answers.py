"""Answers that were put together out of torch's sight: their gradient is that of what they were made of."""

import io
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from attacks.relaxation import Relaxation

_GENERATOR = torch.Generator().manual_seed(0)
N, PIXELS, CLASSES = 12, 16, 5
W = 2 * torch.randn(PIXELS, CLASSES, generator=_GENERATOR)
X = torch.rand(N, PIXELS, generator=_GENERATOR)
STORED = torch.rand(400, PIXELS, generator=_GENERATOR)
LABELS = ((STORED - 0.5) @ W).argmax(1)


def scores(x: Tensor) -> Tensor:
    return (x - 0.5) @ W


def one_hot(labels: list[int]) -> Tensor:
    return torch.tensor([[float(label == c) for c in range(CLASSES)] for label in labels])


def in_python(x):
    return one_hot(scores(x).argmax(1).tolist())


def beside_a_decoy(x):
    return 10 * in_python(x) + 1e-3 * x[:, :CLASSES]


def beside_nothing(x):
    return in_python(x) + 0 * scores(x)


def one_by_one(x):
    out = torch.full((len(x), CLASSES), -9.0)
    for row, each in enumerate(x):
        out[row, int(scores(each[None]).argmax())] = 0.0
    return out


def votes_in_python(x):
    counts = [[0.0] * CLASSES for _ in x]
    for levels in (4, 7, 11):
        for row, label in enumerate(scores((x * levels).round() / levels).argmax(1)):
            counts[row][label.item()] += 1
    return torch.tensor(counts)


def numbers_by_hand(x):
    return torch.tensor([[float(z) for z in row] for row in scores(x)])


def written_to_a_file(x):
    file = io.BytesIO()
    torch.save(x.detach(), file)
    file.seek(0)
    return scores(torch.load(file))


def pickled(x):
    return scores(pickle.loads(pickle.dumps(x.detach())))


def written_elsewhere(x):
    out = torch.empty(len(x), CLASSES)
    torch.round(scores(x.detach()) * 8, out=out)
    return out


def unique_places(x):
    return torch.unique(scores(x.detach()), return_inverse=True)[1].float()


def log_of_nothing(x):
    return torch.log(F.softmax(scores(x).double() * 1e4, 1) + 1e-300).float()


def squared_again_and_again(x):
    p = scores(x).softmax(1)
    for _ in range(12):
        p = p * p / (p * p).sum(1, keepdim=True)
    return p


def eight_bits(x):
    return scores(x.to(torch.float8_e4m3fn).float() * 1e-4)


def neighbours(x):
    nearest = torch.cdist(scores(x), scores(STORED)).topk(7, largest=False).indices
    return F.one_hot(LABELS[nearest], CLASSES + 1).float().sum(1)[:, :CLASSES]


def neighbours_gathered(x):
    nearest = torch.cdist(scores(x), scores(STORED)).topk(7, largest=False).indices
    found = LABELS.expand(len(x), -1).gather(1, nearest)
    return torch.zeros(len(x), CLASSES).scatter_add(1, found, torch.ones(found.shape))


def neighbours_in_python(x):
    counts = []
    for row in torch.cdist(scores(x), scores(STORED)).tolist():
        nearest = sorted(range(len(row)), key=row.__getitem__)[:7]
        counts.append(np.bincount(LABELS[nearest].numpy(), minlength=CLASSES).tolist())
    return torch.tensor(counts).float()


def reentrant(x):
    return checkpoint(lambda y: scores((y * 8).round() / 8), x, use_reentrant=True)


def onto_the_simplex(x):
    """sparsemax (arXiv 1602.02068) of scores so far apart that one class takes all."""
    z = 200 * scores(x)
    ordered = z.sort(1, descending=True).values
    sums = ordered.cumsum(1) - 1
    k = (ordered * torch.arange(1, CLASSES + 1) > sums).sum(1, keepdim=True)
    return (z - sums.gather(1, k - 1) / k).clamp_min(0)


def set_of_labels(x):
    """Ranks within the smallest set of classes with 90% of the probability, and nothing beyond."""
    p = scores(x).softmax(1)
    order = p.argsort(1, descending=True)
    size = (p.gather(1, order).cumsum(1) < 0.9).sum(1, keepdim=True)
    rank = order.argsort(1).float()
    return torch.where(rank <= size, -rank, -20 - rank)


def recalled(x):
    """Attention at a large scale over stored scores of one length."""
    keys = F.normalize(scores(STORED), dim=1)
    return (1e4 * F.normalize(scores(x), dim=1) @ keys.T).softmax(1) @ F.one_hot(LABELS).float()


def strong_waves(x):
    waves = torch.fft.fft(x)
    weak = waves.abs() <= waves.abs().kthvalue(4, 1, keepdim=True).values
    return scores(torch.fft.ifft(torch.where(weak, torch.zeros((), dtype=waves.dtype), waves)).real)


DEFENCES = [
    *(
        in_python,
        beside_a_decoy,
        beside_nothing,
        one_by_one,
        votes_in_python,
        numbers_by_hand,
    ),
    *(written_to_a_file, pickled, written_elsewhere, unique_places, log_of_nothing),
    *(squared_again_and_again, eight_bits, neighbours, neighbours_gathered, neighbours_in_python),
    *(onto_the_simplex, set_of_labels, recalled, strong_waves),
    reentrant,
]


def relaxed_gradient(defence, x, y, relaxation):
    """Of the cross-entropy, as the estimators ask for it: of inner scores where its own is zero."""

    def answer(inside):
        leaf = x.clone().requires_grad_()
        with relaxation.forward():
            out = relaxation.answered(defence(leaf.view_as(leaf)), inside=inside)
            loss = F.cross_entropy(out, y, reduction="sum") + 0 * leaf.sum()
        return out.detach(), torch.autograd.grad(loss, leaf)[0].nan_to_num()

    out, grad = relaxation.attempt(lambda: answer(False))
    if bool((grad == 0).all()):
        out, grad = relaxation.attempt(lambda: answer(True))
    return out, grad


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor", "ignore:None of the inputs")
@pytest.mark.parametrize("defence", DEFENCES, ids=lambda defence: defence.__name__)
def test_the_answer_is_kept_and_its_gradient_lowers_the_score_of_the_label(defence):
    y = scores(X).argmax(1)
    relaxation = Relaxation(measuring=True)
    out, grad = relaxed_gradient(defence, X, y, relaxation)
    assert torch.equal(out, defence(X))
    assert relaxation.level == 0 and relaxation.record.met

    # A step along it costs the label more than half of what the bare scores' own gradient costs it.
    bare = X.clone().requires_grad_()
    (own,) = torch.autograd.grad(F.cross_entropy(scores(bare), y, reduction="sum"), bare)
    fall = [margin(X, y) - margin(X + 0.02 * g.sign(), y) for g in (grad, own)]
    assert fall[0] > 0.5 * fall[1] > 0


def margin(x, y):
    z = scores(x)
    others = z.scatter(1, y[:, None], -torch.inf).amax(1)
    return float((z.gather(1, y[:, None])[:, 0] - others).mean())


@pytest.mark.parametrize("defence", [beside_a_decoy, in_python, numbers_by_hand, neighbours])
def test_what_hides_the_gradient_is_named_although_there_is_another_one(defence):
    relaxation = Relaxation(measuring=True)
    relaxed_gradient(defence, X, scores(X).argmax(1), relaxation)
    assert relaxation.record.hiding()


def test_votes_of_neighbours_have_a_gradient_of_their_own():
    """Through the labels that were looked up, and not through the scores behind the distances."""
    relaxation = Relaxation()
    leaf = X.clone().requires_grad_()
    with relaxation.forward():
        out = neighbours(leaf.view_as(leaf))
        loss = F.cross_entropy(out, scores(X).argmax(1))
    (grad,) = torch.autograd.grad(loss, leaf)
    assert (grad != 0).any(1).all()


def test_a_tensor_that_the_defence_keeps_is_not_taken_for_what_left_in_an_earlier_forward():
    kept = X.clone()

    def defence(x):
        x.detach().numpy()
        return scores(kept) + scores(x)

    relaxation = Relaxation()
    for _ in range(2):
        leaf = X.clone().requires_grad_()
        with relaxation.forward():
            out = defence(leaf.view_as(leaf))
        (grad,) = torch.autograd.grad(out.sum(), leaf)
        torch.testing.assert_close(grad, 2 * W.sum(1).expand_as(grad))


def test_scores_of_other_inputs_or_other_classes_are_not_what_an_answer_was_made_of():
    """A random table beside honest scores: none agrees with it, so it stays without a gradient."""
    table = torch.randn(N, CLASSES, generator=torch.Generator().manual_seed(5))

    def defence(x):
        scores(x).sum(1).tolist()
        return table.clone()

    relaxation = Relaxation()
    with relaxation.forward():
        answer = relaxation.answered(defence(X.clone().requires_grad_()))
    assert not answer.requires_grad
