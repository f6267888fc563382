"""Bounds on coded answers: exact for linear maps, and never above what an attack on the batch reaches."""

import pytest
import torch

from robustbench_coded.defences.rci import RCI, Coded
from robustbench_coded.extras.certification import network as coded
from robustbench_coded.extras.certification.bounds import Region
from robustbench_coded.extras.certification.certifier import InBatch, certifiers_of, check_answers
from robustbench_coded.extras.certification.graph import NotCertifiable
from robustbench_coded.models.architectures.sequential import DigitsCNN
from robustbench_coded.models.pixel_model import PixelModel
from tests.extras.certification.conftest import images, seeded
from zoo.linear import pattern
from zoo.trained import LinearClassifier

K, N = 6, 9


def network():
    return PixelModel(seeded(DigitsCNN(classes=3, width=2), 4), (0.3,), (0.4,), classes=3, arch="test")


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_exact_for_linear_maps(norm):
    """Away from the box: what the codec cancels, cancels in the bound."""
    w = torch.stack([pattern(i).flatten() * (1 + i) for i in (1, 2, 3)])
    model = LinearClassifier(w, torch.tensor([0.1, 0.0, -0.2]))
    x = 0.4 + 0.2 * images(K, 1, 8, 8)
    defence = RCI(model, K, N)
    draw = defence.sample(torch.Generator().manual_seed(1), K)
    (certifier,) = certifiers_of(defence, x)
    (matrices,) = certifier._matrices(K, draw, x.device)
    y = defence.logits(x, draw).argmax(1)
    found = coded.coded_margins(certifier.graph, matrices, Region.around(x, norm, 0.01), y)
    through = (matrices.decoder @ matrices.encoder).abs().sum(1)  # each input moves as it likes
    logits = defence.logits(x, draw).double()
    lead = logits.gather(1, y[:, None]) - logits
    towards = w.double()[y][:, None] - w.double()
    dual = towards.abs().sum(2) if norm == "linf" else towards.norm(dim=2)
    expected = (lead - 0.01 * through[:, None] * dual).scatter(1, y[:, None], torch.inf)
    assert (found <= expected).all()
    torch.testing.assert_close(found, expected, atol=0.1, rtol=0)  # rounding and the region's slack
    assert (found.amin(1) > 0).any()


@pytest.mark.parametrize("average", [1, 2])
@pytest.mark.parametrize("kind", [Coded, RCI])
def test_no_attack_on_the_batch_goes_below(kind, average):
    if kind is Coded and average > 1:
        return
    defence = Coded(network(), K, N) if kind is Coded else RCI(network(), K, N, average=average)
    x, eps = images(K, 1, 8, 8), 0.01
    draw = defence.sample(torch.Generator().manual_seed(2), K)
    y = defence.logits(x, draw).argmax(1)
    (certifier,) = certifiers_of(defence, x)
    check_answers(certifier, defence, x, draw)
    bounds = torch.stack(
        [
            coded.coded_margins(certifier.graph, m, Region.around(x, "linf", eps), y)
            for m in certifier._matrices(K, draw, x.device)
        ]
    ).mean(0)
    for slot in range(K):  # the whole batch against one answer of it
        at = x.clone()
        for _ in range(15):
            at.requires_grad_()
            logits = defence.logits(at, draw)[slot]
            lead = logits[y[slot]] - logits
            assert (bounds[slot] <= lead.detach().double().index_fill(0, y[slot], torch.inf) + 1e-6).all()
            worst = lead.index_fill(0, y[slot], torch.inf).min()
            (grad,) = torch.autograd.grad(worst, at)
            with torch.no_grad():
                at = (at - eps / 3 * grad.sign()).clamp(x - eps, x + eps).clamp(0, 1)


def test_a_bound_without_the_rest_of_the_batch_would_be_noticed(monkeypatch):
    """The planted fault: only the input itself is taken to move."""
    model = LinearClassifier(torch.stack([pattern(1).flatten(), pattern(2).flatten()]), torch.zeros(2))
    defence = Coded(model, K, N)
    x, eps = 0.4 + 0.2 * images(K, 1, 8, 8), 0.05
    (certifier,) = certifiers_of(defence, x)
    (matrices,) = certifier._matrices(K, None, x.device)
    y = defence.logits(x, None).argmax(1)
    region = Region.around(x, "linf", eps)
    through = matrices.decoder @ matrices.encoder
    push = (1 - 2 * y[0]) * (pattern(2) - pattern(1)).sign() * eps
    attacked = x + through[0].sign().view(-1, 1, 1, 1).float() * push
    logits = defence.logits(attacked, None)[0].double()
    lead = logits[y[0]] - logits[1 - y[0]]
    assert coded.coded_margins(certifier.graph, matrices, region, y)[0, 1 - y[0]] <= lead + 1e-6
    alone = Region(
        region.centre,
        torch.cat([region.low[:1], region.centre[1:]]),
        torch.cat([region.high[:1], region.centre[1:]]),
        None,
        region.unit,
    )
    assert coded.coded_margins(certifier.graph, matrices, alone, y)[0, 1 - y[0]] > lead + 1e-6


def test_coding_of_some_blocks_is_refused():
    with pytest.raises(NotCertifiable, match="whole network"):
        certifiers_of(RCI(network(), K, N, blocks=[0, 1]), images(2, 1, 8, 8))


def test_a_subclass_is_not_what_it_inherits():
    class Otherwise(RCI):
        def logits(self, x, draw):
            return -super().logits(x, draw)

    with pytest.raises(NotCertifiable, match="none of the defences"):
        certifiers_of(Otherwise(network(), K, N), images(2, 1, 8, 8))


def test_a_defence_that_answers_otherwise_is_refused():
    x = images(K, 1, 8, 8)
    (certifier,) = certifiers_of(Coded(network(), K, N), x)
    assert isinstance(certifier, InBatch)
    with pytest.raises(NotCertifiable, match="answers otherwise"):
        check_answers(certifier, Coded(network(), K, N + 1), x, None)
