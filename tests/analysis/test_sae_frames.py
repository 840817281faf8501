"""Where a latent is largest, and where in the picture; its page holds all of it and reaches nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from intervention.tiny import tiny_agent
from test_sae_steerability import record
from wired import HEAD, made

from harness.agent.sae import Sae
from harness.analysis.sae.frames import latent_frames
from harness.analysis.sae.steerability import steerability
from harness.errors import HarnessError, InterventionError
from harness.recording.recording import Recording
from harness.viewer.latents import export_latents, latent_facts

MAP = "cnn.stacks.2.blocks.1.hook_resid_post"


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Recording]:
    return [record(tmp_path_factory.mktemp("frames"), steps, seed) for steps, seed in ((25, 1), (3, 2))]


def channel(number: int) -> Sae:
    """Latent 0 is a channel of the last map."""
    axis = torch.eye(4)[number:number + 1]
    return Sae("relu", axis.T.contiguous(), torch.zeros(1), axis, torch.zeros(4), metadata={"hook_name": MAP})


def test_the_largest_values_and_their_places(recordings: list[Recording]) -> None:
    agent = tiny_agent()
    (page,) = latent_frames(recordings, agent, channel(2), [0], n=3)
    maps = [np.stack([o.activations[MAP][2] for o in agent.trace_frames(r.agent_pov[:], None, [MAP])[0]])
            for r in recordings]
    top = [each.max((1, 2)) for each in maps]
    best = page.frames[0]
    number = [r.path.name for r in recordings].index(best.recording)
    assert best.value == pytest.approx(max(each.max() for each in top), rel=1e-4) and page.of_places
    assert np.allclose(best.heat, np.maximum(maps[number][best.step], 0), atol=1e-5)
    assert np.array_equal(best.picture, recordings[number].agent_pov[best.step])
    own = sorted(f.step for f in page.frames if f.recording == recordings[0].path.name)
    assert all(b - a >= 20 for a, b in zip(own, own[1:], strict=False)) and page.n_steps == 28
    assert page.counts.sum() == sum(int((each > 0).sum()) for each in top)


def test_without_places_a_patch_is_covered(recordings: list[Recording]) -> None:
    (page,) = latent_frames(recordings[1:], tiny_agent(), made(HEAD), [3], n=1)
    assert not page.of_places and page.frames[0].heat.shape == (32, 32) and np.ptp(page.frames[0].heat) > 0


def test_the_page_says_what_is_known(recordings: list[Recording], tmp_path: Path) -> None:
    sae = made(HEAD)
    steered = steerability(recordings[1:], tiny_agent(), sae, latents=(3,), nulls=99, units=False).as_dict()
    named = {"provenance": {"sae": sae.digest()}, "names": [
        {"latent": 3, "state": "in_view:<b>logs", "auroc": 0.875, "interval": [0.75, 0.9], "bits": 0.25, "q": 0.01,
         "held": True}, {"latent": 4, "state": "reach:logs", "auroc": None, "interval": None, "bits": 0, "q": 0.04,
         "held": False}]}
    facts = latent_facts(sae, [steered, named])
    pages = latent_frames(recordings[1:], tiny_agent(), sae, [3, 4], n=1)
    size = export_latents(pages, tmp_path / "page.html", facts)
    text = (tmp_path / "page.html").read_text()
    assert size == len(text.encode()) and "default-src 'none'" in text and "<script" not in text
    assert "in_view:&lt;b&gt;logs" in text and "0.75 to 0.9" in text and "<b>logs" not in text
    assert f"{steered['members']['SAE latents']['3']['attack']['S_f']:.3g}" in text and "random weights" in text
    assert text.count('id="latent-') == 2 and "http" not in text.replace("http-equiv", "")
    assert "not asked: harness sae name --world" in text and "reach:logs" in text


def test_what_has_no_page_is_named(recordings: list[Recording], tmp_path: Path) -> None:
    sae = made(HEAD)
    with pytest.raises(InterventionError, match="got 99"):
        latent_frames(recordings, tiny_agent(), sae, [99])
    with pytest.raises(HarnessError, match="not of this SAE"):
        latent_facts(sae, [{"provenance": {"sae": "other"}, "names": []}])
    with pytest.raises(HarnessError, match="ends in .html"):
        export_latents(latent_frames(recordings[1:], tiny_agent(), channel(0), [0], n=1), tmp_path / "page.pdf", {})
    assert not list(tmp_path.iterdir())
