"""Preparation of an evaluation: everything that it names, loaded and checked."""

import datetime
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from msgspec import structs, to_builtins

from attacks import accelerator
from attacks.adapters.plugin import IN_MEMORY
from robustbench_coded.code_identity import own_code
from robustbench_coded.data import dataset, registry
from robustbench_coded.defences.options import GIVEN
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution import worker_context
from robustbench_coded.evaluation.execution.in_memory import InMemory
from robustbench_coded.evaluation.options.config import EvalConfig, default_eps
from robustbench_coded.evaluation.options.device import (
    device_named,
    gradient_of_sum,
    images_in_one_forward,
    images_that_fit,
    threads_each,
    worker_count,
)
from robustbench_coded.evaluation.options.rules import check_claimed_eps, check_effect, check_options
from robustbench_coded.evaluation.planning import cases, plan
from robustbench_coded.evaluation.planning.batches import STRATIFIED, batches_at, victims_at
from robustbench_coded.evaluation.setup.checkpoints import (
    EvaluatedImages,
    checkpoint_in_memory,
    facts_of,
    from_file,
    images_of,
    with_gradients,
    with_zoo,
)
from robustbench_coded.evaluation.setup.code import code_facts, code_in_hand, named_code
from robustbench_coded.evaluation.setup.probing import doubts, probed_subjects
from robustbench_coded.judge.run import load_manifest
from robustbench_coded.models.loading import Checkpoint, check_data, load_checkpoint
from robustbench_coded.models.prepare import multiplies_bfloat16
from robustbench_coded.runs.folder import holds_run
from robustbench_coded.schema.case import Perturbation
from robustbench_coded.schema.manifest import (
    CodeFacts,
    DataFacts,
    Identity,
    ProbeRecord,
    Resolved,
    RunManifest,
)
from robustbench_coded.schema.words import STANDARD
from robustbench_coded.threads import flushes_subnormals, subnormals_flushed
from robustbench_coded.version import __version__


def fixed_facts(
    setup: worker_context.Setup, identity: Identity, code: Mapping[str, CodeFacts]
) -> dict[str, Any]:
    """Facts that decide outcomes beside the rows themselves."""
    return {
        **_hashed(identity),
        # A folder refuses other code by its digest. Names of units change with the version alone, and so show
        # whether other code altered a unit.
        "csrobust": __version__,
        "checkpoints": {
            c.name: [
                # Of one in memory its code counts, with all that it holds.
                *(c.sha256 if c.path else "", c.arch, c.mean, c.deviation),
                *(c.attack_precision, c.facts["gradients"]["prepared"]),
            ]
            for c in setup.checkpoints
        },
        "code": {name: facts.digest for name, facts in code.items()},
        "device": setup.device.split(":")[0],
        "threads": setup.threads,
        "group_images": setup.group_images,
        # What decides how every case is attacked and scored.
        "draws": setup.options.draws,
        "selection_draws": setup.options.selection_draws,
        "victims": setup.options.victims,
    }


def _hashed(identity: Identity) -> dict[str, Any]:
    """The identity as hashed. Which images were taken is in their digest."""
    return {name: value for name, value in to_builtins(identity).items() if name != "subset"}


def folder_name(prepared: "PreparedEvaluation") -> str:
    """The first checkpoint's name, and a hash of its weights, of the code of its network and of what may not
    change within a run.

    Other weights under the same name are another run: the same file after more training, for example.
    """
    checkpoints, identity = prepared.setup.checkpoints, prepared.identity
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", checkpoints[0].name).strip(".-")[:60] or "run"
    if len(checkpoints) > 1:
        name += f"-and-{len(checkpoints) - 1}-more"
    # A process alone is its own network.
    spec = prepared.config.defences[0] if not checkpoints[0].path and prepared.config.defences else ""
    behind = [prepared.code.get(name) for name in cases.code_names(checkpoints[0].name, spec)[:2]]
    code = {"code": digests} if (digests := [c.digest for c in behind if c and not c.unknown]) else {}
    content = json.dumps({**_hashed(identity), "weights": checkpoints[0].sha256, **code}, sort_keys=True)
    return f"{name}-{hashlib.blake2b(content.encode(), digest_size=4).hexdigest()}"


MEASURED_IMAGES = 4  # by which the memory that an image takes is measured
SLOW_BFLOAT16 = (
    "this processor has no instructions for bfloat16, so its gradients take longer than float32's; "
    "--attack-precision auto takes what is faster"
)


@dataclass(frozen=True)
class PreparedEvaluation:
    """An evaluation that is ready to be planned.

    Attributes:
        config: the options.
        setup: what workers need.
        context: what this process runs units with, checkpoints and data already loaded.
        subjects: checkpoints x defences x batch sizes.
        probes: the probe's results for each subject.
        perturbations: of one norm and space, the radii in their order.
        identity: what may not change within a run folder.
        data_facts: what the report says about the data.
        fixed: what decides outcomes beside the rows themselves.
        resolved: options after defaults were filled in.
        code: the user's, by `cases.code_names`.
        notes: what the user should know before anything runs.
        sizes: the numbers of examples that a case may run on, increasing; the last one is all.
    """

    config: EvalConfig
    setup: worker_context.Setup
    context: worker_context.WorkerContext
    subjects: tuple[cases.ProbedSubject, ...]
    probes: tuple[ProbeRecord, ...]
    perturbations: tuple[Perturbation, ...]
    identity: Identity
    data_facts: DataFacts
    fixed: dict[str, Any]
    resolved: Resolved
    code: dict[str, CodeFacts]
    notes: tuple[str, ...]
    sizes: tuple[int, ...]

    def resumed_from(self, manifest: RunManifest) -> "PreparedEvaluation":
        """The same with the threads and group size of a run folder's evaluations on the same device.

        They decide the last bits of outcomes, so units computed with others could not be taken over. Threads
        given on the command line stay.
        """
        before = manifest.last.resolved
        if before.device != self.resolved.device:
            return self
        threads = self.setup.threads
        if self.config.threads is None:
            threads = before.threads or threads
        group_images = before.group_images or self.setup.group_images
        settings = {"threads": threads, "group_images": group_images}
        self.context.setup = replace(self.setup, threads=threads, group_images=group_images)
        return replace(
            self,
            setup=self.context.setup,
            fixed={**self.fixed, **settings},
            resolved=structs.replace(self.resolved, threads=threads, group_images=group_images),
        )

    def with_code(self, code: Mapping[str, CodeFacts]) -> "PreparedEvaluation":
        """The same, with outcomes of this code taken for those of its own."""
        fixed = {**self.fixed, "code": {name: facts.digest for name, facts in code.items()}}
        return replace(self, fixed=fixed, code=dict(code))

    def maker(self, size: int | None = None) -> plan.UnitMaker:
        """The maker that cuts rows into units, on so many examples; None for all."""
        size = size or self.sizes[-1]
        return plan.UnitMaker(self.setup.options, self.setup.group_images, self.fixed, self.sizes, size)

    def examples_planned(self, case: cases.PlannedCase, size: int | None = None) -> int:
        """How many examples a case scores at a sample size; None for all."""
        size = size or self.sizes[-1]
        if case.threat.one_victim:
            return victims_at(self.sizes, size, self.setup.options.victims)
        batches = plan.batches_for(case.subject, self.setup.examples)
        return sum(batch.scored for part in batches_at(batches, self.sizes, size) for batch in part)


def made_ready(
    config: EvalConfig,
    in_memory: InMemory | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[PreparedEvaluation, Path]:
    """Everything that the options name, and the run folder.

    Writes nothing; ``say`` receives the subject that is probed.

    Raises:
        InputError: the options, a checkpoint or the data are not usable.
    """
    device_named(config.device)  # before anything is loaded
    if in_memory is None:
        config, in_memory = with_zoo(config)
    out = None if config.overwrite or config.limit is not None else config.out
    if out is not None and holds_run(out) and load_manifest(out).identity.subset is None:
        config = replace(config, first=True)  # begun on all images in their own order, and goes on so
    prepared = prepare(config, in_memory, say=say)
    return prepared, config.out or Path("runs") / folder_name(prepared)


@subnormals_flushed()
def prepare(
    config: EvalConfig,
    in_memory: InMemory | None = None,
    *,
    refuse: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> PreparedEvaluation:
    """Loads and checks everything that an evaluation names.

    Args:
        config: the options.
        in_memory: what is in memory already.
        refuse: whether a defence that contradicts its own declaration ends it.
        say: receives each subject before its probe, which takes a while with many checkpoints.

    Raises:
        InputError: the first thing that is wrong, before anything is computed or written.
    """
    in_memory = in_memory or InMemory()
    codes = named_code(config, in_memory) | code_in_hand(config, in_memory)
    check_options(config)
    check_effect(config, data=in_memory.data is not None)
    device = device_named(config.device)
    # Attacks that are functions are in memory, too.
    alone = bool(in_memory) or any(f"{IN_MEMORY.__name__}:" in attack for attack in config.attacks or ())
    here = []
    if alone and (config.workers is not None or config.engine != "local"):
        config = replace(config, workers=None, engine="local")
        here = ["a network in memory or behind a pipe has one worker here: workers and engine are left out"]
    checkpoints, images = _read(config, in_memory, say)
    loaded, notes = _recognised(checkpoints, config, images.whole, device, say)
    notes += [*images.notes, *here]
    if checkpoints and in_memory.models and (config.arch or config.normalize):
        files, networks = ", ".join(c.name for c in checkpoints), ", ".join(in_memory.models)
        notes.append(f"arch and normalize apply to {files}; {networks}, in memory, is evaluated as it is")
    for name in in_memory.models:
        code = codes.get(cases.code_names(name)[0])
        loaded.append(checkpoint_in_memory(name, in_memory, images.whole, config, code))
    eps = config.eps or (default_eps(config.norm, images.name, tuple(images.whole.image_shape)),)
    check_claimed_eps(config, eps)
    say(f"preparing the gradients of {', '.join(c.name for c in loaded)}")
    workers = 1 if alone else worker_count(config.workers, device)
    context = _built(config, in_memory, images, loaded, device, workers)
    notes += _notes_on(context, config, device)
    subjects, probes = _probed(config, context, say, refuse=refuse)
    notes += [f"{p.subject.defence} on {p.subject.checkpoint}: {text}" for p in probes for text in p.warnings]
    notes += doubts(subjects, context)
    code_known = code_facts(codes, context.arrays, datetime.datetime.now(datetime.UTC).isoformat())
    identity, setup = _identity(config, images, device), context.setup
    return PreparedEvaluation(
        config=config,
        setup=setup,
        context=context,
        subjects=tuple(subjects),
        probes=tuple(probes),
        perturbations=config.perturbations(eps),
        identity=identity,
        data_facts=facts_of(images.data, len(images.whole.distinct)),
        fixed=fixed_facts(setup, identity, code_known),
        resolved=Resolved(
            eps=tuple(eps), device=str(device), threads=setup.threads, group_images=setup.group_images
        ),
        code=code_known,
        notes=tuple(notes),
        sizes=(len(images.data),),
    )


def _read(
    config: EvalConfig, in_memory: InMemory, say: Callable[[str], None]
) -> tuple[list[Checkpoint], EvaluatedImages]:
    """Checkpoint files and images."""
    if config.checkpoints:
        say(f"reading {', '.join(path for _, path in config.checkpoints)}")
    whole = in_memory.data
    if whole is None and config.data != "auto":
        whole = registry.load_data(config.data, data_dir=config.data_dir)
    shape = None if whole is None else whole.image_shape
    checkpoints = [
        load_checkpoint(path, arch=config.arch, normalize=config.normalize, name=name, image_shape=shape)
        for name, path in config.checkpoints
    ]
    return checkpoints, images_of(config, in_memory, checkpoints, whole)


def _recognised(
    checkpoints: Sequence[Checkpoint],
    config: EvalConfig,
    whole: dataset.Dataset,
    device: torch.device,
    say: Callable[[str], None],
) -> tuple[list[worker_context.LoadedCheckpoint], list[str]]:
    """Each checkpoint with what it was taken for, and a sentence on that."""
    loaded, notes = [], []
    for checkpoint in checkpoints:
        say(f"recognising {checkpoint.name} by its normalisation and {whole.name}")
        labelled = (whole.reference or whole).of_all_classes(checkpoint.classes)
        check_data(checkpoint, whole.image_shape, labelled.classes, whole.name)
        settled, note = from_file(checkpoint, config, labelled, device)
        loaded.append(replace(settled, classes=whole.classes if whole.outputs else labelled.classes))
        notes.append(note)
    return loaded, notes


def _probed(
    config: EvalConfig, context: worker_context.WorkerContext, say: Callable[[str], None], *, refuse: bool
) -> tuple[list[cases.ProbedSubject], list[ProbeRecord]]:
    given = [GIVEN + name for name in context.setup.in_memory.defences]
    specs = list(dict.fromkeys([*([STANDARD] if config.standard else []), *config.defences, *given]))
    if not specs:
        raise InputError("nothing to evaluate: --no-standard needs a defence, for example --rci N=1.5K")
    named = ", ".join(spec.removeprefix(GIVEN) for spec in specs)
    say(f"probing {named} on {', '.join(c.name for c in context.setup.checkpoints)}")
    with worker_context.own_threads(context):
        return probed_subjects(config, context, specs, refuse=refuse)


def _built(
    config: EvalConfig,
    in_memory: InMemory,
    images: EvaluatedImages,
    loaded: Sequence[worker_context.LoadedCheckpoint],
    device: torch.device,
    workers: int,
) -> worker_context.WorkerContext:
    """The context that units run in: networks with gradients, and images that go through them together."""
    data = images.data
    setup = worker_context.Setup(
        options=config,
        data=images.name,
        examples=len(data),
        device=str(device),
        group_images=images_in_one_forward(device, data.image_shape),
        threads=config.threads or threads_each(workers),
        checkpoints=tuple(loaded),
        in_memory=in_memory,
        workers=workers,
    )
    context = worker_context.WorkerContext(setup)
    context.data = data  # a large folder takes seconds to list
    loaded = [with_gradients(checkpoint, context) for checkpoint in loaded]
    fitting = setup.group_images
    if device.type != "cpu":
        x = data.batch(range(min(MEASURED_IMAGES, len(data))))[0].to(device)
        for name in (checkpoint.name for checkpoint in loaded):
            passes = partial(gradient_of_sum, context.gradients(name).model)
            passes(x[:1])  # what is allocated once for all sizes
            fitting = images_that_fit(device, partial(passes, x), len(x), fitting)
    context.setup = replace(setup, checkpoints=tuple(loaded), group_images=fitting)
    return context


def _notes_on(
    context: worker_context.WorkerContext, config: EvalConfig, device: torch.device
) -> Iterator[str]:
    """How gradients are computed, where that is not as usual."""
    loaded = context.setup.checkpoints
    if lacking := accelerator.lacks(device):
        named = " and no ".join(sorted(lacking))
        yield f"{device} has no {named}: what needs it is computed otherwise"
    for name, info in ((c.name, context.gradients(c.name).info) for c in loaded):
        if config.attack_precision != "float32" or not info.prepared:
            yield f"{name}: {info}"
    if any(c.attack_precision == "bfloat16" for c in loaded) and not multiplies_bfloat16(device):
        yield SLOW_BFLOAT16


def _identity(config: EvalConfig, images: EvaluatedImages, device: torch.device) -> Identity:
    return Identity(
        data=images.name,
        data_sha256=images.data.sha256,
        limit=config.limit,
        subset=None if config.first else STRATIFIED,
        seed=config.seed,
        state=f"persistent over {config.batches_kept} batches" if config.batches_kept else None,
        subnormals="flushed" if device.type == "cpu" and flushes_subnormals() else None,
        csrobust=own_code(),
    )
