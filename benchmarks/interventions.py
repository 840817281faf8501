"""What interventions cost.

    python benchmarks/interventions.py masks [--pictures 200]
    python benchmarks/interventions.py steps [--pictures 400]
    python benchmarks/interventions.py memory

* ``masks``: edits of the villager scenario's picture, 640 x 360: the world plays a tick while the player looks around,
  then each edit in turn is applied to the picture and timed, segmentation included. Prints the median and the 5th and
  95th percentile of every edit, and how many pixels it changed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import time
from typing import Any

import numpy as np

import harness
from harness.agent.scripted import NoopAgent
from harness.intervention import (
    FramePatch,
    HueShift,
    Inpaint,
    InterventionStack,
    PixelBlur,
    PixelMask,
    PixelNoise,
    Recolour,
    Region,
    ZeroAblation,
)
from harness.intervention.intervention import Intervention, Moment

ROBE = Region(object="villager", part="robe")
MASKS: dict[str, Intervention] = {
    "mask, rectangle": PixelMask(0, 0, 320, 180),
    "mask, villager": PixelMask(region={"object": "villager"}),
    "mask, robe": PixelMask(region=ROBE),
    "mask, leaves": PixelMask(region={"object": "leaves"}),
    "mask, leaves, 8 pixels more": PixelMask(region={"object": "leaves", "grow": 8}),
    "mask, all but the villager": PixelMask(region={"object": "villager", "invert": True}),
    "recolour, robe": Recolour("#db9049", instead_of="#674c46", region=ROBE),
    "recolour, grass": Recolour("#db9049", region={"object": "grass_block"}),
    "hue, leaves": HueShift(120, region={"object": "leaves"}),
    "another frame, leaves": FramePatch(step=0, region={"object": "leaves"}),
    "noise, leaves": PixelNoise(30, region={"object": "leaves"}),
    "noise, whole picture": PixelNoise(30),
    "blur 4, leaves": PixelBlur(4, region={"object": "leaves"}),
    "blur 4, whole picture": PixelBlur(4),
    "paint out the villager, telea": Inpaint(region={"object": "villager"}, method="telea"),
    "paint out the villager, render": Inpaint(region={"object": "villager"}),
    "paint out leaves, render": Inpaint(region={"object": "leaves"}),
}


def masks(pictures: int) -> None:
    scenario, rng = harness.load_scenario("villager"), np.random.default_rng(0)
    times: dict[str, list[float]] = {name: [] for name in MASKS}
    sizes: dict[str, list[int]] = {name: [] for name in MASKS}
    memos: dict[str, dict[str, object]] = {name: {} for name in MASKS}
    with harness.make_world(scenario) as world:
        observation, info = world.reset(seed=24)
        for step in range(pictures + 5):
            pov = observation["pov"]
            for name, edit in MASKS.items():
                moment = Moment(step, np.random.default_rng(step), memos[name], NoopAgent(), info, world.world_state,
                                world.capabilities, None, world.picture_without)
                begin = time.perf_counter()
                edit.watch_input(pov, moment)
                changed = edit.change_input(pov, moment)
                took = time.perf_counter() - begin
                if step >= 5:  # the first ones compile and fill caches
                    times[name].append(took * 1e3)
                    sizes[name].append(int((changed != pov).any(axis=-1).sum()))
            yaw = 2.0 * np.sin(step / 9) + rng.normal(0, 0.5)
            observation, _, terminated, truncated, info = world.step({"camera": [0.0, float(yaw)]})
            if terminated or truncated:
                observation, info = world.reset(seed=24)
    print(f"{'':32s}   median     5 %    95 %      pixels changed (median)")
    for name, found in times.items():
        low, middle, high = np.percentile(found, [5, 50, 95])
        print(f"{name:32s} {middle:8.2f} {low:7.2f} {high:7.2f} ms {int(np.median(sizes[name])):10d}")


PAIR: list[Intervention] = [ZeroAblation("blocks.2.attn.hook_z", head=3),
                            Recolour("#db9049", instead_of="#674c46", region=ROBE)]


def steps(pictures: int) -> None:
    agent, stacks = harness.load_agent("vpt-nano", device="cpu"), {"empty": [], "one feature and one input": PAIR}
    times: dict[str, list[float]] = {name: [] for name in ("plain", "tick", *stacks)}
    with harness.make_world(harness.load_scenario("villager")) as world:
        observation, info = world.reset(seed=24)
        opened = {name: InterventionStack(stack, agent=agent, seed=1, world=world) for name, stack in stacks.items()}
        states = dict.fromkeys(("plain", *stacks), agent.initial_state())

        def look(name: str, step: int) -> Any:
            if name == "plain":
                return agent.act(observation, states[name], np.random.default_rng(step))
            stack = opened[name]
            shown = stack.change_input(stack.change_world(observation, step, info), step, info)
            remembered = stack.change_memory(states[name], step, info)
            with stack.looking(range(step, step + 1)):
                output = agent.act(shown, remembered, np.random.default_rng(step))
            stack.change_action(output.action, step, info)
            stack.take_log()
            return output

        for step in range(pictures + 10):
            order = ["plain", *stacks]
            for name in order[step % 3:] + order[:step % 3]:
                with opened.get(name, contextlib.nullcontext()):
                    begin = time.perf_counter()
                    output = look(name, step)
                    times[name].append(time.perf_counter() - begin)
                states[name] = output.state
                if name == "plain":
                    action = output.action
            begin = time.perf_counter()
            observation, _, terminated, truncated, info = world.step(action)
            times["tick"].append(time.perf_counter() - begin)
            if terminated or truncated:
                break
    kept = {name: np.array(found[10:]) * 1e3 for name, found in times.items()}
    whole = kept["plain"] + kept["tick"]
    print(f"a step: {np.median(whole):.2f} ms, of which the look {np.median(kept['plain']):.2f} ms; {len(whole)} steps")
    for name in stacks:
        low, middle, high = np.percentile((kept[name] - kept["plain"]) / np.median(whole) * 100, [25, 50, 75])
        print(f"{name:28s} {middle:+6.2f} % of a step (quartiles {low:+.2f}, {high:+.2f})")


def memory(pictures: int) -> None:
    agent = harness.load_agent("vpt-nano", device="cpu")
    embeds = np.random.default_rng(0).standard_normal((508, agent.policy.config.hidsize)).astype(np.float32)
    state, frame = agent.initial_state(), np.zeros((360, 640, 3), np.uint8)
    looks = []
    for _ in range(40):
        begin = time.perf_counter()
        state = agent.act({"pov": frame}, state, np.random.default_rng(0)).state
        looks.append(time.perf_counter() - begin)
    print(f"a look at a picture: {np.median(looks) * 1e3:.2f} ms")
    for age in (4, 32, 127, 508):
        found = []
        for _ in range(7):
            begin = time.perf_counter()
            agent.remember(embeds[:age], state)
            found.append(time.perf_counter() - begin)
        low, middle, high = np.percentile(np.array(found) * 1e3, [25, 50, 75])
        print(f"age {age:3d}: {age} frames of the transformer, {middle:7.2f} ms (quartiles {low:.2f}, {high:.2f}), "
              f"{middle / age:.3f} ms a frame")


SECTIONS = {"masks": masks, "memory": memory, "steps": steps}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", choices=sorted(SECTIONS))
    parser.add_argument("--pictures", type=int, default=200)
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, {os.cpu_count()} CPUs, "
          f"load {os.getloadavg()[0]:.1f}")
    SECTIONS[options.section](options.pictures)


if __name__ == "__main__":
    main()
