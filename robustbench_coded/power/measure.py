"""How many planted weaknesses the attacks of a finished run find.

Where nothing broke a defence, the same attacks meet the same defence again, with one weakness at a time in
images that stayed right in every draw. What they find of it is what they would have found of a real one of
that kind. It is counted in images: a weakness that is found in half of them and costs a defence 10 points
would have been seen as one of 5.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import torch

from attacks.naming import parse
from robustbench_coded.data.arrays import dataset_in_memory
from robustbench_coded.defences.protocol import logits_grouped
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.attack_group import budget_of
from robustbench_coded.evaluation.execution.in_memory import InMemory
from robustbench_coded.evaluation.execution.target import draws_of
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.cases import AttackCase
from robustbench_coded.power.report import STORED, Found, Power
from robustbench_coded.power.weaknesses import NOTHING, WEAKNESSES, Planted, Weakness
from robustbench_coded.results.judgements import Judgement
from robustbench_coded.results.run import Run, load_run
from robustbench_coded.runs.atomic import write_bytes
from robustbench_coded.schema.words import COMBINED, CONTROLS, ENSEMBLE, VerdictWord
from robustbench_coded.session.evaluate import evaluate
from robustbench_coded.session.listener import Listener
from robustbench_coded.verification.verify_run import rebuilt_bench, rebuilt_row

FILL = 512  # images among which those that stayed right are answered, where answers depend on the batch


def measure(
    path: Path,
    *,
    images: int,
    checkpoints: dict[str, str],
    defences: Sequence[str] = (),
    arch: str | None = None,
    data_dir: str | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> list[Power]:
    """Plants weaknesses wherever a run says `no failure found` of whole batches, and stores what is found.

    Args:
        path: the run folder.
        images: how many images get a weakness, at most.
        checkpoints, defences, arch, data_dir: as in `verify_run`.
        say: is told what runs.

    Raises:
        InputError: not a run folder, nothing stands in it, or data, weights or code are not those of the run.
    """
    run = load_run(path)
    standing = [
        judgement
        for judgement in run.judgements
        if judgement.verdict.word == VerdictWord.NO_FAILURE_FOUND
        and judgement.key.threat.whole_batch
        and not judgement.key.threat.draw_known
    ]
    if not standing:
        raise InputError(
            f"{path}: of nothing in it the verdict is `{VerdictWord.NO_FAILURE_FOUND}` (batch/unknown); "
            "what its attacks would have found matters only there"
        )
    context = rebuilt_bench(run.manifest, checkpoints=checkpoints, arch=arch, data_dir=data_dir)
    measured = [_power(run, context, judgement, images, defences, say) for judgement in standing]
    write_bytes(path / STORED, msgspec.json.encode(measured))
    return measured


def _power(
    run: Run,
    context: WorkerContext,
    judgement: Judgement,
    images: int,
    defences: Sequence[str],
    say: Callable[[str], None],
) -> Power:
    setting = judgement.key.setting
    rows = [row for row in run.results if row.key.setting == setting and row.cell is not None]
    everything = next(row.cell for row in rows if row.key.attack == ENSEMBLE)
    attacks = [row.key for row in rows if row.key.attack not in (*CONTROLS, *COMBINED)]
    planned = {case.key: case for case in run.manifest.rows}
    own = [key for key in attacks if key in planned and not parse(key.attack).is_submitted]
    case = rebuilt_row(context, planned[own[0]], defences)
    if case is None:
        raise InputError(f"{run.path}: name the code of {setting.defence} with --defence to load it")
    assert everything is not None
    stood = everything.example[everything.correct.all(1)][:images]
    if not len(stood):
        raise InputError(f"{run.path}: no image stayed right in every draw; there is nothing to plant in")
    place = {int(number): i for i, number in enumerate(context.numbers)}
    chosen = [place[int(number)] for number in stood]
    if case.subject.batch_dependent:  # among as many others as fill whole batches
        others = [i for i in place.values() if i not in set(chosen)]
        whole = -(-min(FILL, len(place)) // case.subject.k) * case.subject.k
        chosen += others[: max(0, whole - len(chosen))]
    start, shares = time.monotonic(), []
    for weakness in (NOTHING, *WEAKNESSES):
        say(f"{weakness.name} in {len(stood)} images of {setting.defence}")
        planted = _planted(context, case, weakness, chosen[: len(stood)], chosen)
        names = [key.attack for key in own]
        shares.append(round(_share_found(context, case, planted, names, chosen, len(stood)), 4))
    found = [Found(kind.name, kind.what, share) for kind, share in zip(WEAKNESSES, shares[1:], strict=True)]
    seconds = round(time.monotonic() - start, 1)
    about = f"{setting.defence} on {setting.checkpoint}, {setting.norm}, eps {setting.eps:.4g}"
    return Power(about, len(stood), len(own), seconds, shares[0], tuple(found))


@torch.no_grad()
def _planted(
    context: WorkerContext, case: AttackCase, weakness: Weakness, images: Sequence[int], among: Sequence[int]
) -> Planted:
    defence, k = context.defence(case.subject), case.subject.k
    x, y = context.data.batch(list(images))
    size = k if case.subject.batch_dependent else len(images)
    filled = context.data.batch([among[i % len(among)] for i in range(-(-len(images) // size) * size)])[0]
    batches = filled.unflatten(0, (-1, size)).to(context.device)
    draws = draws_of(defence, size, 0, range(len(batches)), "probe", 0)
    clean = logits_grouped(defence, batches, draws).flatten(0, 1)[: len(images)].cpu()
    # What stayed right in every draw is right, whatever this one says.
    clean[torch.arange(len(images)), y] = clean.amax(1) + 1e-3
    return Planted(defence, weakness, x, clean, budget_of(context, case))


def _share_found(
    context: WorkerContext,
    case: AttackCase,
    planted: Planted,
    attacks: Sequence[str],
    images: Sequence[int],
    count: int,
) -> float:
    """The share of the first ``count`` images that the attacks turn wrong, over draws."""
    x, y = context.data.batch(list(images))
    base = context.model(case.subject.checkpoint)
    with tempfile.TemporaryDirectory() as folder:
        config = EvalConfig(
            checkpoints=(),
            attacks=tuple(attacks),
            norm=case.norm,
            eps=(case.eps,),
            eps_space=case.eps_space,
            batch_sizes=(case.subject.k if case.subject.batch_dependent else len(images),),
            first=True,
            all=True,
            standard=False,
            inputs=("batch",),
            out=Path(folder) / "run",
        )
        given = InMemory(dataset_in_memory((x, y)), {case.subject.checkpoint: base}, {"planted": planted})
        run = load_run(evaluate(config, Listener(), given))
        cell = next(row.cell for row in run.results if row.key.attack == ENSEMBLE)
    assert cell is not None
    return float(1 - cell.correct[cell.example < count].mean())
