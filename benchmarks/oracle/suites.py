"""The defences of known truth, evaluated once by the plain command with their run folders kept.

    run(suite, name, folder)    evaluates one, unless the folder holds it
    SUITES                      suite -> names of its defences

Whoever changes a rule, a check or a table judges the kept outcomes again and evaluates nothing.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.errors import rugged, twins
from benchmarks.errors.zoo_judged import REFUSED, EvaluatedEntry, Finding, evaluate_known
from benchmarks.soundness import instances
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.session.evaluate import IncompleteRun
from robustbench_coded.run import load_run
from robustbench_coded.runs.atomic import write_text
from zoo.known import Known, Truth
from zoo.registry import ZOO, ZooEntry

# Seeds that were drawn after attacks and verdicts were frozen, each for a committed table. ``pairs@5`` and
# ``soundness@5`` have another.
PAIRS_SEED, SOUNDNESS_SEED, RUGGED_SEED = 7589, 63020, 6789
TWIN = "-twin"

SUITES: dict[str, tuple[str, ...]] = {
    "zoo": tuple(ZOO),
    "soundness": tuple(instances.INSTANCES),
    "pairs": tuple(f"{kind}{end}" for kind in twins.PAIRS for end in ("", TWIN)),
    "rugged": tuple(f"{family}.{wrapper}" for family in rugged.FAMILIES for wrapper in rugged.WRAPPERS),
}


def loaded(suite: str, name: str) -> tuple[ZooEntry, Known, dict[str, Any]]:
    """A defence with its data and truth, and the options that its evaluation needs."""
    suite, _, seed = suite.partition("@")
    if seed and suite not in ("pairs", "soundness"):
        raise SystemExit(f"{suite} takes no seed; pairs and soundness do")
    if suite == "zoo":
        return ZOO[name], ZOO[name].load(), {}
    if suite == "soundness":
        instance = instances.make(name, int(seed or SOUNDNESS_SEED))
        return instance.entry, instance.known, {"batch_size": (instances.BATCH,)}
    if suite == "pairs":
        entry, known = twins.make(
            name.removesuffix(TWIN), int(seed or PAIRS_SEED), fragile=name.endswith(TWIN)
        )
        return entry, known, {}
    family, _, wrapper = name.partition(".")
    entry, known = rugged.make(family, wrapper, f"{RUGGED_SEED}0")
    return entry, known, {}


def run(suite: str, name: str, folder: Path) -> float:
    """Evaluates a defence into ``folder/suite/name``, and writes what is true of it beside the run.

    Returns:
        processor seconds; 0 where it was kept already.
    """
    out = folder / suite / name
    truth_file = out.with_name(f"{out.name}.json")  # names have points
    if truth_file.exists():
        return 0.0
    started, refused = time.process_time(), ""
    entry, known, options = loaded(suite, name)
    try:
        evaluate_known(entry, known, out, threads=1, **options)
    except IncompleteRun:
        pass  # it is judged by what it has
    except InputError as refusal:
        refused = str(refusal)
    seconds = time.process_time() - started
    threats = {str(judgement.threat) for judgement in load_run(out).judgements} if not refused else set()
    truths = {threat: known.truth(threat) for threat in sorted({*threats, "batch/unknown"})}
    facts = {
        "name": entry.name,
        "broken": entry.broken,
        "truths": {threat: [truth.low, truth.high] for threat, truth in truths.items()},
        "refused": refused,
        "seconds": round(seconds, 1),
    }
    write_text(truth_file, json.dumps(facts, indent=1))
    return seconds


def findings(truth_file: Path) -> Sequence[Finding]:
    """What the kept outcomes of a defence say today, beside the truth."""
    facts = json.loads(truth_file.read_text())
    truths = {threat: Truth(*ends) for threat, ends in facts["truths"].items()}
    entry = ZooEntry(facts["name"], "", "", facts["broken"], "", "", 0.0)
    if facts["refused"]:
        truth = truths["batch/unknown"]
        return [Finding(entry, "batch/unknown", REFUSED, facts["refused"], (), None, None, None, truth)]
    known = Known(None, None, None, None, truths.__getitem__)  # type: ignore[arg-type]  # judged by outcomes alone
    return EvaluatedEntry(entry, known, load_run(truth_file.with_suffix(""))).findings
