"""How many planted weaknesses the attacks of a finished run find.

Where nothing broke a defence, the same attacks meet the same defence again, with one weakness at a time in
images that stayed right in every draw. What they find of it is what they would have found of a real one of
that kind. It is counted in images: a weakness that is found in half of them and costs a defence 10 points
would have been seen as one of 5.

Each weakness is harder to find than the one before for another reason. Every planted image has a
perturbation that costs it its answer, and that the planter knows: a direction from it to the surface of the
ball. How far an input has gone that way is a number ``way`` in [-1, 1], 1 at the known perturbation. A
weakness lowers the margin of the clean answer by a function of it, and nothing else of the defence changes.
So each planted image is lost to whoever finds its direction, and the true accuracy falls by exactly the
share of planted images that nothing else breaks.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor
from torch.nn import functional

from attacks import naming, perturbation_budget
from attacks.catalogue import CATALOGUE
from robustbench_coded.data.arrays import dataset_in_memory
from robustbench_coded.defences.protocol import Defence, Draw, logits_grouped
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.attack_group import budget_of
from robustbench_coded.evaluation.execution.in_memory import InMemory
from robustbench_coded.evaluation.execution.target import draws_of
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.cases import PlannedCase
from robustbench_coded.evaluation.session.evaluate import evaluate
from robustbench_coded.evaluation.session.listener import Listener
from robustbench_coded.extras.power.report import STORED, Detection, Power
from robustbench_coded.extras.verification.verify_run import rebuilt_bench, rebuilt_row
from robustbench_coded.judge.judgements import Judgement
from robustbench_coded.judge.run import Run, load_run
from robustbench_coded.runs.atomic import write_bytes
from robustbench_coded.schema.words import COMBINED, CONTROLS, ENSEMBLE, VerdictName

ENOUGH = 2.0  # how far the margin falls at the known perturbation, in ranges of the clean logits
NEAR = 2.0  # radii around a planted image in which its weakness is there
SMOOTH = 4  # directions are constant on blocks: this many along each side of an image


@dataclass(frozen=True)
class Weakness:
    """One kind.

    Attributes:
        name: as printed.
        what: what makes it hard to find.
        depth: from the way, [n] in [-1, 1], to what is lost of the margin: 0 at no way, 1 at the whole way.
        smooth: whether its direction is constant on blocks of pixels; else each pixel has a sign of its own.
        scale: factor of all logits.
        hidden: whether its gradient is cut off.
        rare: whether it helps one other class alone, the least likely one.
    """

    name: str
    what: str
    depth: Callable[[Tensor], Tensor]
    smooth: bool = False
    scale: float = 1.0
    hidden: bool = False
    rare: bool = False


WEAKNESSES = (
    Weakness("plain", "following the gradient reaches it", lambda way: way),
    Weakness("saturated", "logits so large that the cross-entropy is flat", lambda way: way, scale=1e4),
    Weakness("unlikely class", "only the least likely class is reachable", lambda way: way, rare=True),
    Weakness("no gradient", "the gradient is uninformative", lambda way: way, smooth=True, hidden=True),
    Weakness(
        "loss barrier",
        "the loss decreases over the first half of the path to it",
        lambda way: torch.where(way > 0.5, torch.ones_like(way), -way.clamp(min=0)),
        smooth=True,
    ),
    Weakness("needle", "loss flat over the first 95% of the path", lambda way: (way > 0.95).to(way.dtype)),
)
# Beside them: images that stayed right may fall when they are attacked again, in other draws.
NOTHING = Weakness("nothing", "", torch.zeros_like)


class PlantedWeakness:
    """A defence with one weakness.

    Args:
        defence: the defence.
        weakness: what is planted.
        x: the images that get it, [n, C, H, W] in [0, 1].
        clean: the defence's logits at them, [n, classes].
        budget: how far perturbations may go.
        seed: of the directions.

    Attributes:
        known: for each image, the perturbed image that breaks it, [n, C, H, W].
    """

    def __init__(
        self,
        defence: Defence,
        weakness: Weakness,
        x: Tensor,
        clean: Tensor,
        budget: perturbation_budget.PerturbationBudget,
        seed: int = 0,
    ):
        self.defence, self.weakness, self.base = defence, weakness, defence.base
        self.name = f"{defence.name} with a planted weakness: {weakness.name}"
        self.randomised, self.batch_dependent = defence.randomised, defence.batch_dependent
        if (reject := getattr(defence, "abstain", None)) is not None:
            self.abstain = reject
        self.x, self.budget = x, budget
        side = SMOOTH if weakness.smooth else x.shape[-1]
        signs = torch.randint(2, (len(x), x.shape[1], side, side), generator=_seeded(seed)) * 2 - 1
        direction = functional.interpolate(signs.to(x), size=x.shape[-2:])
        self.known = budget.around(x[None]).step_(x[None].clone(), direction[None], budget.eps)[0]
        order = clean.argsort(dim=1, descending=True)
        self.answer, self.other = order[:, 0], order[:, -1 if weakness.rare else 1]
        self.fall = ENOUGH * (clean.amax(1) - clean.amin(1))

    def sample(self, generator: torch.Generator, k: int) -> Draw:
        return self.defence.sample(generator, k)

    def images(self, k: int) -> int:
        images = getattr(self.defence, "images", None)
        return int(images(k)) if callable(images) else k

    def logits(self, x: Tensor, draw: Draw) -> Tensor:
        return self._weakened(x, self.defence.logits(x, draw))

    def logits_grouped(self, x: Tensor, draws: Sequence[Any]) -> Tensor:
        answers = logits_grouped(self.defence, x, draws)
        return self._weakened(x.flatten(0, 1), answers.flatten(0, 1)).view_as(answers)

    def _weakened(self, x: Tensor, logits: Tensor) -> Tensor:
        """Logits [n, classes] of x [n, C, H, W], less by how far each has gone its known way."""
        planted, known = self.x.to(x), self.known.to(x)
        with torch.no_grad():
            nearest = torch.cdist(x.flatten(1), planted.flatten(1)).argmin(1)
            here = self.budget.around(planted[nearest][None]).distance(x[None])[0] <= NEAR
        start, whole = planted[nearest], (known - planted)[nearest]
        way = ((x - start) * whole).flatten(1).sum(1) / whole.square().flatten(1).sum(1).clamp(min=1e-12)
        depth = self.weakness.depth(way.detach() if self.weakness.hidden else way)
        fall = torch.where(here, depth * self.fall.to(x)[nearest], 0.0)
        classes = self.other if self.weakness.rare else self.answer
        change = functional.one_hot(classes.to(x.device)[nearest], logits.shape[1]) * fall[:, None]
        return self.weakness.scale * (logits + (change if self.weakness.rare else -change))


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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
        say: receives progress as text.

    Raises:
        InputError: not a run folder, nothing stands in it, or data, weights or code are not those of the run.
    """
    run = load_run(path)
    standing = [
        judgement
        for judgement in run.judgements
        if judgement.verdict.name == VerdictName.NO_FAILURE_FOUND
        and judgement.case.threat.inputs == "batch"
        and not judgement.case.threat.draw_known
    ]
    if not standing:
        raise InputError(
            f"{path}: of nothing in it the verdict is `{VerdictName.NO_FAILURE_FOUND}` (batch/unknown); "
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
    setting = judgement.case.setting
    rows = [row for row in run.results if row.case.setting == setting and row.cell is not None]
    everything = next(row.cell for row in rows if row.case.attack == ENSEMBLE)
    attacks = [row.case for row in rows if row.case.attack not in (*CONTROLS, *COMBINED)]
    planned = {case.case: case for case in run.manifest.cases}
    own = [key for key in attacks if key in planned and _can_run(key.attack)]
    case = rebuilt_row(context, planned[own[0]], defences)
    if case is None:
        raise InputError(f"{run.path}: name the code of {setting.subject.defence} with --defence to load it")
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
        say(f"{weakness.name} in {len(stood)} images of {setting.subject.defence}")
        planted = _planted(context, case, weakness, chosen[: len(stood)], chosen)
        names = [key.attack for key in own]
        shares.append(round(_share_detected(context, case, planted, names, chosen, len(stood)), 4))
    items = [
        Detection(kind.name, kind.what, share) for kind, share in zip(WEAKNESSES, shares[1:], strict=True)
    ]
    seconds = round(time.monotonic() - start, 1)
    about = (
        f"{setting.subject.defence} on {setting.subject.checkpoint}, {setting.perturbation.norm}, eps "
        f"{setting.perturbation.eps:.4g}"
    )
    return Power(about, len(stood), len(own), seconds, shares[0], tuple(items))


def _can_run(attack: str) -> bool:
    """True if an attack of an earlier run can be run again: what was submitted cannot, nor what is gone."""
    name = naming.parse(attack)
    entry = CATALOGUE.get(name.algorithm)
    return name.estimator != "submitted" and (entry is None or bool(entry.module))


@torch.no_grad()
def _planted(
    context: WorkerContext, case: PlannedCase, weakness: Weakness, images: Sequence[int], among: Sequence[int]
) -> PlantedWeakness:
    defence, k = context.defence(case.subject), case.subject.k
    x, y = context.data.batch(list(images))
    size = k if case.subject.batch_dependent else len(images)
    filled = context.data.batch([among[i % len(among)] for i in range(-(-len(images) // size) * size)])[0]
    batches = filled.unflatten(0, (-1, size)).to(context.device)
    draws = draws_of(defence, size, 0, range(len(batches)), "probe", 0)
    clean = logits_grouped(defence, batches, draws).flatten(0, 1)[: len(images)].cpu()
    # What stayed right in every draw is right, whatever this one says.
    clean[torch.arange(len(images)), y] = clean.amax(1) + 1e-3
    return PlantedWeakness(defence, weakness, x, clean, budget_of(context, case))


def _share_detected(
    context: WorkerContext,
    case: PlannedCase,
    planted: PlantedWeakness,
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
            norm=case.perturbation.norm,
            eps=(case.perturbation.eps,),
            eps_space=case.perturbation.eps_space,
            batch_size=(case.subject.k if case.subject.batch_dependent else len(images),),
            first=True,
            all=True,
            standard=False,
            inputs=("batch",),
            out=Path(folder) / "run",
        )
        given = InMemory(dataset_in_memory((x, y)), {case.subject.checkpoint: base}, {"planted": planted})
        run = load_run(evaluate(config, Listener(), given))
        cell = next(row.cell for row in run.results if row.case.attack == ENSEMBLE)
    assert cell is not None
    return float(1 - cell.correct[cell.example < count].mean())
