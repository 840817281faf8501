"""What a cell looked like: its most telling episode as a short clip and a strip of pictures.

The episode is chosen by a rule, before anybody looks: of the trials that went the way most did, the one of median
length. Pictures come from a recording that was kept, or the trial is played again and its actions are compared.
"""

from __future__ import annotations

import itertools
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from harness.batch.load import load_suite
from harness.batch.results import read_summary, recording_of
from harness.batch.runner import run_suite
from harness.batch.suite import Budget, Cell, RecordingPolicy, Suite
from harness.batch.summary import Outcome, Summary
from harness.batch.verdicts import shortened
from harness.errors import HarnessError
from harness.overlay.compose import Layout, Scene, compose_frame
from harness.overlay.layers import Picture, Shade
from harness.recording.recording import Recording, open_recording
from harness.recording.video import write_share_video

__all__ = ["Choice", "Film", "choices", "film_recording", "film_recordings", "play_again", "suite_cells"]

CLIP_BYTES = 400_000
"""Of a clip at most."""
_WIDTHS = (516, 344, 258)
_MOST_FRAMES = 200
_STRIP = 5
_THUMB = (160, 90)


@dataclass(frozen=True)
class Choice:
    """An episode to look at.

    Attributes:
        cell: Its cell's id.
        seed: Of the trial.
        why: It was chosen.
    """

    cell: str
    seed: int
    why: str


@dataclass(frozen=True)
class Film:
    """Pictures of an episode.

    Attributes:
        clip: WebM (VP9).
        poster: WebP, of the middle.
        size: Width and height of the clip in pixels.
        strip: Step and WebP of pictures spread over the episode.
        recording: Where it was kept; None when it was played again for this.
    """

    clip: bytes
    poster: bytes
    size: tuple[int, int]
    strip: tuple[tuple[int, bytes], ...]
    recording: Path | None = None


def choices(report: Summary) -> list[Choice]:
    """The most telling episode of each cell, and a flipped seed of each cell in a claim that fails.

    Of the trials with the most frequent combination of shares, that of median length is chosen (the lower of two; of
    equals the first seed); where some of them have a recording, among those.
    """
    names = sorted(report.shares)
    found = []
    for row in report.rows:
        ways = Counter(_way(outcome, names) for outcome in row.finished.values())
        if not ways:
            continue
        most = max(ways.values())
        way = next(way for way, count in ways.items() if count == most)
        alike = [outcome for outcome in row.finished.values() if _way(outcome, names) == way]
        kept = [outcome for outcome in alike if outcome.recorded] or alike
        ranked = sorted(kept, key=lambda outcome: (outcome.n_steps, outcome.seed))
        of = f"{most} of {len(row.finished)} episodes went this way"
        found.append(Choice(row.id, ranked[(len(ranked) - 1) // 2].seed, f"{of}; the one of median length"))
    known = {(choice.cell, choice.seed) for choice in found}
    for verdict in report.verdicts:
        for row in report.rows if verdict.passed is False and verdict.flipped else ():
            seed = next((seed for seed in verdict.flipped if seed in row.finished), None)
            if row.name in verdict.cells and seed is not None and (row.id, seed) not in known:
                known.add((row.id, seed))
                found.append(Choice(row.id, seed, f"one that came out differently ({shortened(verdict.flipped)}) "
                                                  f"in the claim: {verdict.claim}"))
    return found


def _way(outcome: Outcome, names: Sequence[str]) -> tuple[float | None, ...]:
    return tuple(outcome.metrics.get(name) for name in names)


def film_recordings(report: Summary, wanted: Sequence[Choice]) -> dict[Choice, Film]:
    """Films of the chosen trials whose recording was kept; one that cannot be read is left out."""
    found = {}
    for choice in wanted:
        path = recording_of(report.folder / "trials" / choice.cell / str(choice.seed))
        if path is None:
            continue
        try:
            found[choice] = replace(film_recording(open_recording(path), _titles(report)[choice.cell]), recording=path)
        except HarnessError:
            continue
    return found


def film_recording(recording: Recording, title: str = "") -> Film:
    """Draw a recording small: the agent's picture with the keys it pressed, in real time.

    Raises:
        HarnessError: for a recording without pictures, or one that cannot be read.
    """
    n = len(recording)
    every = max(2, math.ceil(n / _MOST_FRAMES))
    layout, shade = Layout((), narrow=True), Shade(1.0)
    agent = recording.agent_description

    def frames(width: int) -> Iterator[Picture]:
        for number in range(0, n, every):
            row = recording.steps[number]
            scene = Scene(title=title, agent=agent, warning="random weights" in agent, step=number, n_steps=n,
                          pov=recording.agent_pov[number], action=row.get("executed") or row.get("chosen"),
                          played=row.get("executed") is not None, attention=None, thumbnails=(), shade=shade,
                          first_step=recording.first_step)
            yield _resized(compose_frame(scene, layout), width)

    steps = sorted({int(step) for step in np.linspace(0, n - 1, _STRIP)}) if n else []
    strip = tuple((recording.first_step + step, _webp(np.asarray(
        cv2.resize(recording.agent_pov[step], _THUMB, interpolation=cv2.INTER_AREA), np.uint8), 60)) for step in steps)
    clip, width = _clip(frames, recording.fps / every)
    middle = next(itertools.islice(frames(width), (n - 1) // every // 2, None))
    return Film(clip, _webp(middle, 70), (middle.shape[1], middle.shape[0]), strip)


def _clip(frames: Callable[[int], Iterator[Picture]], fps: float) -> tuple[bytes, int]:
    """The widest clip that is small enough, and its width; the narrowest where none is."""
    with tempfile.TemporaryDirectory(prefix="harness-clip-") as scratch:
        path = Path(scratch) / "clip.webm"
        for width in _WIDTHS:
            write_share_video(frames(width), path, fps)
            if path.stat().st_size <= CLIP_BYTES:
                break
        return path.read_bytes(), width


def _resized(picture: Picture, width: int) -> Picture:
    height = round(picture.shape[0] * width / picture.shape[1] / 2) * 2
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _webp(picture: Picture, quality: int) -> bytes:
    done, image = cv2.imencode(".webp", picture[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, quality])
    if not done:
        raise HarnessError("this OpenCV cannot write WebP pictures", hint="pip install opencv-python-headless")
    return bytes(image)


def _titles(report: Summary) -> dict[str, str]:
    return {row.id: row.title for row in report.rows}


def play_again(report: Summary, wanted: Sequence[Choice], seconds: float
               ) -> tuple[dict[Choice, Film], dict[Choice, str]]:
    """Play chosen trials once more, as they were played, for their pictures.

    Args:
        report: Of the suite.
        wanted: Which.
        seconds: After which no more of them is begun.

    Returns:
        The films; and for each trial without one, why. A trial that takes other actions than before gets no film.
    """
    cells = suite_cells(report)
    seeds: dict[str, list[int]] = {}
    for choice in wanted:
        seeds.setdefault(choice.cell, []).append(choice.seed)
    chosen = [replace(cell, seeds=tuple(sorted(seeds[name]))) for name, cell in cells.items() if name in seeds]
    if not chosen:
        return {}, dict.fromkeys(wanted, "the suite's file has changed or is not here, so it cannot be played again")
    suite = Suite(report.suite, "", report.axes, tuple(chosen), record=RecordingPolicy("all"),
                  budget=Budget(minutes=seconds / 60))
    with tempfile.TemporaryDirectory(prefix="harness-film-") as scratch:
        run_suite(suite, out=scratch, batch=report.batch)
        again = read_summary(scratch)
        films = film_recordings(again, wanted)
        problems = {choice: _differs(report, again, choice) for choice in wanted}
        kept = {choice: replace(film, recording=None) for choice, film in films.items() if not problems[choice]}
    return kept, {choice: problems[choice] or "its pictures cannot be read" for choice in wanted if choice not in kept}


def _differs(before: Summary, after: Summary, choice: Choice) -> str:
    """Why a trial that was played again is not the one that was played before; empty when it is."""
    one, other = ({row.id: row for row in summary.rows}.get(choice.cell) for summary in (before, after))
    again = None if other is None else other.outcomes.get(choice.seed)
    if again is None and other is not None:
        return "there was no time to play it again"
    if again is None:
        return "the agent, the versions or the processor are others than before, so it was not played again"
    if not again.finished:
        return f"playing it again failed: {again.problem}"
    same = one is not None and one.outcomes[choice.seed].actions == again.actions
    return "" if same else "played again here it takes other actions, so there is nothing to show"


def suite_cells(report: Summary) -> dict[str, Cell]:
    """The suite's cells by the ids of their results, where its file is what it was."""
    for word in (report.suite, *report.command):
        try:
            suite = load_suite(word)
        except HarnessError:
            continue
        if suite.digest == report.digest:
            return {row.id: cell for row in report.rows for cell in suite.cells
                    if dict(cell.labels) == dict(row.labels)}
    return {}
