"""From options to things that can run: checkpoints and data loaded and checked, normalisations settled."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from robustbench_coded.data.registry import load_data
from robustbench_coded.evaluation.execution.in_memory import PREFIX, Given
from robustbench_coded.evaluation.execution.worker_context import Setup, Workbench
from robustbench_coded.evaluation.options.check_options import check_options
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.options.workers import thread_count, worker_count
from robustbench_coded.evaluation.planning.batches import scored_slots
from robustbench_coded.evaluation.planning.plan import Row, Subject, batches_for
from robustbench_coded.evaluation.setup.checkpoints import data_named, from_file, in_memory, with_gradients
from robustbench_coded.evaluation.setup.device import device_named, images_in_one_forward
from robustbench_coded.evaluation.setup.identity import context_of, folder_name
from robustbench_coded.evaluation.setup.match_clean import Matched, matched_baselines
from robustbench_coded.evaluation.setup.subjects import probed_subjects, specs_of
from robustbench_coded.models.loading import check_data, load_checkpoint

DIGITS_EPS = 0.3  # of scikit-learn's and of MNIST
DEFAULT_EPS = 8 / 255


@dataclass(frozen=True)
class PreparedEvaluation:
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

    def resumed_from(self, manifest: dict[str, Any]) -> "PreparedEvaluation":
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


def prepare(
    config: EvalConfig,
    given: Given | None = None,
    *,
    refuse: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> PreparedEvaluation:
    """Loads and checks everything that an evaluation names.

    Args:
        config: the options.
        given: what is in memory already.
        refuse: whether a defence that contradicts its own declaration ends it.
        say: is told what is going to be probed, which takes a while with many checkpoints.

    Raises:
        InputError: the first thing that is wrong, before anything is computed or written.
    """
    check_options(config)
    device = device_named(config.device)
    checkpoints = [
        load_checkpoint(path, arch=config.arch, normalize=config.normalize, name=name)
        for name, path in config.checkpoints
    ]
    given = given or Given()
    if config.workers is not None or config.engine == "ray" or worker_count(config, device) > 1:
        given.check_sendable()
    data_name = given.data.name if given.data is not None else data_named(config, checkpoints)
    whole = given.data or load_data(data_name, data_dir=config.data_dir)
    data = whole if config.limit is None else whole.first(config.limit)
    loaded, notes = [], []
    for checkpoint in checkpoints:
        labelled = whole.of_all_classes(checkpoint.classes)
        check_data(checkpoint, whole.image_shape, labelled.classes, whole.name)
        settled, note = from_file(checkpoint, config, labelled)
        loaded.append(replace(settled, classes=whole.classes))
        notes.append(note)
    loaded += [in_memory(name, given, whole, config) for name in given.models]
    eps = config.eps or (DIGITS_EPS if data_name in ("digits", "mnist") else DEFAULT_EPS,)
    threads = thread_count(config, worker_count(config, device))
    setup = Setup(
        config=config,
        data=data_name,
        examples=len(data),
        device=str(device),
        group_images=images_in_one_forward(device),
        threads=threads,
        checkpoints=tuple(loaded),
        given=given,
    )
    bench = Workbench(setup)
    loaded = [with_gradients(checkpoint, bench) for checkpoint in loaded]
    bench.setup = setup = replace(setup, checkpoints=tuple(loaded))
    for name, info in ((c.name, bench.gradients(c.name).info) for c in loaded):
        if config.attack_precision != "float32" or not info.prepared:
            notes.append(f"{name}: {info}")
    specs = specs_of(config, bench)
    named = ", ".join(spec.removeprefix(PREFIX) for spec in specs)
    say(f"probing {named} on {', '.join(c.name for c in loaded)}")
    matched = [match for c in loaded for match in matched_baselines(config, bench, c.name)]
    subjects, probes = probed_subjects(config, bench, specs, matched, refuse=refuse)
    notes += [f"{p['defence']} on {p['checkpoint']}: {text}" for p in probes for text in p["warnings"]]
    identity = {
        "data": data_name,
        "data_sha256": data.sha256,
        "limit": config.limit,
        "seed": config.seed,
        "last_batch": config.last_batch,
    }
    return PreparedEvaluation(
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
        context=context_of(config, setup, identity),
        resolved={
            "eps": list(eps),
            "device": str(device),
            "threads": threads,
            "group_images": setup.group_images,
        },
        folder_name=folder_name(loaded, identity),
        notes=tuple(notes),
    )


def _count(stored: object, otherwise: int) -> int:
    """A count out of a file, if it is one."""
    return stored if type(stored) is int and stored > 0 else otherwise
