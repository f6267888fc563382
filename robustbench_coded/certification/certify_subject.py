"""The certificates of one subject of a run, on the batches and draws that its attacks are scored on."""

from collections.abc import Iterator, Sequence

import torch

from robustbench_coded.certification import bounds, graph
from robustbench_coded.certification.certifier import ALPHA, SAMPLES, Certifier, certifiers_of, check_answers
from robustbench_coded.defences.protocol import Defence
from robustbench_coded.evaluation.execution.target import draws_of
from robustbench_coded.evaluation.execution.worker_context import WorkerContext
from robustbench_coded.evaluation.planning import cases, streams
from robustbench_coded.models.prepare import tf32
from robustbench_coded.runs.certificates import Certificate


@tf32(False)
def certify_subject(context: WorkerContext, subject: cases.Subject, eps: float) -> Sequence[Certificate]:
    """One certificate for each kind of bound that the defence allows; where there is none, why."""
    config = context.setup.config
    facts = {**subject.key._asdict(), "norm": config.norm, "eps": eps, "eps_space": config.eps_space}
    try:
        return list(_certificates(context, subject, eps, facts))
    except graph.NotCertifiable as reason:
        return [Certificate(**facts, missing=str(reason))]


def _certificates(
    context: WorkerContext, subject: cases.Subject, eps: float, facts: dict[str, object]
) -> Iterator[Certificate]:
    defence = context.defence(subject)
    x, _ = context.group(context.batches(subject)[:1])
    images = torch.cat([x[0], x[0]]) if x.shape[1] == 1 else x[0]
    for certifier in certifiers_of(defence, images):
        yield _certificate(context, subject, eps, defence, certifier, facts)


def _certificate(
    context: WorkerContext,
    subject: cases.Subject,
    eps: float,
    defence: Defence,
    certifier: Certifier,
    facts: dict[str, object],
) -> Certificate:
    config = context.setup.config
    normalized = config.eps_space == "normalized"
    unit = torch.tensor(context.checkpoint(subject.checkpoint).deviation) if normalized else None
    # Where the draw is known, that many draws are attacked at all.
    draws = range(
        min(config.draws, config.aware_attacks) if defence.randomised and not certifier.chance else 1
    )
    batches = context.batches(subject)
    examples = sum(batch.scored for batch in batches)
    numbers: list[int] = []
    of_batch: list[int] = []
    right: list[list[float]] = []
    for batch in batches:
        group, labels = context.group([batch])
        x, y = group[0], labels[0]
        region = bounds.Region.around(x, config.norm, eps, unit)
        found = []
        for index in draws:
            (draw,) = draws_of(defence, batch.k, config.seed, [batch.index], "scoring", index)
            check_answers(certifier, defence, x, draw)
            own = streams.stream(config.seed, batch.index, "certificate", index)
            found.append(certifier.right(region, y, draw, own, examples)[: batch.scored])
        right += torch.stack(found, dim=1).tolist()
        numbers += [int(context.numbers[member]) for member in batch.members[: batch.scored]]
        of_batch += [batch.index] * batch.scored
    return Certificate(
        **facts,  # type: ignore[arg-type]
        inputs=certifier.inputs,
        randomness=certifier.randomness,
        method=certifier.method,
        chance=certifier.chance,
        alpha=ALPHA if certifier.chance else None,
        samples=SAMPLES if certifier.chance else None,
        example=tuple(numbers),
        batch=tuple(of_batch),
        draw=tuple(draws),
        right=tuple(map(tuple, right)),
    )
