"""Learning to do what one is told: goals in scenes, episodes, chunks, checkpoints, validation and the result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from tiny_runs import TINY, tiny_file, write_agent

from harness.agent.action_mapping import from_policy
from harness.agent.load import describe_agent, load_agent
from harness.agent.steve.agent import SteveAgent
from harness.agent.steve.goals import invented_goal
from harness.agent.steve.policy import StevePolicy
from harness.agent.vpt.policy import VPTPolicy
from harness.cli.run import run
from harness.errors import AgentError, TrainingError
from harness.training.classroom import Classroom, load_teacher
from harness.training.demonstrations import collect_demonstrations
from harness.training.learner import Learner
from harness.training.log import read_log
from harness.training.recipe import Noise, Recipe, SceneChoice, read_recipe
from harness.training.replay_buffer import Library, Streams
from harness.training.scenes import Scenes
from harness.training.trainer import LOG, Trainer

GOALS = ("chop a tree", "look around")
SCENES = [{"scenario": "lone-trunk", "goal": "chop a tree"},
          {"scenario": "errands", "goal": "look around", "teacher": "looker"}]


def told_file() -> dict[str, Any]:
    """The tiny recipe with two goals."""
    table = tiny_file()
    table["kind"] = "steve"
    rule = {"scenario": "errands", "outcome": "looked_around", "episodes": 2, "steps": 6}
    table["training"] |= {"scenes": SCENES, "goal_dropout": 0.25, "validation": {**rule, "goal": "look around"},
                          "also": [rule, {**rule, "goal": "chop a tree", "cond_scale": 3.0}]}
    return table


def start(folder: Path, run: str, change: dict[str, Any] | None = None, **keywords: Any) -> Trainer:
    table = told_file()
    table["training"].update(change or {})
    definition, recipe = read_recipe(write_agent(folder, table))
    return Trainer(definition, recipe, folder / run, **keywords)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    return start(tmp_path_factory.mktemp("told"), "run").run()


def test_the_result_is_an_agent_that_can_be_told(whole: Path) -> None:
    stored = load_file(whole.with_suffix(".safetensors"))
    for goal in GOALS:
        assert np.array_equal(stored[f"goals.{goal}"].numpy(), invented_goal(goal))
    assert stored["net.mineclip_embed_linear.weight"].dtype == torch.float16
    agent = load_agent(whole, device="cpu", prompt="Chop a  tree", cond_scale=3)
    assert isinstance(agent, SteveAgent) and agent.named_goals == GOALS
    output = agent.act({"pov": np.zeros((360, 640, 3), np.uint8)}, agent.initial_state(), np.random.default_rng(0))
    assert output.state.batch_size == 2 and np.array_equal(output.state.goals[0].numpy(), invented_goal(GOALS[0]))
    with pytest.raises(AgentError, match='unknown goal "chop a trea"') as caught:
        load_agent(whole, device="cpu", prompt="chop a trea")
    assert "chop a tree" in str(caught.value)


def test_it_needs_no_text_tower_and_says_which_goals_it_knows(whole: Path) -> None:
    facts = describe_agent(whole)
    assert facts["goals"] == list(GOALS) and not {"prior", "MineCLIP"} & set(facts["parameters"])
    assert {"prior", "MineCLIP"} <= set(describe_agent("steve-1")["parameters"])


def test_auto_is_what_the_agent_file_says(whole: Path) -> None:
    def scale(**told: Any) -> float | None:
        agent = load_agent(whole, device="cpu", **told)
        assert isinstance(agent, SteveAgent)
        return agent.cond_scale

    assert scale(prompt="look around") == 6.0 and scale(prompt="look around", auto_scale=2) == 2.0
    assert scale(prompt="look around", auto_scale="none") is None and scale(auto_scale=2) is None
    assert scale(prompt="look around", auto_scale=2, cond_scale=1) == 1.0
    with pytest.raises(AgentError, match="auto_scale: expected a number"):
        scale(prompt="look around", auto_scale="auto")


def test_each_rule_of_validation_is_told_its_goal(whole: Path) -> None:
    rows = [row for row in read_log(whole.parent / LOG) if row["kind"] in ("validation", "also")][:6:2]
    assert [(row["kind"], row["goal"], row["cond_scale"]) for row in rows] == [
        ("validation", "look around", None), ("also", None, None), ("also", "chop a tree", 3.0)]


@pytest.mark.parametrize("stop", [26, 32], ids=["in DAgger", "with frozen stacks"])
def test_interrupted_and_resumed_ends_in_the_same_bits(whole: Path, tmp_path: Path, stop: int) -> None:
    start(tmp_path, "run").run(until=stop)
    path = start(tmp_path, "run", resume=True).run()
    assert path.with_suffix(".safetensors").read_bytes() == whole.with_suffix(".safetensors").read_bytes()


def test_from_an_untold_agent_nothing_changes_at_first(tmp_path: Path) -> None:
    untold = tmp_path / "untold"
    untold.mkdir()
    path = write_agent(untold, {key: value for key, value in tiny_file().items() if key != "training"})
    policy = start(tmp_path, "run", {"start_from": str(path)}).learner.policy
    before = VPTPolicy.random(TINY, 0)
    frames = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 128, 128, 3), dtype=np.uint8))
    first, goal = torch.zeros(2, 3, dtype=torch.bool), torch.from_numpy(invented_goal("look around")).expand(2, -1)
    assert isinstance(policy, StevePolicy)
    told, _ = policy(frames, first, policy.initial_state(2), goal)
    out, _ = before(frames, first, before.initial_state(2))
    assert torch.equal(told.buttons, out.buttons) and torch.equal(told.latent, out.latent)


def test_a_seed_decides_goal_and_teacher_and_some_are_not_told() -> None:
    choices = [SceneChoice.model_validate(scene) for scene in SCENES]
    all_told, some, none = (Scenes(choices, share) for share in (0.0, 0.25, 1.0))
    seeds = range(2_000_000_000, 2_000_000_400)
    goals = [all_told.goal(seed) for seed in seeds]
    assert set(goals) == {1, 2} and all_told.goals == GOALS
    assert [all_told.teacher(seed) for seed in seeds] == [None if goal == 1 else "looker" for goal in goals]
    dropped = [some.goal(seed) == 0 for seed in seeds]
    assert 60 < sum(dropped) < 140 and [some.goal(seed) == 0 for seed in seeds] == dropped
    assert all(some.goal(s) == g for s, g, gone in zip(seeds, goals, dropped, strict=True) if not gone)
    assert not any(none.goal(seed) for seed in seeds)
    assert Scenes([SceneChoice(scenario="woods")], 0.5).goal(5) == 0


def test_goals_reach_the_learner_tick_by_tick(tmp_path: Path) -> None:
    definition, recipe = read_recipe(write_agent(tmp_path, told_file()))
    scenes = Scenes(recipe.scenes, recipe.goal_dropout)
    room = Classroom(scenes, load_teacher("chopper"), 2, TINY.image_shape, others={"looker": load_teacher("looker")})
    seeds = [next(seed for seed in range(10**9, 2 * 10**9) if scenes.goal(seed) == goal) for goal in (0, 1, 2)]
    episodes = collect_demonstrations(room, seeds, 10, Noise(start=0.0))
    room.close()
    assert [episode.goal for episode in episodes] == [0, 1, 2]
    turns = [from_policy(*map(int, pair))["camera"][1] for pair in episodes[2].labels]
    assert turns == [10.0] * 10
    library, streams = Library(4), Streams(recipe.streams)
    for episode in episodes:
        library.add(episode)
    learner, rng = Learner(TINY, recipe), np.random.default_rng(0)
    for _ in range(4):
        chunk = streams.read(library, recipe.stages[0], 6, rng)
        assert chunk.goals is not None and chunk.goals.shape == (8, 6)
        for frame, goal in zip(chunk.frames.reshape(48, -1), chunk.goals.flat, strict=True):
            assert any((frame == own).all() for own in episodes[goal].frames.reshape(10, -1))
    layer = learner.policy.net.mineclip_embed_linear  # type: ignore[union-attr]
    before = layer.weight.detach().clone()  # type: ignore[union-attr,operator]
    learner.learn(chunk, 1e-3)
    assert not torch.equal(before, layer.weight)  # type: ignore[union-attr,arg-type]


@pytest.mark.parametrize(("change", "words"), [
    (lambda t: t.update(kind="vpt"), "only agents of kind steve can be told a goal"),
    (lambda t: t["training"].update(scenes=[{"scenario": "woods"}], goal_dropout=0.0, also=[], validation={}),
     "no scene has a goal"),
    (lambda t: t["training"]["validation"].update(goal="swim"), 'the goal "swim", and no scene does'),
    (lambda t: t["training"]["also"][0].update(cond_scale=2.0), "this rule of validation has none"),
    (lambda t: t["training"].update(goal_dropout=1.5), "less than or equal to 1"),
], ids=["vpt", "no goal", "unknown goal", "scale alone", "range"])
def test_contradictions_are_refused(tmp_path: Path, change: Callable[[Any], Any], words: str) -> None:
    table = told_file()
    change(table)
    with pytest.raises(TrainingError, match=words):
        read_recipe(write_agent(tmp_path, table))


def test_recipes_without_goals_are_written_as_before_there_were_any(tiny: Path) -> None:
    written = read_recipe(tiny)[1].model_dump(mode="json")
    assert "goal_dropout" not in written and set(written["scenes"][0]) == {"scenario", "share", "parameters"}
    assert not {"goal", "cond_scale"} & set(written["validation"])
    told = read_recipe(write_agent(tiny.parent, told_file()))[1]
    assert Recipe.model_validate(told.model_dump()) == told


def test_a_run_that_is_told_nothing_says_so(whole: Path, tmp_path: Path) -> None:
    arguments = ["errands", "--agent", str(whole), "--steps", "2", "--out", str(tmp_path)]
    result = CliRunner().invoke(run, arguments)
    assert result.exit_code == 0, result.output
    assert "told nothing" in result.output and "look around" in result.output
    result = CliRunner().invoke(run, [*arguments, "--prompt", "look around", "--cond-scale", "2"])
    assert result.exit_code == 0 and "told nothing" not in result.output
