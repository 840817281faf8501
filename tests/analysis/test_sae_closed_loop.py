"""Events of episodes with a latent set by hand: one wired to attack brings hits, one wired to nothing changes none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fakes import make_scenario
from intervention.tiny import tiny_agent
from wired import ATTACK, HEAD, RESID, made

from harness.analysis.sae.closed_loop import ClosedLoop, steer_episodes
from harness.errors import HarnessError, InterventionError


def strongest_attack() -> torch.Tensor:
    """Along which one joint class with attack gains on every other."""
    weight = tiny_agent().policy.pi_head.buttons.linear_layer.weight.detach()
    best = (weight @ weight.T[:, torch.from_numpy(ATTACK)]).argmax(0)
    own = torch.from_numpy(np.flatnonzero(ATTACK))
    return weight[own[best == own][0]]


def test_a_wired_latent_brings_its_event_and_an_unwired_one_none(fake_backend: str) -> None:
    # The fake world leaves a hit for every third attack; its outcome asks for two.
    scenario, agent = make_scenario(6), tiny_agent()
    found = steer_episodes(agent, made(HEAD, strongest_attack()), [scenario], [1, 2], [0], 300.0, events=["hit"],
                           backend=fake_backend)
    assert found.events == (("stripes", "hit"),)
    assert found.clean[0] < 2 and found.treated.tolist() == [[2]]
    assert (found.directions < 2).any() and (found.others < 2).any()
    still = steer_episodes(agent, made(RESID, torch.ones(16)), [scenario], [1], [0], 3.0, max_steps=2,
                           backend=fake_backend)
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
