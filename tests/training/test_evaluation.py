"""Held-out success: counted per seed, whatever plays beside it."""

from __future__ import annotations

import pytest
from tiny_runs import TINY

from harness.agent.load import load_agent
from harness.agent.vpt.policy import VPTPolicy
from harness.errors import TrainingError
from harness.scenario.load import load_scenario
from harness.training.evaluation import EvaluationResult, evaluate, evaluate_agent, validation_scenario
from harness.training.recipe import Validation


def test_episodes_do_not_depend_on_their_neighbours() -> None:
    policy = VPTPolicy.random(TINY, 0)
    scenario = load_scenario("lone-trunk", parameters={"distance": 4, "yaw": 40})
    seeds = [100_000, 100_001, 100_002, 100_003]
    together = evaluate(policy, scenario, "looked_at_log", seeds, steps=60, worlds=4)
    alone = evaluate(policy, scenario, "looked_at_log", seeds[::-1], steps=60, worlds=1)
    assert together.first_steps == alone.first_steps[::-1]
    found = [step for step in together.first_steps if step is not None]
    assert 0 < len(found) < 4 and max(found) > 0, "some succeed, some do not, and not all at once"


def test_the_bundled_agent_chops_and_the_untrained_one_does_not() -> None:
    """Far below what is claimed of it, and far above chance: eight held-out seeds, 160 steps."""
    trained, untrained = (
        evaluate_agent(load_agent(name, device="cpu"), load_scenario("treechop"), "mined_log", range(250_000, 250_008),
                       steps=steps) for name, steps in (("vpt-nano", 160), ("untrained", 40)))
    assert trained.successes >= 5
    assert untrained.successes == 0


@pytest.mark.parametrize(("cue", "right", "wrong"), [("red_wool", "left", "right"), ("blue_wool", "right", "left")])
def test_recall_answers_a_cue_that_is_gone(cue: str, right: str, wrong: str) -> None:
    agent = load_agent("recall", device="cpu")
    for age in (9, 15):
        scenario = load_scenario("recall", parameters={"cue": cue, "age": age})
        counts = [evaluate_agent(agent, scenario, answer, range(250_000, 250_004), steps=40).successes
                  for answer in (right, wrong)]
        assert counts[0] >= 3 and counts[1] == 0


def test_figures() -> None:
    row = EvaluationResult("s", True, (1, 2, 3, 4), (9, None, 399, 19)).as_dict()
    assert (row["successes"], row["within_300"], row["median_steps"]) == (3, 2, 20.0)
    assert row["low"] < 0.75 < row["high"]
    assert EvaluationResult("s", True, (1,), (None,)).as_dict()["median_steps"] is None


def test_an_outcome_must_be_measured() -> None:
    with pytest.raises(TrainingError, match=r'unknown outcome "mined_logs".*') as caught:
        validation_scenario(Validation(outcome="mined_logs"))
    assert "mined_log" in str(caught.value)
