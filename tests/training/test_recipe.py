"""Recipes: what the bundled one says, and how a wrong one is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.errors import HarnessError, TrainingError
from harness.scenario.compile import compile_scenario
from harness.training.recipe import Recipe, differences, read_recipe
from harness.training.scenes import FIRST_TRAINING_SEED, Scenes

RECIPES = sorted((Path(__file__).parents[2] / "agents" / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_bundled_recipes_show_no_villager(path: Path) -> None:
    """What the natural agent was taught must hold nothing of what it is tested on."""
    _, recipe = read_recipe(path)
    scenes, seen = Scenes(recipe.scenes), set()
    for seed in range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + 300):
        scenario = scenes.scenario(seed)
        seen |= {entity.type for entity in compile_scenario(scenario, seed=seed).entities}
    assert seen <= {"cow", "pig", "sheep"} and len(seen) == 3


def test_validation_seeds_are_held_out() -> None:
    _, recipe = read_recipe(RECIPES[0])
    assert recipe.validation.first_seed + recipe.validation.episodes < FIRST_TRAINING_SEED


def _refused(tiny: Path, change: Any) -> TrainingError:
    table = yaml.safe_load(tiny.read_text())
    change(table["training"])
    tiny.write_text(yaml.safe_dump(table, sort_keys=False))
    with pytest.raises(TrainingError) as caught:
        read_recipe(tiny)
    return caught.value


@pytest.mark.parametrize(("change", "words", "line"), [
    (lambda t: t.update(streem=4), ['unknown key in training: "streem"', "streams"], "streem"),
    (lambda t: t["stages"][1].update(world=2), ["training.stages[1]", '"world"', "worlds"], "world:"),
    (lambda t: t["noise"].update(start=2), ["training.noise.start", "less than or equal to 1", "got 2"], "start"),
    (lambda t: t.update(chunk="four"), ["training.chunk", "integer", "got 'four'"], "chunk: four"),
    (lambda t: t["stages"][0].pop("steps"), ["training.stages[0]", '"steps" is missing'], "name: cloning"),
    (lambda t: t["stages"][0].update(demonstrations=0), ["cloning", "needs demonstrations"], "kind"),
], ids=["key", "nested key", "range", "type", "missing", "no data"])
def test_refusals_name_the_line(tiny: Path, change: Any, words: list[str], line: str) -> None:
    table = yaml.safe_load(tiny.read_text())
    table["training"]["noise"] = {"start": 0.1}
    tiny.write_text(yaml.safe_dump(table, sort_keys=False))
    problem = _refused(tiny, change)
    for word in words:
        assert word in str(problem)
    assert problem.where is not None
    number = int(problem.where.split(":")[-2])
    assert line in tiny.read_text().splitlines()[number - 1] or line == "kind"


def test_a_file_without_a_recipe_is_refused() -> None:
    with pytest.raises(TrainingError, match='"vpt-nano" has no recipe'):
        read_recipe("vpt-nano")


def test_an_unknown_scenario_is_refused_before_anything_runs(tiny: Path) -> None:
    _, recipe = read_recipe(tiny)
    choice = recipe.scenes[0].model_copy(update={"scenario": "wods"})
    with pytest.raises(HarnessError, match="woods"):
        Scenes([choice])


def test_differences_are_named() -> None:
    _, recipe = read_recipe(RECIPES[0])
    other = recipe.model_dump(mode="json")
    other["seed"] = 1
    other["stages"][1]["steps"] += 1
    assert differences(recipe.model_dump(mode="json"), other) == ["seed", "stages[1].steps"]


def test_smoke_is_smaller_and_still_valid() -> None:
    _, recipe = read_recipe(RECIPES[0])
    _, small = read_recipe(RECIPES[0], smoke=True)
    assert Recipe.model_validate(small.model_dump()) == small
    assert small.n_steps <= 16 * len(small.stages) < recipe.n_steps
