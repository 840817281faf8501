"""Do-consistency: a latent that carries the behaviour goes with the world's effect, one that reaches nobody not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fakes import FakeWorld, make_scenario
from intervention.tiny import tiny_agent
from wired import HEAD, RESID, attack_direction, made

from harness import registry
from harness.agent.sae import Sae
from harness.analysis.sae.consistency import DoConsistency, do_consistency
from harness.errors import HarnessError, InterventionError
from harness.scenario.setup import WorldSetup


class Striped(FakeWorld):
    """Other stripes where the scenario has another name."""

    def _reset(self, setup: WorldSetup, seed: int) -> None:
        super()._reset(setup, seed + len(self.scenario.name))


def reading(hook: str, direction: torch.Tensor) -> Sae:
    """Latent 0 reads what stands along a direction, and writes along it."""
    sae = made(hook, direction)
    encoder = sae.W_enc.clone()
    encoder[:, 0] = sae.W_dec[0]
    return Sae("relu", encoder, sae.b_enc + 50, sae.W_dec, sae.b_dec, metadata=sae.metadata)


def test_what_carries_the_behaviour_is_consistent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.TABLES["harness.worlds"], "striped", f"{__name__}:Striped")
    same, other = make_scenario(6), make_scenario(6).model_copy(update={"name": "other-stripes"})
    changed = {"other": other, "same": same}
    found = do_consistency(tiny_agent(), reading(HEAD, attack_direction()), same, changed, range(12), [0], steps=3,
                           backend="striped")
    agree, n, shuffled, p = found.agreement(0)
    assert n == 12 and agree >= 11 and shuffled < 0.8 and p < 0.05
    assert found.world[12:].tolist() == found.latent[0, 12:].tolist() == [0.0] * 12  # nothing was changed there
    assert found.consistency(0)["rank_correlation"] > 0.8 and found.consistency(1) is None
    nobody = do_consistency(tiny_agent(), reading(RESID, torch.ones(16)), same, changed, range(3), [0], steps=2,
                            backend="striped")
    assert np.abs(nobody.latent).max() < 1e-6 and nobody.tables()[0].rows[0][2] == "0 of 0"
    assert np.abs(nobody.activation).max() > 0


def test_equal_signs_say_nothing_where_all_are_equal() -> None:
    pairs = tuple(("without villager", seed) for seed in range(10))
    world = np.full(10, -0.2)
    found = DoConsistency({}, HEAD, "attack", np.array([4]), pairs, world, -np.ones((1, 10)), np.ones((1, 10)), "x")
    assert found.agreement(0) == (10, 10, 1.0, 1.0)


def test_what_cannot_be_compared_is_named() -> None:
    scenario, sae = make_scenario(2), made(HEAD)
    for options, error, said in (({"key": "atack"}, HarnessError, "attack"),
                                 ({"latents": [24]}, InterventionError, "24"),
                                 ({"changed": {}}, HarnessError, "a change of the world")):
        given = {"changed": {"a": scenario}, "latents": [0], **options}
        with pytest.raises(error, match=said):
            do_consistency(tiny_agent(), sae, scenario, given.pop("changed"), [1], given.pop("latents"), **given)
