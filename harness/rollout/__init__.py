"""Where world and agent meet: one episode at a time, or many that share a forward pass."""

from __future__ import annotations

from harness.rollout.episode import (
    Episode,
    EpisodeResult,
    Observer,
    Snapshot,
    Step,
    run_episode,
    spawn_streams,
    take_up_agent,
)
from harness.rollout.together import Play, can_share, play_many

__all__ = [
    "Episode", "EpisodeResult", "Observer", "Play", "Snapshot", "Step", "can_share", "play_many", "run_episode",
    "spawn_streams", "take_up_agent",
]
