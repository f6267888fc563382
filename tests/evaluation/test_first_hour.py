"""What a stranger gives in his first hour: it works, or one line says how to mend it."""

import numpy as np
import pytest
import torch
from torch import nn

from robustbench_coded import InputError, attack, evaluate
from robustbench_coded.errors import in_python
from tests.evaluation.conftest import SMALL

K, EPS = 16, 0.1
GENERATOR = torch.Generator().manual_seed(0)
WEIGHT = torch.randn(4, 3 * 64, generator=GENERATOR)
X = torch.rand(K, 3, 8, 8, generator=GENERATOR)
X[0, 0, 0, :2] = torch.tensor([0.0, 1.0])
Y = (X.flatten(1) @ WEIGHT.T).argmax(1)


class Linear(nn.Module):
    """Refuses what is not contiguous; ``size``: the one batch size that it answers."""

    def __init__(self, size=None, out=lambda logits: logits):
        super().__init__()
        self.weight, self.size, self.out = nn.Parameter(WEIGHT.clone()), size, out

    def forward(self, x):
        if self.size is not None and len(x) != self.size:
            raise RuntimeError(f"expected {self.size} images")
        return self.out(x.view(len(x), -1) @ self.weight.T)


MODEL = Linear().eval()


def beyond(x):
    x = x.clone()
    x[0, 0, 0, :2] = torch.tensor([-3e-8, 1 + 1.2e-7])
    return x


def inference(x):
    with torch.inference_mode():
        return x + 0


INPUTS = {
    "channels last in memory": lambda x: x.to(memory_format=torch.channels_last),
    "channels last": lambda x: x.permute(0, 2, 3, 1),
    "strided": lambda x: x.repeat_interleave(2, dim=0)[::2],
    "requires grad": lambda x: x.clone().requires_grad_(),
    "inference tensor": inference,
    "rounded outside, tensor": beyond,
    "rounded outside, array": lambda x: beyond(x).numpy(),
    "float64": lambda x: x.double(),
    "float16": lambda x: x.half(),
    "bfloat16": lambda x: x.bfloat16(),
    "float16 array": lambda x: x.numpy().astype(np.float16),
}


@pytest.mark.parametrize("name", ["pgd-3", "apgd-ce-5", "square-20"])
@pytest.mark.parametrize("form", INPUTS)
def test_images_of_every_form_are_attacked_alike(form, name):
    given = INPUTS[form](X)
    found = attack(MODEL, given, Y, name, EPS, seed=0)
    assert type(found) is type(given) and found.shape == given.shape and found.dtype == given.dtype
    assert not getattr(found, "requires_grad", False)
    found = torch.as_tensor(found).float()
    found = found.permute(0, 3, 1, 2) if form == "channels last" else found
    rounding = 0.01 if "16" in form else 1e-6
    assert found.min() >= 0 and found.max() <= 1 and (found - X).abs().max() <= EPS + rounding
    if rounding < 0.01:
        torch.testing.assert_close(found, attack(MODEL, X, Y, name, EPS, seed=0), atol=1e-5, rtol=0)


def test_a_network_of_one_batch_size_is_attacked_and_evaluated_in_it(tmp_path):
    fixed = Linear(size=K).eval()
    torch.testing.assert_close(
        attack(fixed, X, Y, "apgd-ce-5", EPS, seed=0), attack(MODEL, X, Y, "apgd-ce-5", EPS, seed=0)
    )
    given = {**SMALL, "batch_size": K, "attacks": "pgd-3,apgd-ce-5"}
    run, usual = (
        evaluate(m, (X, Y), out=tmp_path / name, **given) for m, name in ((fixed, "f"), (MODEL, "u"))
    )
    assert run.summary.accuracy.tolist() == usual.summary.accuracy.tolist()
    with pytest.raises(InputError, match="fails on images"):
        evaluate(Linear(size=7).eval(), (X, Y), out=tmp_path / "refused", **given)


def test_parts_of_a_name_are_arguments():
    wanted = attack(MODEL, X, Y, "eot4-pgd-3@0.05+loss=margin", EPS, norm="l2", seed=0)
    for norm in (2, "L2", "l_2", 2.0):
        given = {"steps": 3, "step_size": 0.05, "eot": 4, "loss": "margin", "norm": norm}
        assert torch.equal(attack(MODEL, X, Y, "pgd", EPS, seed=0, **given), wanted)
    assert torch.equal(
        attack(MODEL, X, Y, "pgd-7", EPS, steps=3, seed=0), attack(MODEL, X, Y, "pgd-3", EPS, seed=0)
    )


def test_every_call_starts_anew_unless_it_is_seeded():
    torch.manual_seed(3)
    first, second = (attack(MODEL, X, Y, "pgd-1", EPS) for _ in range(2))
    torch.manual_seed(3)
    assert not torch.equal(first, second) and torch.equal(first, attack(MODEL, X, Y, "pgd-1", EPS))
    before = torch.get_rng_state()
    attack(MODEL, X, Y, "pgd-1", EPS, seed=5)
    assert torch.equal(before, torch.get_rng_state())


def test_the_base_of_a_function_can_be_given():
    found = attack(lambda x: MODEL(x).detach().round(), X, Y, "transfer-pgd-10", EPS, base=MODEL)
    assert (MODEL(found).argmax(1) == Y).sum() < K / 2


def one_number(last):
    return lambda logits: last(logits[:, :1] - logits[:, 1:2])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"alpha": 0.1}, "did you mean step_size.*eot4-pgd-10@0.05"),
        ({"random_start": True}, "pgd starts at random"),
        ({"num_steps": 3}, "did you mean steps"),
        ({"steps": 2.5}, "steps 2.5 is not a whole number"),
        ({"norm": "l7"}, "choose linf, l2, l1 or l0"),
        ({"x": X * float("nan")}, "NaN"),
        ({"x": X + 0.1}, r"x: expected pixels in \[0, 1\]"),
        ({"y": Y + 1}, "labels go up to 4: .*; where they begin at 1, give y - 1"),
        ({"name": "transfer-pgd-3"}, "give it: base=network"),
        ({"name": None}, "^name None is not text; give one attack, such as 'pgd-10'$"),
        ({"name": ["pgd-3"]}, r"^name \['pgd-3'\] is not text; give one attack"),
        ({"y": Y[:3]}, r"expected y integers \[16\], one for each image, got int64 \[3\]"),
        ({"eps": 8}, r"\(8/255, not 8\), got 8"),
        ({"target": "cat"}, "expected a class, a whole number"),
        (
            {"model": Linear(out=one_number(nn.Identity()))},
            r"pad\(model\(x\), .* where the number is a logit",
        ),
        ({"model": Linear(out=one_number(torch.sigmoid))}, r"model\(x\).logit\(1e-6\).*is a probability"),
        ({"model": Linear(size=7)}, r"the model fails on images \[1, 3, 8, 8\]: RuntimeError: expected 7"),
    ],
)
def test_what_attack_refuses_is_an_input_error_of_one_line(change, words):
    with pytest.raises(InputError, match=words) as refused:
        attack(**{"model": MODEL, "x": X, "y": Y, "name": "pgd-3", "eps": EPS, **change})
    assert isinstance(refused.value, ValueError) and "\n" not in str(refused.value)
    assert "--" not in str(refused.value)


def stands_still(model, x, y, eps):
    return x + 0


def best(model, x, y, eps):
    return (x - eps * WEIGHT[y].view_as(x).sign()).clamp(0, 1)


def test_a_function_is_an_attack_and_another_one_another(tmp_path):
    given = {**SMALL, "batch_size": K}
    run = evaluate(MODEL, (X, Y), attacks=[stands_still, "fgsm", best], out=tmp_path / "run", **given)
    left = run.summary.set_index("attack").accuracy
    names = [name for name in left.index if name.startswith("in_memory:")]
    assert [name.split("_")[1].removeprefix("memory:") for name in names] == ["stands", "best"]
    assert left[names[0]] == left["clean"] == 1 > left[names[1]]


@pytest.mark.parametrize(
    ("y", "words"),
    [(Y + 1, "has label 4; labels begin at 0: give y - 1"), (Y + 9, "give the data it was trained on")],
)
def test_labels_of_no_class_are_named(tmp_path, y, words):
    with pytest.raises(InputError, match=words):
        evaluate(MODEL, (X, y.clamp(1)), out=tmp_path / "run", **SMALL)


def test_two_images_tell_a_network_that_is_right_from_none(tmp_path):
    run = evaluate(MODEL, (X[:2], Y[:2]), attacks="fgsm", out=tmp_path / "run", **SMALL)
    assert not any("as by chance" in note for note in run.manifest.notes)


def test_the_first_lines_name_labels_that_begin_at_one_and_layers_in_training_mode(tmp_path, capsys):
    wide = Linear(out=lambda logits: nn.functional.pad(logits, (0, 1), value=-99)).eval()
    defence = nn.Sequential(nn.Dropout(0.5), wide)
    evaluate(wide, (X, Y + 1), defences=defence, attacks="fgsm", out=tmp_path / "run", **SMALL)
    lines = capsys.readouterr().err.splitlines()
    first = [
        i for i, line in enumerate(lines) if "layers in training mode: 0" in line or "give y - 1" in line
    ]
    assert first == [0, 1] and len(lines) > 3
    (runs,) = (i for i, line in enumerate(lines) if ": fgsm (" in line)
    assert lines[runs].endswith(" gradient evaluations)")


@pytest.mark.parametrize(
    ("shell", "python"),
    [
        ("give another --out, or add --overwrite", "give another out, or add overwrite=True"),
        ("--eps 9 is too large", "eps 9 is too large"),
        ("leave out --no-standard", "leave out standard=False"),
        ("name one with --ckpt model.pt", "name one with models model.pt"),
        ("a -- b --batch-size 3", "a -- b batch_size 3"),
        ("torchattacks:PGD-10 is pre--made", "torchattacks:PGD-10 is pre--made"),
    ],
)
def test_messages_speak_python_where_python_called(shell, python):
    assert in_python(shell) == python
