"""One evaluation under covariate shift, from options to a finished folder. Forward passes only.

First the options, the sets that they choose, and the blocks of a clustered estimate.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from msgspec import structs

from robustbench_coded.data.dataset import Dataset, Images
from robustbench_coded.data.named_sets import own_cache
from robustbench_coded.data.registry import load_data
from robustbench_coded.errors import InputError, did_you_mean
from robustbench_coded.evaluation.engine.run import Engine
from robustbench_coded.evaluation.execution.in_memory import InMemory
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.batches import evaluated
from robustbench_coded.evaluation.planning.cases import planned_case
from robustbench_coded.evaluation.session import evaluate
from robustbench_coded.evaluation.session.evaluation import plan_of
from robustbench_coded.evaluation.session.listener import Listener
from robustbench_coded.evaluation.session.manifest import (
    checked_against,
    code_going_on,
    new_manifest,
    with_earlier,
)
from robustbench_coded.evaluation.session.run_plan import Done, Work, run_plan
from robustbench_coded.evaluation.setup.checkpoints import data_named
from robustbench_coded.evaluation.setup.images import facts_of
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation, fixed_facts, folder_name, prepare
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.paper.shift import answers, corruptions, report
from robustbench_coded.paper.shift.images import WHERE, cached_sets, published_sets
from robustbench_coded.paper.shift.sets import CLEAN, CONSTANTS, SEVERITIES, ShiftSet, StoredArray
from robustbench_coded.reports.run.paper import papers_set
from robustbench_coded.runs.adversarials import PerturbationStore
from robustbench_coded.runs.folder import RunFolder, read_manifest
from robustbench_coded.schema import words
from robustbench_coded.schema.case import WHOLE_BATCH, Perturbation
from robustbench_coded.schema.manifest import RunManifest

LEAST_DRAWS = 2


@dataclass(frozen=True)
class ShiftConfig:
    """Checkpoints, inferences and sets of a shift run.

    Attributes:
        evaluation: checkpoints, inferences, batches, draws, seed and machine; its ``data`` and ``attacks``
            are not used.
        data: data sets as text. One that ``csrobust eval`` knows is corrupted here; ``cifar10c:DIR``,
            ``cifar10.1:DIR``, ``cifar10.2:DIR`` and ``imagenet-r:DIR`` are evaluated as they are.
        corruptions: names; empty for all that the images can have.
        severities: from 1 to 5.
        baseline: the checkpoint whose standard inference errors are divided by; None for the first.
    """

    evaluation: EvalConfig
    data: tuple[str, ...] = ("auto",)
    corruptions: tuple[str, ...] = ()
    severities: tuple[int, ...] = SEVERITIES
    baseline: str | None = None

    def __post_init__(self) -> None:
        for name in self.corruptions:
            if name not in CONSTANTS:
                near = did_you_mean(name, list(CONSTANTS))
                raise InputError(
                    f"--corruptions {name}: no such corruption; {near}known: {', '.join(CONSTANTS)}"
                )
        for severity in self.severities:
            if severity not in SEVERITIES:
                raise InputError(f"--severities {severity}: severities are 1, 2, 3, 4 and 5")
        if self.evaluation.draws < LEAST_DRAWS:
            raise InputError(f"--draws {self.evaluation.draws}: give {LEAST_DRAWS} or more")
        if len(self.evaluation.batch_size) > 1:
            raise InputError("--batch-size: one size at a time; make a run of each")
        names = [name for name, _ in self.evaluation.checkpoints]
        if self.baseline is not None and self.baseline not in names:
            raise InputError(f"--baseline {self.baseline}: no such checkpoint; given: {', '.join(names)}")


# All sets one behind the other as a single data set, so that the engine evaluates them in one run.
#
#     block 0: the n images of the first set, filled up to whole batches; block 1: those of the second; ...
#
# Every block begins with a new batch: a batch never holds images of two sets, as it would in use. What fills
# a block up is its own beginning, answered and never counted.


class SetBlocks:
    """The images of all blocks, by their place in the whole.

    Args:
        sets: the images of each block and the rows taken of them.
        k: size of a batch.
    """

    def __init__(self, sets: Sequence[tuple[Images, np.ndarray]], k: int):
        self._sets = tuple(sets)
        self._starts = answers.block_starts([len(rows) for _, rows in sets], k)

    @property
    def shape(self) -> tuple[int, ...]:
        return (int(self._starts[-1]), *self._sets[0][0].shape[1:])

    def __getitem__(self, places: np.ndarray, /) -> np.ndarray:
        """Images [len(places), H, W, C] of these places."""
        block = np.searchsorted(self._starts, places, side="right") - 1
        stack = None
        for number in np.unique(block):
            here = block == number
            images, rows = self._sets[number]
            pixels = images[rows[(places[here] - self._starts[number]) % len(rows)]]
            if stack is None:
                stack = np.empty((len(places), *pixels.shape[1:]), dtype=pixels.dtype)
            stack[here] = pixels
        return np.empty((0, *self.shape[1:]), dtype=np.uint8) if stack is None else stack


def as_dataset(sets: Sequence[ShiftSet], k: int, *, classes: int, like: Dataset) -> Dataset:
    """The sets as one data set.

    Raises:
        InputError: sets of images of different shapes.
    """
    shapes = {shift.collection: tuple(shift.images.shape[1:]) for shift in sets}
    if len(set(shapes.values())) > 1:
        sizes = ", ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in shapes.items())
        raise InputError(f"the images have different shapes ({sizes}); evaluate them one after the other")
    labels = [shift.labels[np.arange(-(-len(shift) // k) * k) % len(shift)] for shift in sets]
    return Dataset(
        name="+".join(dict.fromkeys(shift.collection for shift in sets)),
        images=SetBlocks([(shift.images, shift.rows) for shift in sets], k),
        scale=255.0,
        labels=np.concatenate(labels).astype(np.int64),
        classes=classes,
        class_names=like.class_names,
        source=f"{len(sets)} sets one behind the other",
        outputs=like.outputs,
    )


AS_IT_IS = "imagenet-r"


def chosen_sets(
    config: ShiftConfig, listener: Listener | None = None
) -> tuple[list[ShiftSet], Dataset, Dataset]:
    """The sets of all ``--data``.

    Returns:
        sets: in the order in which they are evaluated.
        data: all of them as one data set.
        reference: images that the checkpoints were made for, by which networks are recognised.

    Raises:
        InputError: unknown or missing data, images that can't be corrupted, sets that do not go together.
    """
    sets: list[ShiftSet] = []
    like: Dataset | None = None
    classes = 0
    for spec in config.data:
        kind, _, place = spec.partition(":")
        if kind in WHERE and not place:
            raise InputError(f"--data {kind}: give its folder, {kind}:DIR, which holds {WHERE[kind]}")
        if kind in WHERE:
            options = config.evaluation
            sets += published_sets(
                kind, Path(place), config.corruptions or tuple(CONSTANTS), config.severities,
                limit=options.limit, first=options.first, seed=options.seed,
            )  # fmt: skip
            classes = max(classes, 10)
            continue
        like, loaded = _loaded(config, spec, listener)
        classes = max(classes, like.classes)
        sets += loaded
    if like is not None and like.outputs is not None and len(config.data) > 1:
        raise InputError(f"{like.name} compares some of a network's outputs; evaluate it alone")
    keys = Counter((shift.collection, shift.name, shift.severity) for shift in sets)
    if twice := next((collection for (collection, *_), count in keys.items() if count > 1), None):
        raise InputError(f"--data: {twice} is given twice")
    k = config.evaluation.batch_size[0]
    reference = like or _reference(config, sets, classes)
    return sets, as_dataset(sets, k, classes=classes, like=reference), reference


def _reference(config: ShiftConfig, sets: list[ShiftSet], classes: int) -> Dataset:
    """What the checkpoints were made for, beside published sets alone; else a natural set."""
    try:
        return load_data(_named(config), data_dir=config.evaluation.data_dir)
    except InputError:
        natural = [shift for shift in sets if not shift.severity]
        if not natural and sets[0].collection.startswith("CIFAR"):
            raise
    first = (natural or sets)[0]
    images = SetBlocks([(first.images, first.rows)], 1)
    return Dataset(first.collection, images, 255.0, first.labels, classes, (), "")


def _loaded(config: ShiftConfig, spec: str, listener: Listener | None) -> tuple[Dataset, list[ShiftSet]]:
    """A data set that ``csrobust eval`` knows, and the sets made of it."""
    options = config.evaluation
    name = _named(config) if spec == "auto" else spec
    whole = load_data(name, data_dir=options.data_dir)
    part = evaluated(whole, options.limit, first=options.first, seed=options.seed)
    numbers = np.arange(len(part)) if part.numbers is None else part.numbers
    if name.partition(":")[0] == AS_IT_IS:
        return whole, [ShiftSet("ImageNet-R", "test", 0, part.images, np.arange(len(part)), part.labels)]
    channels = whole.image_shape[0]
    known = corruptions.corruptions_for(channels)
    if missing := [name for name in config.corruptions if name not in known]:
        raise InputError(f"--corruptions {missing[0]}: the images of {name} are grey and have no colours")
    names = config.corruptions or known
    wanted = [(name, severity) for name in names for severity in config.severities]
    files = cached_sets(
        _bytes(part),
        numbers,
        wanted,
        seed=options.seed,
        cache=own_cache(),
        workers=options.workers or 1,
        listener=listener,
    )
    title = _title(name, whole)
    rows = np.arange(len(part))
    made = [
        ShiftSet(title, name, severity, StoredArray(path), rows, part.labels)
        for (name, severity), path in sorted(files.items(), key=lambda pair: pair[0][0] != CLEAN)
    ]
    return whole, made


def _bytes(data: Dataset) -> np.ndarray:
    """All images as bytes [n, H, W, C]; those of other scales are rounded."""
    images = data.images[np.arange(len(data))]
    if data.scale == 255.0 and images.dtype == np.uint8:
        return images
    return np.round(images.astype(np.float64) * (255.0 / data.scale)).astype(np.uint8)


def _title(name: str, data: Dataset) -> str:
    if papers_set(name) == "cifar10" and data.classes == 10:
        return "CIFAR-10-C (ours)"
    return f"{Path(name.partition(':')[2] or name).stem.lower()}-C (ours)"


def _named(config: ShiftConfig) -> str:
    """What the checkpoints were made for."""
    options = config.evaluation
    loaded = [load_checkpoint(path, arch=options.arch, name=name) for name, path in options.checkpoints]
    return data_named(replace(options, data="auto"), loaded)


def shift(config: ShiftConfig, listener: Listener | None = None) -> Path:
    """Runs an evaluation under shift, or goes on with it, and writes its report.

    A folder goes on where it stopped; more checkpoints and inferences extend it. Other sets, images, batches
    or seeds are refused.

    Returns:
        the run folder.

    Raises:
        InputError: the options, a checkpoint, the data or the folder are not usable.
        IncompleteRun: some units failed; everything else is finished and reported.
        RunStopped: the disk or the workers fail; finished units are kept.
        KeyboardInterrupt: stopped from outside; finished units are kept and reported.
    """
    listener = listener or Listener()
    sets, data, reference = chosen_sets(config, listener)
    options = config.evaluation
    k = options.batch_size[0]
    facts = answers.ShiftFacts(
        sets=answers.facts_of(sets, k),
        k=k,
        limit=options.limit,
        subset=None if options.first or options.limit is None else "stratified",
        seed=options.seed,
        baseline=config.baseline or options.checkpoints[0][0],
    )
    evaluation = _forward_only(options)
    prepared = prepare(evaluation, InMemory(data=reference), say=listener.preparing)
    prepared = _on_other_images(prepared, data)
    name = folder_name(prepared)
    path = options.out or Path("reports") / f"shift-{name}"
    with evaluate.opened_folder(
        RunFolder(path, answers.SHIFT), listener, report.write_shift_report
    ) as folder:
        failures = _into(folder, config, evaluation, prepared, facts, listener)
    if failures:
        raise evaluate.IncompleteRun(path, failures)
    return path


def _on_other_images(prepared: PreparedEvaluation, data: Dataset) -> PreparedEvaluation:
    """The same checkpoints behind the same defences, to be asked about all of ``data``.

    Networks and normalisations are recognised by the images that a checkpoint was made for, which shifted
    ones would mislead.
    """
    identity = structs.replace(
        prepared.identity, data=data.name, data_sha256=data.sha256, limit=None, subset=None
    )
    in_memory = replace(prepared.setup.in_memory, data=data)
    setup = replace(prepared.setup, data=data.name, examples=len(data), in_memory=in_memory)
    prepared.context.exchange(setup, data)
    return replace(
        prepared,
        setup=setup,
        identity=identity,
        data_facts=facts_of(data, len(data)),
        fixed=fixed_facts(setup, identity, prepared.code),
        sizes=(len(data),),
    )


def _forward_only(options: EvalConfig) -> EvalConfig:
    """The engine's options: it gets the images as they are to be answered, and attacks nothing.

    Of the draws one is called a selection draw. Nothing is selected: both kinds are made alike and counted
    together.
    """
    return replace(
        options,
        attacks=(),
        limit=None,
        first=False,
        draws=options.draws - 1,
        selection_draws=1,
    )


def _into(
    folder: RunFolder,
    config: ShiftConfig,
    evaluation: EvalConfig,
    prepared: PreparedEvaluation,
    facts: answers.ShiftFacts,
    listener: Listener,
) -> list:
    if evaluation.overwrite:
        folder.clear()
    old = _old(folder.path, facts)
    if old is not None:
        prepared = prepared.resumed_from(old)
    unmoved = Perturbation(evaluation.norm, 0.0, evaluation.eps_space)
    cases = [planned_case(subject, WHOLE_BATCH, words.CLEAN, unmoved) for subject in prepared.subjects]
    plan = plan_of(cases, prepared.maker().units, ())
    for text in prepared.notes:
        listener.note(text)
    fresh = new_manifest(prepared, plan)
    if old is not None:
        checked_against(old, fresh.identity, prepared.setup.checkpoints, folder.path)
        code_going_on(old, prepared.code, folder.path, stopped=False)
    before = set() if old is None else set(folder.committed(old.unit_ids)[0])
    manifest = fresh if old is None else with_earlier(fresh, old, before)
    folder.write_manifest(answers.as_data(facts, manifest))
    done = Done(_usable(folder, manifest, listener.note))
    store = PerturbationStore(folder.path)
    with Engine(prepared.context) as engine:
        run_plan(Work(engine, folder, prepared, done, store, listener), plan)
    store.remove()
    manifest = structs.replace(manifest, finished=True)
    folder.write_manifest(answers.as_data(facts, manifest))
    report.write_shift_report(folder.path)
    return list(done.failures.values())


def _old(path: Path, facts: answers.ShiftFacts) -> RunManifest | None:
    """What the folder holds already.

    Raises:
        InputError: it was made of other sets.
    """
    if not (path / answers.SHIFT).exists():
        return None
    before, manifest = answers.from_data(read_manifest(path, answers.SHIFT), f"{path}/{answers.SHIFT}")
    if structs.replace(before, baseline=facts.baseline) != facts:
        raise InputError(
            f"{path} was made of other sets, images or batches; give another --out, or start again with "
            "--overwrite"
        )
    return manifest


def _usable(folder: RunFolder, manifest: RunManifest, note: Callable[[str], None]) -> dict[str, dict]:
    """Metadata of the committed units; damaged files are set aside and computed again."""
    metadata, damaged = folder.committed(manifest.unit_ids)
    for unit, reason in damaged.items():
        aside = folder.set_aside(unit)
        note(f"{reason}; its unit is computed again (the file is now {aside.name})")
    return metadata
