"""An option is defined once: Python and the command line refuse the same value with the same sentence."""

import multiprocessing
from pathlib import Path
from typing import Literal, get_type_hints

import pytest
import torch
from msgspec import convert, to_builtins

from robustbench_coded import InputError, evaluate
from robustbench_coded.cli.help import written
from robustbench_coded.cli.main import main
from robustbench_coded.errors import in_python
from robustbench_coded.evaluation.options.config import OF_ARGUMENTS, EvalConfig, options
from robustbench_coded.evaluation.options.device import worker_count
from robustbench_coded.evaluation.options.typed import EvaluateOptions
from tests.docs.conftest import module_at

COUNTS = ("batch_size", "limit", "threads", "workers")
WRONG = {
    **dict.fromkeys(COUNTS, (0, "is too small; give 1 or more")),
    "eps": (-0.1, "is too small; give 0 or more"),
    "draws": (10_001, "is too large; give 10,000 or fewer"),
    "norm": ("l7", "is not known; choose"),
    "eps_space": ("feet", "is not known; choose pixel or normalized"),
    "attack_precision": ("float7", "is not known; choose float32, bfloat16 or auto"),
    "engine": ("steam", "is not known; choose local or ray"),
}


@pytest.mark.parametrize("name", WRONG)
def test_one_sentence_for_both(name, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    value, words = WRONG[name]
    flag = options()[name].flag
    with pytest.raises(InputError) as error:
        evaluate("model.pt", "digits", **{name: value})
    assert str(error.value).startswith(in_python(f"{flag} {value!r} {words}"))
    assert main(["eval", "--ckpt", "model.pt", f"{flag}={value}"]) == 2
    said = capsys.readouterr().err
    # A number may be typed in several ways; what is wrong with it is said in one.
    assert words in said
    assert said.startswith(f"csrobust: {flag} ") and said.count("\n") == 1


@pytest.mark.parametrize("value", ["many", 2.5, True, None])
def test_a_count_is_a_whole_number(value):
    with pytest.raises(InputError, match=f"^draws {value!r} is not a whole number$"):
        evaluate("model.pt", "digits", draws=value)


def test_every_rule_takes_its_default():
    for name, option in options().items():
        default = option.default
        for value in default if isinstance(default, tuple) else (default,):
            assert option.rule is None or value is None or option.rule(value) is None, name


def test_every_value_that_is_typed_is_read_back_as_it_is_written():
    """No help shows what the command line refuses, and no run.toml means something else."""
    for name, option in options().items():
        if option.default not in ((), None, "") and option.kind is not bool:
            assert option.value([written(option, option.default)]) == option.default, name


MADE = module_at(Path(__file__).parents[2] / "docs" / "options.py")
TYPES = get_type_hints(EvaluateOptions)
OPTIONS = {name: option for name, option in options().items() if name not in OF_ARGUMENTS}


def test_the_committed_files_are_those_that_the_definition_gives():
    """`python docs/options.py` writes them."""
    assert MADE.TYPED.read_text() == MADE.typed()
    assert MADE.PAGE.read_text() == MADE.page()
    assert TYPES.keys() == OPTIONS.keys()


def test_every_default_has_the_type_of_its_field():
    assert convert(to_builtins(EvalConfig()), EvalConfig) == EvalConfig()


def test_the_words_of_a_choice_are_its_rule_and_its_type():
    assert OPTIONS["engine"].rule("steam") == "is not known; choose local or ray"
    assert TYPES["engine"] == Literal["local", "ray"]
    assert OPTIONS["until"].rule("now") == "is not known; choose settled"


def test_a_process_of_a_pool_has_no_workers_and_says_so(monkeypatch):
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    assert worker_count(None, torch.device("cpu")) == 1
    with pytest.raises(InputError, match=r"--workers 2: a process of multiprocessing.Pool has none; leave"):
        worker_count(2, torch.device("cpu"))
