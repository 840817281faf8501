"""Interventions on what the agent sees."""

from __future__ import annotations

from harness.intervention.input.pixels import PixelMask

__all__ = ["PixelMask"]
