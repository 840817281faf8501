"""An overlay video: every step of a recording as one composed picture; several recordings side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from harness.analysis.attention import AttentionMaps
from harness.analysis.result import Result
from harness.errors import HarnessError, VideoError, unknown_name
from harness.overlay.compose import THUMB, Layout, Scene, compose_frame, top_weight
from harness.overlay.layers import PAPER, Picture, Shade
from harness.overlay.panels import Outline, Timeline, choices_at, outlines_of
from harness.overlay.stills import write_gif, write_sheet
from harness.recording.recording import Recording
from harness.recording.video import write_share_video
from harness.replay.replay import recorded_moments
from harness.world.observation import WorldState

__all__ = ["LAYERS", "overlay_frames", "render_video"]

LAYERS = ("actions", "timeline", "segmentation")
"""What can be drawn of a recording alone, without a result."""
_KEPT = 160
_NOTED = 10
_SHEET = 12
_AHEAD = 4


def render_video(recording: Recording, maps: Sequence[Result], path: str | Path, *, layers: Sequence[str] = (),
                 beside: Sequence[tuple[Recording, Sequence[Result]]] = (),
                 on_frame: Callable[[int], None] | None = None) -> int:
    """Draw a recording with its analyses.

    Args:
        recording: The pictures and the step table.
        maps: Results of analyses: attention maps, and any that has ``heat(step)`` (a map float32 [360, 640] to lay over
            the picture, or None) or ``keyframes`` (steps).
        path: ``.mp4`` (H.264), ``.webm`` (VP9), ``.gif`` (half size, every other step), or ``.png``: a sheet of twelve
            steps spread over the recording.
        layers: Of ``LAYERS``: ``actions`` (the likeliest keys and turns, value, entropy), ``timeline`` (the episode,
            with events and interventions), ``segmentation`` (lines around objects; the world plays again for it).
        beside: Further recordings with their results, drawn to the right in lock-step.
        on_frame: Called with the number of frames done.

    Returns:
        How many steps were drawn.

    Raises:
        HarnessError: for results that cannot be drawn, or do not belong to the recording; an unknown layer.
        VideoError: for an empty recording, another suffix, or a file that cannot be written.
    """
    columns = [_Column(each, results, layers, narrow=bool(beside))
               for each, results in ((recording, maps), *beside)]
    steps = _lock_step(columns)
    out = Path(path)
    if out.suffix.lower() == ".png":
        chosen = sorted({steps[i] for i in np.linspace(0, len(steps) - 1, min(_SHEET, len(steps))).astype(int)})
        pictures = [frame for step, frame in zip(steps, _frames(columns, steps, on_frame), strict=True)
                    if step in chosen]
        write_sheet(pictures, out)
        return len(pictures)
    write = write_gif if out.suffix.lower() == ".gif" else write_share_video
    drawn = _drawn_ahead(_frames(columns, steps, on_frame))
    try:
        return write(drawn, out, recording.fps)
    finally:
        drawn.close()


def overlay_frames(recording: Recording, maps: Sequence[Result], *, layers: Sequence[str] = (),
                   on_frame: Callable[[int], None] | None = None) -> Iterator[Picture]:
    """The composed pictures of one recording, uint8 [H, W, 3], one per step.

    Raises:
        HarnessError: as for ``render_video``.
    """
    column = _Column(recording, maps, layers, narrow=False)
    return _frames([column], _lock_step([column]), on_frame)


def _lock_step(columns: Sequence[_Column]) -> range:
    """The absolute steps to draw: from where all have begun to where the last ends."""
    recordings = [each.recording for each in columns]
    first = max(each.first_step for each in recordings)
    last = max(each.first_step + len(each) for each in recordings)
    for each in recordings:
        if each.first_step + len(each) <= first:
            raise VideoError(f"the recordings share no step: this one ends before step {first}", where=str(each.path))
    return range(first, last)


def _frames(columns: Sequence[_Column], steps: range, on_frame: Callable[[int], None] | None) -> Iterator[Picture]:
    height = max(each.layout.height for each in columns)
    drawn = [each.pictures(steps, height) for each in columns]
    for done, pieces in enumerate(zip(*drawn, strict=True), start=1):
        yield pieces[0] if len(pieces) == 1 else np.hstack(pieces)
        if on_frame is not None:
            on_frame(done)


def _drawn_ahead(pictures: Iterator[Picture]) -> Generator[Picture, None, None]:
    """The same pictures, drawn on a second core while the first encodes those before."""
    with ThreadPoolExecutor(1) as pool:
        waiting = deque(pool.submit(next, pictures, None) for _ in range(_AHEAD))
        while (picture := waiting.popleft().result()) is not None:
            waiting.append(pool.submit(next, pictures, None))
            yield picture


class _Column:
    """One recording as it is drawn."""

    def __init__(self, recording: Recording, results: Sequence[Result], layers: Sequence[str], *, narrow: bool) -> None:
        if len(recording) == 0:
            raise VideoError("the recording has no frames to draw", where=str(recording.path))
        for name in layers:
            if name not in LAYERS:
                raise unknown_name("layer", name, LAYERS)
        self.recording = recording
        self._attention, self._heats, self._keys = _sorted(recording, results)
        # Without any layer the place of the attention stays, and says that there is none.
        named = {*layers, *(("attention",) if self._attention or not (layers or results) else ()),
                 *(("keyframes",) if self._keys is not None else ())}
        self.layout = Layout(named, narrow=narrow)
        self._layers = frozenset(layers)
        self._shade = Shade(1.0 if self._attention is None else top_weight(self._attention.weights))
        self._timeline = Timeline(recording, self.layout.width - 48) if "timeline" in layers else None
        self._events = _in_words(recording)
        self._thumbs: dict[int, Picture] = {}

    def pictures(self, steps: range, height: int) -> Iterator[Picture]:
        """One for each absolute step; the last one, darker, after the recording's end."""
        drawn: Picture | None = None
        scenes = self._scenes()
        for scene in scenes:
            if self.recording.first_step + scene.step >= steps.start:
                drawn = self._filled(compose_frame(scene, self.layout), height)
                yield drawn
        assert drawn is not None
        dark = np.asarray(drawn // 2, np.uint8)
        for _ in range(steps.stop - self.recording.first_step - len(self.recording)):
            yield dark

    def _filled(self, picture: Picture, height: int) -> Picture:
        if picture.shape[0] == height:
            return picture
        full = np.full((height, picture.shape[1], 3), PAPER, np.uint8)
        full[:picture.shape[0]] = picture
        return full

    def _scenes(self) -> Iterator[Scene]:
        recording, agent = self.recording, self.recording.agent_description
        title = str(recording.header["scenario"].get("name", recording.path.name))
        if self.layout.narrow and recording.interventions:
            title = f"{title}, {', '.join(recording.interventions)}"
        worlds = recorded_moments(recording) if "segmentation" in self._layers else None
        for number, pov in enumerate(recording.agent_pov):
            row = recording.steps[number]
            self._remember(number, pov)
            outlines = [] if worlds is None else _outlines(next(worlds).world_state(segmentation=True))
            attention = self._attention if self._attention and number < len(self._attention) else None
            yield Scene(
                title=title, agent=agent, warning="random weights" in agent, step=number, n_steps=len(recording),
                pov=pov, action=row.get("executed") or row.get("chosen"), played=row.get("executed") is not None,
                attention=attention, thumbnails=self._past(number, attention), shade=self._shade,
                first_step=recording.first_step, outlines=outlines, heat=self._heat(number),
                thumbnails_are="most attended past frames" if self._keys is None else "last key-frames",
                choices=choices_at(recording, number) if "actions" in self._layers else None,
                timeline=self._timeline, note=self._events.get(number, ""))

    def _remember(self, number: int, pov: Picture) -> None:
        small = cv2.resize(pov, THUMB, interpolation=cv2.INTER_AREA)
        self._thumbs[number] = np.asarray(small, np.uint8)
        if self._keys is None or number - _KEPT not in self._keys:
            self._thumbs.pop(number - _KEPT, None)

    def _past(self, number: int, attention: AttentionMaps | None) -> list[tuple[int, float, Picture]]:
        if self._keys is not None:
            past = sorted((key for key in self._keys if key < number), reverse=True)[:3]
            return [(number - key, self._keys[key], self._thumbs[key]) for key in past if key in self._thumbs]
        if attention is None:
            return []
        return [(age, weight, self._thumbs[number - age]) for age, weight in attention.most_attended(number)
                if number - age in self._thumbs]

    def _heat(self, number: int) -> Any:
        for result in self._heats:
            found = result.heat(self.recording.first_step + number)
            if found is not None:
                return found
        return None


def _sorted(recording: Recording, results: Sequence[Result]
            ) -> tuple[AttentionMaps | None, list[Any], Mapping[int, float] | None]:
    """The results by what is drawn of them."""
    attention: AttentionMaps | None = None
    heats: list[Any] = []
    keys: Mapping[int, float] | None = None
    for result in results:
        made = result.provenance.get("recording")
        if made != recording.path.name:
            raise HarnessError(f"the maps are of the recording {made}, not of {recording.path.name}")
        if isinstance(result, AttentionMaps):
            if attention is not None:
                raise HarnessError("one attention map can be drawn at a time, got more",
                                   hint="attention_maps(recording) holds all layers at once")
            attention = result
        elif hasattr(result, "heat"):
            heats.append(result)
        elif hasattr(result, "keyframes"):
            keys = {int(step) - recording.first_step: float(score) for step, score in dict(result.keyframes).items()}
        else:
            raise HarnessError(f"a {type(result).__name__} cannot be drawn",
                               hint="give results of attention, saliency or keyframes")
    return attention, heats, keys


def _outlines(state: WorldState) -> list[Outline]:
    assert state.segmentation is not None
    return outlines_of(state.segmentation, state.names, {entity.id: entity.tag for entity in state.entities})


def _in_words(recording: Recording) -> dict[int, str]:
    """What happens, by row; it stays for half a second, so that it can be read. The world's events win."""
    words: dict[int, str] = {}
    for event in sorted(recording.events, key=lambda event: event.get("type") != "intervention"):
        number = int(event["step"]) - recording.first_step
        if event.get("type") == "intervention":
            what = str(event.get("name") or event.get("kind"))
        else:
            what = " ".join(str(event[key]) for key in ("type", "entity", "block", "item") if event.get(key))
        words |= dict.fromkeys(range(number, number + _NOTED), what.replace("_", " "))
    return words
