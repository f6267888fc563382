"""One evaluation under covariate shift, from options to a finished folder, forward passes only; and its sets:
corrupted here, published as files, and all of them one behind the other.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs

from robustbench_coded.data.dataset import Dataset, Images, stratified_rows
from robustbench_coded.data.registry import load_data
from robustbench_coded.errors import InputError, did_you_mean
from robustbench_coded.evaluation.engine.run import Engine
from robustbench_coded.evaluation.execution.in_memory import InMemory
from robustbench_coded.evaluation.execution.run_unit import UnitFailure
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.batches import evaluated
from robustbench_coded.evaluation.planning.cases import planned_case
from robustbench_coded.evaluation.planning.streams import stream
from robustbench_coded.evaluation.session import evaluate
from robustbench_coded.evaluation.session.evaluation import plan_of
from robustbench_coded.evaluation.session.listener import Listener
from robustbench_coded.evaluation.session.manifest import (
    checked_against,
    code_going_on,
    new_manifest,
    with_earlier,
)
from robustbench_coded.evaluation.session.recording import said_of
from robustbench_coded.evaluation.session.run_plan import Done, Work, run_plan
from robustbench_coded.evaluation.setup.checkpoints import data_named, facts_of
from robustbench_coded.evaluation.setup.prepare import PreparedEvaluation, fixed_facts, folder_name, prepare
from robustbench_coded.models.loading import load_checkpoint
from robustbench_coded.paper.shift import estimates, report
from robustbench_coded.paper.shift.corruptions import CONSTANTS, SEVERITIES, corrupt, corruptions_for
from robustbench_coded.paper.shift.estimates import CLEAN, SetFacts
from robustbench_coded.reports.text.formatting import papers_set
from robustbench_coded.runs.adversarials import PerturbationStore
from robustbench_coded.runs.folder import RunFolder, read_manifest
from robustbench_coded.schema import words
from robustbench_coded.schema.case import WHOLE_BATCH, Perturbation
from robustbench_coded.schema.manifest import RunManifest

CIFAR10C_IMAGES = 10_000
WHERE = {
    "cifar10c": "CIFAR-10-C of Hendrycks and Dietterich (Zenodo 2535967), unpacked: fog.npy ... labels.npy",
    "cifar10.1": "cifar10.1_v4_data.npy, cifar10.1_v4_labels.npy, or v6, of the CIFAR-10.1 repository",
    "cifar10.2": "cifar102_test.npz (images, labels) of the CIFAR-10.2 repository",
}


@dataclass(frozen=True, eq=False)
class ShiftSet:
    """Labelled images of one kind.

    Attributes:
        collection: what it belongs to, as tables name it: ``CIFAR-10-C (ours)``, ``CIFAR-10.1`` ...
        name: ``clean``, a corruption, or a version (``v6``).
        severity: 1 to 5; 0 where there is none.
        images: uint8 [n, H, W, C].
        labels: int64 [n].
    """

    collection: str
    name: str
    severity: int
    images: Images
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def corrupted_sets(
    collection: str, data: Dataset, names: Sequence[str], severities: Sequence[int], seed: int
) -> list[ShiftSet]:
    """The images of ``data`` as they are, and under every corruption at every severity.

    Their numbers in the set that they were taken from and ``seed`` name the random numbers of each image.
    """
    images = data.images[np.arange(len(data))]
    if data.scale != 255.0 or images.dtype != np.uint8:
        images = np.round(images.astype(np.float64) * (255.0 / data.scale)).astype(np.uint8)
    numbers = np.arange(len(data)) if data.numbers is None else data.numbers
    sets = [ShiftSet(collection, CLEAN, 0, images, data.labels)]
    for name in names:
        for severity in severities:
            made = corrupt(images, numbers, name, severity, seed)
            sets.append(ShiftSet(collection, name, severity, made, data.labels))
    return sets


def published_sets(
    kind: str, folder: Path, corruptions: Sequence[str], severities: Sequence[int], *, limit: int | None,
    first: bool, seed: int,
) -> list[ShiftSet]:  # fmt: skip
    """The sets of ``KIND:DIR``.

    Args:
        limit: images of each set; None for all. first: the first ones, not random ones of every class. Of
            CIFAR-10-C the same images are taken of every corruption.

    Raises:
        InputError: files are missing or not what they should be; the message says which to get.
    """
    if not folder.is_dir():
        raise InputError(f"{kind}:{folder}: no such folder; it should hold {WHERE[kind]}")
    sets: list[ShiftSet] = []
    if kind == "cifar10c":
        for name in corruptions:
            if not (path := folder / f"{name}.npy").is_file():
                continue
            count = CIFAR10C_IMAGES * len(SEVERITIES)
            images = _images(path, _stored(path), count)
            labels = _labels(path := folder / "labels.npy", _stored(path), count)[:CIFAR10C_IMAGES]
            for severity in severities:
                part = images[(severity - 1) * CIFAR10C_IMAGES : severity * CIFAR10C_IMAGES]
                sets.append(ShiftSet("CIFAR-10-C (published)", name, severity, part, labels))
    elif kind == "cifar10.1":
        for version in ("v4", "v6"):
            if (path := folder / f"cifar10.1_{version}_data.npy").is_file():
                images = _images(path, _stored(path))
                labels = _labels(
                    path := folder / f"cifar10.1_{version}_labels.npy", _stored(path), len(images)
                )
                sets.append(ShiftSet("CIFAR-10.1", version, 0, images, labels))
    elif (path := folder / "cifar102_test.npz").is_file():
        try:
            with _stored(path) as file:
                images, labels = file["images"], file["labels"]
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{path} can't be read ({error}); expected {WHERE['cifar10.2']}") from error
        labels = _labels(path, labels, len(_images(path, images)))
        sets.append(ShiftSet("CIFAR-10.2", "test", 0, images, labels))
    if not sets:
        raise InputError(f"{kind}:{folder}: nothing to evaluate there; it should hold {WHERE[kind]}")
    return [_part(shift, limit, first, seed) for shift in sets]


def _part(s: ShiftSet, limit: int | None, first: bool, seed: int) -> ShiftSet:
    if limit is None or limit >= len(s):
        return s
    rows = np.arange(limit) if first else stratified_rows(s.labels, limit, stream(seed, -1, "examples"))
    return ShiftSet(s.collection, s.name, s.severity, s.images[rows], s.labels[rows])


def _stored(path: Path) -> Any:
    """What numpy.save or numpy.savez wrote, not read yet."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read ({error}); download it again") from error


def _images(path: Path, images: np.ndarray, count: int | None = None) -> np.ndarray:
    fits = images.dtype == np.uint8 and images.shape[1:] == (32, 32, 3)
    if not fits or len(images) == 0 or count not in (None, len(images)):
        expected = f"uint8 [{count or 'n'}, 32, 32, 3]"
        raise InputError(f"{path}: expected {expected}, got {images.dtype} {list(images.shape)}")
    return images


def _labels(path: Path, labels: np.ndarray, count: int) -> np.ndarray:
    if labels.dtype.kind not in "iu" or labels.shape != (count,) or labels.min() < 0 or labels.max() > 9:
        raise InputError(
            f"{path}: expected {count} labels from 0 to 9, got {labels.dtype} {list(labels.shape)}"
        )
    return labels.astype(np.int64)


# All sets one behind the other as a single data set, so that the engine evaluates them in one run.
#
#     block 0: the n images of the first set, filled up to whole batches; block 1: those of the second; ...
#
# Every block begins with a new batch: a batch never holds images of two sets, as it would in use. What fills
# a block up is its own beginning, answered and never counted.


def block_starts(sizes: Sequence[int], k: int) -> np.ndarray:
    """[blocks + 1]: where each block begins, and the end of the last."""
    return np.concatenate([[0], np.cumsum([-(-size // k) * k for size in sizes])])


class SetBlocks:
    """The images of all blocks, by their place in the whole.

    Args:
        sets: of each block.
        k: size of a batch.
    """

    def __init__(self, sets: Sequence[ShiftSet], k: int):
        self._sets = tuple((shift.images, len(shift)) for shift in sets)
        self._starts = block_starts([len(shift) for shift in sets], k)

    @property
    def shape(self) -> tuple[int, ...]:
        return (int(self._starts[-1]), *self._sets[0][0].shape[1:])

    def __getitem__(self, places: np.ndarray, /) -> np.ndarray:
        """Images [len(places), H, W, C] of these places."""
        block = np.searchsorted(self._starts, places, side="right") - 1
        stack = np.empty((len(places), *self.shape[1:]), dtype=np.uint8)
        for number in np.unique(block):
            images, size = self._sets[number]
            here = block == number
            stack[here] = images[(places[here] - self._starts[number]) % size]
        return stack


_CHUNK = 1000  # images read at a time


def set_facts(sets: Sequence[ShiftSet], k: int) -> tuple[SetFacts, ...]:
    """Reads every image once."""
    facts = []
    for shift, start in zip(sets, block_starts([len(shift) for shift in sets], k)):
        digest = hashlib.sha256()
        for rows in np.array_split(np.arange(len(shift)), -(-len(shift) // _CHUNK)):
            digest.update(np.ascontiguousarray(shift.images[rows]).tobytes())
        about = (shift.collection, shift.name, shift.severity, int(start), len(shift))
        facts.append(SetFacts(*about, digest.hexdigest()))
    return tuple(facts)


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


AS_IT_IS = "imagenet-r"


def chosen_sets(config: ShiftConfig, listener: Listener) -> tuple[list[ShiftSet], Dataset, Dataset]:
    """The sets of all ``--data``.

    Returns:
        sets: in the order in which they are evaluated.
        data: all of them one behind the other.
        reference: images that the checkpoints were made for, by which networks are recognised.

    Raises:
        InputError: unknown or missing data, images that can't be corrupted, sets that do not go together.
    """
    options = config.evaluation
    sets: list[ShiftSet] = []
    like: Dataset | None = None
    for spec in config.data:
        kind, _, place = spec.partition(":")
        if kind not in WHERE:
            like, loaded = _loaded(config, spec, listener)
            sets += loaded
        elif not place:
            raise InputError(f"--data {kind}: give its folder, {kind}:DIR, which holds {WHERE[kind]}")
        else:
            names = config.corruptions or tuple(CONSTANTS)
            part: dict[str, Any] = {"limit": options.limit, "first": options.first, "seed": options.seed}
            sets += published_sets(kind, Path(place), names, config.severities, **part)
    if like is not None and like.outputs is not None and len(config.data) > 1:
        raise InputError(f"{like.name} compares some of a network's outputs; evaluate it alone")
    keys = Counter((shift.collection, shift.name, shift.severity) for shift in sets)
    if twice := next((collection for (collection, *_), count in keys.items() if count > 1), None):
        raise InputError(f"--data: {twice} is given twice")
    shapes = {shift.collection: tuple(shift.images.shape[1:]) for shift in sets}
    if len(set(shapes.values())) > 1:
        sizes = ", ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in shapes.items())
        raise InputError(f"the images have different shapes ({sizes}); evaluate them one after the other")
    reference = like or _reference(config, sets)
    k = options.batch_size[0]
    labels = [shift.labels[np.arange(-(-len(shift) // k) * k) % len(shift)] for shift in sets]
    data = replace(
        reference,
        name="+".join(dict.fromkeys(shift.collection for shift in sets)),
        images=SetBlocks(sets, k),
        scale=255.0,
        labels=np.concatenate(labels).astype(np.int64),
        source=f"{len(sets)} sets one behind the other",
        numbers=None,
        notes=(),
    )
    return sets, data, reference


def _reference(config: ShiftConfig, sets: list[ShiftSet]) -> Dataset:
    """What the checkpoints were made for, beside published sets alone; else a natural set."""
    try:
        return load_data(_named(config), data_dir=config.evaluation.data_dir)
    except InputError:
        natural = [shift for shift in sets if not shift.severity]
        if not natural:
            raise
    first = natural[0]
    return Dataset(first.collection, SetBlocks([first], 1), 255.0, first.labels, 10, (), "")


def _loaded(config: ShiftConfig, spec: str, listener: Listener) -> tuple[Dataset, list[ShiftSet]]:
    """A data set that ``csrobust eval`` knows, and the sets made of it."""
    options = config.evaluation
    name = _named(config) if spec == "auto" else spec
    whole = load_data(name, data_dir=options.data_dir)
    part = evaluated(whole, options.limit, first=options.first, seed=options.seed)
    if name.partition(":")[0] == AS_IT_IS:
        return whole, [ShiftSet("ImageNet-R", "test", 0, part.images, part.labels)]
    known = corruptions_for(whole.image_shape[0])
    if missing := [name for name in config.corruptions if name not in known]:
        raise InputError(f"--corruptions {missing[0]}: the images of {name} are grey and have no colours")
    names = config.corruptions or known
    listener.preparing(f"making {len(names) * len(config.severities)} corrupted sets of {len(part)} images")
    title = Path(name.partition(":")[2] or name).stem.lower()
    if papers_set(name) == "cifar10" and whole.classes == 10:
        title = "CIFAR-10"
    return whole, corrupted_sets(f"{title}-C (ours)", part, names, config.severities, options.seed)


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
    options, k = config.evaluation, config.evaluation.batch_size[0]
    facts = estimates.ShiftFacts(
        sets=set_facts(sets, k),
        k=k,
        limit=options.limit,
        subset=None if options.first or options.limit is None else "stratified",
        seed=options.seed,
        baseline=config.baseline or options.checkpoints[0][0],
    )
    # The engine gets the images as they are to be answered, and attacks nothing. Of the draws one is called a
    # selection draw. Nothing is selected: both kinds are made alike and counted together.
    forward_only = replace(
        options, attacks=(), limit=None, first=False, draws=options.draws - 1, selection_draws=1
    )
    prepared = prepare(forward_only, InMemory(data=reference), say=listener.preparing)
    prepared = _on_other_images(prepared, data)
    path = options.out or Path("runs") / f"shift-{folder_name(prepared)}"
    run_folder = RunFolder(path, estimates.SHIFT)
    with evaluate.opened_folder(run_folder, listener, report.write_shift_report) as folder:
        failures = _into(folder, prepared, facts, listener)
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


def _into(
    folder: RunFolder, prepared: PreparedEvaluation, facts: estimates.ShiftFacts, listener: Listener
) -> list[UnitFailure]:
    """Evaluates what the folder does not hold yet; the units that failed."""
    if prepared.config.overwrite:
        folder.clear()
    old = _old(folder.path, facts)
    if old is not None:
        prepared = prepared.resumed_from(old)
    unmoved = Perturbation(prepared.config.norm, 0.0, prepared.config.eps_space)
    cases = [planned_case(subject, WHOLE_BATCH, words.CLEAN, unmoved) for subject in prepared.subjects]
    plan = plan_of(cases, prepared.maker().units, ())
    for text in prepared.notes:
        listener.note(text)
    manifest = new_manifest(prepared, plan)
    if old is not None:
        checked_against(old, manifest.identity, prepared.setup.checkpoints, folder.path)
        code_going_on(old, prepared.code, folder.path, stopped=False)
        manifest = with_earlier(manifest, old, set(folder.committed(old.unit_ids)[0]))
    folder.write_manifest(estimates.as_data(facts, manifest))
    metadata, damaged = folder.committed(manifest.unit_ids)
    for text in said_of(damaged, folder.set_aside(damaged)):
        listener.note(text)
    done, store = Done(metadata), PerturbationStore(folder.path)
    with Engine(prepared.context) as engine:
        run_plan(Work(engine, folder, prepared, done, store, listener), plan)
    store.remove()
    manifest = structs.replace(manifest, finished=True)
    folder.end(estimates.as_data(facts, manifest), manifest.unit_ids)
    report.write_shift_report(folder.path)
    return list(done.failures.values())


def _old(path: Path, facts: estimates.ShiftFacts) -> RunManifest | None:
    """What the folder holds already.

    Raises:
        InputError: it was made of other sets.
    """
    if not (path / estimates.SHIFT).exists():
        return None
    before, manifest = estimates.from_data(read_manifest(path, estimates.SHIFT), f"{path}/{estimates.SHIFT}")
    if structs.replace(before, baseline=facts.baseline) != facts:
        raise InputError(
            f"{path} was made of other sets, images or batches; give another --out, or start again with "
            "--overwrite"
        )
    return manifest
