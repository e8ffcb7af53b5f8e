"""A run's choice of what to measure from some block on, and the reason."""

from typing import Annotated

import msgspec

from bench.suites.suite import Positive

Amount = Annotated[float, msgspec.Meta(ge=0)]
Number = Annotated[int, msgspec.Meta(ge=0)]


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """Plan of one case."""

    visits: Positive
    """In each round."""
    steps: Positive
    """In each visit."""
    processes: Amount
    """Standard deviation of the log of its step time between processes, beyond what visits explain."""
    between_visits: Amount
    """The same between visits of one process, beyond what steps explain."""
    within_visits: Amount
    """The same between steps of one visit; 0 if they were not timed one by one."""
    visit_seconds: Amount


class Plan(msgspec.Struct, frozen=True, kw_only=True, tag="plan", tag_field="type"):
    """From the noise and the costs that were measured until then; the last one of a cell stands."""

    machine: str
    """Whose blocks are planned, in words."""
    block: Number
    """The first that is carried out so."""
    blocks: Positive
    """With those that are done, and that there is time for."""
    rounds: Positive
    """In each block that is to come."""
    start_seconds: Amount
    """Seconds of a block beside its visits: processes, models, warm-up."""
    half_width: Amount | None
    """Expected half-width of the widest interval, on the log scale; None for no interval."""
    cases: dict[str, Planned]

    @property
    def design(self) -> tuple[object, ...]:
        """The plan without the figures behind it, which change with every block."""
        cases = {name: (case.visits, case.steps) for name, case in self.cases.items()}
        return (self.blocks, self.rounds, cases)


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """Gain of more time for the cell that needs it most."""

    lacking: Number
    """Blocks, of those that the suite wants at least."""
    block_seconds: Amount
    """Seconds of one block more."""
    half_width: Amount | None
    """Half-width of the widest interval, on the log scale; None if there is none."""
    narrowed: Amount | None
    """The same after one block more, as estimated; None before the noise is known."""

    @property
    def gain(self) -> float:
        """Share by which one block more would narrow the widest interval."""
        return 1 - self.narrowed / self.half_width if self.narrowed and self.half_width else 0.0

    @property
    def need(self) -> tuple[int, float]:
        """Sort key: the cell that needs more time is the larger."""
        return (self.lacking, self.half_width or 0.0)
