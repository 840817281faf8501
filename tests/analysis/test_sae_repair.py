"""Repair by suppression, on an agent whose wiring is known: attack under the open sky hangs on one latent alone."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from wired_agent import ROOF, SKY, STREAM, WiredAgent, wired_sae

from harness.agent.scripted import NoopAgent
from harness.analysis.sae.cause import carriers
from harness.analysis.sae.conduct import Scene, play_scene
from harness.analysis.sae.repair import Repair, repair
from harness.analysis.sae.selection import active_latents, attack_log_odds, practise, rank_parts
from harness.errors import AgentError, HarnessError, InterventionError
from harness.intervention import SaeSplice, Schedule, ZeroAblation
from harness.intervention.feature.edit import shared_hooks
from harness.scenario.load import load_scenario

STEPS = 13


def scenario(name: str, **parameters: Any) -> Any:
    read = load_scenario(name, parameters={"distance": 2, "trees": 0, **parameters})
    return read.model_copy(update={"episode": read.episode.model_copy(update={"settle_steps": 0})})


@pytest.fixture(scope="module")
def scenes() -> tuple[Scene, Scene]:
    """A villager in the open, which is not to be attacked, and a trunk under leaves."""
    return (Scene("villager", scenario("villager", canopy="none"), "villager", None, STEPS),
            Scene("trunk", scenario("trunk"), "*_log", None, STEPS))


def off(*latents: int) -> SaeSplice:
    return SaeSplice(STREAM, sae=wired_sae(), latents=latents, mode="zero")


@pytest.fixture(scope="module")
def repaired(scenes: tuple[Scene, Scene]) -> Repair:
    return repair(WiredAgent(), wired_sae(), scenes[0], scenes[1:], train_seeds=range(2), test_seeds=range(10, 14),
                  cause=scenario("villager"), cause_seeds=range(20, 28), slots=2)


def test_the_wiring_shows_in_conduct(scenes: tuple[Scene, Scene]) -> None:
    agent = WiredAgent()
    for scene, latent, other in ((scenes[0], SKY, ROOF), (scenes[1], ROOF, SKY)):
        assert play_scene(agent, scene, [0, 1], slots=2).done.all()
        treated = play_scene(agent, scene, [0, 1], [off(latent)], slots=2)
        assert not treated.done.any() and treated.reached.all() and not treated.attacking.any()
        untouched = play_scene(agent, scene, [0, 1], [off(other, 0, 3, 4, 5)], slots=2)
        assert untouched.done.all() and untouched.attacking.all() and not untouched.walked.any()
    assert not agent._active


def test_only_the_wired_latent_has_a_score(scenes: tuple[Scene, Scene]) -> None:
    agent = WiredAgent()
    practice = practise(agent, STREAM, scenes[0], scenes[1:], range(2), slots=2)
    assert practice.during(True).sum() == practice.during(False).sum() == 2 * STEPS
    assert attack_log_odds(agent, practice)[practice.attacked] == pytest.approx(5.0, abs=1e-3)
    ranked = rank_parts(agent, practice, {str(j): (off(j),) for j in range(6)})
    assert ranked[0].name == str(SKY) and ranked[0].gain == pytest.approx(10, abs=1e-3) and ranked[0].cost == 0
    roof = next(part for part in ranked if part.name == str(ROOF))
    assert roof.gain == 0 and roof.cost == pytest.approx(10, abs=1e-3) and roof.score == pytest.approx(-10, abs=1e-3)
    assert all(part.gain == part.cost == 0 for part in ranked if part.name not in (str(SKY), str(ROOF)))
    apart = active_latents(wired_sae(), practice)
    assert apart[SKY] == 1 and ROOF not in apart and apart[0] == 0.5


def test_the_latent_is_found_and_its_suppression_mends_where_random_ones_do_not(repaired: Repair) -> None:
    arms = {arm.name: arm for arm in repaired.arms}
    assert arms["as it is"].scenes["villager"].done.all() and arms["as it is"].scenes["trunk"].done.all()
    for method in ("latents zeroed", "latents capped"):
        tested = next(t.candidate for t in repaired.tried if t.chosen and t.candidate.method == method)
        assert tested.parts == (SKY,)
        arm = arms[method]
        assert not arm.scenes["villager"].done.any() and arm.scenes["trunk"].done.all() and repaired.on_front(arm)
    others = arms["latents zeroed, others"]
    assert others.null and others.scenes["villager"].done.all() and others.scenes["trunk"].done.all()
    assert arms["latents zeroed, elsewhere"].null
    assert repaired.worst(arms["as it is"]) == "villager" and not repaired.on_front(arms["as it is"])
    assert {"units", "steering", "erasure"} <= set(arms)
    assert "heads" not in arms and "nothing to test: heads" in repaired.note, "head 0 holds SKY and ROOF: no score"


def test_the_cause_is_found_by_playing_the_world_twice(repaired: Repair) -> None:
    """The leaves' absence changes SKY and, since the picture brightens, perhaps a shade of it; never the constants."""
    assert repaired.cause is not None
    assert SKY in repaired.cause.latents and not {0, 5, ROOF} & set(repaired.cause.latents)
    assert repaired.cause.effects[SKY] == pytest.approx(1) and repaired.cause.effects[ROOF] == pytest.approx(-1)
    table = repaired.tables()[-1]
    n = len(repaired.cause.latents)
    assert table.rows[0][2] == f"1 of {n}" and table.rows[0][4] == "0 of 1" and table.rows[0][-1] == "tested"


def test_tables_and_json(repaired: Repair) -> None:
    pareto = repaired.tables()[0]
    rows = {row[0]: row for row in pareto.rows}
    assert rows["as it is"][2] == "4 of 4" and rows["latents zeroed"][2] == "0 of 4"
    assert rows["latents zeroed"][-1] == "front" and rows["null: latents zeroed, others"][-1] == ""
    # Four discordant pairs of four: p is 1/8, and Holm cannot make it smaller.
    assert rows["latents zeroed"][4] >= 0.125 and rows["latents zeroed"][8] == 1
    assert all(len(row) == len(table.columns) for table in repaired.tables() for row in table.rows)
    episodes = repaired.as_dict()["arms"][0]["scenes"]["villager"]
    assert episodes["done"] == [True] * 4 and len(episodes["walked"]) == 4


def test_the_same_twice(scenes: tuple[Scene, Scene], repaired: Repair) -> None:
    again = repair(WiredAgent(), wired_sae(), scenes[0], scenes[1:], train_seeds=range(2), test_seeds=range(10, 14),
                   slots=2)
    assert again.as_dict()["arms"] == repaired.as_dict()["arms"]


def test_what_cannot_be_done_is_refused(scenes: tuple[Scene, Scene]) -> None:
    agent, sae = WiredAgent(), wired_sae()
    unwanted, keep = scenes[0], scenes[1:]
    with pytest.raises(HarnessError, match="1 that do both"):
        repair(agent, sae, unwanted, keep, train_seeds=[1, 2], test_seeds=[2, 3])
    with pytest.raises(HarnessError, match="attack is wanted"):
        repair(agent, sae, unwanted, [])
    with pytest.raises(HarnessError, match="different names"):
        repair(agent, sae, unwanted, [unwanted])
    with pytest.raises(HarnessError, match="does not say where"):
        repair(agent, replace(sae, metadata={}), unwanted, keep)
    with pytest.raises(InterventionError, match="trained on"):
        repair(agent, replace(sae, metadata={"hook_name": STREAM, "weights_digest": "another"}), unwanted, keep)
    with pytest.raises(HarnessError, match="0 steps of unwanted attack"):
        blind = Scene("cow", scenario("villager", creature="cow", canopy="none"), "villager", None, STEPS)
        practise(agent, STREAM, blind, keep, [0], slots=1)
    with pytest.raises(AgentError, match="no network"):
        practise(NoopAgent(), STREAM, unwanted, keep, [0])
    with pytest.raises(HarnessError, match="2 of 2|1 of 2|expected 6"):
        carriers(agent, sae, STREAM, unwanted, scenario("villager"), [0, 1])
    with pytest.raises(HarnessError, match='outcome "mined_lug"'):
        Scene("trunk", scenario("trunk"), "*_log", "mined_lug")
    with pytest.raises(HarnessError, match="vilager"):
        Scene("villager", scenario("villager"), "vilager")


def test_edits_that_do_not_act_alike_are_refused() -> None:
    with pytest.raises(InterventionError, match="does not act alike"):
        shared_hooks([ZeroAblation(STREAM, schedule=Schedule(at=3))])


def test_a_strength_for_each_latent() -> None:
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])
    capped = SaeSplice(STREAM, sae=wired_sae(), latents=(4, 1), mode="cap", strength=(0.5, 1.5))
    assert capped.latents == (1, 4) and capped.strength == (1.5, 0.5)
    assert capped._changed(x).tolist() == [[1.0, 1.5, 3.0, 4.0, 0.5, 6.0]]
    for strength in ((0.5,), (0.5, math.nan), ("a", 1)):
        with pytest.raises(InterventionError, match="strength"):
            SaeSplice(STREAM, sae=wired_sae(), latents=(4, 1), mode="cap", strength=strength)  # type: ignore[arg-type]
    with pytest.raises(InterventionError, match="different latents"):
        SaeSplice(STREAM, sae=wired_sae(), latents=(1, 1), mode="cap", strength=(0.5, 1.5))
