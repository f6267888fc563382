import numpy as np
import pytest

from robustbench_coded.statistics.case_results import case_results
from robustbench_coded.statistics.decomposition import decomposition, sentence

EXAMPLES = 320


def share(part, draws=4):
    right = (np.arange(EXAMPLES) * 89 % EXAMPLES) < round(part * EXAMPLES)
    return np.repeat(right[:, None], draws, axis=1)


@pytest.fixture
def parts_of(evaluation):
    def parts(*attacks):
        run = evaluation().add("clean", share(0.9), share(0.9))
        for name, part, threat in attacks:
            kept = share(part)
            if threat.startswith("victim"):
                victims = np.arange(5, EXAMPLES, 10)
                run.add(name, kept[victims], kept[victims], examples=victims, threat=threat)
            else:
                run.add(name, kept, kept, threat=threat)
        rows = case_results(*run.parts())
        ensemble = next(
            row for row in rows if row.key.attack == "ensemble" and str(row.key.threat) == "batch/unknown"
        )
        return decomposition(rows, ensemble)

    return parts


FULL = [
    ("pgd-10", 0.30, "batch/unknown"),
    ("transfer-pgd-20", 0.05, "batch/unknown"),
    ("aware-pgd-10", 0.20, "batch/known"),
    ("aware-pgd-40+init=transfer-pgd-20", 0.05, "batch/known"),
    ("transfer-pgd-20", 0.05, "victim/unknown"),
]


def test_each_part_is_the_difference_of_the_attackers_it_names(parts_of):
    parts = {part.source: part for part in parts_of(*FULL)}
    assert list(parts) == ["randomness", "optimisation", "coupling"]
    assert parts["randomness"].difference.estimate == pytest.approx(0.1)
    assert parts["optimisation"].difference.estimate == pytest.approx(0.15)
    assert parts["coupling"].difference.estimate == pytest.approx(0.0, abs=0.05)
    assert parts["coupling"].difference.examples == 32
    assert (parts["randomness"].without.attack, parts["randomness"].with_.attack) == (
        "pgd-10",
        "aware-pgd-10",
    )


@pytest.mark.parametrize(
    ("left_out", "missing"),
    [("aware-pgd-40", "optimisation"), ("pgd-10", "randomness"), ("transfer-pgd-20", "coupling")],
)
def test_what_was_not_run_is_left_out(parts_of, left_out, missing):
    parts = parts_of(
        *[attack for attack in FULL if not attack[0].startswith(left_out)], ("fgsm", 0.5, "batch/unknown")
    )
    assert missing not in [part.source for part in parts]
    assert len(parts) == 2


def test_knowledge_is_told_from_optimisation_by_equal_algorithms(parts_of):
    # eot10-pgd-10 is not what aware-pgd-10 is with a draw unknown: it also averages.
    parts = parts_of(("eot10-pgd-10", 0.2, "batch/unknown"), ("aware-pgd-10", 0.1, "batch/known"))
    assert parts == []


def test_the_sentence_names_what_certainly_matters_and_the_largest_first(parts_of):
    told = sentence(parts_of(*FULL))
    assert told.index("optimisation") < told.index("randomness")
    assert "coupling" not in told
    alike = [(name, 0.3, threat) for name, _, threat in FULL]
    assert sentence(parts_of(*alike)).startswith("Neither randomness nor optimisation nor coupling")
    one = [("pgd-10", 0.3, "batch/unknown"), ("aware-pgd-10", 0.3, "batch/known")]
    assert sentence(parts_of(*one)) == "Randomness makes no certain difference."
    assert sentence([]) == ""
