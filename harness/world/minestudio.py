"""MineStudio's simulator (Minecraft 1.16.5) as a world. The engine is imported when a world is made, and only here."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
from pathlib import Path

from harness.errors import WorldError
from harness.world.minerl_wire import GAME, UNKNOWN, Client, WireWorld, name_of_numpy_1
from harness.world.world import Capabilities

__all__ = ["MineStudioWorld"]

_JAR = "engine/build/libs/mcprec-6.13.jar"


class MineStudioWorld(WireWorld):
    """A world in MineStudio's Minecraft. Arguments and errors as for ``WireWorld``.

    Its client has no drop, ESC and swapHands: they do nothing, and ``ignored`` counts them.
    """

    capabilities = Capabilities("minestudio", commands=True, game=GAME, raycast=False, unknown=UNKNOWN,
                                missing_keys=("ESC", "drop", "swapHands"))

    def _load(self) -> Client:
        name_of_numpy_1()
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # gym's call to leave it, at every import
                from minestudio.simulator.minerl.env.malmo import InstanceManager
                from minestudio.simulator.minerl.herobraine.env_specs.human_survival_specs import HumanSurvival
                from minestudio.simulator.minerl.herobraine.hero import handlers, spaces
                from minestudio.simulator.minerl.herobraine.hero.handlers.translation import TranslationHandler
        except ImportError as problem:
            missing = "MineStudio is not installed" if (problem.name or "").startswith("minestudio") else (
                f"MineStudio cannot be imported: {problem}")
            raise WorldError(missing, hint="pip install minestudio; docs/minecraft.md says what else") from problem
        engine = Path(InstanceManager.MINECRAFT_DIR).parent
        if not (engine / _JAR).is_file():
            raise WorldError("MineStudio's engine is not there", where=str(engine / _JAR),
                             hint="python -m minestudio.simulator.entry -y fetches it; MINESTUDIO_DIR says where to")
        return Client(HumanSurvival, handlers, TranslationHandler, spaces, InstanceManager)

    def _check_machine(self) -> None:
        """Its client starts the game by xvfb-run, or by VirtualGL, and waits in vain where there is none."""
        super()._check_machine()
        on_gpu = os.environ.get("MINESTUDIO_GPU_RENDER") == "1"
        runner, install = ("vglrun", "VirtualGL") if on_gpu else ("xvfb-run", "apt install xvfb")
        if sys.platform == "linux" and shutil.which(runner) is None:
            raise WorldError(f"MineStudio starts the game with {runner}, which is not on PATH", hint=install)
