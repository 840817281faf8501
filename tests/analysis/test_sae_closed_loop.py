"""Events of episodes with a latent set by hand: one wired to attack brings hits, one wired to nothing changes none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fakes import make_scenario
from intervention.tiny import tiny_agent

from harness.analysis.sae.closed_loop import ClosedLoop, steer_episodes
from harness.errors import HarnessError, InterventionError

from .test_sae_steerability import HEAD, RESID, attack_direction, made


def test_a_wired_latent_brings_its_event_and_an_unwired_one_none(fake_backend: str) -> None:
    # The fake world leaves a hit for every third attack. Only a few nulls are played apart, for time.
    scenario, agent = make_scenario(9), tiny_agent()
    found = steer_episodes(agent, made(HEAD, attack_direction()), [scenario], [1, 2], [0], 200.0, events=["hit"],
                           backend=fake_backend)
    assert found.events == (("stripes", "hit"),) and found.treated.tolist() == [[2]]
    assert found.score(found.treated, "hit")[0] >= found.score(found.directions, "hit").max()
    still = steer_episodes(agent, made(RESID, torch.ones(16)), [scenario], [1, 2], [0], 3.0, backend=fake_backend)
    assert still.treated[0].tolist() == still.clean.tolist()
    assert "random weights" in still.tables()[0].note


def test_the_numbers_worked_out() -> None:
    treated, null = np.array([[10, 4]]), np.zeros((99, 2), np.int64)
    found = ClosedLoop({}, HEAD, "replace", 1.0, (("a", "hit"), ("b", "hit")), 10, np.array([3]), np.array([0, 0]),
                       treated, null, null + [5, 5], "made-up")
    assert found.score(treated, "hit")[0] == pytest.approx((1 + 0.16) / 2)
    assert found.p("hit").tolist() == [[0.01, 0.01]]
    rows, passed = found.tables()
    assert rows.rows[0][:5] == (3, "a", "hit", "0 of 10", "10 of 10") and passed.rows[0][1] == "1 of 1"


def test_what_cannot_be_played_is_named() -> None:
    agent, sae, scenario = tiny_agent(), made(HEAD), make_scenario(3)
    for options, error, said in (
            ({"events": ["hitt"]}, HarnessError, "hit"), ({"nulls": 9}, HarnessError, "99 draws"),
            ({"latents": [24]}, InterventionError, "got 24"), ({"latents": []}, HarnessError, "a latent at least"),
            ({"alive": [0]}, HarnessError, "no other latent"),
            ({"scenarios": [scenario.model_copy(update={"outcomes": {}})]}, HarnessError, "no events")):
        given = {"scenarios": [scenario], "latents": [0], **options}
        with pytest.raises(error, match=said):
            steer_episodes(agent, sae, given.pop("scenarios"), [1], given.pop("latents"), 1.0, **given)
