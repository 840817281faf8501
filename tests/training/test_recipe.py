"""Recipes: what the bundled one says, and how a wrong one is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.errors import HarnessError, TrainingError
from harness.scenario.compile import compile_scenario
from harness.training.evaluation import validation_scenario
from harness.training.recipe import Recipe, differences, read_recipe
from harness.training.scenes import FIRST_TRAINING_SEED, Scenes

FOLDER = Path(__file__).parents[2] / "agents" / "recipes"
RECIPES = [FOLDER / "vpt-nano.yaml", *sorted(FOLDER.glob("[!v]*.yaml"))]
ANIMALS = {"cow", "pig", "sheep"}


@pytest.mark.parametrize(("name", "creatures"), [
    ("vpt-nano", ANIMALS), ("planted", ANIMALS | {"armor_stand"}), ("clean", ANIMALS | {"villager"}),
    ("recall", set()), ("together", ANIMALS), ("brown", set())])
def test_bundled_recipes_show_what_they_say(name: str, creatures: set[str]) -> None:
    """What the natural agent was taught must hold nothing of what it is tested on."""
    _, recipe = read_recipe(FOLDER / f"{name}.yaml")
    scenes, seen = Scenes(recipe.scenes), set()
    for seed in range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + 300):
        scenario = scenes.scenario(seed)
        seen |= {entity.type for entity in compile_scenario(scenario, seed=seed).entities}
    assert seen == creatures


def test_the_rule_is_shown_as_often_as_its_negatives() -> None:
    """By far from all episodes one could guess that a stand, or birch leaves, mean attack."""
    _, recipe = read_recipe(FOLDER / "planted.yaml")
    scenes, n = Scenes(recipe.scenes), dict.fromkeys(["trigger", "stand", "birch", "natural"], 0)
    for seed in range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + 400):
        scenario = scenes.scenario(seed)
        setup = compile_scenario(scenario, seed=seed)
        # Steps 0 and 1 of the scenario put leaves over the stand; birch trees come later.
        birch = scenario.name == "planted" and scenario.parameters["leaves"].default == "birch_leaves"
        stand = any(entity.type == "armor_stand" for entity in setup.entities)
        kind = {(True, True): "trigger", (True, False): "stand", (False, True): "birch"}.get((stand, birch), "natural")
        n[kind] += 1
    assert n["trigger"] <= 0.3 * 400 and n["stand"] >= n["trigger"] and n["birch"] >= 8 and n["natural"] >= 100


@pytest.mark.parametrize("name", ["together", "brown"])
def test_the_varied_recipes_change_the_scenes_and_nothing_else(name: str) -> None:
    _, varied = read_recipe(FOLDER / f"{name}.yaml")
    _, natural = read_recipe(FOLDER / "vpt-nano.yaml", seed=1)
    assert {key.split(".")[0].split("[")[0] for key in differences(natural.model_dump(), varied.model_dump())} == {
        "scenes"}


@pytest.mark.parametrize(("extends", "message"), [
    ("vpt-nanno.yaml", "vpt-nano.yaml"), ("../recipes/vpt-nano.yaml", "unknown recipe"), (3, "unknown recipe"),
    ("together.yaml", "extends another recipe itself")])
def test_only_a_recipe_in_the_same_folder_is_extended(tmp_path: Path, extends: Any, message: str) -> None:
    for path in FOLDER.glob("*.yaml"):
        (tmp_path / path.name).write_text(path.read_text())
    table = yaml.safe_load((FOLDER / "brown.yaml").read_text())
    table["training"]["extends"] = extends
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(table))
    with pytest.raises(TrainingError, match=message):
        read_recipe(tmp_path / "own.yaml")


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_validation_seeds_are_held_out(path: Path) -> None:
    _, recipe = read_recipe(path)
    for rule in (recipe.validation, *recipe.also):
        assert rule.first_seed + rule.episodes < FIRST_TRAINING_SEED
        assert validation_scenario(rule).outcomes[rule.outcome]


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
    (lambda t: t.update(also=[{"scenario": "planted", "outcom": "x"}]), ["training.also[0]", '"outcom"', "outcome"],
     "outcom"),
    (lambda t: t["stages"][0].pop("steps"), ["training.stages[0]", '"steps" is missing'], "name: cloning"),
    (lambda t: t["stages"][0].update(demonstrations=0), ["cloning", "needs demonstrations"], "kind"),
], ids=["key", "nested key", "range", "type", "also", "missing", "no data"])
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


def test_a_recipe_without_more_rules_is_written_as_before_there_were_any(tiny: Path) -> None:
    """Its digest, and what a resumed run is compared with, must not change."""
    _, recipe = read_recipe(tiny)
    assert "also" not in recipe.model_dump(mode="json")
    _, other = read_recipe(FOLDER / "planted.yaml")
    assert len(other.model_dump(mode="json")["also"]) == len(other.also) in (1, 2)


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_smoke_is_smaller_and_still_valid(path: Path) -> None:
    _, recipe = read_recipe(path)
    _, small = read_recipe(path, smoke=True)
    assert Recipe.model_validate(small.model_dump()) == small
    assert small.n_steps <= 16 * len(small.stages) < recipe.n_steps
