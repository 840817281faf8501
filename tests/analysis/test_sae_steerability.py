"""S_f: as the splice gives it, large for a latent that is wired to an action, nothing for one that is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import FakeWorld, make_scenario
from intervention.tiny import tiny_agent
from wired import ATTACK, HEAD, RESID, attack_direction, made

from harness.agent.sae import Sae
from harness.analysis.open_loop import look_over
from harness.analysis.sae.steerability import moved, steerability
from harness.errors import HarnessError, InterventionError, RecordingError
from harness.intervention import SaeSplice
from harness.recording.recorder import Recorder
from harness.recording.recording import Recording, open_recording
from harness.rollout import run_episode


def record(folder: Path, steps: int, seed: int, **more: Any) -> Recording:
    with Recorder(folder) as recorder:
        run_episode(FakeWorld(make_scenario(steps)), tiny_agent(), seed=seed, observers=[recorder], **more)
    return open_recording(recorder.path)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Recording]:
    return [record(tmp_path_factory.mktemp("steered"), steps, seed) for steps, seed in ((9, 1), (5, 2))]


@pytest.mark.parametrize(("hook", "width"), [
    (RESID, None), ("blocks.1.hook_resid_pre", None), ("blocks.1.attn.hook_z", None), ("blocks.0.mlp.hook_post", None),
    ("hook_embed", None), ("cnn.stacks.2.blocks.1.hook_resid_post", 4), ("lastlayer.hook_out", None)])
def test_many_rows_give_what_one_splice_gives(hook: str, width: int | None, recordings: list[Recording]) -> None:
    sae, agent = made(hook, width=width, m=8), tiny_agent()
    found = steerability(recordings, agent, sae, latents=(1, 4), keys=("attack", "jump"), strength=3.0, nulls=99,
                         units=False).steered[0]
    for row, latent in enumerate((1, 4)):
        splice = SaeSplice(hook, sae=sae, latents=(latent,), strength=3.0)
        away = []
        for recording in recordings:
            clean, treated = (np.stack([o.log_probs["buttons"] for o in look_over(
                recording, agent, stack, [splice], lambda n: None)[0]]) for stack in ([], [splice]))
            away.append(np.exp(treated[:, ATTACK]).sum(1) - np.exp(clean[:, ATTACK]).sum(1))
        moved_by = np.concatenate(away)
        assert len(moved_by) == 14
        assert found.score[row, 0] == pytest.approx(np.square(moved_by).mean(), rel=1e-2, abs=1e-10)
        assert found.change[row, 0] == pytest.approx(moved_by.mean(), rel=1e-2, abs=1e-6)


def test_a_latent_wired_to_an_action_beats_every_random_one(recordings: list[Recording]) -> None:
    found = steerability(recordings, tiny_agent(), made(HEAD, attack_direction()), strength=4.0)
    latents, units = found.steered
    wired = latents.score[latents.members.tolist().index(0), 0]
    assert wired > latents.directions.max() and wired > np.delete(latents.score[:, 0], 0).max()
    assert latents.steerable(0)[0] and latents.p_others(0)[0] == pytest.approx(2 / 25)
    assert latents.change[0, 0] > 0
    assert units.members.tolist() == list(range(16)) and "random weights" in found.tables()[0].note
    row = found.as_dict()["members"]["SAE latents"]["0"]["attack"]
    assert row["S_f"] == wired > row["null_99"]


def test_an_unwired_latent_moves_nothing(recordings: list[Recording]) -> None:
    # The next block begins with a layer norm on the skip path as well: the mean of an activation reaches nobody.
    sae = made(RESID, torch.ones(16))
    (latents,) = steerability(recordings, tiny_agent(), sae, strength=4.0, units=False).steered
    assert latents.score[0, 0] < 1e-6 * latents.directions.min()
    assert not latents.steerable(0)[0] and latents.score[1:, 0].min() > 1e3 * latents.score[0, 0]


def test_random_latents_seldom_pass_the_null(recordings: list[Recording]) -> None:
    (latents,) = steerability(recordings, tiny_agent(), made(RESID, m=300), strength=4.0, units=False).steered
    assert latents.steerable(0).mean() < 0.04  # 1 % expected; directions of this SAE are random themselves


def test_the_same_numbers_twice_and_others_with_another_seed(recordings: list[Recording]) -> None:
    sae = made(HEAD, m=4)
    one, two, other = (steerability(recordings, tiny_agent(), sae, nulls=99, units=False, seed=seed).steered[0]
                       for seed in (0, 0, 1))
    assert np.array_equal(one.directions, two.directions) and np.array_equal(one.score, two.score)
    assert not np.array_equal(one.directions, other.directions) and one.strength > 0


def test_what_an_edit_adds() -> None:
    values = torch.tensor([0.0, 1.0, 3.0])
    for mode, wanted in (("replace", [2, 1, -1]), ("add", [2, 2, 2]), ("cap", [0, 0, -1]), ("floor", [2, 1, 0]),
                         ("zero", [0, -1, -3])):
        assert moved(values, mode, 2.0, 0.0).tolist() == wanted
    assert moved(values, "add", -2.0, 0.0).tolist() == [0, -1, -2]


def test_what_cannot_be_steered_is_named(recordings: list[Recording], tmp_path: Path) -> None:
    sae, agent = made(HEAD), tiny_agent()
    for wrong, options, error, said in (
            (sae, {"latents": (24,)}, InterventionError, "latents 0 to 23, got 24"),
            (made(HEAD, width=15), {}, InterventionError, "the SAE 15"),
            (Sae("relu", sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec), {}, InterventionError, "does not say which hook"),
            (Sae("relu", sae.W_enc, sae.b_enc - 1e6, sae.W_dec, sae.b_dec, metadata=sae.metadata), {}, HarnessError,
             "no latent is above 0"),
            (sae, {"keys": ("atack",)}, HarnessError, "attack"),
            (sae, {"nulls": 20}, HarnessError, "99 draws")):
        with pytest.raises(error, match=said):
            steerability(recordings, agent, wrong, **options)
    treated = record(tmp_path, 2, 1, interventions=[SaeSplice(HEAD, sae=sae, latents=(0,))])
    with pytest.raises(RecordingError, match="under interventions"):
        steerability([treated], agent, sae)
