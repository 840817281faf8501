"""An overlay video: every step of a recording as one composed picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from harness.analysis.attention import AttentionMaps
from harness.analysis.result import Result
from harness.errors import HarnessError, VideoError
from harness.overlay.compose import Scene, compose_frame, top_weight
from harness.overlay.layers import Picture, Shade
from harness.recording.recording import Recording
from harness.recording.video import write_share_video

__all__ = ["overlay_frames", "render_video"]

_KEPT = 160


def render_video(recording: Recording, maps: Sequence[Result], path: str | Path, *,
                 on_frame: Callable[[int], None] | None = None) -> int:
    """Draw a recording with its analyses as a video.

    Args:
        recording: The pictures and the step table.
        maps: What to draw beside them; so far one result of ``attention_maps``.
        path: ``.mp4`` (H.264) or ``.webm`` (VP9).
        on_frame: Called with the number of frames done.

    Returns:
        How many frames were written, one per step.

    Raises:
        HarnessError: for results that cannot be drawn, or do not belong to the recording.
        VideoError: for an empty recording, another suffix, or a file that cannot be written.
    """
    if len(recording) == 0:
        raise VideoError("the recording has no frames to draw", where=str(recording.path))
    return write_share_video(overlay_frames(recording, maps, on_frame=on_frame), Path(path), recording.fps)


def overlay_frames(recording: Recording, maps: Sequence[Result], *,
                   on_frame: Callable[[int], None] | None = None) -> Iterator[Picture]:
    """The composed pictures, uint8 [720, 1280, 3], one per step.

    Raises:
        HarnessError: for results that cannot be drawn, or do not belong to the recording.
    """
    attention = _the_attention(recording, maps)
    shade = Shade(1.0 if attention is None else top_weight(attention.weights))
    agent = recording.agent_description
    seen: dict[int, Picture] = {}
    for step, pov in enumerate(recording.agent_pov):
        seen[step] = pov
        seen.pop(step - _KEPT, None)
        row = recording.steps[step]
        here = attention if attention is not None and step < len(attention) else None
        past = [] if here is None else [(age, weight, seen[step - age]) for age, weight in here.most_attended(step)
                                        if step - age in seen]
        yield compose_frame(Scene(
            title=str(recording.header["scenario"].get("name", recording.path.name)), agent=agent,
            warning="random weights" in agent, step=step, n_steps=len(recording), pov=pov,
            action=row.get("executed") or row.get("chosen"), played=row.get("executed") is not None, attention=here,
            thumbnails=past, shade=shade, first_step=recording.first_step))
        if on_frame is not None:
            on_frame(step + 1)


def _the_attention(recording: Recording, maps: Sequence[Result]) -> AttentionMaps | None:
    for result in maps:
        if not isinstance(result, AttentionMaps):
            raise HarnessError(f"a {type(result).__name__} cannot be drawn yet", hint="give results of attention_maps")
        if result.provenance.get("recording") != recording.path.name:
            raise HarnessError(f"the maps are of the recording {result.provenance.get('recording')}, not of "
                               f"{recording.path.name}")
    if len(maps) > 1:
        raise HarnessError(f"one attention map can be drawn at a time, got {len(maps)}",
                           hint="attention_maps(recording) holds all layers at once")
    return next((result for result in maps if isinstance(result, AttentionMaps)), None)
