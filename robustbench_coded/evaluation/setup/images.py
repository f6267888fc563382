"""The data of an evaluation, and those of its images that are evaluated."""

from collections.abc import Sequence
from typing import NamedTuple

from attacks.naming import read_attack
from robustbench_coded.data import dataset, registry
from robustbench_coded.errors import InputError
from robustbench_coded.evaluation.execution.in_memory import InMemory
from robustbench_coded.evaluation.options.config import EvalConfig
from robustbench_coded.evaluation.planning.batches import evaluated
from robustbench_coded.evaluation.setup.checkpoints import data_named
from robustbench_coded.models.loading import Checkpoint
from robustbench_coded.schema.manifest import DataFacts


class EvaluatedImages(NamedTuple):
    """The data by its name, whole, and those of its images that are evaluated."""

    name: str
    whole: dataset.Dataset
    data: dataset.Dataset

    @property
    def notes(self) -> list[str]:
        """Sentences on what the user may not have meant."""
        given, once = len(self.whole), len(self.whole.distinct)
        repeated = f"{self.name}: {given:,} images, of which {once:,} differ in pixels or label"
        return [*self.whole.notes, *([f"{repeated}; each is evaluated once"] if once < given else [])]


def images_of(
    config: EvalConfig, in_memory: InMemory, checkpoints: Sequence[Checkpoint], whole: dataset.Dataset | None
) -> EvaluatedImages:
    """Loads the data; refuses options that do not fit them.

    Args:
        whole: the data where they are loaded already.

    Raises:
        InputError: an option that does not fit the data.
    """
    name = in_memory.data.name if in_memory.data is not None else data_named(config, checkpoints)
    whole = whole or registry.load_data(name, data_dir=config.data_dir)
    data = evaluated(whole, config.limit, first=config.first, seed=config.seed)
    for attack in map(read_attack, config.attack_names):
        if attack.target is not None and attack.target >= whole.classes:
            raise InputError(f"{attack}: the classes of {whole.name} are 0 to {whole.classes - 1}")
    return EvaluatedImages(name, whole, data)


def facts_of(data: dataset.Dataset, available: int) -> DataFacts:
    """The data as the report has them.

    Args:
        available: examples that there are, each counted once.
    """
    return DataFacts(
        name=data.name,
        source=data.source,
        sha256=data.sha256,
        examples=len(data),
        available=available,
        classes=data.classes,
        image_shape=tuple(data.image_shape),
        images=data.each_digest,
    )
