"""Names of confseq, statsmodels, torchcubicspline and RobustBench that call ours, for `suites.py`."""

import re
import sys
from itertools import product
from math import log
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from robustbench_coded import attack
from robustbench_coded.coding.spline import spline_matrix
from robustbench_coded.judge.anytime import PRIOR, log_ratio, mixture_interval
from robustbench_coded.judge.intervals import clopper_pearson

Floats = NDArray[np.float64]


def confseq(module: Any) -> None:
    """Their confidence sequences of a bounded mean are our mixture interval; their capital is its ratio."""

    def sequence(x: ArrayLike, alpha: float = 0.05, **_: Any) -> tuple[Floats, Floats]:
        s = np.cumsum(np.asarray(x, dtype=np.float64))
        return mixture_interval(s, np.arange(1, len(s) + 1), alpha / 2)

    def lower(x: ArrayLike, alpha: float = 0.05, **_: Any) -> Floats:
        return sequence(x, 2 * alpha)[0]

    def capital(x: ArrayLike, m: float, theta: float = 0.5, **_: Any) -> Floats:
        s = np.cumsum(np.asarray(x, dtype=np.float64))
        n = np.arange(1.0, len(s) + 1)
        below, above = log_ratio(s, n, np.full_like(s, m)), log_ratio(n - s, n, np.full_like(s, 1 - m))
        return theta * np.exp(above) + (1 - theta) * np.exp(below)

    shared = {"np": np}
    module("confseq.conjmix_bounded", **shared, **dict.fromkeys(TWO_SIDED, sequence), **{LOWER: lower})
    module("confseq.predmix", **shared, **dict.fromkeys(PREDMIX, sequence))
    module("confseq.betting", **shared, betting_mart=capital, betting_cs=sequence, betting_lower_cs=lower)
    module("confseq.misc", superMG_crossing_fraction=_crossing, expand_grid=lambda a, b: [*product(a, b)])


TWO_SIDED = ("conjmix_hoeffding_twosided_cs", "conjmix_empbern_twosided_cs")
LOWER = "conjmix_empbern_lower_cs"
PREDMIX = ("predmix_empbern_twosided_cs", "predmix_hoeffding_cs")


def _crossing(mart_fn: Any, dist_fn: Any, alpha: float, repeats: int) -> float:
    return float(np.mean([(mart_fn(dist_fn()) > 1 / alpha).any() for _ in range(repeats)]))


def confseq_reference(file: Path) -> dict[str, tuple[str, str]]:
    """The expected values of their C++ tests that a one-sided beta-binomial mixture has, with ours."""
    expected = re.compile(r"EXPECT_NEAR\((.*?),\s*([^,]+),\s*1e-5\);", re.DOTALL)
    text = file.read_text().partition("TestOneSidedBetaBinomialMixture")[2].partition("\nTEST(")[0]
    names = {"V_OPT": 100, "ALPHA": 0.05, "beta_binomial_log_mixture": _log_mixture}
    names["beta_binomial_mixture_bound"] = lambda v, tail, *priors: _bound(v, -log(tail), *priors)
    results = {}
    for call, value in expected.findall(text):
        got, wanted = (float(eval(part.strip(), names.copy())) for part in (call, value))
        name = f"OneSidedBetaBinomialMixture::{' '.join(call.split())}"
        results[name] = ("passed" if abs(got - wanted) <= 1e-5 else "failed", f"{got} beside {wanted}")
    return results


def _log_mixture(s: float, v: float, v_opt: float, g: float, h: float) -> float:
    """Their mixture over means above g of values in {-g, h}, g + h = 1, by ours over shares below h.

    Beyond our prior, theirs counts answers that were not given: r / g of one kind and r / h of the other.
    """
    tail = log(1 / (2 * 0.05))
    r = max(v_opt / (2 * tail + log(1 + 2 * tail)) - g * h, 1e-3 * g * h)
    prior_low, prior_high = r / g - PRIOR, r / h - PRIOR
    n = v / (g * h)
    low = n * h - s  # answers of -g
    counts = (
        np.array([prior_low, low + prior_low]),
        np.array([prior_low + prior_high, n + prior_low + prior_high]),
    )
    before, after = log_ratio(*counts, np.full(2, h))
    return float(after - before)


def _bound(v: float, threshold: float, v_opt: float, g: float, h: float) -> float:
    """The s at which the mixture reaches the threshold, or the largest that can be."""
    low, high = 0.0, v / g
    for _ in range(80):
        middle = (low + high) / 2
        if _log_mixture(middle, v, v_opt, g, h) < threshold:
            low = middle
        else:
            high = middle
    return high


def statsmodels(folder: Path) -> None:
    """Their method "beta" is our Clopper-Pearson interval."""
    from statsmodels.stats import proportion, tests

    tests.__path__.insert(0, str(folder / "statsmodels" / "stats" / "tests"))  # has R's results
    theirs = proportion.proportion_confint

    def interval(count: Any, nobs: Any, alpha: float = 0.05, method: str = "normal", **given: Any) -> Any:
        if method != "beta":
            return theirs(count, nobs, alpha=alpha, method=method, **given)
        side = given.get("alternative", "two-sided")
        tail = alpha / 2 if side == "two-sided" else alpha
        ends = [
            np.vectorize(lambda s, n, end=end: clopper_pearson(s, n, tail)[end])(count, nobs)
            for end in (0, 1)
        ]
        low = np.zeros_like(ends[0]) if side == "larger" else ends[0]
        high = np.ones_like(ends[1]) if side == "smaller" else ends[1]
        return _like(count, low), _like(count, high)

    proportion.proportion_confint = interval


def _like(given: Any, value: Any) -> Any:
    if hasattr(given, "index") and hasattr(given, "to_numpy"):
        names = {"columns": given.columns} if given.ndim == 2 else {}
        return type(given)(value, index=given.index, **names)
    return value


class Spline:
    """Their NaturalCubicSpline by our matrix; it has no derivatives."""

    def __init__(self, coeffs: tuple[Tensor, Tensor]):
        self._times, self._values = coeffs

    def evaluate(self, t: Tensor) -> Tensor:
        """Values ``[..., *t.shape, channels]`` at the points ``t``."""
        matrix = torch.as_tensor(spline_matrix(self._times.double().numpy(), t.double().flatten().numpy()))
        values = torch.einsum("pn,...nc->...pc", matrix, self._values.double())
        return values.reshape(*self._values.shape[:-2], *t.shape, self._values.shape[-1]).to(self._values)


def torchcubicspline(module: Any) -> None:
    module(
        "torchcubicspline",
        natural_cubic_spline_coeffs=lambda t, x: (t, x),
        NaturalCubicSpline=Spline,
    )


def robustbench(module: Any, folder: Path) -> None:
    """Their benchmark of a model is our attack on as many images of digits, as large as theirs."""

    def benchmark(model: Any, n_examples: int, threat_model: Any, eps: float, **_: Any) -> float:
        x, y = torch.rand(n_examples, 3, 32, 32), torch.zeros(n_examples, dtype=torch.long)
        perturbed = attack(model, x, y, "aa-20", eps, norm=str(threat_model).lower(), seed=0)
        return float((model(perturbed).argmax(1) == y).double().mean())

    module("robustbench", benchmark=benchmark)
    module("robustbench.model_zoo.enums", ThreatModel=ModuleType("ThreatModel"))
    vars(sys.modules["robustbench.model_zoo.enums"].ThreatModel)["Linf"] = "Linf"
    sys.path.insert(0, str(folder))
