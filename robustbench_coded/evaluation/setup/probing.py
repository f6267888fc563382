"""Every checkpoint behind every defence at every batch size, probed before anything is attacked: refused if
what it does contradicts what it says; its operators relaxed once, to see whether they hide its gradient.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import prod
from typing import Any

import torch
from scipy.special import bdtrc
from torch import Tensor
from torch.nn import functional

from attacks import accelerator, gradients, oracle
from attacks.adapters.user_modules import Code
from attacks.relaxation import Relaxation
from robustbench_coded.code_identity import arrays_in
from robustbench_coded.data.dataset import Dataset
from robustbench_coded.defences import options
from robustbench_coded.defences.inferences import Standard
from robustbench_coded.defences.memory import memory_of
from robustbench_coded.defences.per_batch import KeptMemory, PerBatch, stated_protocol
from robustbench_coded.defences.probe import blamed_on, contradictions, probe, unanswering_base, warnings
from robustbench_coded.defences.protocol import Defence, Draw, too_few_classes
from robustbench_coded.defences.rci import Coded
from robustbench_coded.defences.sampling import SamplingModule
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.target import has_logits_at, images_of
from robustbench_coded.evaluation.execution.worker_context import LoadedCheckpoint, WorkerContext
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.cases import ProbedSubject, code_names
from robustbench_coded.evaluation.planning.streams import stream
from robustbench_coded.models.pixel_model import images_at_once
from robustbench_coded.reports.text.formatting import hiding_text
from robustbench_coded.schema.case import Subject
from robustbench_coded.schema.manifest import ProbeRecord
from robustbench_coded.user_code import TimeLimitExceeded, time_limit

# Share of inputs without a gradient from which on the relaxed one is tried, whatever the operators.
ZERO_SHARE = 0.1
LARGEST = 16  # inputs asked about


@dataclass(frozen=True)
class HiddenGradients:
    """Operators that hide the gradient, on one batch.

    Attributes:
        operators: those that most of the gradient vanishes in, as plain data: operator, calls, cut, scale.
        without: why torch's own gradient does not exist, a clause; empty where it does.
        relaxable: whether there is a gradient with the operators relaxed.
    """

    operators: tuple[dict[str, Any], ...] = ()
    without: str = ""
    relaxable: bool = True

    @property
    def sentences(self) -> list[str]:
        """A clause for each operator, and one where nothing helps."""
        sentences = [f"{hiding_text(op)}; relaxed- attacks replace this gradient" for op in self.operators]
        if self.without:
            sentences.append(f"{self.without}: attacks on torch's own gradients are left out")
        if not self.relaxable:
            sentences.append(
                "with smooth operators there is no gradient either: attacks by queries and transfer are run, "
                "which find less than gradients would"
            )
        return sentences


def hidden_gradients(
    defence: Defence, x: Tensor, y: Tensor, seed: int, *, without: str = ""
) -> HiddenGradients:
    """Records what a defence's gradient passes through on x [k, C, H, W] with labels y [k].

    Args:
        without: why torch's own gradient does not exist, where it does not.
    """
    x, y = _batch(defence, x), _batch(defence, y)
    draw = defence.sample(stream(seed, -1, "probe", 1), len(x))
    relaxation = Relaxation(measuring=True)
    relaxable = bool(_gradient(defence, x, y, draw, relaxation).any())
    return HiddenGradients(tuple(op.plain() for op in relaxation.record.hiding()), without, relaxable)


def _batch(defence: Defence, values: Tensor) -> Tensor:
    # A batch-dependent defence may take no other size.
    return values if defence.batch_dependent else values[:LARGEST]


def _gradient(defence: Defence, x: Tensor, y: Tensor, draw: Draw, relaxation: Relaxation) -> Tensor:
    """Of the cross-entropy, [k, pixels]; zero where there is none."""

    def gradient() -> Tensor:
        leaf = x.clone().requires_grad_()
        with torch.enable_grad(), relaxation.forward():
            answer = gradients.recorded(lambda x: defence.logits(x, draw), leaf.clone())
            logits = oracle.fold_unanswered(answer, y)
            loss = functional.cross_entropy(logits, y, reduction="sum")
        return gradients.gradient_or_zero(loss, leaf, strict=not relaxation.given_up)

    return torch.nan_to_num(relaxation.attempt(gradient)).flatten(1)


# A probe is some twenty forwards of one batch: what takes longer hangs, or is too slow to be attacked.
PROBE_SECONDS = 1800.0
FEWEST, MOST = 8, 16  # inputs of the probed batch: enough to see a dependence, and half of them still a batch
REMEMBERED = 32  # inputs of the batch on which a memory is looked for


@dataclass(frozen=True)
class Probed:
    """The result of a probe.

    Attributes:
        figures: what was measured.
        contradictions: where the defence does not do what it says of itself, a clause each.
        warnings: what is allowed but may mislead, a clause each.
    """

    figures: dict[str, Any]
    contradictions: tuple[str, ...]
    warnings: tuple[str, ...]


NOT_PROBED = Probed({"no_gradient": ""}, (), ())


def probe_batch(data: Dataset, k: int, most: int = MOST) -> Tensor:
    """The first examples, in a batch of about the size that will be evaluated, [size, C, H, W]."""
    size = min(max(k, FEWEST), most)
    return data.batch([i % len(data) for i in range(size)])[0]


def gradient_figures(defence: Defence, x: Tensor, y: Tensor, seed: int) -> dict[str, float]:
    """How usable the gradients of the cross-entropy are, on one batch x [k, C, H, W] with labels y [k];
    in two draws of a randomised defence.

    Returns:
        zero_share: inputs whose gradient is 0 in every pixel; and between two draws: cosine (mean over
        inputs) and sign (share of pixels whose gradients have the same sign).

    Raises:
        InputError: the defence fails on the batch.
    """

    def cross_entropy(logits: Tensor) -> Tensor:
        return functional.cross_entropy(oracle.fold_unanswered(logits, y), y, reduction="sum")

    if images_at_once(x.shape[-2:].numel(), len(x)) < len(x):  # large images, whose gradients take long
        x, y = _batch(defence, x), _batch(defence, y)
    with blamed_on(defence, x):
        draws = [defence.sample(stream(seed, -1, "probe", i), len(x)) for i in (1, 2)]
        grads = []
        for draw in draws if defence.randomised else draws[:1]:
            try:
                grads.append(gradients.slope(partial(defence.logits, draw=draw), cross_entropy, x).flatten(1))
            except gradients.NoGradient:
                grads.append(torch.zeros_like(x).flatten(1))
        figures = {"zero_share": float((grads[0] == 0).all(1).float().mean())}
        if len(grads) == 2:
            figures["cosine"] = float(functional.cosine_similarity(grads[0], grads[1]).mean())
            figures["sign"] = float((grads[0].sign() == grads[1].sign()).float().mean())
        return figures


def probed(
    defence: Defence,
    x: Tensor,
    seed: int,
    *,
    highest: int = 0,
    remembers: Tensor | None = None,
    whole: Tensor | None = None,
) -> Probed:
    """Probes a defence on one batch, and settles what a plain module left open about itself.

    Args:
        highest: the highest label of the data.
        remembers: for user code, the network's or the defence's, images [k, C, H, W] on which it is asked
            for a memory before all else; None where there can be none.
        whole: for user code, a batch of the size that will be evaluated: slots that ``x`` lacks
            may answer otherwise.

    Raises:
        InputError: the defence fails on the batch, has fewer classes than the data, or does not answer in
            PROBE_SECONDS.
    """
    dtype = torch.get_default_dtype()
    try:
        with time_limit(PROBE_SECONDS):
            state: list[str] = []
            if remembers is not None:
                with blamed_on(defence, remembers):
                    state = memory_of(defence, remembers, stream(seed, -1, "probe", 3))
            result = probe(defence, x, stream(seed, -1, "probe"), whole)
    except TimeLimitExceeded:
        raise InputError(
            f"{defence.name} hangs: its probe, some twenty forwards of a batch of shape {tuple(x.shape)}, "
            f"took longer than {PROBE_SECONDS:g} s"
        ) from None
    finally:
        now = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
    if now != dtype:
        state.append(f"changes torch's default dtype to {now} for everything else in this process")
    contradicted = contradictions(defence, result)
    if remembers is not None and not contradicted:
        contradicted += unanswering_base(defence, x, result.shape[1])
    wrongs = (*state, *contradicted)
    # No gradient and no attack could be asked for the missing classes, so that this is no mere finding.
    if not wrongs and (wrong := too_few_classes(defence, result.shape[1], highest)):
        raise InputError(f"{defence.name} {wrong}")
    return Probed(asdict(result), wrongs, (*warnings(defence, result), *stated_protocol(defence)))


def probed_subjects(
    config: EvalConfig, context: WorkerContext, specs: Sequence[str], *, refuse: bool
) -> tuple[list[ProbedSubject], list[ProbeRecord]]:
    """Every checkpoint behind every defence at every batch size, probed; and what the probes found.

    Args:
        refuse: whether a defence that contradicts its own declaration raises InputError.
    """
    subjects: list[ProbedSubject] = []
    probes = []
    for checkpoint in context.setup.checkpoints:
        for spec in specs:
            for k in config.batch_size:
                first = spec == specs[0] and k == config.batch_size[0]
                subject, record = _subject(config, context, checkpoint, spec, k, first=first, refuse=refuse)
                _check_name(subject, subjects)
                subjects.append(subject)
                probes.append(record)
                if not subject.batch_dependent:
                    break  # its answers do not know a batch size
    if config.batches_kept and not any(subject.sequence for subject in subjects):
        raise InputError(
            "--state persistent: no defence here has remembers = True and so a state to keep; leave it out"
        )
    for subject in subjects if refuse else ():
        if options.is_user_defence(subject.spec):
            _check_memory(subject, context)
    return subjects, probes


def _check_name(subject: ProbedSubject, others: Sequence[ProbedSubject]) -> None:
    """Refuses two of one name, which would end up in one row."""
    for other in others:
        if other.subject == subject.subject:
            if other.spec == subject.spec:
                raise InputError(f"{subject.spec} is given twice; give it once (standard runs anyway)")
            named = f"{other.spec} and {subject.spec} are both named {subject.label}"
            raise InputError(f"{named}; give one another name")


def _check_memory(subject: ProbedSubject, context: WorkerContext) -> None:
    """Refuses a user's defence that has changed its model, or remembers what the others were asked."""
    if change := context.changed(context.model(subject.checkpoint)):
        raise InputError(f"{subject.label} was not evaluated: it {change}")
    if change := context.memory(subject):
        raise InputError(
            f"{subject.label} was not evaluated: it has a memory: after the others were asked {change}; "
            "give it a reset() that forgets"
        )


def _subject(
    config: EvalConfig,
    context: WorkerContext,
    checkpoint: LoadedCheckpoint,
    spec: str,
    k: int,
    *,
    first: bool,
    refuse: bool,
) -> tuple[ProbedSubject, ProbeRecord]:
    """One subject, probed; with the ``first`` around a checkpoint, the user's network is, too."""
    theirs = options.is_user_defence(spec)
    defence, sequence = _defence(config, context, checkpoint, spec, k)
    k *= sequence or 1
    # Our own inferences around our own networks do what they say, and nothing in most hides a gradient.
    ours = refuse and checkpoint.ours and not theirs and not isinstance(defence, SamplingModule)
    x, y = context.data.batch([i % len(context.data) for i in range(k)])
    x, y = x.to(context.device), y.to(context.device)
    result = NOT_PROBED
    if not ours:
        remembers = theirs or (first and checkpoint.theirs)
        result = _probed(defence, context, config, x, theirs=theirs, remembers=remembers)
    named = checkpoint.name if spec == Standard.name else defence.name
    refusal = f"{named} was not evaluated: it {'; it '.join(result.contradictions)}"
    if result.contradictions and refuse:
        raise InputError(refusal)
    try:
        shows = ours and isinstance(defence, Standard | Coded)
        figures, hidden = _gradients(defence, x, y, config.seed, result, shows=shows)
    except InputError as error:
        if result.contradictions:  # it is asked all the same, and they say why it fails
            raise InputError(refusal) from error
        raise
    label, n = _name(defence, spec, k)
    if sequence:
        label += f"[state={sequence}x{k // sequence}]"
    subject = ProbedSubject(
        subject=Subject(checkpoint.name, label, k if defence.batch_dependent else None, n),
        spec=spec,
        k=k,
        randomised=defence.randomised,
        batch_dependent=defence.batch_dependent,
        has_base=defence.base is not None,
        images=images_of(defence, k),
        images_of_victim=images_of(defence, k, victim=True) if has_logits_at(defence) and not theirs else 0,
        sequence=sequence,
        hides_gradient=bool(hidden.operators) or figures["zero_share"] > ZERO_SHARE,
        differentiable=not hidden.without,
        relaxable=hidden.relaxable,
    )
    if theirs:
        context.keep(subject, defence)
    record = ProbeRecord(
        subject=subject.subject,
        figures=result.figures,
        gradients=figures,
        hidden_by=hidden.operators,
        warnings=(*result.warnings, *hidden.sentences),
        contradictions=result.contradictions,
    )
    return subject, record


def _defence(
    config: EvalConfig, context: WorkerContext, checkpoint: LoadedCheckpoint, spec: str, k: int
) -> tuple[Defence, int]:
    """The defence around the checkpoint, and the batches over which it keeps its state; 0 for none."""
    defence = context.build(spec, context.model(checkpoint.name), k)
    name = code_names(checkpoint.name, spec)[1]
    if options.is_user_defence(spec) and name not in context.arrays:
        held = {} if spec.startswith(options.GIVEN) else arrays_in(defence).parts
        identity = getattr(defence, "identity", None)
        declared = {"identity": identity} if isinstance(identity, str) else {}
        context.arrays[name] = Code(held | declared)  # before it is asked, which may change them
    remembers = isinstance(defence, PerBatch) and getattr(defence.defence, "remembers", False)
    if remembers and config.batches_kept:
        return KeptMemory(defence, k), config.batches_kept  # type: ignore[arg-type]
    return defence, 0


def _gradients(
    defence: Defence, x: Tensor, y: Tensor, seed: int, result: Probed, *, shows: bool
) -> tuple[dict[str, Any], HiddenGradients]:
    """Figures of a defence's gradients, and what hides them.

    Args:
        result: of the probe.
        shows: True if nothing inside can hide a gradient that is there.
    """
    hidden = HiddenGradients()
    figures = gradient_figures(defence, x, y, seed)
    if not shows or figures["zero_share"]:
        with blamed_on(defence, x):
            without = result.figures["no_gradient"]
            hidden = hidden_gradients(defence, x, y, seed, without=without)
    return figures, hidden


def _name(defence: Defence, spec: str, k: int) -> tuple[str, int | None]:
    """A defence as tables name it, and its N in batches of k."""
    if spec.startswith(options.GIVEN):
        return spec.removeprefix(options.GIVEN), None
    parsed = options.parse_defence(spec)
    return defence.name if parsed.kind == "plugin" else parsed.label, parsed.resolve_n(k)


def _probed(
    defence: Defence,
    context: WorkerContext,
    config: EvalConfig,
    x: Tensor,
    *,
    theirs: bool,
    remembers: bool,
) -> Probed:
    """Probes a defence.

    Args:
        x: a batch as it will be evaluated, [k, C, H, W].
        theirs: whether it is a user's, which may take no other size.
        remembers: whether it, or the network inside, may.
    """
    data, device = context.data, context.device
    at_once = images_at_once(prod(data.image_shape[1:]), 2 * MOST)
    few = at_once < 2 * MOST and not theirs
    ask = partial(
        probed,
        defence,
        probe_batch(data, len(x), FEWEST if few else MOST).to(device),
        config.seed,
        highest=int(data.labels.max()),
        remembers=probe_batch(data, len(x), REMEMBERED).to(device) if remembers else None,
    )
    result = ask(whole=x if theirs else None)
    # Of a few inputs the share without an answer says little.
    return ask(whole=x) if result.figures["unanswered"] and not theirs else result


MOST_CODED = 4  # coded inputs for each input beyond which more only cost
SAMPLE = 64  # examples that a model in memory is asked, to see whether it was trained at all
BY_CHANCE = 0.01
PAPER = "the paper takes N from K to 1.5K"


def doubts(subjects: Sequence[ProbedSubject], context: WorkerContext) -> Iterator[str]:
    """A sentence for each thing that the user may not have meant."""
    for k, n in dict.fromkeys((s.k, s.subject.n) for s in subjects if s.batch_dependent):
        if n is None:
            continue
        if n < k:
            yield f"N = {n} is less than K = {k}: decoding loses clean accuracy; {PAPER}"
        elif n > MOST_CODED * k:
            yield f"N = {n} is {n / k:.1f} times K = {k}, and so is the cost; {PAPER}"
    for checkpoint in context.setup.checkpoints:
        trained = checkpoint.facts["metadata"].get("defence")
        around = {subject.spec for subject in subjects if subject.checkpoint == checkpoint.name}
        if isinstance(trained, str) and trained not in around:
            yield (
                f"{checkpoint.name} was trained behind {trained} and is evaluated without it; "
                f"add --defence {trained}"
            )
        if not checkpoint.path:  # a file whose network answers as by chance is refused
            yield from _untrained(checkpoint, context)


@torch.no_grad()
def _untrained(checkpoint: LoadedCheckpoint, context: WorkerContext) -> Iterator[str]:
    """A sentence where a model in memory answers as by chance."""
    x, y = context.data.batch(range(min(SAMPLE, len(context.data))))
    with accelerator.random_states_kept():  # it may sample
        answers = context.model(checkpoint.name)(x.to(context.device)).argmax(1).cpu()
    right = int((answers == y).sum())
    one_class = int(y.bincount().max()) / len(y)  # what a network that always names it gets right
    chance = max(one_class if one_class < 1 else 0, 1 / checkpoint.classes)  # of one class nothing is known
    if bdtrc(right - 1, len(x), chance) > BY_CHANCE and right / len(x) < (1 + chance) / 2:  # not 2 of 2
        from_zero = int((answers == y - 1).sum())
        doubt = "are its weights trained, and on these data?"
        if int(y.min()) > 0 and from_zero > max(right, len(x) // 2):
            doubt = f"{from_zero} where labels begin at 0: give y - 1"
        yield f"{checkpoint.name} gets {right} of {len(x)} clean examples right, as by chance: {doubt}"
