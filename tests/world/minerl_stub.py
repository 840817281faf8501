"""MineRL 1.0's module names in front of MineStudio's fork of it: MineRL itself is not on PyPI.

The protocol is the same. What MineRL has and the fork has not are the keys ESC, drop and swapHands; ``chat`` is there
as in the fork with commands, unless the environment variable ``STANDIN_STOCK`` is set.
"""

from __future__ import annotations

from pathlib import Path

_FORK = "minestudio.simulator.minerl"
_FILES = {
    "__init__.py": "", "env/__init__.py": "", "herobraine/__init__.py": "", "herobraine/env_specs/__init__.py": "",
    "env/malmo.py": f"from {_FORK}.env.malmo import InstanceManager\n",
    "herobraine/hero/__init__.py": f"from {_FORK}.herobraine.hero import handlers, spaces\n",
    "herobraine/hero/handlers/__init__.py": f"from {_FORK}.herobraine.hero.handlers import *\n",
    "herobraine/hero/handlers/translation.py":
        f"from {_FORK}.herobraine.hero.handlers.translation import TranslationHandler\n",
    "herobraine/env_specs/human_survival_specs.py": f"""
import os
from {_FORK}.herobraine.env_specs import human_survival_specs as fork
from {_FORK}.herobraine.hero import handlers as H

class HumanSurvival(fork.HumanSurvival):
    def create_actionables(self):
        without = ("voxels", "mobs", *(["chat"] if "STANDIN_STOCK" in os.environ else []))
        kept = [action for action in super().create_actionables() if action.to_string() not in without]
        return kept + [H.KeybasedCommandAction(name, name) for name in ("ESC", "drop", "swapHands")]
""",
}


def write(folder: Path) -> Path:
    """Write the package ``minerl`` into a folder to import from."""
    for name, text in _FILES.items():
        path = folder / "minerl" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder
