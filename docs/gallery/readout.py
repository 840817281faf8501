"""The figure of readout.md: who writes the log-odds of attack while vpt-nano walks to a tree and fells it.

    python docs/gallery/readout.py docs/images/gallery-readout.png

The picture is the same on every machine up to rounding.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from harness.agent.load import load_agent
from harness.analysis import Readout, read_out
from harness.analysis.open_loop import log_odds, look_over
from harness.cli.analyse import print_tables
from harness.intervention import Intervention, ZeroAblation
from harness.overlay.layers import AMBER, FAINT, FLAME, GREY, INK, PANEL, PAPER, Picture, box, paste, text
from harness.recording.recorder import Recorder
from harness.recording.recording import Recording, open_recording
from harness.rollout import run_episode
from harness.scenario.load import load_scenario
from harness.world.world import make_world

LEFT, WIDE, ROW, MARGIN, TOP = 96, 560, 14, 14, 30
RIGHT = LEFT + WIDE + 60
BLUE = (92, 160, 255)
HEADS = [f"{layer}.{head}" for layer in range(4) for head in range(4)]


def signed(values: npt.NDArray[np.float64], top: float) -> Picture:
    """uint8 [..., 3]: amber for, blue against; the root of the size decides, as in the attention strips."""
    level = np.sqrt(np.clip(np.abs(values) / top, 0, 1))[..., None]
    colour = np.where(values[..., None] > 0, AMBER, BLUE)
    return np.asarray(np.array(PANEL) * (1 - level) + colour * level, np.uint8)


def matrix(picture: Picture, values: npt.NDArray[np.float64], names: Sequence[str], top: float, y: int) -> None:
    """Rows over time, named."""
    drawn = cv2.resize(signed(values, top), (WIDE, ROW * len(values)), interpolation=cv2.INTER_NEAREST)
    paste(picture, np.asarray(drawn, np.uint8), LEFT, y)
    for i, name in enumerate(names):
        text(picture, name, LEFT - 6, y + i * ROW + 11, GREY, 11, align="right")


def margin(picture: Picture, found: Readout, pressed: Sequence[bool], y: int, height: int) -> None:
    """The log-odds over time; below them where the key was chosen."""
    low, high = float(found.margins.min()), float(found.margins.max())
    box(picture, LEFT, y, WIDE, height, PANEL)

    def at(step: int, value: float) -> tuple[int, int]:
        return LEFT + int((step + 0.5) * WIDE / len(found.steps)), y + height - 4 - int(
            (value - low) / (high - low) * (height - 8))

    cv2.line(picture, at(0, 0.0), at(len(found.steps) - 1, 0.0), FAINT, 1)
    points = np.array([at(step, value) for step, value in enumerate(found.margins[:, 0])], np.int32)
    cv2.polylines(picture, [points], False, INK, 1, cv2.LINE_AA)
    for step, held in enumerate(pressed):
        if held:
            box(picture, at(step, 0.0)[0] - 2, y + height + 3, 4, 5, FLAME)
    text(picture, f"{high:.0f}", LEFT - 6, y + 12, GREY, 11, align="right")
    text(picture, f"{low:.0f}", LEFT - 6, y + height - 2, GREY, 11, align="right")
    text(picture, "chosen", LEFT - 6, y + height + 9, GREY, 11, align="right")


def columns(picture: Picture, found: Readout, n: int, y: int) -> None:
    """Mean contributions, over the range of random directions."""
    means, null = found.contributions[:, 0].mean(0), np.percentile(found.control[0], [2.5, 97.5], axis=-1)
    reach, middle, half = 1.05 * np.abs(means[:n]).max(), RIGHT + 115, 110
    scale: Callable[[float], int] = lambda value: middle + int(value / reach * half)  # noqa: E731
    for i in range(n):
        top = y + i * ROW
        left, right = (int(np.clip(scale(edge), RIGHT, RIGHT + 230)) for edge in null[:, i])
        box(picture, left, top + 2, max(1, right - left), ROW - 4, FAINT)
        cv2.circle(picture, (scale(means[i]), top + ROW // 2), 3, AMBER if means[i] > 0 else BLUE, -1, cv2.LINE_AA)
    cv2.line(picture, (middle, y), (middle, y + n * ROW), GREY, 1)
    text(picture, f"{-reach:.1f}", RIGHT, y + n * ROW + 13, GREY, 11)
    text(picture, f"{reach:.1f} nats", RIGHT + 230, y + n * ROW + 13, GREY, 11, align="right")


def without(recording: Recording, start: int) -> npt.NDArray[np.float64]:
    """What the margin loses without each head: untreated less zeroed, mean from a step on."""
    agent = load_agent("vpt-nano", device="cpu")

    def mean(stack: Sequence[Intervention]) -> float:
        outputs, _ = look_over(recording, agent, stack, stack, lambda n: None)
        return float(log_odds(np.stack([o.log_probs["buttons"] for o in outputs[start:]]), "attack").mean())

    whole = mean(())
    return np.array([whole - mean([ZeroAblation(f"blocks.{name[0]}.attn.hook_z", head=int(name[2]))])
                     for name in HEADS])


def told(heads: npt.NDArray[np.float64], taken: npt.NDArray[np.float64], untrained: Readout) -> None:
    """The numbers of readout.md that are no table of the analysis."""
    rank = spearmanr(heads, taken)
    each = [f"{name}: {a:.2f} {b:.2f}" for name, a, b in zip(HEADS, heads, taken, strict=True)]
    lines = [f"direct contribution of 16 heads against loss when zeroed: Spearman {rank.statistic:.2f}, "
             f"p {rank.pvalue:.2f}", *each,
             f"untrained: margin {untrained.margins.mean():.3f}, sd {untrained.margins.std():.1e}"]
    sys.stdout.write("\n".join(lines) + "\n")


def main(out: str) -> None:
    """Play, take apart, draw."""
    agent = load_agent("vpt-nano", device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        with make_world(load_scenario("treechop")) as world, Recorder(folder) as recorder:
            run_episode(world, agent, seed=0, observers=[recorder])
        recording = open_recording(recorder.path)
        found = read_out(recording, agent=agent)
        untrained = read_out(recording, agent=load_agent("untrained", device="cpu"))
        pressed = [row["chosen"]["attack"] == 1 for row in recording.steps]
        start = pressed.index(True)
        later = read_out(recording, agent=agent, between=(start, len(pressed) - 1))
        taken = without(recording, start)
    n = len(found.components)
    lens_y = TOP + 100 + n * ROW + 34
    picture: Picture = np.full((lens_y + ROW * 5 + 20, RIGHT + 230 + MARGIN, 3), PAPER, np.uint8)
    text(picture, f"vpt-nano, treechop seed 0: log-odds of attack, {len(found.steps)} steps", LEFT, 20, INK, 13, 600)
    margin(picture, found, pressed, TOP, 64)
    y = TOP + 100
    text(picture, "direct contributions (amber: for, blue: against)", LEFT, y - 6, INK, 13, 600)
    top = float(np.percentile(np.abs(found.contributions), 99.5))
    matrix(picture, found.contributions[:, 0].T, found.components, top, y)
    text(picture, "logit lens: log-odds after each block", LEFT, lens_y - 8, INK, 13, 600)
    matrix(picture, found.lens_margins[:, :, 0].T, found.layers, float(np.abs(found.lens_margins).max()), lens_y)
    text(picture, f"means from step {start} on", RIGHT, y - 22, INK, 13, 600)
    text(picture, "grey: random directions", RIGHT, y - 6, GREY, 12)
    columns(picture, later, n - 2, y)
    heads = later.contributions[:, 0].mean(0)[[later.components.index(name) for name in HEADS]]
    print_tables(later.tables())
    told(heads, taken, untrained)
    cv2.imwrite(out, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main(sys.argv[1])
