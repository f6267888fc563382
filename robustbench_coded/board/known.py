"""Which published defence a subject of a run is, if any."""

from robustbench_coded.defences.options import parse_defence
from robustbench_coded.defences.published.registry import PREFIX, PUBLISHED, PublishedDefence
from robustbench_coded.schema.case import SubjectKey
from robustbench_coded.schema.controls import STANDARD
from robustbench_coded.schema.evaluated import CheckpointFacts

_INFERENCES = {
    parse_defence(found.record.spec).kind: found for found in PUBLISHED.values() if found.record.spec
}


def published_as(subject: SubjectKey, checkpoint: CheckpointFacts | None) -> PublishedDefence | None:
    """The published defence that a subject is: by the name of its defence, or of its training or network."""
    if subject.defence.startswith(PREFIX):
        return PUBLISHED.get(subject.defence.removeprefix(PREFIX))
    if subject.defence != STANDARD:
        return _INFERENCES.get(subject.defence.partition("[")[0])
    if checkpoint is None:
        return None
    # A network that was trained behind another defence and is asked without it is no defence of its own.
    recipe = "" if checkpoint.metadata.get("defence") else str(checkpoint.metadata.get("recipe", ""))
    arch = checkpoint.arch or ""
    for found in PUBLISHED.values():
        record = found.record
        if (record.recipe and record.recipe == recipe) or (record.arch and arch.startswith(record.arch)):
            return found
    return None
