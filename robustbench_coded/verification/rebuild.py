"""A run folder's models, data and defences, put together again from run.json and the files that it names."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from msgspec import to_builtins

from robustbench_coded.defences.options import parse_defence
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.target import images_of
from robustbench_coded.evaluation.execution.worker_context import LoadedCheckpoint, Setup, WorkerContext
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.cases import AttackCase, Subject
from robustbench_coded.schema.evaluated import CheckpointFacts
from robustbench_coded.schema.manifest import RunManifest
from robustbench_coded.schema.planned_case import PlannedCase


def rebuilt_bench(
    manifest: RunManifest,
    *,
    checkpoints: Mapping[str, str],
    arch: str | None = None,
    data_dir: str | None = None,
    device: str = "cpu",
) -> WorkerContext:
    """The workbench of a run.

    Args:
        manifest: the content of run.json, checked.
        checkpoints: files to take instead of those that run.json names, by name.
        arch: the user's own architecture code; a run folder never says by itself which code to load.
        data_dir: where data sets are looked for.
        device: where to compute.

    Raises:
        InputError: data or weights are not there, are other ones, or need code that the user has not named.
    """
    last, identity = manifest.last, manifest.identity
    if identity.data is None or manifest.data.examples is None or last.resolved.group_images is None:
        raise InputError("run.json: it does not say on which data, or in which groups, it was computed")
    names = [facts.name for facts in manifest.checkpoints]
    if unknown := next((name for name in checkpoints if name not in names), None):
        raise InputError(
            f"--ckpt {unknown}={checkpoints[unknown]}: the run has no checkpoint {unknown!r}; "
            f"give --ckpt NAME=PATH for {' or '.join(names)}"
        )
    loaded = tuple(
        LoadedCheckpoint(
            name=facts.name,
            path=checkpoints.get(facts.name, facts.path or ""),
            sha256=facts.sha256,
            arch=_trusted_arch(facts, arch),
            network=facts.arch or "",
            classes=facts.classes or 0,
            mean=tuple(facts.normalisation["mean"]),
            deviation=tuple(facts.normalisation["std"]),
            attack_precision="float32",
            facts=to_builtins(facts),
        )
        for facts in manifest.checkpoints
    )
    config = EvalConfig(
        checkpoints=tuple((c.name, c.path) for c in loaded),
        data=identity.data,
        data_dir=data_dir,
        limit=identity.limit,
        first=identity.subset is None,
        seed=identity.seed or 0,
        last_batch=identity.last_batch or "pad",
        selection_draws=last.options["selection_draws"],
        victims=last.options["victims"],
    )
    setup = Setup(
        config=config,
        data=identity.data,
        examples=manifest.data.examples,
        device=device,
        group_images=last.resolved.group_images,
        threads=torch.get_num_threads(),
        checkpoints=loaded,
    )
    context = WorkerContext(setup)
    if context.data.sha256 != identity.data_sha256:
        raise InputError(
            f"--data-dir: the images of {identity.data} here are not those of the run "
            f"({context.data.sha256[:16]}, run {str(identity.data_sha256)[:16]})"
        )
    return context


def rebuilt_row(context: WorkerContext, planned: PlannedCase, defences: Sequence[str]) -> AttackCase | None:
    """A row of run.json; None where it needs code that ``defences`` does not name."""
    spec = planned.spec
    if parse_defence(spec).kind == "plugin" and spec not in defences:
        return None
    subject = Subject(
        checkpoint=planned.checkpoint,
        spec=spec,
        label=planned.defence,
        k=planned.batch_size or 1,
        n=planned.n,
        randomised=planned.randomised,
        batch_dependent=planned.batch_dependent,
        has_base=planned.has_base,
        images=1,
    )
    subject = replace(subject, images=images_of(context.defence(subject), subject.k))
    key = planned.key
    return AttackCase(subject, key.threat, key.attack, *key.budget, key.step_size)


def _trusted_arch(facts: CheckpointFacts, arch: str | None) -> str | None:
    if facts.arch is None or ":" not in facts.arch:
        return None
    if arch != facts.arch:
        raise InputError(
            f"checkpoint {facts.name} needs the code {facts.arch}; name it with --arch to load it"
        )
    return arch
