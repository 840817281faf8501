"""STEVE-1 for those who work with tensors; ``harness.agent.steve.agent`` makes an agent of it."""

from __future__ import annotations

from harness.agent.steve.policy import SteveOutput, StevePolicy
from harness.agent.steve.prior import Prior
from harness.agent.steve.rows import ROWS

__all__ = ["ROWS", "Prior", "SteveOutput", "StevePolicy"]
