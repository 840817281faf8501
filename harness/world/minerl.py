"""MineRL 1.0 (Minecraft 1.16.5) as a world. The engine is imported when a world is made, and only here.

With a fork whose action has ``chat``, the world is built by commands. MineRL's own release takes none: there the
scenario goes into a saved world, as a datapack, and the game builds it while it loads.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from harness.errors import WorldError
from harness.scenario.schema import Scenario
from harness.scenario.setup import WorldSetup
from harness.world.display import require_display
from harness.world.minerl_wire import GAME, UNKNOWN, Client, WireWorld, name_of_numpy_1
from harness.world.saved_world import write_saved_world
from harness.world.world import Capabilities

__all__ = ["MineRLWorld"]

_INSTALL = "docs/minecraft.md says how to install MineRL 1.0; PyPI's minerl is 0.4.4, another game (Minecraft 1.11)"


class MineRLWorld(WireWorld):
    """A world in MineRL's Minecraft.

    Args:
        scenario: What to build, how long to play, what to measure.
        saved_world: Build the scenario by a saved world with a datapack, as MineRL's own release needs it, which takes
            no commands. Nobody has tried it in the game.
        render_mode: "rgb_array".
        keywords: As for ``GameWorld``.

    Raises:
        WorldError: when MineRL 1.0 is not installed, or takes no commands and ``saved_world`` is not asked for.
    """

    capabilities = Capabilities("minerl", commands=True, game=GAME, raycast=False, unknown=UNKNOWN)

    def __init__(self, scenario: Scenario, *, saved_world: bool = False, render_mode: str | None = "rgb_array",
                 **keywords: Any) -> None:
        super().__init__(scenario, render_mode=render_mode, **keywords)
        if not self.capabilities.commands and not saved_world:
            raise WorldError("this MineRL takes no commands, so it cannot build a scenario: its action has no chat",
                             hint="install the fork with chat (docs/minecraft.md), or ask for saved_world=True")
        self._folder = Path(tempfile.mkdtemp(prefix="harness-saved-world-")) if saved_world else None
        if saved_world:
            self.capabilities = replace(self.capabilities, commands=False)

    def _load(self) -> Client:
        with contextlib.suppress(metadata.PackageNotFoundError):
            if metadata.version("minerl").startswith("0."):
                raise WorldError(f"minerl {metadata.version('minerl')} is not MineRL 1.0", hint=_INSTALL)
        name_of_numpy_1()
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # gym's call to leave it, at every import
                from minerl.env.malmo import InstanceManager
                from minerl.herobraine.env_specs.human_survival_specs import HumanSurvival
                from minerl.herobraine.hero import handlers, spaces
                from minerl.herobraine.hero.handlers.translation import TranslationHandler
        except ImportError as problem:
            missing = "MineRL is not installed" if (problem.name or "").startswith("minerl") else (
                f"MineRL cannot be imported: {problem}")
            raise WorldError(missing, hint=_INSTALL) from problem
        return Client(HumanSurvival, handlers, TranslationHandler, spaces, InstanceManager)

    def _check_machine(self) -> None:
        super()._check_machine()
        require_display("minerl")

    def _prepare(self, setup: WorldSetup) -> None:
        if self._folder is not None:
            # The game reads it when a world is made; the specification makes its mission anew then.
            self._spec.load_filename = str(write_saved_world(setup, self._folder / "world.zip"))

    def close(self) -> None:
        """End the game and all its processes; closing twice is fine."""
        super().close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
