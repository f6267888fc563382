import pytest
import torch

from attacks.algorithm import SEARCH_DRAWS
from attacks.apgd import Apgd, ApgdMultiTargeted, ApgdTargeted
from attacks.attack import read_attack
from attacks.estimators import Bpda, FreshDraws, KnownDraw, Transfer, estimator_for
from attacks.losses import cross_entropy, dlr, margin_loss
from attacks.pgd import AttackSequence, Fgsm, Pgd
from attacks.score_based import RandomSearch
from attacks.solver import solver_for

ATTACKS = {
    "fgsm@1/255": Fgsm(1 / 255),
    "pgd-7+momentum=.5": Pgd(7, momentum=0.5),
    "fixed-pgd-7@0.01": Pgd(7, 0.01),
    "apgd-ce-30+restarts=3": Apgd(30, cross_entropy, 3),
    "eot20-apgd-dlr-30": Apgd(30, dlr),
    "apgd-t-20+targets=4": ApgdTargeted(20, 4),
    "random-100+apart=0.6": RandomSearch(100, 0.6),
    "pgd-7+loss=margin": Pgd(7, loss=margin_loss),
    "eot4-pgd-7@0.01+restarts=5": AttackSequence((Pgd(7, 0.01),) * 5, early_stop=False),
    "pgd-7+restarts=1": Pgd(7),
    "aware-apgd-mt-10+targets=5": ApgdMultiTargeted(10, 5),
}


@pytest.mark.parametrize("text", ATTACKS)
def test_a_name_gives_its_attack(text):
    assert solver_for(read_attack(text)) == ATTACKS[text]


def test_early_stops_reach_every_run_but_not_a_transfer():
    stopping = AttackSequence((Pgd(5, early_stop=True),) * 2, early_stop=True)
    assert solver_for(read_attack("pgd-5+restarts=2"), early_stop=True) == stopping
    # Right or wrong in the base model's eyes is not right or wrong in the target's.
    assert solver_for(read_attack("transfer-pgd-5"), early_stop=True) == Pgd(5)


@pytest.fixture
def model():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(60, 4, bias=False).double())
    network[1].weight.data = torch.randn(4, 60, generator=torch.Generator().manual_seed(0)).double()
    return network


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("pgd-5", FreshDraws),
        ("fixed-pgd-5", KnownDraw),
        ("aware-pgd-5", KnownDraw),
        ("transfer-pgd-5", Transfer),
        ("bpda-pgd-5", Bpda),
    ],
)
def test_a_name_gives_its_estimator(linear, model, text, kind):
    problem = linear(batches=2, noise=0.5, classes=4)
    known = [(0, 9), (1, 9)]
    weights = torch.eye(4)[:2]
    estimator = estimator_for(
        read_attack(text), problem.oracle, base=model, known=known, weights=weights, max_images=77
    )
    assert type(estimator) is kind and estimator.max_images == 77
    assert estimator.weights is weights


def test_draws_come_from_the_name(linear):
    problem = linear(noise=0.5)
    assert estimator_for(read_attack("eot7-pgd-5"), problem.oracle).draws == 7
    assert estimator_for(read_attack("square-50"), problem.oracle).draws == SEARCH_DRAWS


def test_missing_knowledge_is_refused(linear):
    oracle = linear().oracle
    for text in ("transfer-pgd-5", "bpda-pgd-5", "aware-pgd-5+init=transfer-pgd-5"):
        with pytest.raises(ValueError, match=r"expected a base model for .*, got None"):
            estimator_for(read_attack(text), oracle, known=[None])
    with pytest.raises(ValueError, match="expected the scored draws for aware-pgd-5, got None"):
        estimator_for(read_attack("aware-pgd-5"), oracle)
    with pytest.raises(ValueError, match="expected an attack of this package, got autoattack:rand"):
        solver_for(read_attack("autoattack:rand"))
