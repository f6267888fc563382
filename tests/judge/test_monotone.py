"""More attacks never make a defence look better: words of a run beside those of parts of it."""

from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from robustbench_coded.judge import judge as judging
from robustbench_coded.judge.checks import Check
from robustbench_coded.judge.combined import case_results
from robustbench_coded.judge.judge import judge
from robustbench_coded.judge.judgements import judgements_of
from robustbench_coded.run import load_run
from robustbench_coded.schema.words import CONTROLS, ENSEMBLE

pytestmark = pytest.mark.long

REPORTS = Path(__file__).parents[2] / "reports"
POSITIVE, OPEN = "no failure found", "not settled"
PASSED = Check("attacks agree", "passed", "")
BASE = {"defence": "standard", "k": None, "n": None, "randomised": False, "batch_dependent": False}
EXAMPLES = 480
ALONE = {"randomised": False, "batch_dependent": False}
# In the order in which base models usually fall to them.
ATTACKS = ("fgsm", "pgd-10", "pgd-20", "apgd-mt-20", "apgd-t-100", "square-1000")


def negative(word):
    return word not in (POSITIVE, OPEN)


def turns_positive(fewer, more):
    """Whether a word of more rows is kinder than that of fewer; passing a check may settle what was open."""
    return negative(fewer) and more == POSITIVE


class Generated:
    """A base model and a defence, answered one by one, and which attack breaks which of them."""

    def __init__(self, generator):
        fallen = generator.random((2, len(ATTACKS))) * generator.choice([0.3, 1.0], (2, 1))
        # Attacks break inputs in one order, with accidents: several leave less than the worst of them.
        slips = generator.random((2, len(ATTACKS), EXAMPLES)) < 0.01
        self.right = (generator.random(EXAMPLES) > fallen[..., None]) ^ slips

    def rows(self, evaluation, on_base, on_defence, unfinished=()):
        """The rows of these attacks; transfer is what the base model's own inputs leave the defence.

        Of ``unfinished`` attacks, on either side, the first half of the outcomes is there.
        """
        run = evaluation()
        clean = np.ones((EXAMPLES, 1), dtype=bool)
        run.add("clean", clean, **BASE).add("clean", clean, **ALONE)
        for attack in on_base:
            run.add(attack, self._of(0, attack, unfinished), planned=EXAMPLES, **BASE)
        for attack in on_defence:
            run.add(attack, self._of(1, attack, unfinished), planned=EXAMPLES, **ALONE)
        return case_results(*run.parts())

    def _of(self, side, attack, unfinished):
        index = ATTACKS.index(attack.removeprefix("transfer-"))
        right = self.right[side, index] | (self.right[0, index] & attack.startswith("transfer-"))
        kept = EXAMPLES // 2 if attack in unfinished else EXAMPLES
        return right[:kept, None]

    def word(self, evaluation, on_base, on_defence, unfinished=()):
        return _words(self.rows(evaluation, on_base, on_defence, unfinished))[-1]


def _words(rows):
    """The word of the base model, and that of the defence."""
    made = [row for row in rows if row.case.attack == ENSEMBLE]
    return [judge(rows, row, [PASSED]).name for row in made]


def parts_of(generator, attacks):
    """A random part of the attacks in their order, at least one of them."""
    kept = [attack for attack in attacks if generator.random() < 0.5]
    return kept or [attacks[int(generator.integers(len(attacks)))]]


def generated(evaluation, seeds):
    """(word of fewer rows, word of more) for made-up runs, of base model and defence."""
    for seed in seeds:
        generator = np.random.default_rng(seed)
        made = Generated(generator)
        both = [*ATTACKS, *(f"transfer-{attack}" for attack in ATTACKS)]
        more = parts_of(generator, ATTACKS), parts_of(generator, both)
        fewer = parts_of(generator, more[0]), parts_of(generator, more[1])
        words = (_words(made.rows(evaluation, *some)) for some in (fewer, more))
        yield from zip(*words, strict=True)


def test_more_rows_never_turn_a_negative_verdict_positive(evaluation):
    found = list(generated(evaluation, range(30)))
    words = [word for pair in found for word in pair]
    assert {POSITIVE, OPEN} < set(words) and any(map(negative, words))  # it could have gone wrong
    assert not [pair for pair in found if turns_positive(*pair)]


def test_the_property_sees_a_comparison_that_is_not_made(evaluation, monkeypatch):
    monkeypatch.setattr(judging, "attacks_on_base_alone", lambda *args: ((), ""))
    monkeypatch.setattr(judging, "unmatched_attacks", lambda *args: ((), ""))
    assert [pair for pair in generated(evaluation, range(30)) if turns_positive(*pair)]


def test_attacks_on_the_base_model_alone_never_make_a_verdict_positive(evaluation):
    kinder = 0
    for seed in range(16):
        generator = np.random.default_rng(1000 + seed)
        made = Generated(generator)
        shared, alone = ["pgd-20", "apgd-mt-20"], ["apgd-t-100", "square-1000"]
        on_defence = [*shared, *(f"transfer-{attack}" for attack in shared)]
        before = made.word(evaluation, shared, on_defence)
        after = made.word(evaluation, [*shared, *alone], on_defence)
        kinder += before != POSITIVE and after == POSITIVE
    assert kinder == 0


def test_an_unfinished_attack_withholds_a_positive_verdict_and_changes_nothing_else(evaluation):
    seen = set()
    for seed in range(12):
        generator = np.random.default_rng(2000 + seed)
        made = Generated(generator)
        both = [*ATTACKS, *(f"transfer-{attack}" for attack in ATTACKS)]
        on_base, on_defence = parts_of(generator, ATTACKS), parts_of(generator, both)
        late = [attack for attack in both if attack not in (*on_base, *on_defence)][:2]
        before = _words(made.rows(evaluation, on_base, on_defence))
        after = _words(made.rows(evaluation, on_base, [*on_defence, *late], late))
        assert after[0] == before[0]  # the base model's own attacks are all there
        assert after[1] == (before[1] if negative(before[1]) or not late else OPEN)
        on_base = [*on_base, *(attack for attack in late if attack in ATTACKS)]
        after = _words(made.rows(evaluation, on_base, on_defence, late))
        expected = [word if negative(word) or not set(late) & set(on_base) else OPEN for word in before]
        assert after == expected
        seen |= set(before)
    assert {POSITIVE, OPEN} < seen and len(seen) > 3


# More rows may show that the answers of a batch move together, or take the base model further down.
BY_FIGURES = ("interval contains the threshold", "other attacks on the base model")


def verdicts_of(run, planned, outcomes=None):
    """The verdicts of a run from some of its rows, by subject, threat model and budget."""
    rows = case_results(run.outcomes if outcomes is None else outcomes, planned)
    manifest = structs.replace(run.manifest, cases=tuple(planned))
    return {judgement.case: judgement.verdict for judgement in judgements_of(rows, manifest)}


@pytest.mark.parametrize(
    ("name", "checkpoint", "parts"), [("cifar10-resnet20", "resnet20", 2), ("digits", "pgd-at", 2)]
)
def test_parts_of_committed_runs_are_not_kinder(name, checkpoint, parts):
    run = load_run(REPORTS / name)
    planned = [record for record in run.manifest.cases if record.case.subject.checkpoint == checkpoint]
    attacks = sorted({record.case.attack for record in planned} - {*CONTROLS})
    outcomes = run.outcomes[run.outcomes.checkpoint == checkpoint]
    everything = verdicts_of(run, planned, outcomes)
    generator = np.random.default_rng(0)
    for _ in range(parts):
        lost = {
            (subject, attack)
            for subject in {record.case.subject for record in planned}
            for attack in attacks
            if generator.random() < 0.4
        }
        part = [r for r in planned if (r.case.subject, r.case.attack) not in lost]
        for key, found in verdicts_of(run, part, outcomes).items():
            now = everything[key]
            assert not negative(found.name) or negative(now.name) or now.rule in BY_FIGURES, (key, lost)
