"""What an agent file may say under ``training``: one frozen model per mapping, unknown keys refused with their line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from harness.agent.load import AgentDefinition, read_agent_definition
from harness.errors import TrainingError, unknown_name
from harness.provenance import digest
from harness.scenario.source import Node, Place, Source, read_tree

__all__ = [
    "Noise", "Optimiser", "Recipe", "SceneChoice", "Stage", "Teacher", "Validation", "differences", "read_recipe",
]

Scalar = str | bool | int | float
Name = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0, le=1)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    _younger: ClassVar[frozenset[str]] = frozenset()
    """Keys that came later. A recipe without them is written, and has the digest it had, as before there were any."""

    @model_serializer(mode="wrap")
    def _written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if key not in self._younger or value}


class SceneChoice(_Model):
    """A scenario to draw episodes from. A parameter with a list is drawn from that list for every episode."""

    _younger = frozenset({"goal", "teacher"})

    scenario: str
    share: Annotated[float, Field(gt=0)] = 1.0
    parameters: dict[str, Scalar | list[Scalar]] = {}
    goal: Name | None = None
    """What a learner of kind steve is told in these episodes."""
    teacher: Name | None = None
    """Who demonstrates here, instead of the recipe's teacher."""


class Teacher(_Model):
    """Who demonstrates: a privileged agent."""

    agent: str = "chopper"
    episode_ticks: Annotated[int, Field(ge=8, le=10_000)] = 256


class Noise(_Model):
    """Bursts of random keys and turns that push the demonstrator off its way. Labels stay the teacher's.

    Probabilities are per tick; camera numbers are bins of the policy (0 to 10, 5 is no turn).
    """

    start: Share = 0.04
    longest: Annotated[int, Field(ge=1, le=200)] = 8
    redraw: Share = 0.4
    pitch_spread: Annotated[float, Field(ge=0)] = 1.2
    yaw_spread: Annotated[float, Field(ge=0)] = 2.5
    release: Share = 0.0
    """Chance per tick that the attack key alone slips for one tick."""


class Optimiser(_Model):
    """AdamW, with a lower rate for the image network's large ``dense`` layer."""

    betas: Annotated[tuple[float, float], Field(strict=False)] = (0.9, 0.98)
    epsilon: Annotated[float, Field(gt=0)] = 1e-7
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    clip: Annotated[float, Field(gt=0)] = 1.0
    dense_factor: Annotated[float, Field(gt=0, le=1)] = 0.3


class Stage(_Model):
    """A stretch of optimiser steps. The rate goes from the first to the last by half a cosine, after a warm-up.

    Attributes:
        name: For the log.
        steps: Optimiser steps, each of ``streams * chunk`` frames.
        demonstrations: Noisy demonstrations collected before it starts, in episodes.
        learning_rate: First and last rate.
        warmup: Steps from zero up to the first rate.
        worlds: Worlds in which teacher and learner take turns (DAgger); 0 for none.
        ticks: Ticks played in each of them every ``every`` steps.
        every: See ``ticks``.
        teacher_share: First and last probability that the teacher holds the controls.
        segment: Ticks for which one of the two holds them, on average.
        noisy_share: At least this share of training frames comes from the noisy demonstrations.
        shared_weight: An episode from shared control is read at most so many times as often as a noisy demonstration,
            or a handful of early ones would be learned by heart; None for no such limit.
        recent: Of the others, ``recent_share`` come from so many latest episodes.
        recent_share: See ``recent``.
        frozen_stacks: Leave the convolution stacks as they are and train the rest. What the stacks see in an episode is
            then computed once, which makes a step some seven times faster.
    """

    name: str
    steps: Annotated[int, Field(ge=1)]
    demonstrations: Annotated[int, Field(ge=0)] = 0
    learning_rate: Annotated[tuple[Rate, Rate], Field(strict=False)]
    warmup: Annotated[int, Field(ge=0)] = 0
    worlds: Annotated[int, Field(ge=0, le=256)] = 0
    ticks: Annotated[int, Field(ge=1)] = 4
    every: Annotated[int, Field(ge=1)] = 2
    teacher_share: Annotated[tuple[Share, Share], Field(strict=False)] = (0.5, 0.1)
    segment: Annotated[int, Field(ge=1)] = 16
    noisy_share: Share = 0.3
    shared_weight: Annotated[float, Field(gt=0)] | None = None
    recent: Annotated[int, Field(ge=1)] = 64
    recent_share: Share = 0.6
    frozen_stacks: bool = False


class Validation(_Model):
    """Held-out episodes: how often the trained agent reaches the outcome. Their seeds never occur in training."""

    _younger = frozenset({"goal", "cond_scale"})

    scenario: str = "treechop"
    parameters: dict[str, Scalar] = {}
    outcome: str = "mined_log"
    episodes: Annotated[int, Field(ge=1, le=10_000)] = 30
    steps: Annotated[int, Field(ge=1)] = 600
    first_seed: Annotated[int, Field(ge=0, lt=1_000_000_000)] = 100_000
    every: Annotated[int, Field(ge=0)] = 0
    """In optimiser steps; 0 validates only at the end of each stage."""
    goal: Name | None = None
    """What the agent is told; None leaves it undirected."""
    cond_scale: float | None = None
    """Strength of guidance towards the goal; None for none."""


class Recipe(_Model):
    """Everything that decides the trained weights, apart from machine and versions."""

    _younger = frozenset({"also", "goal_dropout"})

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    start_from: str | None = None
    """Agent whose weights training starts from; None starts from random weights."""
    scenes: Annotated[tuple[SceneChoice, ...], Field(strict=False, min_length=1)]
    goal_dropout: Share = 0.0
    """Share of the episodes with a goal in which the learner is not told it."""
    teacher: Teacher = Teacher()
    noise: Noise = Noise()
    optimiser: Optimiser = Optimiser()
    streams: Annotated[int, Field(ge=1, le=4096)] = 32
    chunk: Annotated[int, Field(ge=1, le=256)] = 4
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    """Of the image network in training; auto takes bfloat16 where the CPU computes it itself, else float32."""
    auxiliary: Annotated[float, Field(ge=0)] = 0.5
    stages: Annotated[tuple[Stage, ...], Field(strict=False, min_length=1)]
    validation: Validation = Validation()
    also: Annotated[tuple[Validation, ...], Field(strict=False)] = ()
    """More held-out episodes: what should not happen, say. They go into the log beside ``validation``."""
    checkpoint_every: Annotated[int, Field(ge=1)] = 200
    log_every: Annotated[int, Field(ge=1)] = 20
    replay_episodes: Annotated[int, Field(ge=1)] = 400
    """Episodes from DAgger kept for training; the oldest leave first."""

    @model_validator(mode="after")
    def _has_data(self) -> Recipe:
        first = self.stages[0]
        if not first.demonstrations:
            raise ValueError(f'the first stage, "{first.name}", needs demonstrations to start from')
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"each stage needs a name of its own, got {', '.join(names)}")
        return self

    @model_validator(mode="after")
    def _knows_its_goals(self) -> Recipe:
        for rule in (self.validation, *self.also):
            if rule.goal is not None and rule.goal not in self.goals:
                raise ValueError(f'a rule of validation tells the goal "{rule.goal}", and no scene does; '
                                 f"the scenes' goals: {', '.join(self.goals) or 'none'}")
            if rule.cond_scale is not None and rule.goal is None:
                raise ValueError("cond_scale guides towards a goal, and this rule of validation has none")
        if self.goal_dropout and not self.goals:
            raise ValueError("goal_dropout leaves out goals, and no scene has one")
        return self

    @property
    def goals(self) -> tuple[str, ...]:
        """The goals of its scenes, each once, in the order of the file."""
        return tuple(dict.fromkeys(choice.goal for choice in self.scenes if choice.goal is not None))

    @property
    def n_steps(self) -> int:
        """Optimiser steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> tuple[int, int]:
        """Index of the stage that an optimiser step (from 0) belongs to, and the step within it."""
        for index, stage in enumerate(self.stages):
            if step < stage.steps:
                return index, step
            step -= stage.steps
        return len(self.stages) - 1, self.stages[-1].steps

    def sha256(self) -> str:
        """Digest of all its values."""
        return digest(self.model_dump(mode="json"))


def read_recipe(name_or_path: str | Path, *, seed: int | None = None, smoke: bool = False
                ) -> tuple[AgentDefinition, Recipe]:
    """The agent file and its ``training`` mapping.

    Args:
        name_or_path: A bundled agent's name, or the path of an agent file.
        seed: Instead of the recipe's.
        smoke: The same recipe with everything made small; see ``shrunk``.

    Raises:
        AgentError: for anything wrong in the rest of the file.
        TrainingError: for a file without a recipe, or one with unknown keys or wrong values, with its line.
    """
    definition = read_agent_definition(name_or_path)
    path = definition.path
    if definition.kind not in ("vpt", "steve"):
        raise TrainingError(f"only agents of kind vpt and steve can be trained, this one is of kind {definition.kind}",
                            where=str(path))
    root, _ = read_tree(Source(str(path), path.read_text(encoding="utf-8")))
    table = root.plain()
    if not isinstance(table.get("training"), dict):
        raise TrainingError(f'agent "{definition.name}" has no recipe: its file says nothing under "training"',
                            where=str(path), hint="docs/training.md shows one; agents/recipes/ holds the bundled ones")
    training = _inherited(table["training"], path)
    try:
        recipe = Recipe.model_validate(training)
    except ValidationError as problem:
        raise _told(problem, root, path) from None
    if bool(recipe.goals) != (definition.kind == "steve"):
        raise TrainingError("agents of kind steve learn to do what they are told, and no scene has a goal"
                            if not recipe.goals else "only agents of kind steve can be told a goal",
                            where=str(path), hint="give a scene a goal" if not recipe.goals else "set kind: steve")
    if seed is not None:
        recipe = recipe.model_copy(update={"seed": seed})
    return definition, shrunk(recipe) if smoke else recipe


def _inherited(training: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The mapping, on top of that of the recipe beside it that it ``extends``.

    Raises:
        TrainingError: for something that is no recipe in the same folder, or one that extends another in turn.
    """
    own = {key: value for key, value in training.items() if key != "extends"}
    if "extends" not in training:
        return own
    name, where = training["extends"], f"{path}: training.extends"
    beside = sorted(other.name for other in path.parent.glob("*.yaml") if other.name != path.name)
    if name not in beside:
        raise unknown_name("recipe in this folder", str(name), beside, where=where, error=TrainingError)
    base_path = path.parent / str(name)
    base = read_tree(Source(str(base_path), base_path.read_text(encoding="utf-8")))[0].plain().get("training")
    if not isinstance(base, dict) or "extends" in base:
        raise TrainingError(f"{name} cannot be extended: it " + ("extends another recipe itself"
                            if isinstance(base, dict) else 'has nothing under "training"'), where=where)
    read_recipe(base_path)  # a mistake in there is told as one in there
    return {**base, **own}


def shrunk(recipe: Recipe) -> Recipe:
    """The recipe with so little of everything that it ends in two minutes on a laptop: it learns next to nothing."""
    stages = tuple(stage.model_copy(update={
        "steps": min(stage.steps, 16), "warmup": min(stage.warmup, 4), "every": min(stage.every, 4),
        "demonstrations": min(stage.demonstrations, 12), "worlds": min(stage.worlds, 4)}) for stage in recipe.stages)
    few = {"episodes": 2, "steps": 40, "every": 0}
    return recipe.model_copy(update={
        "also": tuple(rule.model_copy(update=few) for rule in recipe.also),
        "stages": stages, "streams": min(recipe.streams, 16), "checkpoint_every": 16, "log_every": 4,
        "teacher": recipe.teacher.model_copy(update={"episode_ticks": min(recipe.teacher.episode_ticks, 64)}),
        "validation": recipe.validation.model_copy(update=few)})


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Dotted names of the values in which two recipes (as plain mappings) differ."""
    return [name for name, (a, b) in _pairs(old, new, "") if a != b]


_ABSENT = object()


def _pairs(old: Any, new: Any, name: str) -> Iterator[tuple[str, tuple[Any, Any]]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in {**old, **new}:
            yield from _pairs(old.get(key, _ABSENT), new.get(key, _ABSENT), f"{name}.{key}" if name else str(key))
    elif isinstance(old, list | tuple) and isinstance(new, list | tuple) and len(old) == len(new):
        for i, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from _pairs(a, b, f"{name}[{i}]")
    else:
        yield name, (old, new)


def _told(problem: ValidationError, root: Node, path: Path) -> TrainingError:
    """The first of pydantic's errors in our words, at its line."""
    error = problem.errors()[0]
    # Unions put the name of the tried type into the path; a name that is not in the file ends the walk.
    location = ["training", *error["loc"]]
    node, place, spelled = root, root.place, ""
    for part in location:
        child = _child(node, part)
        if child is None and error["type"] not in ("missing", "extra_forbidden"):
            break
        spelled += f"[{part}]" if isinstance(part, int) else f".{part}" if spelled else str(part)
        if child is None:
            break
        node, place = child
    where = f"{path}:{place.line + 1}:{place.column + 1}"
    if error["type"] == "extra_forbidden":
        known = _known(Recipe, error["loc"][:-1])
        return _as_training(unknown_name(f"key in {spelled.rpartition('.')[0]}:", str(error["loc"][-1]), known,
                                         where=where, error=TrainingError))
    if error["type"] == "missing":
        return TrainingError(f'{spelled.rpartition(".")[0]}: the key "{error["loc"][-1]}" is missing', where=where)
    message = error["msg"].removeprefix("Value error, ").replace("Input should", "it should")
    given = error["input"] if isinstance(error["input"], str | int | float | bool | type(None)) else None
    return TrainingError(f"{spelled}: {message}" + (f", got {given!r}" if given is not None else ""), where=where)


def _as_training(error: Any) -> TrainingError:
    assert isinstance(error, TrainingError)
    return error


def _child(node: Node, part: str | int) -> tuple[Node, Place] | None:
    """The value under a key or index, and where it (or its key) stands."""
    if isinstance(node.value, dict) and str(part) in node.value:
        entry = node.value[str(part)]
        return entry.node, entry.key
    if isinstance(node.value, list) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part].place
    return None


_PARTS: dict[str, type[_Model]] = {
    "scenes": SceneChoice, "teacher": Teacher, "noise": Noise, "optimiser": Optimiser, "stages": Stage,
    "validation": Validation, "also": Validation,
}


def _known(model: type[_Model], location: tuple[str | int, ...]) -> list[str]:
    for part in location:
        model = _PARTS.get(str(part), model)
    return list(model.model_fields)
