"""A person's play as a recording: a video and its action file become what an agent's episode would have left.

The pictures are those of the video, with the mouse pointer painted where a screen was open (the game draws it beside
the picture, so the video lacks it). The actions went through the agents' mapping.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import RecordingError
from harness.recording.contractor import DEGREES_PER_PIXEL, GUI_SCALES, HumanAgent, HumanInput, read_action_file
from harness.recording.recorder import Recorder
from harness.registry import load_object
from harness.rollout import Observer, Step, run_episode
from harness.scenario.schema import Scenario
from harness.world.observation import POV_SHAPE
from harness.world.world import World, make_world

__all__ = ["SLACK", "ImportedPlay", "import_human_play", "video_scenario"]

FORMAT = "openai-contractor"
SLACK = 3
"""By how many the rows of an action file may miss the pictures of its video. Five minutes of the published recordings
hold 6,000 rows and 6,001 pictures."""
_GAME_HEIGHT = 720
"""Of the window in which the recorded people played, in pixels: the unit of the pointer."""


def video_scenario(path: Path, max_steps: int) -> Scenario:
    """A scenario that names an episode after a video or a recording, and bounds its length."""
    stem = path.absolute().name if path.is_dir() else path.stem
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", stem).lstrip("_.-")[:64] or "video"
    return Scenario.model_validate({"name": name, "description": f"the pictures of {path.name}",
                                    "episode": {"max_steps": max_steps, "settle_steps": 0}})



@dataclass(frozen=True)
class ImportedPlay:
    """What an import made.

    Attributes:
        path: The recording's folder.
        n_steps: Its steps.
        n_rows: Rows of the action file.
        n_pictures: Pictures of the video.
        n_null: Rows among those paired that do nothing.
        notes: As in the recording's header, ``world.source``.
        notice: What was done to the pictures' size, None when nothing was.
    """

    path: Path
    n_steps: int
    n_rows: int
    n_pictures: int
    n_null: int
    notes: Mapping[str, Any]
    notice: str | None


def import_human_play(video: str | Path, actions: str | Path, out: str | Path, *, keep_null: bool = True,
                      pointer: bool = True, slack: int = SLACK, recorder_version: str | None = None,
                      observers: Sequence[Observer] = ()) -> ImportedPlay:
    """Turn a video and its action file into a recording.

    Everything is checked before the first byte is written; when a picture turns out damaged later, the folder is
    taken back.

    Args:
        video: OpenAI's ``.mp4``, or any video; other sizes than 640 x 360 are resized.
        actions: Its ``.jsonl``.
        out: The folder that the recording's folder goes into.
        keep_null: False leaves out the steps that do nothing, as for training; then what was one tick apart no longer
            is, and an agent's memory fills as it never would in play.
        pointer: Paint the mouse pointer while a screen is open.
        slack: By how many the numbers of rows and pictures may differ; what has no partner is left out.
        recorder_version: Such as "6.9"; None takes the name of the action file's folder where it looks like one.
        observers: Of the loop, such as one that shows progress.

    Raises:
        RecordingError: for an action file that is none, or does not fit the video.
        VideoError: for a video that cannot be read.
    """
    video, actions = Path(video), Path(actions)
    if video.suffix == ".jsonl" and actions.suffix != ".jsonl":
        raise RecordingError(f"{video.name} is an action file, and stands in the video's place",
                             hint="the video comes first, then its action file")
    version = recorder_version or _version_of(actions)
    read = read_action_file(actions, gui_scale=GUI_SCALES.get(version or "", 1.0))
    n_pictures = load_object("harness.world.video:count_pictures")(video)  # av and cv2 come late
    paired = _paired(read.inputs, n_pictures, slack, where=f"{actions} and {video}")
    n_null = sum(human.null for human in paired)
    chosen = paired if keep_null else [human for human in paired if not human.null]
    if not chosen:
        raise RecordingError(f"all {len(paired)} rows do nothing, so nothing is left to import", where=str(actions),
                             hint="keep the null actions")
    notes = {
        "format": FORMAT, "recorder_version": version,
        "actions": {"file": actions.name, "sha256": read.sha256, "rows": len(read.inputs)},
        "pictures": n_pictures, "paired": len(paired),
        "null_actions": {"count": n_null, "kept": keep_null},
        "pointer": {"painted": pointer, "steps": sum(human.cursor is not None for human in chosen)},
        "camera": {"degrees_per_pixel": DEGREES_PER_PIXEL, "gui_scale": GUI_SCALES.get(version or "", 1.0)},
        **read.notes,
    }
    world = make_world(video_scenario(video, len(chosen)), backend="video", path=video, notes=notes,
                       pictures=[human.row for human in chosen], pointers=_pointers(chosen) if pointer else {})
    path = _record(world, chosen, Path(out), observers)
    return ImportedPlay(path, len(chosen), len(read.inputs), n_pictures, n_null, notes, getattr(world, "notice", None))


def _version_of(actions: Path) -> str | None:
    folder = actions.absolute().parent.name
    return folder if re.fullmatch(r"\d{1,2}\.\d{1,2}", folder) else None


def _pointers(chosen: Sequence[HumanInput]) -> dict[int, tuple[int, int]]:
    """Picture to the (x, y) in it where the mouse pointed, for those with an open screen."""
    scale = POV_SHAPE[0] / _GAME_HEIGHT
    return {human.row: (int(human.cursor[0] * scale), int(human.cursor[1] * scale))
            for human in chosen if human.cursor is not None}


def _paired(inputs: Sequence[HumanInput], n_pictures: int, slack: int, *, where: str) -> Sequence[HumanInput]:
    """The rows that have a picture."""
    n_rows = len(inputs)
    if abs(n_rows - n_pictures) > slack or not n_pictures:
        which = "longer" if n_rows > n_pictures else "shorter"
        raise RecordingError(
            f"the action file is {which} than the video: {n_rows} rows, {n_pictures} pictures (up to {slack} more or "
            f"fewer are taken as they come)", where=where,
            hint="check that the two belong together and neither was cut off; --slack takes a larger difference")
    return inputs[:n_pictures]


def _record(world: World, chosen: Sequence[HumanInput], out: Path, observers: Sequence[Observer]) -> Path:
    agent = HumanAgent([human.action for human in chosen], [human.gui for human in chosen])

    def columns(step: Step) -> dict[str, Any]:
        human = chosen[step.index]
        return {"executed": step.output.action, "gui": human.gui, "source_row": human.row}

    recorder = Recorder(out, columns=columns)
    try:
        with world:
            result = run_episode(world, agent, observers=[*observers, recorder])
        if result.n_steps < len(chosen):
            raise RecordingError(f"the video announces {len(chosen)} pictures or more, and only {result.n_steps} could "
                                 "be read", where=str(getattr(world, "path", "")),
                                 hint="the file was cut off")
    except BaseException:
        if recorder.paths:
            shutil.rmtree(recorder.path, ignore_errors=True)
        raise
    return recorder.path
