"""Interventions on what the agent does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from harness.errors import HarnessError, InterventionError
from harness.intervention.intervention import Intervention, Moment, Site
from harness.world.action import Action, check_action

__all__ = ["ActionOverride"]


@dataclass(frozen=True)
class ActionOverride(Intervention):
    """Hold some keys at fixed values, whatever the agent chooses.

    Attributes:
        keys: Key to value, such as ``{"attack": 0}`` or ``{"camera": [0.0, 0.0]}``. Other keys pass through.

    Raises:
        InterventionError: for no keys, an unknown key, or a value that does not fit it.
    """

    keys: Mapping[str, Any]
    site: ClassVar[Site] = "action"

    def __post_init__(self) -> None:
        if not isinstance(self.keys, Mapping) or not self.keys:
            raise InterventionError(f"ActionOverride: expected keys as a mapping such as {{attack: 0}}, "
                                    f"got {self.keys!r}")
        try:
            full = check_action(self.keys)
        except HarnessError as problem:
            raise InterventionError(f"ActionOverride: {problem.message}", hint=problem.hint) from problem
        # Plain numbers, so that a header can hold them and two equal overrides compare equal.
        plain = {k: [float(x) for x in full[k]] if k == "camera" else full[k] for k in self.keys}
        object.__setattr__(self, "keys", plain)

    def change_action(self, action: Action, moment: Moment) -> Action:
        """The action with the keys held; a copy."""
        changed = {**action, **self.keys}
        changed["camera"] = np.array(changed["camera"], dtype=np.float32)
        return changed
