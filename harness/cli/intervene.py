"""``--intervene``: the option, and in which steps what it asked for applied."""

from __future__ import annotations

from collections.abc import Sequence

import click

from harness.intervention.intervention import Intervention
from harness.rollout import Episode, EpisodeResult, Step

__all__ = ["INTERVENE", "Applications", "applied_in", "in_short"]

INTERVENE = click.option(
    "--intervene", multiple=True, metavar="WHAT",
    help='Change one thing: a NAME from the scenario\'s interventions, NAME@STEP, NAME@FIRST-LAST, a mapping such as '
         '"{kind: KeyBlock, keys: [attack]}", or a YAML file with one or a list of them. May be repeated; the order '
         "counts.")

def in_short(intervention: Intervention) -> str:
    """Name, kind and schedule in a few words: ``no-leaves (RemoveBlocks, at every step)``."""
    kind, when = type(intervention).__name__, str(intervention.schedule)
    return f"{intervention.name} ({kind}, {when})" if intervention.name else f"{kind} ({when})"


def applied_in(count: int, n_steps: int) -> str:
    """In how many steps an intervention applied, in words."""
    return f"applied in {count} of {n_steps} steps" if count else "never applied"


class Applications:
    """An observer that counts the steps in which each intervention applied.

    Attributes:
        n_steps: Steps played so far, in all episodes.
        counts: One for each intervention, in the order of the list.
    """

    def __init__(self, interventions: Sequence[Intervention]) -> None:
        self.n_steps, self.counts = 0, [0] * len(interventions)

    def begin(self, episode: Episode) -> None:
        """Nothing: episodes add up."""

    def on_step(self, step: Step) -> None:
        """Count."""
        self.n_steps += 1
        for index in {applied.index for applied in step.applied}:
            self.counts[index] += 1

    def end(self, result: EpisodeResult) -> None:
        """Nothing."""
