"""The VPT policy, for those who work with tensors; ``harness.agent.vpt.agent`` makes an agent of it."""

from __future__ import annotations

from harness.agent.vpt.config import SIZES, VPTConfig, size_config
from harness.agent.vpt.policy import VPTOutput, VPTPolicy
from harness.agent.vpt.state import VPTState

__all__ = ["SIZES", "VPTConfig", "VPTOutput", "VPTPolicy", "VPTState", "size_config"]
