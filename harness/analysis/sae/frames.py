"""What a latent looks at: the pictures in which it is largest, with heat, and how its values are spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.agent.agent import Agent
from harness.agent.ahead import chunk_length
from harness.agent.hooks import HookPoint
from harness.agent.preprocessing import policy_frame
from harness.agent.sae import Sae
from harness.agent.vpt.agent import VPTAgent
from harness.agent.vpt.state import VPTState
from harness.analysis.open_loop import Progress, check_untreated, ticks
from harness.analysis.sae.downstream import Downstream, beginning
from harness.analysis.sae.steerability import check_sae
from harness.analysis.saliency.methods import Settings, saliency_map
from harness.errors import HarnessError
from harness.recording.recording import Recording

__all__ = ["LatentFrames", "TopFrame", "latent_frames"]

_APART = 20
"""Steps between two pictures of a recording: a second."""
_BINS = 40


@dataclass(frozen=True)
class TopFrame:
    """A picture in which a latent is large.

    Attributes:
        recording: Name of its folder.
        step: Which.
        value: The latent's, the largest over tokens.
        picture: uint8 [360, 640, 3].
        heat: float32 [y, x] over the whole picture: the latent at each place where the hook has places, else how far it
            falls when a patch is covered with the mean colour.
    """

    recording: str
    step: int
    value: float
    picture: npt.NDArray[np.uint8]
    heat: npt.NDArray[np.float32]


@dataclass(frozen=True)
class LatentFrames:
    """A latent over recordings.

    Attributes:
        latent: Which.
        hook: Where.
        frames: Largest first.
        n_steps: Looked at.
        firing: Share of them in which it is above 0.
        counts: Histogram of its values above 0, [bin].
        edges: [bin + 1].
        of_places: Whether the heat is the latent's own map.
        agent: Whose, in words.
    """

    latent: int
    hook: str
    frames: tuple[TopFrame, ...]
    n_steps: int
    firing: float
    counts: npt.NDArray[np.int64]
    edges: npt.NDArray[np.float64]
    of_places: bool
    agent: str


def latent_frames(recordings: Sequence[Recording], agent: Agent, sae: Sae, latents: Sequence[int], *, n: int = 8,
                  progress: Progress | None = None) -> list[LatentFrames]:
    """Find the pictures in which latents are largest, a second apart at least.

    Args:
        recordings: Whose pictures; made without interventions.
        agent: Whose activations the SAE is of.
        sae: Says which hook.
        latents: Which.
        n: Pictures of each, at most; of those in which it is above 0.
        progress: Told of maps done.

    Raises:
        InterventionError: for an SAE of another hook, width or agent, or a latent out of range.
        RecordingError: for recordings under interventions, forks, or without steps.
    """
    if not latents or n < 1:
        raise HarnessError("expected a latent and a picture at least")
    check_untreated(recordings)
    below = Downstream(agent, check_sae(sae, agent, latents), ("attack",))
    which = torch.tensor(list(latents))
    found = []
    for recording in recordings:
        tokens = torch.from_numpy(below.listen(recording, lambda n: None).tokens)
        with torch.inference_mode():
            found.append(torch.cat([sae.encode(part)[..., which] for part in torch.split(tokens, 64)]).numpy())
    chosen = [_largest([each[..., i].max(1) for each in found], n) for i in range(len(latents))]
    tick = ticks(progress, sum(map(len, chosen)))
    pages = []
    rows, columns = below.layout.grid
    for i, latent in enumerate(latents):
        frames = []
        for number, step, value in chosen[i]:
            recording = recordings[number]
            if rows:
                heat = found[number][step, -rows * columns:, i].reshape(rows, columns)
            else:
                heat = _occluded(below, recording, step, sae, latent)
            frames.append(TopFrame(recording.path.name, step, value, np.asarray(recording.agent_pov[step]),
                                   np.asarray(heat, np.float32)))
            tick(1)
        values = np.concatenate([each[..., i].max(1) for each in found])
        counts, edges = np.histogram(values[values > 0], _BINS)
        pages.append(LatentFrames(latent, below.hook, tuple(frames), len(values), float((values > 0).mean()), counts,
                                  edges, bool(rows), f"{agent.name}: {agent.description}"))
    return pages


def _largest(values: Sequence[npt.NDArray[np.float32]], n: int) -> list[tuple[int, int, float]]:
    """(recording, step, value), none within a second of a larger one."""
    every = sorted(((-float(value), number, step) for number, each in enumerate(values)
                    for step, value in enumerate(each) if value > 0))
    kept: list[tuple[int, int, float]] = []
    for value, number, step in every:
        if len(kept) == n:
            break
        if all(other != number or abs(step - at) >= _APART for other, at, _ in kept):
            kept.append((number, step, -value))
    return kept


def _occluded(below: Downstream, recording: Recording, step: int, sae: Sae, latent: int) -> npt.NDArray[np.float32]:
    agent, state = below.agent, beginning(below.agent, recording)
    most = chunk_length(agent, ())
    for start in range(0, step, most):
        state = agent.look_ahead(recording.agent_pov[start:min(start + most, step)], state)[1]
    size = agent.policy.config.image_shape[:2]
    frame = torch.from_numpy(policy_frame(recording.agent_pov[step], *size)).to(agent.policy.device)
    picture = frame.to(next(agent.policy.parameters()).dtype) / 255.0
    patches = Settings(patch=size[0] // 4, stride=size[0] // 8)
    with torch.no_grad():
        return saliency_map("occlusion", _LatentTarget(agent, state, below.hook, sae, latent), picture, patches)


@dataclass(frozen=True)
class _LatentTarget:
    """A latent's pre-activation as a function of the picture, its largest over tokens; the memory is held fixed."""

    agent: VPTAgent
    state: VPTState
    hook: str
    sae: Sae
    latent: int
    batch: int = 16

    def __call__(self, pictures: Tensor) -> Tensor:
        kept: list[Tensor] = []

        def keep(x: Tensor, hook: HookPoint) -> None:
            kept.append(x)

        with self.agent.hooks([(self.hook, keep)]):
            self.agent.look_at(pictures, self.state)
        x, sae = kept[0].reshape(len(pictures), -1, self.sae.width), self.sae.to(kept[0])
        before = (x - sae.b_dec) @ sae.W_enc[:, self.latent] + sae.b_enc[self.latent]
        return before.amax(1)

    def with_maps(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Not needed for occlusion."""
        raise NotImplementedError
