"""The units of work of an evaluation, all known before anything runs, and what their attacks will cost."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil

from attacks import attack_name, naming, presets, surrogate
from attacks.catalogue import CATALOGUE
from robustbench_coded.evaluation.options.check_options import inputs_for
from robustbench_coded.evaluation.options.config import IMAGES_PER_UNIT, EvalConfig
from robustbench_coded.evaluation.planning import cases
from robustbench_coded.evaluation.planning.batches import Batch, Extents, choose_victims, partition
from robustbench_coded.schema.case import WHOLE_BATCH, ThreatModel
from robustbench_coded.schema.words import CLEAN, CONTROLS, RANDOM_SIGN, STANDARD

THIRD_PARTY_STEPS = 100  # of a third-party attack whose number of steps its name does not say


def step_size_of(name: attack_name.AttackName, eps: float) -> float | None:
    """The step size an attack takes, in units of eps's space; None where it has none of its own."""
    if name.third_party is not None or name.is_submitted:
        return None
    usual = CATALOGUE[name.algorithm].step_size
    if usual is None:
        return None
    return usual(eps, name.steps or 1) if name.step_size is None else name.step_size


def queries_of(name: attack_name.AttackName, *, randomised: bool) -> tuple[int, int]:
    """Forwards and backwards of each input, about; N/K and co-batched inputs come on top."""
    if name.is_submitted:
        return 0, 0
    draws = name.draws if randomised else 1
    if randomised and name.estimator in ("gmsaavg", "gmsamin"):
        draws = name.rounds * (name.rounds + 1) // 2
    if name.estimator == "surrogate":
        forwards, backwards = surrogate.QUERIES, 0
    elif name.third_party is not None:
        forwards = backwards = name.steps or THIRD_PARTY_STEPS
    else:
        forwards, backwards = map(ceil, CATALOGUE[name.algorithm].queries(name, randomised=randomised))
    more = queries_of(name.init, randomised=randomised) if name.init else (0, 0)
    return forwards * draws + more[0], backwards * draws + more[1]


def images_per_query(
    name: attack_name.AttackName, images: float, *, randomised: bool, independent: bool
) -> float:
    """Images forwarded and differentiated in the least that an attack of ours can ask.

    Args:
        images: through the network in one forward.
        independent: whether the defence is deterministic and answers inputs one by one.
    """
    draws = name.draws if randomised else 1
    if name.estimator == "surrogate":
        return images * draws
    if name.asks_answers_alone:
        # Where chance or the batch has a say, two points are compared under the same draws.
        return images * draws * (1 if independent and name.family != "estimate" else 2)
    return 2 * images * draws


@dataclass(frozen=True)
class Plan:
    """Rows and their units, in the order in which they run."""

    rows: tuple[cases.AttackCase, ...]
    units: tuple[cases.Unit, ...]
    notes: tuple[str, ...]

    def only(self, rows: Collection[cases.AttackCase]) -> "Plan":
        """The plan of some of its rows."""
        kept = set(rows)
        return Plan(
            tuple(row for row in self.rows if row in kept),
            tuple(unit for unit in self.units if unit.row in kept),
            self.notes,
        )


def batches_for(config: EvalConfig, subject: cases.Subject, examples: int) -> list[Batch]:
    """The partition a subject is evaluated on. Input-by-input defences need no full batches."""
    rule = config.last_batch
    if not subject.batch_dependent and rule == "pad":
        rule = "shrink"
    return partition(examples, subject.k, rule)


def rows_for(
    config: EvalConfig, subjects: Sequence[cases.Subject], eps: Sequence[float]
) -> tuple[list[cases.AttackCase], list[str]]:
    """The rows that these subjects, attacks and budgets give, and sentences on what is left out."""
    rows: dict[cases.AttackCase, None] = {}
    notes: dict[str, None] = {}
    for subject in subjects:
        for row in _controls(config, subject, eps):
            rows[row] = None
        for text in (*config.attacks, *_in_their_place(config, subject, notes)):
            name = naming.parse(text)
            for threat in _threats(config, subject, name, notes):
                for size in eps:
                    step_size = step_size_of(name, size)
                    rows[
                        cases.AttackCase(
                            subject, threat, text, config.norm, size, config.eps_space, step_size
                        )
                    ] = None
    return list(rows), list(notes)


def _controls(config: EvalConfig, subject: cases.Subject, eps: Sequence[float]) -> Iterable[cases.AttackCase]:
    threat = WHOLE_BATCH
    yield cases.AttackCase(subject, threat, CLEAN, config.norm, 0.0, config.eps_space, None)
    for size in eps:
        yield cases.AttackCase(subject, threat, RANDOM_SIGN, config.norm, size, config.eps_space, None)


def _in_their_place(config: EvalConfig, subject: cases.Subject, notes: dict[str, None]) -> list[str]:
    """What attacks a subject if all that was asked for follows a gradient that it does not have."""
    names = [naming.parse(text) for text in config.attacks]
    if not names or any(not n.differentiates or subject.has_gradient_for(n) for n in names):
        return []
    instead = [presets.RELAXED[0] if subject.relaxable else presets.LAST_RESORT[0]]
    if subject.has_base:
        instead.append(presets.TRANSFER)
    instead = [naming.suited(name, config.norm) for name in instead]
    notes[f"{subject.label} cannot be differentiated, so {' and '.join(instead)} attacked it instead."] = None
    return instead


def _threats(
    config: EvalConfig, subject: cases.Subject, name: attack_name.AttackName, notes: dict[str, None]
) -> list[ThreatModel]:
    """Under which threat models an attack runs against a subject."""
    if name.uses_base and not subject.has_base:
        if subject.spec != STANDARD:
            notes[f"{subject.label} names no base model, so {name.text} was not run on it."] = None
        return []
    if name.text in config.relaxed_attacks and not subject.hides_gradient:
        return []  # torch's own gradients are what they would be
    if name.text in presets.LAST_RESORT and name.text in config.relaxed_attacks and subject.relaxable:
        return []
    if name.text in presets.COUPLED and name.text in config.second_attacks and not subject.batch_dependent:
        return []  # each input's step follows its own loss
    if name.differentiates and not subject.has_gradient_for(name):
        notes[f"{subject.label} has no gradient for {name.text}, which was not run on it."] = None
        return []
    asked = inputs_for(config.inputs, subject.k) if subject.batch_dependent else ["batch"]
    randomness = "known" if name.estimator == "aware" else "unknown"
    if randomness == "known" and not subject.randomised:
        return []  # nothing is unknown in a deterministic defence: its rows would repeat those of `unknown`
    if subject.batch_dependent and name.text in config.victim_attacks and "victim" not in asked:
        asked.append("victim")
    threats = []
    for threat in (ThreatModel(inputs, randomness) for inputs in asked):
        if why := _no_sense(config, subject, name, threat):
            notes[why] = None
        else:
            threats.append(threat)
    if not threats and name.third_party is not None:
        threats = [ThreatModel("batch", randomness)]
    return threats


def _no_sense(
    config: EvalConfig, subject: cases.Subject, name: attack_name.AttackName, threat: ThreatModel
) -> str | None:
    """Why an attack is not run under a threat model; None where it is."""
    if threat.inputs != "batch" and name.third_party is not None:
        return f"{name.text} knows no threat model but batch, so it was run under that alone."
    if threat.malicious is not None and name.uses_base:
        return f"{name.text} was not run for collateral damage: the base model answers inputs one by one."
    images = subject.images / (1 if threat.one_victim else subject.k)
    cost = images_per_query(
        name,
        1 if name.estimator == "transfer" else images,
        randomised=subject.randomised,
        independent=subject.independent,
    )
    if config.budget is not None and name.third_party is None and cost > config.budget:
        return (
            f"{name.text} on {subject.label} ({threat}) was not run: one move of it costs {cost:.4g} images "
            f"for each example, and --budget {config.budget} is less."
        )
    return None


def stopped(config: EvalConfig, row: cases.AttackCase) -> bool:
    """Whether ``budget`` ends an attack before its name says, as far as the name can tell."""
    if config.budget is None or row.attack in CONTROLS:
        return False
    name, subject = naming.parse(row.attack), row.subject
    per_query = subject.images / (1 if row.threat.one_victim else subject.k)
    if name.estimator == "transfer":
        per_query = 1
    return per_query * sum(queries_of(name, randomised=subject.randomised)) > config.budget


def scoring_images(config: EvalConfig, row: cases.AttackCase) -> int:
    """Image gradients that scoring one batch, or one victim, costs: a forward is a third of one."""
    draws = config.draws + config.selection_draws if row.subject.randomised else 1
    return row.subject.images * draws // 3


class UnitMaker:
    """Cuts rows into units; two makers with the same arguments give the same units with the same ids.

    Attributes:
        images_per_unit: image gradients in one unit, about.
    """

    def __init__(
        self,
        config: EvalConfig,
        examples: int,
        group_images: int,
        fixed: dict,
        extents: Extents | None = None,
    ):
        """
        Args:
            examples: examples evaluated.
            group_images: images that may go through the network in one forward.
            fixed: what else decides outcomes (hashes of checkpoints and data, precision ...), as JSON data.
            extents: how far rows run, between whose ends units are cut; None for all, cut anywhere.
        """
        self.config = config
        self.examples = examples
        self.extents = extents
        # A round waits for the last of its units: small ones keep all workers busy.
        self.images_per_unit = IMAGES_PER_UNIT if extents is None else IMAGES_PER_UNIT // 20
        self.group_images = group_images
        self._fixed = fixed

    def units(self, row: cases.AttackCase) -> list[cases.Unit]:
        """The units of one row."""
        batches = batches_for(self.config, row.subject, self.examples)
        # In a last batch smaller than the number of malicious inputs, no input is left to harm.
        batches = [batch for batch in batches if (row.threat.malicious or 0) < batch.k]
        if row.threat.one_victim:
            chosen = (batches, self.config.victims, self.config.seed)
            victims = [choose_victims(*chosen)]
            if self.extents is not None:
                victims = self.extents.victim_parts(row, *chosen)
            return [unit for part in victims for unit in self._victim_units(row, part)]
        parts = [batches] if self.extents is None else self.extents.parts(row, batches)
        return [unit for part in parts if part for unit in self._batch_units(row, part)]

    def images(self, row: cases.AttackCase) -> int:
        """Image gradients of one row, scoring included."""
        return sum(unit.images for unit in self.units(row))

    def _batch_units(self, row: cases.AttackCase, batches: list[Batch]) -> list[cases.Unit]:
        per_group = max(1, self.group_images // row.subject.images)
        groups: list[list[int]] = []
        k = None
        for batch in batches:
            if groups and len(groups[-1]) < per_group and k == batch.k:
                groups[-1].append(batch.index)
            else:
                groups.append([batch.index])
            k = batch.k
        whole, sizes = self._images_per_batch(row), {batch.index: batch.k for batch in batches}
        made: list[cases.Unit] = []
        piece: list[list[int]] = []
        images = 0
        for group in groups:
            # A last batch may be much smaller than the others, or the only one.
            cost = max(1, whole * len(group) * sizes[group[0]] // row.subject.k)
            if piece and images + cost > self.images_per_unit:
                made.append(self._unit(row, piece, [], images))
                piece, images = [], 0
            piece.append(group)
            images += cost
        made.append(self._unit(row, piece, [], images))
        return made

    def _victim_units(self, row: cases.AttackCase, victims: Sequence[cases.Victim]) -> list[cases.Unit]:
        cost = self._images_per_batch(row)
        per_unit = max(1, self.images_per_unit // max(cost, 1))
        return [
            self._unit(row, [], victims[i : i + per_unit], cost * len(victims[i : i + per_unit]))
            for i in range(0, len(victims), per_unit)
        ]

    def _images_per_batch(self, row: cases.AttackCase) -> int:
        """Image gradients for one batch (or one victim), scoring included at a third of a gradient."""
        subject = row.subject
        separate = self.config.aware_attacks if row.threat.randomness == "known" else 1
        images = scoring_images(self.config, row)
        if row.submission is not None:
            images += subject.images * row.submission.questions // 3
        elif row.attack not in CONTROLS:
            name = naming.parse(row.attack)
            forwards, backwards = queries_of(name, randomised=subject.randomised)
            inputs = 1 if row.threat.one_victim else subject.k
            per_query = inputs if name.estimator == "transfer" else subject.images
            cost = separate * per_query * (forwards + 2 * backwards) // 3
            if self.config.budget is not None:
                cost = min(cost, separate * self.config.budget * inputs // 2)
            images += cost
        return max(images, 1)

    def _unit(
        self, row: cases.AttackCase, groups: list, victims: Sequence[cases.Victim], images: int
    ) -> cases.Unit:
        return self.identified(cases.Unit(row, tuple(map(tuple, groups)), tuple(victims), images, ""))

    def identified(self, unit: cases.Unit) -> cases.Unit:
        """The unit under the id that belongs to it."""
        return replace(unit, id=cases.unit_id(cases.unit_payload(unit, self._fixed, self.config.budget)))
