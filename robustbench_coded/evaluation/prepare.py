"""From options to things that can run: checkpoints and data loaded and checked, normalisations settled."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from attacks.adapters.peer import installed
from attacks.naming import parse
from robustbench_coded import __version__
from robustbench_coded.data.dataset import Dataset
from robustbench_coded.data.registry import data_for, load_data
from robustbench_coded.defences.options import parse_defence
from robustbench_coded.defences.protocol import Defence
from robustbench_coded.engine.workers import check_engine_options, thread_count, worker_count
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.batches import LAST_BATCH_RULES, scored_slots
from robustbench_coded.evaluation.config import EvalConfig
from robustbench_coded.evaluation.given import PREFIX, Given, answers_digest, weights_digest
from robustbench_coded.evaluation.match_clean import (
    Matched,
    check_matching,
    matched_baselines,
    plain_defences,
)
from robustbench_coded.evaluation.plan import Row, Subject, batches_for
from robustbench_coded.evaluation.probing import gradient_figures, probe_batch, probed
from robustbench_coded.evaluation.target import images_of
from robustbench_coded.evaluation.threats import check_inputs
from robustbench_coded.evaluation.workbench import LoadedCheckpoint, Setup, Workbench
from robustbench_coded.models.loading import Checkpoint, check_data, load_checkpoint, with_normalisation
from robustbench_coded.models.normalisation import NormalisationChoice
from robustbench_coded.models.pixel_model import PixelModel

DIGITS_EPS = 0.3
DEFAULT_EPS = 8 / 255
# Images in one forward. On a CPU larger batches leave the cache and gain nothing; on a GPU a CIFAR network's
# activations and gradients for that many stay far below its memory.
CPU_GROUP_IMAGES = 256
CUDA_IMAGES_PER_GIB = 128
GUESS_IMAGES = 512


@dataclass(frozen=True)
class Prepared:
    """An evaluation that is ready to be planned.

    Attributes:
        setup: what workers need.
        bench: the workbench of this process, with checkpoints and data already loaded.
        subjects: checkpoints x defences x batch sizes.
        probes: what the probe of each subject found, as plain data.
        matched: the baselines among them whose setting was chosen by clean accuracy.
        eps: radii.
        identity: what may not change within a run folder.
        data_facts: what the report says about the data.
        context: what decides outcomes beside the rows themselves.
        resolved: options after defaults were filled in.
        folder_name: the run folder's name where none was given.
        notes: what the user should know before anything runs.
        rows_left_out: keys of rows that a time limit leaves no room for.
        left_out: sentences on what a time limit left out.
    """

    setup: Setup
    bench: Workbench
    subjects: tuple[Subject, ...]
    probes: list[dict[str, Any]]
    matched: tuple[Matched, ...]
    eps: tuple[float, ...]
    identity: dict[str, Any]
    data_facts: dict[str, Any]
    context: dict[str, Any]
    resolved: dict[str, Any]
    folder_name: str
    notes: tuple[str, ...]
    rows_left_out: frozenset[tuple] = frozenset()
    left_out: tuple[str, ...] = ()

    def going_on_with(self, manifest: dict[str, Any]) -> "Prepared":
        """The same with the threads and group size of a run folder's last evaluation on the same device.

        They decide the last bits of outcomes, so units computed with others could not be taken over. Threads
        given on the command line stay.
        """
        before = manifest["invocations"][-1].get("resolved", {}) if manifest["invocations"] else {}
        if before.get("device") != self.resolved["device"]:
            return self
        threads, group_images = self.setup.threads, self.setup.group_images
        if self.setup.config.threads is None:
            threads = _count(before.get("threads"), threads)
        group_images = _count(before.get("group_images"), group_images)
        kept = {"threads": threads, "group_images": group_images}
        self.bench.setup = replace(self.setup, threads=threads, group_images=group_images)
        return replace(
            self,
            setup=self.bench.setup,
            context={**self.context, **kept},
            resolved={**self.resolved, **kept},
        )

    def examples_planned(self, config: EvalConfig, row: Row) -> int:
        """How many examples a row will score."""
        batches = batches_for(config, row.subject, self.setup.examples, 0)
        scored = sum(len(scored_slots(row.threat, batch, config.seed)) for batch in batches)
        return min(config.victims, scored) if row.threat.one_victim else scored


def prepare(config: EvalConfig, given: Given | None = None, *, refuse: bool = True) -> Prepared:
    """Loads and checks everything that an evaluation names.

    Args:
        config: the options.
        given: what is in memory already.
        refuse: whether a defence that contradicts its own declaration ends it.

    Raises:
        InputError: the first thing that is wrong, before anything is computed or written.
    """
    _check_options(config)
    device = device_named(config.device)
    checkpoints = [
        load_checkpoint(path, arch=config.arch, normalize=config.normalize, name=name)
        for name, path in config.checkpoints
    ]
    given = given or Given()
    if config.workers is not None or config.engine == "ray" or worker_count(config, device) > 1:
        given.check_sendable()
    data_name = given.data.name if given.data is not None else _data_name(config, checkpoints)
    whole = given.data or load_data(data_name, data_dir=config.data_dir)
    data = whole if config.limit is None else whole.first(config.limit)
    loaded, notes = [], []
    for checkpoint in checkpoints:
        check_data(checkpoint, whole.image_shape, whole.classes, whole.name)
        settled, note = _settled(checkpoint, config, whole)
        loaded.append(settled)
        notes.append(note)
    loaded += [_given(name, given, whole, config) for name in given.models]
    eps = config.eps or (DIGITS_EPS if data_name == "digits" else DEFAULT_EPS,)
    threads = thread_count(config, worker_count(config, device))
    setup = Setup(
        config=config,
        data=data_name,
        examples=len(data),
        device=str(device),
        group_images=_group_images(device),
        threads=threads,
        checkpoints=tuple(loaded),
        given=given,
    )
    bench = Workbench(setup)
    loaded = [_with_gradients(checkpoint, bench) for checkpoint in loaded]
    bench.setup = setup = replace(setup, checkpoints=tuple(loaded))
    for name, info in ((c.name, bench.gradients(c.name).info) for c in loaded):
        if config.attack_precision != "float32" or not info.prepared:
            notes.append(f"{name}: {info}")
    matched = [match for c in loaded for match in matched_baselines(config, bench, c.name)]
    subjects, probes = _subjects(config, bench, matched, refuse=refuse)
    notes += [f"{p['defence']} on {p['checkpoint']}: {text}" for p in probes for text in p["warnings"]]
    identity = {
        "data": data_name,
        "data_sha256": data.sha256,
        "limit": config.limit,
        "seed": config.seed,
        "last_batch": config.last_batch,
    }
    return Prepared(
        setup=setup,
        bench=bench,
        subjects=tuple(subjects),
        probes=probes,
        matched=tuple(matched),
        eps=eps,
        identity=identity,
        data_facts={
            "name": data.name,
            "source": data.source,
            "sha256": data.sha256,
            "examples": len(data),
            "available": len(whole),
            "classes": data.classes,
            "image_shape": list(data.image_shape),
        },
        context=_context(config, setup, identity),
        resolved={
            "eps": list(eps),
            "device": str(device),
            "threads": threads,
            "group_images": setup.group_images,
        },
        folder_name=_folder_name(loaded, identity),
        notes=tuple(notes),
    )


def _check_options(config: EvalConfig) -> None:
    if config.last_batch not in LAST_BATCH_RULES:
        raise InputError(
            f"--last-batch {config.last_batch!r} is not known; choose from {', '.join(LAST_BATCH_RULES)}"
        )
    if config.norm not in ("linf", "l2"):
        raise InputError(f"--norm {config.norm!r} is not known; choose linf or l2")
    if config.eps_space not in ("pixel", "normalized"):
        raise InputError(f"--eps-space {config.eps_space!r} is not known; choose pixel or normalized")
    if config.attack_precision not in ("float32", "bfloat16", "auto"):
        raise InputError(
            f"--attack-precision {config.attack_precision!r} is not known; choose float32, bfloat16 or auto"
        )
    check_engine_options(config)
    check_inputs(config.inputs, config.eps or ())
    if config.budget is not None and config.budget < 1:
        raise InputError(
            f"--budget {config.budget} pays for no image; give a count of at least 2, or leave it out"
        )
    for size in config.eps or ():
        if config.norm == "linf" and config.eps_space == "pixel" and size > 1:
            raise InputError(f"--eps {size:g} is larger than the whole range of pixels; write 8/255, not 8")
    for name in map(parse, config.attacks):
        if name.peer is None:
            continue
        if not installed(name.peer):
            raise InputError(f"{name.text} needs its package; install it with pip install 'csrobust[peers]'")
        if config.eps_space != "pixel":
            raise InputError(
                f"{name.text} knows eps in pixel units alone; leave --eps-space out or the attack"
            )
    for spec in plain_defences(config):
        parse_defence(spec)
    check_matching(config)


def device_named(name: str | None) -> torch.device:
    """``--device``; None takes CUDA where there is one.

    Raises:
        InputError: a device that torch or this machine does not have.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"--device {name!r} is not known; write cpu, cuda or cuda:1") from error
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"--device {name!r} is not supported; write cpu, cuda or cuda:1")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"--device {name!r}: this machine has {torch.cuda.device_count()} CUDA devices; try cpu"
        )
    return device


def _data_name(config: EvalConfig, checkpoints: Sequence[Checkpoint]) -> str:
    """``--data``, where ``auto`` is what all the checkpoints were made for."""
    if config.data != "auto":
        return config.data
    names = {c.name: data_for(c.metadata, c.classes, c.channels, c.image_size) for c in checkpoints}
    if len(set(names.values())) > 1:
        made = ", ".join(f"{name} for {data}" for name, data in names.items())
        raise InputError(f"the checkpoints were made for different data ({made}); say which with --data")
    return next(iter(names.values()))


def _settled(checkpoint: Checkpoint, config: EvalConfig, data: Dataset) -> tuple[LoadedCheckpoint, str]:
    """A checkpoint with its normalisation given, stored or guessed from the first labelled images."""
    x, y = data.batch(range(min(GUESS_IMAGES, len(data))))
    _, choice = with_normalisation(checkpoint, x, y)
    facts = {
        "name": checkpoint.name,
        "path": str(checkpoint.path),
        "sha256": checkpoint.sha256,
        "arch": checkpoint.arch,
        "classes": checkpoint.classes,
        "channels": checkpoint.channels,
        "metadata": checkpoint.metadata,
        "normalisation": asdict(choice),
    }
    loaded = LoadedCheckpoint(
        name=checkpoint.name,
        path=str(checkpoint.path),
        sha256=checkpoint.sha256,
        arch=config.arch,
        network=checkpoint.arch,
        classes=checkpoint.classes,
        mean=tuple(choice.mean),
        deviation=tuple(choice.std),
        attack_precision=config.attack_precision,
        facts=facts,
    )
    return loaded, f"{checkpoint.name}: {choice}"


def _given(name: str, given: Given, data: Dataset, config: EvalConfig) -> LoadedCheckpoint:
    """A model in memory as a checkpoint; whatever normalisation it has is inside it."""
    if config.eps_space == "normalized" and not isinstance(given.models[name], PixelModel):
        raise InputError(
            f"{name}: eps in normalized units needs the model's deviations, and a model in memory has its "
            "normalisation inside; give eps in pixel units"
        )
    model = given.model(name, data)
    mean, deviation = tuple(model.mean.flatten().tolist()), tuple(model.std.flatten().tolist())
    choice = NormalisationChoice("inside the model", mean, deviation, "given")
    sha256 = weights_digest(model)
    facts = {
        "name": name,
        "path": None,
        "sha256": sha256,
        "arch": model.arch,
        "classes": model.classes,
        "channels": model.channels,
        "metadata": {},
        "normalisation": asdict(choice),
    }
    return LoadedCheckpoint(
        name=name,
        path="",
        sha256=sha256,
        arch=None,
        network=model.arch,
        classes=model.classes,
        mean=mean,
        deviation=deviation,
        attack_precision=config.attack_precision,
        facts=facts,
    )


def _with_gradients(checkpoint: LoadedCheckpoint, bench: Workbench) -> LoadedCheckpoint:
    """A checkpoint with the precision of its gradients settled, and what the report says about them."""
    info = bench.gradients(checkpoint.name).info
    facts = {**checkpoint.facts, "gradients": {**asdict(info), "sentence": str(info)}}
    return replace(checkpoint, attack_precision=info.precision, facts=facts)


def _subjects(
    config: EvalConfig, bench: Workbench, matched: Sequence[Matched], *, refuse: bool
) -> tuple[list[Subject], list[dict[str, Any]]]:
    """Every checkpoint behind every defence at every batch size, probed; and what the probes found."""
    given = [PREFIX + name for name in bench.setup.given.defences]
    specs = [*(["standard"] if config.standard else []), *plain_defences(config), *given]
    if not specs:
        raise InputError("nothing to evaluate: --no-standard needs a defence, for example --rci N=1.5K")
    subjects: list[Subject] = []
    probes = []
    for checkpoint in bench.setup.checkpoints:
        for spec in [*specs, *(match.spec for match in matched if match.checkpoint == checkpoint.name)]:
            for k in config.batch_sizes:
                defence = bench.build(spec, bench.model(checkpoint.name), k)
                found = probed(defence, probe_batch(bench.data, k).to(bench.device), config.seed)
                shown = spec
                if spec.startswith(PREFIX):
                    shown += "@" + answers_digest(defence, probe_batch(bench.data, k).to(bench.device))
                x, y = bench.data.batch([i % len(bench.data) for i in range(k)])
                x, y = x.to(bench.device), y.to(bench.device)
                if found.contradictions and refuse:
                    raise InputError(
                        f"{defence.name} is not evaluated: it {'; it '.join(found.contradictions)}"
                    )
                subject = _subject(checkpoint.name, shown, k, defence)
                _refuse_clash(subject, subjects)
                subjects.append(subject)
                probes.append(
                    {
                        "checkpoint": subject.checkpoint,
                        "defence": subject.label,
                        "k": subject.shown_k,
                        "n": subject.n,
                        "figures": found.figures,
                        "gradients": gradient_figures(defence, x, y, config.seed),
                        "warnings": list(found.warnings),
                        "contradictions": list(found.contradictions),
                    }
                )
                if not subject.batch_dependent:
                    break  # its answers do not know a batch size
    return subjects, probes


def _refuse_clash(subject: Subject, others: list[Subject]) -> None:
    """Two defences of one name would end up in one row."""
    for other in others:
        same = (other.checkpoint, other.label, other.shown_k, other.n) == (
            subject.checkpoint,
            subject.label,
            subject.shown_k,
            subject.n,
        )
        if same and other.spec == subject.spec:
            raise InputError(f"{subject.spec} is given twice")
        if same:
            raise InputError(
                f"{other.spec} and {subject.spec} are both named {subject.label}; give one another name"
            )


def _subject(checkpoint: str, spec: str, k: int, defence: Defence) -> Subject:
    if spec.startswith(PREFIX):
        label, n = spec.removeprefix(PREFIX).rpartition("@")[0], None
    else:
        parsed = parse_defence(spec)
        label, n = defence.name if parsed.kind == "plugin" else parsed.label, parsed.resolve_n(k)
    return Subject(
        checkpoint=checkpoint,
        spec=spec,
        label=label,
        k=k,
        n=n,
        randomised=defence.randomised,
        batch_dependent=defence.batch_dependent,
        has_base=defence.base is not None,
        images=images_of(defence, k),
    )


def _count(stored: object, otherwise: int) -> int:
    """A count out of a file, if it is one."""
    return stored if type(stored) is int and stored > 0 else otherwise


def _group_images(device: torch.device) -> int:
    if device.type != "cuda":
        return CPU_GROUP_IMAGES
    total = torch.cuda.get_device_properties(device).total_memory
    return max(CPU_GROUP_IMAGES, int(total / 2**30) * CUDA_IMAGES_PER_GIB)


def _context(config: EvalConfig, setup: Setup, identity: dict[str, Any]) -> dict[str, Any]:
    return {
        **identity,
        # Another version may attack or score differently: what it computed is not taken over.
        "csrobust": __version__,
        "checkpoints": {c.name: _what_it_computes(c) for c in setup.checkpoints},
        "device": setup.device.split(":")[0],
        "threads": setup.threads,
        "group_images": setup.group_images,
        "draws": config.draws,
        "selection_draws": config.selection_draws,
        "aware_attacks": config.aware_attacks,
        "victims": config.victims,
        "drop": config.drop,
        "peer_raw": config.peer_raw,
        "adversarials": config.keeps_adversarials,
    }


def _what_it_computes(checkpoint: LoadedCheckpoint) -> list[Any]:
    """What decides a checkpoint's answers, and the gradients that attacks take of it."""
    c = checkpoint
    return [c.sha256, c.arch, c.mean, c.deviation, c.attack_precision, c.facts["gradients"]["prepared"]]


def _folder_name(checkpoints: Sequence[LoadedCheckpoint], identity: dict[str, Any]) -> str:
    """The checkpoint's name and a hash of what may not change within a run."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", checkpoints[0].name).strip(".-")[:60] or "run"
    if len(checkpoints) > 1:
        name += f"-and-{len(checkpoints) - 1}-more"
    content = json.dumps(identity, sort_keys=True)
    return f"{name}-{hashlib.blake2b(content.encode(), digest_size=4).hexdigest()}"
