"""A duet's value: the halves of the cores cancel, bursts hardly move it, and what ran apart is not a pair."""

import math

import msgspec
import numpy as np
import pytest

from bench.records.run import Sample
from bench.stats.duets import RunPair, value_of, values_by_block
from bench.stats.ratios import block_values, counted, speed_ratio
from bench.views.tables.disturbed import disturbances

from ..made_up import CPU, results

SLOWER_HALF = 1.3


def samples(
    rounds: int = 4, slower: float = 1.05, attempt: int = 0, block: int = 0, **planted: str
) -> list[Sample]:
    """A duet of a and b, whose steps take 1 and `slower` seconds, on two halves one of which is slower.

    planted: by `round_visit`, as r0_1, why a pair is disturbed; its first run then takes eight times as long.
    """
    found = []
    for number in range(rounds):
        for visit in (0, 1):
            why = planted.get(f"r{number}_{visit}")
            for side, (name, seconds) in enumerate({"a": 1.0, "b": slower}.items()):
                half = (side + visit + number) % 2
                long = 8.0 if why and name == "a" else 1.0
                found.append(
                    Sample(
                        case_id=name,
                        block=block,
                        group=0,
                        round=number,
                        visit=visit,
                        position=2 * visit + half,
                        steps=2,
                        seconds=2 * seconds * long * (SLOWER_HALF if half else 1.0),
                        processors=[half],
                        attempt=attempt,
                        disturbed_by=why,
                    )
                )
    return found


def test_the_halves_cancel():
    (value,) = block_values(samples(), "b", "a")
    assert value == pytest.approx(math.log(1.05))
    assert block_values(samples(), "a", "b") == [pytest.approx(-value)]
    assert block_values(samples(), "a", "a") == [0.0]


def test_disturbed_pairs_count_where_there_are_no_others_and_only_there():
    planted = samples(r0_0="stopped", r2_1="stopped")
    assert block_values(planted, "b", "a") == [pytest.approx(math.log(1.05))]
    everywhere = samples(1, r0_0="stopped", r0_1="stopped")
    assert block_values(everywhere, "a", "b") == [pytest.approx(math.log(8 / 1.05))]


def test_few_quiet_pairs_are_no_better_than_all():
    """One left on each half: as in turns, a median of so few would be any one pair's."""
    why = {f"r{number}_{visit}": "stopped" for number in range(4) for visit in (0, 1)}
    few = samples(**{place: words for place, words in why.items() if place not in ("r0_0", "r0_1")})
    assert block_values(few, "a", "b") == block_values(samples(**why), "a", "b") != []


def test_too_few_quiet_pairs_on_one_half_make_all_runs_count():
    """And `counted`, which the notes go by, says so."""
    planted = samples(r0_1="stopped", r1_0="stopped", r2_1="stopped", r3_0="stopped")
    own = [sample for sample in planted if sample.case_id == "a"]
    assert len({sample.position % 2 for sample in own if sample.disturbed_by is None}) == 1
    assert counted(own) == own
    assert "undisturbed on one half of the cores, so that all of them count there" in notes_of(planted)
    assert "count there" in notes_of(samples(r0_1="stopped", r1_0="stopped")), "two of four are left there"
    assert "count there" not in notes_of(samples(r0_0="stopped", r0_1="stopped")), "three on either half"


def notes_of(duet: list[Sample]) -> str:
    """Notes of a table on runs of a duet."""
    run = results(["transformer", "seqboat"], environment=msgspec.structs.replace(CPU, pairing="duet"))
    names = dict(zip("ab", run.solos, strict=True))
    samples = [msgspec.structs.replace(sample, case_id=names[sample.case_id]) for sample in duet]
    return " ".join(disturbances(msgspec.structs.replace(run, samples=samples), lambda case: case.id))


def test_a_burst_that_nothing_tells_of_hardly_moves_the_median():
    quiet = [RunPair(half, 0.05 + (0.2 if half else -0.2), False) for half in (True, False) for _ in range(5)]
    burst = [*quiet[:-1], quiet[-1]._replace(log_ratio=2.0)]
    assert value_of(burst) == pytest.approx(value_of(quiet)) == pytest.approx(0.05)


def pairs_of(each: int, here: float = 0.2) -> list[RunPair]:
    """So many pairs with the baseline on either half of the cores, the first of which is slower."""
    return [
        RunPair(half, 0.05 + (here if half else -here), False) for half in (True, False) for _ in range(each)
    ]


@pytest.mark.parametrize(("each", "survives"), [(2, False), (3, True), (4, True)])
def test_three_pairs_on_each_half_outvote_a_burst_and_two_do_not(each, survives):
    """Which is why a duet has three rounds if there is time."""
    *quiet, last = pairs_of(each)
    assert (value_of([*quiet, last._replace(log_ratio=2.0)]) == pytest.approx(0.05)) is survives


def test_each_half_needs_quiet_pairs_of_its_own():
    """Four quiet ones here do not make up for a single one there, in which there was a burst."""
    pairs = pairs_of(4)
    there = [pairs[4]._replace(log_ratio=2.0), *(pair._replace(disturbed=True) for pair in pairs[5:])]
    assert value_of([*pairs[:4], *there]) == pytest.approx(0.05)


def test_repeats_of_one_pair_do_not_outvote_the_others():
    """Where too few are quiet, each place counts once, by its last attempt."""
    why = {f"r{number}_{visit}": "stopped" for number in range(3) for visit in (0, 1)}
    everything = samples(3, **why)
    calm = [
        msgspec.structs.replace(one, seconds=one.seconds / 8 if one.case_id == "a" else one.seconds)
        for one in everything
    ]
    tried = [s for s in everything if (s.round, s.visit) == (2, 1)]
    again = [msgspec.structs.replace(s, attempt=attempt) for attempt in (1, 2) for s in tried]
    first = [s for s in calm if (s.round, s.visit) != (2, 1)]
    assert block_values([*first, *tried, *again], "b", "a") == [pytest.approx(math.log(1.05))]


def test_a_repeated_pair_stands_beside_its_first_try():
    tried = [s for s in samples(1, r0_1="late") if s.visit == 1]
    again = [s for s in samples(1, attempt=1) if s.visit == 1]
    first = [s for s in samples(1) if s.visit == 0]
    assert block_values([*first, *tried, *again], "b", "a") == [pytest.approx(math.log(1.05))]


def test_an_unfinished_round_does_not_count():
    assert values_by_block(samples(1)[:-1], "a", "b") == {}
    assert values_by_block(samples(2)[:-1], "b", "a") == {0: pytest.approx(math.log(1.05))}
    assert speed_ratio(samples(1)[:-2], "a", "b") is None


def test_noise_that_both_have_is_not_in_the_ratio():
    random = np.random.default_rng(0)
    pairs = [RunPair(bool(n % 2), 0.05 + random.normal(0, 0.001), False) for n in range(40)]
    assert value_of(pairs) == pytest.approx(0.05, abs=5e-4)
