"""The analysis ``saliency``: maps by several methods, scored against the world and against chance."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt
import torch

from harness.agent.agent import Agent
from harness.agent.ahead import CHUNK
from harness.agent.mineclip import MineCLIP
from harness.agent.preprocessing import policy_frame
from harness.agent.steve.agent import SteveAgent
from harness.agent.vpt.agent import VPTAgent
from harness.agent.vpt.state import VPTState
from harness.analysis.open_loop import Progress, check_untreated, ticks
from harness.analysis.result import result_provenance
from harness.analysis.saliency.methods import (
    INTEGRATED,
    METHODS,
    Baseline,
    Settings,
    baseline_picture,
    saliency_map,
)
from harness.analysis.saliency.patches import PATCH_METHODS, attention_rollout, patch_attention
from harness.analysis.saliency.result import Saliency
from harness.analysis.saliency.scene import Scene, scenes, why_unscored
from harness.analysis.saliency.tally import Tally
from harness.analysis.saliency.targets import PictureTarget, Readout, read_target
from harness.errors import AgentError, HarnessError, RecordingError, unknown_name
from harness.recording.recording import Recording
from harness.rollout import spawn_streams

__all__ = ["saliency_maps"]

Map = npt.NDArray[np.float32]
_MOST_NETWORKS = 20
_FIRST_SEED = 1000
"""Of random weights: the bundled untrained agent has seed 0, and would be compared with itself."""
_MOST_BYTES = 256 << 20


def saliency_maps(recordings: Sequence[Recording], *, agent: Agent, progress: Progress | None = None,
                  target: str = "attack", methods: tuple[str, ...] = tuple(METHODS),
                  steps: tuple[int, ...] | None = None, n_steps: int = 8, objects: tuple[str, ...] | None = None,
                  random_networks: int = 1, baseline: Baseline = "mean", path: int = 64, samples: int = 16,
                  noise: float = 0.1, patch: int = 16, stride: int = 8, masks: int = 256, seed: int = 0) -> Saliency:
    """Which pixels a choice depends on, scored against objects, against their removal, and against chance.

    At some steps of a recording the target is a function f of the picture x [128, 128, 3], with the memory that the
    recorded run had there. Each method makes a map of it at that size, to which the whole picture of 640 x 360 is
    stretched.

    Methods: gradient (Simonyan et al. 2013), input-x-gradient (Shrikumar et al. 2016), integrated-gradients
    (Sundararajan et al. 2017), smoothgrad (Smilkov et al. 2017), grad-cam on the last convolution stack (Selvaraju et
    al. 2016), occlusion (Zeiler and Fergus 2013), rise (Petsiuk et al. 2018); for a STEVE-1 agent with MineCLIP also
    mineclip-attention and mineclip-rollout (Abnar and Zuidema 2020), which show where the network that made the goal
    looks, and have no target.

    Scores, of the map's magnitude, for every object that the world's segmentation knows:
    mass = sum |m| c / sum |m|, with c the object's share in each pixel; ratio = mass / area (chance 1); the pointing
    game (Zhang et al. 2016): is the top on the object (chance: its area).
    Truth: |f(x without the object) - f(x)| at the same memory; the rank is Spearman's correlation over objects between
    mass and truth (chance 0, but for what area alone explains, which has a row of its own).
    Sanity: the same with random weights (Adebayo et al. 2018), with maps shifted against the picture (each recording's
    by something else; the 99 % quantile stands beside the ratio), and with the objects' names shuffled (the rank's p).

    Limits: the steps of one recording hang together, and Wilson's interval takes them to be independent; removing an
    object shows what is behind it, which may act on its own; a random network has a taste for edges and bright pixels,
    so its ratios need not be 1: compare with them. A recording of a video has no objects: its maps are not scored.

    Args:
        recordings: Untreated ones, of one agent; several give intervals over episodes.
        agent: A VPT or STEVE-1 agent.
        progress: Told of pictures looked at and maps made.
        target: A button (log-odds), camera.0 to camera.120 (log-probability), or value.
        methods: Which, in which order.
        steps: At which steps, in each recording; None for some that are evenly spread.
        n_steps: How many of those.
        objects: Only these: a tag, a creature, a block, leaves, logs, sky, hand, hud; None for all that are seen.
        random_networks: How many networks with random weights stand beside, 0 to 20; each costs as much as the agent.
        baseline: mean (colour of the picture), black, or blur (sigma 10 pixels of 128): what stands for nothing.
            Where the target is the same for the baseline, there is nothing to attribute; a note says how far they are
            apart.
        path: Points of integrated gradients.
        samples: Noisy pictures of smoothgrad.
        noise: Their standard deviation, as a share of the picture's range.
        patch: Side of occlusion's square, pixels of 128.
        stride: From square to square.
        masks: Random masks of rise.
        seed: Of noise, masks and random weights.

    Raises:
        HarnessError: for an unknown target, method or object, a number out of range.
        RecordingError: for a step that was not recorded, a recording without steps, a treated one, or a fork.
        AgentError: for an agent without a network.
    """
    check_untreated(recordings)
    settings = Settings(baseline, path, samples, noise, patch, stride, masks, seed=seed)
    run = _Run(_with_network(agent), read_target(target), _known(methods), settings, random_networks)
    chosen = [_chosen(recording, steps, n_steps) for recording in recordings]
    n = sum(map(len, chosen))
    room = len(methods) * n * math.prod(run.size) * 4
    if room > _MOST_BYTES:
        raise HarnessError(f"{len(methods)} maps of {n} steps take {room >> 20} MB, more than {_MOST_BYTES >> 20}",
                           hint="fewer steps or methods at a time")
    tick = ticks(progress, sum(each[-1] for each in chosen) + n * (1 + random_networks) * len(methods))
    tally = Tally(1 + random_networks, run.methods)
    maps: list[list[Map]] = []
    for episode, (recording, some) in enumerate(zip(recordings, chosen, strict=True)):
        for scene, found, effects in run.over(recording, some, objects, tick):
            maps.append(found[0])
            tally.add(episode, scene, found, effects)
    said = {"target": target, "methods": list(methods), "steps": None if steps is None else list(steps),
            "n_steps": n_steps, "objects": None if objects is None else list(objects),
            "random_networks": random_networks, "settings": vars(settings)}
    provenance = {**result_provenance("saliency", recordings[0], **said),
                  "recordings": [each.path.name for each in recordings],
                  "agent": ", ".join(each for each in (agent.name, agent.description) if each)}
    unscored = [why for why in map(why_unscored, recordings) if why]
    unseen = [name for name in objects or () if name not in tally.objects]
    notes = [f"not scored: {why}" for why in dict.fromkeys(unscored)]
    notes += [f"never seen in these steps: {', '.join(unseen)}"] if unseen and len(unscored) < len(recordings) else []
    return tally.result(provenance, run.readout.unit, np.stack([np.stack(each) for each in maps], 1),
                         [*notes, *run.notes()])


def _with_network(agent: Agent) -> VPTAgent:
    if not isinstance(agent, VPTAgent):
        raise AgentError(f"{agent.name} has no network, so no picture can be asked what it depends on",
                         hint="use an agent with a network, such as vpt-nano")
    return agent


def _known(methods: Sequence[str]) -> tuple[str, ...]:
    known = (*METHODS, *PATCH_METHODS)
    for name in methods:
        if name not in known:
            raise unknown_name("method", name, known)
    if not methods or len(set(methods)) < len(methods):
        raise HarnessError(f"methods: expected some, each once, got {list(methods)}")
    return tuple(methods)


def _chosen(recording: Recording, steps: Sequence[int] | None, n_steps: int) -> list[int]:
    """Ascending steps of one recording."""
    last = len(recording) - 1
    if steps is None:
        if n_steps < 1:
            raise HarnessError(f"n_steps: expected at least 1, got {n_steps}")
        # In the middle of as many equal parts: an episode's first picture comes before anything is remembered.
        return sorted({int((i + 0.5) * len(recording) / n_steps) for i in range(n_steps)})
    for step in steps:
        if not 0 <= step <= last:
            raise RecordingError(f"steps: expected 0 to {last}, got {step}", where=str(recording.path))
    if not steps:
        raise HarnessError("steps: expected at least one")
    return sorted(set(steps))


@dataclass
class _Run:
    """The networks and what is asked of them."""

    agent: VPTAgent
    readout: Readout
    methods: tuple[str, ...]
    settings: Settings
    n_random: int
    networks: list[VPTAgent] = field(init=False)
    clips: list[MineCLIP] = field(init=False, default_factory=list)
    falls: list[tuple[float, float]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        if not 0 <= self.n_random <= _MOST_NETWORKS:
            raise HarnessError(f"random_networks: expected 0 to {_MOST_NETWORKS}, got {self.n_random}")
        seeds = range(_FIRST_SEED + self.settings.seed, _FIRST_SEED + self.settings.seed + self.n_random)
        patched = [name for name in self.methods if name in PATCH_METHODS]
        if patched:
            if not isinstance(self.agent, SteveAgent):
                raise AgentError(f"{patched[0]} needs an agent with MineCLIP, and {self.agent.name} has none",
                                 hint="use a STEVE-1 agent")
            model = self.agent.mineclip(f"the method {patched[0]}")
            self.clips = [model, *(MineCLIP.random(model.config, seed) for seed in seeds)]
        self.networks = [self.agent, *(_randomised(self.agent, seed) for seed in seeds)]

    @property
    def size(self) -> tuple[int, int]:
        """The policy's picture, (H, W)."""
        return self.agent.policy.config.image_shape[:2]

    def over(self, recording: Recording, steps: Sequence[int], objects: Sequence[str] | None,
             tick: Callable[[int], None]) -> Iterator[tuple[Scene, list[list[Map]], list[dict[str, float]]]]:
        """For each step its scene, and by network the maps in the order of methods, and the effects of removals."""
        states = [_beginning(network, recording) for network in self.networks]
        done = 0
        for scene in scenes(recording, self.agent, steps, objects, self.size):
            while done < scene.step:
                end = min(scene.step, done + CHUNK)
                frames = recording.pov[done:end]
                states = [network.look_ahead(frames, state)[1]
                          for network, state in zip(self.networks, states, strict=True)]
                tick(end - done)
                done = end
            maps, effects = [], []
            for number, (network, state) in enumerate(zip(self.networks, states, strict=True)):
                function = PictureTarget(network, state, self.readout)
                maps.append(self._maps(number, function, scene, tick))
                effects.append(_effects(function, scene))
            yield scene, maps, effects

    def _maps(self, number: int, function: PictureTarget, scene: Scene, tick: Callable[[int], None]) -> list[Map]:
        found, picture = list[Map](), _shown(function.agent, scene.picture)
        for name in self.methods:
            if name in PATCH_METHODS:
                look = patch_attention if name == PATCH_METHODS[0] else attention_rollout
                patches = look(self.clips[number], scene.picture)
                large = cv2.resize(patches, self.size[::-1], interpolation=cv2.INTER_LINEAR)
                found.append(np.asarray(large, np.float32))
            else:
                found.append(saliency_map(name, function, picture, self.settings, scene.step))
            if name == INTEGRATED and number == 0:
                self._note_fall(function, picture, found[-1])
            tick(1)
        return found


    def _note_fall(self, function: PictureTarget, picture: torch.Tensor, heat: Map) -> None:
        with torch.no_grad():
            baseline = baseline_picture(picture, self.settings.baseline)
            fall = float(function(picture[None])[0] - function(baseline[None])[0])
        self.falls.append((fall, float(heat.sum(dtype=np.float64))))

    def notes(self) -> list[str]:
        """How far integrated gradients are from completeness."""
        if not self.falls:
            return []
        fall, total = np.array(self.falls).T
        return [f"{INTEGRATED}: f(picture) - f(baseline) is {np.abs(fall).mean():.3g} on average, and the maps' sums "
                f"miss it by {np.abs(total - fall).mean():.3g}; a larger path comes closer"]


def _randomised(agent: VPTAgent, seed: int) -> VPTAgent:
    """The same agent, goal and all, with random weights."""
    network = copy.copy(agent)
    network.policy = type(agent.policy).random(agent.policy.config, seed).requires_grad_(False)
    network.policy.to(agent.policy.device)
    network.precision, network.description = "float32", f"random weights (seed {seed})"
    return network


def _beginning(agent: VPTAgent, recording: Recording) -> VPTState:
    """The memory before the first picture, with the goal that the episode drew."""
    if isinstance(agent, SteveAgent):
        return agent.begin(agent.initial_state(), spawn_streams(recording.seed)[1])
    return agent.initial_state()


def _shown(agent: VPTAgent, picture: npt.NDArray[np.uint8]) -> torch.Tensor:
    """A picture as the policy sees it, float [H, W, 3]."""
    config, policy = agent.policy.config, agent.policy
    frame = torch.from_numpy(policy_frame(picture, *config.image_shape[:2])).to(policy.device)
    return frame.to(next(policy.parameters()).dtype) / 255.0


def _effects(function: PictureTarget, scene: Scene) -> dict[str, float]:
    """Object to the change of the target when it is removed."""
    names = list(scene.without)
    pictures = torch.stack([_shown(function.agent, each) for each in (scene.picture, *scene.without.values())])
    with torch.no_grad():
        values = torch.cat([function(part) for part in torch.split(pictures, function.batch)]).double().cpu().tolist()
    return {name: value - values[0] for name, value in zip(names, values[1:], strict=True)}
