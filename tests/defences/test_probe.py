import pytest
import torch
from torch import nn

from robustbench_coded.defences.inferences import GaussianNoise, ResizePad, Standard
from robustbench_coded.defences.probe import contradictions, probe, warnings
from robustbench_coded.defences.rci import RCI, Coded
from robustbench_coded.defences.sampling import SamplingModule
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.setup import probing

K = 8


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 5)]
        return nn.Sequential(*parts).eval()


def probed(defence):
    x = torch.rand(K, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    return probe(defence, x, torch.Generator().manual_seed(2))


def planted(model, logits, **declared):
    """A defence that declares what it is told to and answers by ``logits(x, draw)``."""

    class Planted(Standard):
        def sample(self, generator, k):
            return torch.rand(k, 1, generator=generator)

    defence = Planted(model)
    defence.logits = logits
    defence.logits_grouped = None
    for name, value in {"name": "planted", **declared}.items():
        setattr(defence, name, value)
    return defence


def slots(x):
    return torch.arange(len(x))[:, None]


@pytest.mark.parametrize(
    ("build", "randomised", "batch_dependent"),
    [
        (Standard, False, False),
        (lambda m: Coded(m, K, 12), False, True),
        (lambda m: RCI(m, K, 12), True, True),
        (lambda m: RCI(m, K, "1.5K", average=2), True, True),
        (lambda m: GaussianNoise(m, 0.1), True, False),
        (lambda m: ResizePad(m, 0.7), True, False),
    ],
)
def test_our_own_defences_are_what_they_say(model, build, randomised, batch_dependent):
    defence = build(model)
    result = probed(defence)
    assert contradictions(defence, result) == []
    assert (result.randomised, result.batch_dependent) == (randomised, batch_dependent)
    assert warnings(defence, result) == []


def test_a_change_of_one_co_batched_input_is_measured(model):
    # Every answer moves by 0.3 times the mean brightness of the first input, which is made black.
    defence = planted(model, lambda x, draw: model(x) + 0.3 * x[0].mean())
    result = probed(defence)
    brightness = torch.rand(K, 1, 6, 6, generator=torch.Generator().manual_seed(1))[0].mean().item()
    assert result.co_batched == pytest.approx(0.3 * brightness, rel=1e-4)
    (message,) = contradictions(defence, result)
    assert message.startswith(
        "is declared batch-independent, but changing one co-batched input changed logits by 0.1"
    )
    assert message.endswith("; set batch_dependent = True")


@pytest.mark.parametrize(
    "leak",
    [
        lambda x: x.flatten(1).mean(1, keepdim=True).roll(1, 0),
        lambda x: x.flatten(1).mean(1, keepdim=True).mean(0),
        lambda x: (torch.cdist(x.flatten(1), x.flatten(1)) == 0).sum(1, keepdim=True).float(),
        lambda x: x[-1, 0, 0, 0],
        lambda x: (x > 0.5).float().mean(),
    ],
    ids=["neighbour", "mean", "copies", "last", "without gradient"],
)
def test_each_kind_of_leak_between_inputs_is_found(model, leak):
    defence = planted(model, lambda x, draw: model(x) + leak(x))
    assert probed(defence).batch_dependent
    assert "is declared batch-independent" in " ".join(contradictions(defence, probed(defence)))


def test_numbers_that_an_input_takes_from_the_others_stream_are_a_dependence_and_the_line_says_how_to_mend_it(
    model,
):
    def spikes(x, draw):
        generator = torch.Generator().manual_seed(draw)
        return model(torch.poisson(60 * x, generator=generator) / 60)

    defence = planted(
        model, spikes, sample=lambda g, k: int(torch.randint(2**31, (), generator=g)), randomised=True
    )
    (message,) = contradictions(defence, probed(defence))
    assert (
        message.startswith("is declared batch-independent") and "torch.poisson and torch.binomial" in message
    )


@pytest.mark.parametrize(
    ("logits", "declared", "message"),
    [
        (
            lambda m: lambda x, d: m(x) + d,
            {},
            "is declared not randomised, but another draw changed logits by",
        ),
        (
            lambda m: lambda x, d: m(x) + torch.rand(1),
            {"randomised": True},
            "different logits for the same input and draw",
        ),
        (lambda m: lambda x, d: m(x)[:, None], {}, "logits of shape (8, 1, 5), not (8, classes)"),
        (lambda m: lambda x, d: m(x)[:4], {}, "answers 8 inputs with logits of shape (4, 5)"),
        (lambda m: lambda x, d: m(x).log(), {}, "NaN or infinite logits"),
        (lambda m: lambda x, d: m(x) * (1 + (len(x) < K)), {}, "another batch size changed logits"),
        (lambda m: lambda x, d: m(x) * (1 + slots(x) % 2), {}, "moving the inputs to other positions"),
    ],
)
def test_what_contradicts_a_declaration_is_named(model, logits, declared, message):
    defence = planted(model, logits(model), **declared)
    with torch.random.fork_rng():
        found = contradictions(defence, probed(defence))
    assert any(message in line for line in found), found


def test_a_draw_from_the_global_generator_is_found(model):
    class Sloppy(GaussianNoise):
        def sample(self, generator, k):
            return int(torch.randint(1000, ()))

    defence = Sloppy(model, 0.1)
    before = torch.get_rng_state()
    with torch.random.fork_rng():
        found = contradictions(defence, probed(defence))
    assert "depends on the global random generators" in found[0]
    assert torch.equal(before, torch.get_rng_state())


def test_a_wrong_answer_to_groups_is_found(model):
    defence = RCI(model, K, 12)
    right = defence.logits_grouped
    defence.logits = lambda x, draw: right(x[None], [draw])[0]
    defence.logits_grouped = lambda x, draws: right(x, draws[::-1])
    assert "answers batches in a group" in contradictions(defence, probed(defence))[0]


def test_vanishing_gradients_are_counted(model):
    rounded = planted(model, lambda x, draw: model((x * 4).round() / 4))
    saturated = planted(model, lambda x, draw: 1e6 * model(x))
    assert probed(rounded).zero_gradients == probed(saturated).zero_gradients == 1
    assert probed(Standard(model)).zero_gradients == 0


def test_nan_gradients_are_counted(model):
    def logits(x, draw):
        return model(x) + (x.flatten(1)[:, :1] * 0).sqrt()

    assert probed(planted(model, logits)).nan_gradients == 1


def test_layers_in_training_mode_are_named(model):
    model[2].train()
    defence = Standard(model)
    result = probed(defence)
    assert result.training_layers == ("2",)
    assert "layers in training mode: 2" in warnings(defence, result)
    assert result.batch_dependent


def test_too_few_inputs_are_a_warning(model):
    def logits(x, draw):
        if len(x) < K:
            raise ValueError("too few")
        return model(x)

    defence = planted(model, logits)
    assert "cannot answer 4 inputs: ValueError: too few" in warnings(defence, probed(defence))


def test_a_defence_that_fails_is_the_users_error(model):
    with pytest.raises(
        InputError, match=r"planted fails on a batch of shape \(8, 1, 6, 6\): KeyError: [^;]*$"
    ):
        probed(planted(model, lambda x, draw: {}["no"]))
    with pytest.raises(InputError, match=r"answers with torch\.int64"):
        probed(planted(model, lambda x, draw: torch.zeros(len(x), 5, dtype=torch.int64)))


def test_classes_in_place_of_logits_are_a_fault_of_the_shape(model):
    defence = planted(model, lambda x, draw: model(x).argmax(1))
    found = contradictions(defence, probed(defence))
    assert found == ["answers 8 inputs with logits of shape (8,), not (8, classes)"]


def test_one_that_takes_fewer_inputs_at_once_is_given_the_option_that_does(model):
    def logits(x, draw):
        if len(x) > 3:
            raise ValueError("too many")
        return model(x)

    with pytest.raises(
        InputError, match=r"ValueError: too many.*; it answers 2 inputs at once: try --batch-size 2$"
    ):
        probed(planted(model, logits))
    x = torch.rand(3, 1, 6, 6)
    with pytest.raises(InputError, match=r"fails on a batch of shape \(9, .*; it answers 2 inputs at once"):
        probing.probed(planted(model, logits), x[:2], seed=0, whole=x.repeat(3, 1, 1, 1))


def test_an_answer_of_another_shape_to_one_input_is_named(model):
    x = torch.rand(3 * K, 1, 6, 6)
    squeezed = planted(model, lambda x, draw: model(x).squeeze())
    with pytest.raises(InputError, match=r"answers 1 inputs with logits of shape \(5,\), not \(1, classes\)"):
        probing.probed(squeezed, x[:K], seed=0, whole=x)


@pytest.mark.parametrize("declared", [False, None])
def test_a_module_that_is_not_randomised_may_not_draw(model, declared):
    """Under one seed a rare coin stands for all draws, also where it is thrown for other inputs alone."""

    class Coin(nn.Module):
        randomised = declared

        def forward(self, x):
            return model(x) * (1 + 0 * torch.rand(1)) if declared is False or (x > 1).any() else model(x)

    defence = SamplingModule(Coin(), name="coin")
    with pytest.raises(
        InputError, match=r"^coin draws random numbers and is not randomised; set randomised = "
    ):
        probed(defence)
        assert not defence.randomised
        defence.logits(torch.full((2, 1, 6, 6), 1.1), None)


def test_a_rare_coin_still_counts_as_randomness(model):
    class Coin(nn.Module):
        def forward(self, x):
            return model(x) * (1 + (torch.rand(len(x), 1) < 1e-6))

    defence = SamplingModule(Coin(), name="coin")
    result = probed(defence)
    assert not result.randomised
    assert (defence.randomised, defence.batch_dependent) == (True, False)
    plain = SamplingModule(model, name="plain")
    probed(plain)
    assert not plain.randomised


def test_slots_that_the_probed_batch_lacks_are_asked_too(model):
    x = torch.rand(3 * K, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    late = planted(model, lambda x, draw: model(x) * (1 + (slots(x) == 2 * K)))
    assert probing.probed(late, x[:K], seed=0).contradictions == ()
    (line,) = probing.probed(late, x[:K], seed=0, whole=x).contradictions
    assert "moving the inputs to other positions" in line
    assert probing.probed(Standard(model), x[:K], seed=0, whole=x).contradictions == ()


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (lambda x: 1 + (len(x) == 3 * K), "another batch size changed logits by"),
        (lambda x: 1 + (len(x) == 6 * K), "another batch size changed logits by"),
        (lambda x: 1 + (len(x) == 1), "another batch size changed logits by"),
        (lambda x: 1 + (1 < len(x) < 4), "another batch size changed logits by"),
        (lambda x: 1 + (slots(x) % 2), "moving the inputs to other positions in the batch changed"),
    ],
    ids=["the size that is evaluated", "twice that", "one alone", "a few", "every other slot"],
)
def test_modules_that_say_nothing_of_themselves_are_asked_in_other_batches(model, weight, message):
    class Module(nn.Module):
        def forward(self, x):
            return model(x) * weight(x)

    x = torch.rand(3 * K, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    (line,) = probing.probed(SamplingModule(Module(), name="m"), x[:K], seed=0, whole=x).contradictions
    assert line.startswith("seems to classify inputs independently") and message in line
    assert probing.probed(SamplingModule(model, name="m"), x[:K], seed=0, whole=x).contradictions == ()


def test_batches_in_a_large_group_are_asked_too(model):
    defence = planted(model, lambda x, draw: model(x))
    defence.logits_grouped = lambda x, draws: (
        model(x.flatten(0, 1)).unflatten(0, x.shape[:2]) * (1 + (len(x) > 2))
    )
    x = torch.rand(K, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    assert probing.probed(defence, x, seed=0).contradictions == ()
    (line,) = probing.probed(defence, x, seed=0, whole=x).contradictions
    assert "answers batches in a group" in line


def test_a_default_dtype_is_put_back_and_the_change_named(model):
    def logits(x, draw):
        torch.set_default_dtype(torch.float64)
        return model(x)

    x = torch.rand(K, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    (line,) = probing.probed(planted(model, logits), x, seed=0).contradictions
    assert line == "changes torch's default dtype to torch.float64 for everything else in this process"
    assert torch.get_default_dtype() == torch.float32


def test_a_defence_of_fewer_classes_than_the_data_is_refused(model):
    defence, x = planted(model, lambda x, draw: model(x)), torch.rand(K, 1, 6, 6)
    probing.probed(defence, x, 0, highest=4)
    with pytest.raises(InputError, match="planted answers 5 classes, and labels go up to 5"):
        probing.probed(defence, x, 0, highest=5)
    rejecting = planted(model, lambda x, draw: model(x), abstain=4)
    with pytest.raises(InputError, match="answers 4 classes, and labels go up to 4"):
        probing.probed(rejecting, x, 0, highest=4)


def test_a_module_that_draws_without_effect_does_not_say_that_it_is_randomised():
    class Unmoved(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :5] + 0 * torch.rand(1)

    defence = SamplingModule(Unmoved(), name="unmoved")
    found = warnings(defence, probed(defence))
    assert any("draws random numbers, but 4 draws gave the same answers" in text for text in found), found
    declared = planted(nn.Identity(), lambda x, draw: x.flatten(1)[:, :5], randomised=True)
    assert any(text.startswith("is declared randomised") for text in warnings(declared, probed(declared)))
