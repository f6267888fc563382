"""A run folder's models, data and defences, put together again from run.json and the files that it names."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from robustbench_coded.defences.options import parse_defence
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.target import images_of
from robustbench_coded.evaluation.execution.worker_context import LoadedCheckpoint, Setup, Workbench
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.plan import Row, Subject
from robustbench_coded.schema.threat_model import ThreatModel


def rebuilt_bench(
    manifest: dict[str, Any],
    *,
    checkpoints: Mapping[str, str],
    arch: str | None = None,
    data_dir: str | None = None,
    device: str = "cpu",
) -> Workbench:
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
    last = manifest["invocations"][-1]
    resolved, identity = last["resolved"], manifest["identity"]
    loaded = tuple(
        LoadedCheckpoint(
            name=facts["name"],
            path=checkpoints.get(facts["name"], facts["path"]),
            sha256=facts["sha256"],
            arch=_trusted_arch(facts, arch),
            network=facts["arch"],
            classes=facts["classes"],
            mean=tuple(facts["normalisation"]["mean"]),
            deviation=tuple(facts["normalisation"]["std"]),
            attack_precision="float32",
            facts=facts,
        )
        for facts in manifest["checkpoints"]
    )
    config = EvalConfig(
        checkpoints=tuple((c.name, c.path) for c in loaded),
        data=identity["data"],
        data_dir=data_dir,
        limit=identity["limit"],
        seed=identity["seed"],
        last_batch=identity["last_batch"],
        selection_draws=last["options"]["selection_draws"],
        victims=last["options"]["victims"],
    )
    setup = Setup(
        config=config,
        data=identity["data"],
        examples=manifest["data"]["examples"],
        device=device,
        group_images=resolved["group_images"],
        threads=torch.get_num_threads(),
        checkpoints=loaded,
    )
    bench = Workbench(setup)
    if bench.data.sha256 != identity["data_sha256"]:
        raise InputError(
            f"--data-dir: the images of {identity['data']} here are not those of the run "
            f"({bench.data.sha256[:16]}, run {identity['data_sha256'][:16]})"
        )
    return bench


def rebuilt_row(bench: Workbench, facts: dict[str, Any], defences: Sequence[str]) -> Row | None:
    """A row of run.json; None where it needs code that ``defences`` does not name."""
    spec = facts["spec"]
    if parse_defence(spec).kind == "plugin" and spec not in defences:
        return None
    subject = Subject(
        checkpoint=facts["checkpoint"],
        spec=spec,
        label=facts["defence"],
        k=facts["batch_size"],
        n=facts["n"],
        randomised=facts["randomised"],
        batch_dependent=facts["batch_dependent"],
        has_base=facts["has_base"],
        images=1,
    )
    subject = replace(subject, images=images_of(bench.defence(subject), subject.k))
    inputs, randomness = facts["threat"].split("/")
    return Row(
        subject,
        ThreatModel(inputs, randomness),
        facts["attack"],
        facts["norm"],
        facts["eps"],
        facts["eps_space"],
        facts["step_size"],
    )


def _trusted_arch(facts: dict[str, Any], arch: str | None) -> str | None:
    if ":" not in facts["arch"]:
        return None
    if arch != facts["arch"]:
        raise InputError(
            f"checkpoint {facts['name']} needs the code {facts['arch']}; name it with --arch to load it"
        )
    return arch
