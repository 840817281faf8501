"""A training run: stages of optimiser steps, with demonstrations before and shared episodes in between."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from harness.agent.load import AgentDefinition, load_agent
from harness.agent.mineclip.config import EMBED
from harness.agent.steve.policy import StevePolicy
from harness.agent.vpt.agent import VPTAgent
from harness.agent.vpt.config import VPTConfig, size_config
from harness.agent.vpt.state import VPTState
from harness.errors import TrainingError
from harness.provenance import collect_provenance
from harness.training.checkpoint import (
    Checkpoint,
    checkpoint_dirs,
    latest_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from harness.training.classroom import Classroom, Episode, load_teacher
from harness.training.curves import summary
from harness.training.demonstrations import collect_demonstrations, play_again
from harness.training.evaluation import evaluate, validation_scenario
from harness.training.export import deployed, export_agent
from harness.training.files import replace_file
from harness.training.learner import Learner, Measured, image_precision
from harness.training.log import append_row, curves_svg, cut_log, read_log
from harness.training.recipe import Recipe, Stage, differences
from harness.training.replay_buffer import Library, SeenEpisodes, Streams
from harness.training.scenes import Scenes
from harness.training.shared_control import SharedControl, Unfinished

__all__ = ["Progress", "Trainer", "config_of", "learning_rate"]

COLLECTING_WORLDS = 8
GOAL_LAYER = "net.mineclip_embed_linear"
LOG, CURVES = "log.jsonl", "curves.svg"


class Progress(Protocol):
    """Who is told how far it is."""

    def start(self, label: str, total: int | None) -> None:
        """A new thing of ``total`` parts."""

    def to(self, done: int) -> None:
        """So many are done."""


def config_of(definition: AgentDefinition) -> VPTConfig:
    """The sizes that an agent file of kind vpt asks for.

    Raises:
        AgentError: for an unknown size or keyword.
        TrainingError: when it names neither a size nor keyword arguments.
    """
    arguments = definition.arguments
    if arguments.get("size") is not None:
        return size_config(arguments["size"])
    if "policy_kwargs" not in arguments or "pi_head_kwargs" not in arguments:
        raise TrainingError("arguments: expected size, or policy_kwargs and pi_head_kwargs", where=str(definition.path))
    return VPTConfig.from_released(arguments["policy_kwargs"], arguments["pi_head_kwargs"])


def learning_rate(stage: Stage, step: int) -> float:
    """The rate at a step of a stage: up in a line, then down by half a cosine."""
    first, last = stage.learning_rate
    if step < stage.warmup:
        return first * (step + 1) / stage.warmup
    done = (step - stage.warmup) / max(1, stage.steps - stage.warmup)
    return last + (first - last) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))


class Trainer:
    """One run in one folder.

    The same recipe on the same machine gives the same weights, bit for bit, also when it was interrupted and resumed;
    on another CPU or with another number of threads sums are rounded differently, and the runs drift apart.

    Args:
        definition: The agent file.
        recipe: Its recipe.
        folder: For checkpoints, log, curves and the result.
        resume: Go on from the latest checkpoint in the folder.
        threads: CPU threads for the arithmetic and for the worlds.
        progress: Who is told.

    Raises:
        TrainingError: when the folder holds another run, or (``resume``) one of another recipe.
    """

    def __init__(self, definition: AgentDefinition, recipe: Recipe, folder: Path, *, resume: bool = False,
                 threads: int = 1, progress: Progress | None = None) -> None:
        self.definition, self.recipe, self.folder = definition, recipe, folder
        self._progress, self._threads, self._told = progress, threads, ""
        self.config = config_of(definition)
        checkpoint = read_checkpoint(latest_checkpoint(folder)) if resume else None
        if checkpoint is not None:
            self._refuse_other(checkpoint.state)
        elif checkpoint_dirs(folder) or (folder / LOG).exists():
            raise TrainingError(f"{folder} holds a training run already",
                                hint="go on with --resume, or choose another folder with --out")
        self._teacher, self._scenes = load_teacher(recipe.teacher.agent), Scenes(recipe.scenes, recipe.goal_dropout)
        self._others = {name: load_teacher(name) for name in dict.fromkeys(c.teacher for c in recipe.scenes) if name}
        self._rules = [(rule, validation_scenario(rule)) for rule in (recipe.validation, *recipe.also)]
        torch.set_num_threads(threads)
        self.learner = Learner(self.config, recipe, self._first_weights() if checkpoint is None else None)
        self.library, self.streams = Library(recipe.replay_episodes), Streams(recipe.streams)
        names = ("seeds", "streams", "control")
        sequences = np.random.SeedSequence(recipe.seed).spawn(len(names))
        self._rngs = {name: np.random.default_rng(s) for name, s in zip(names, sequences, strict=True)}
        self.step, self._collected_for = 0, -1
        self._control: SharedControl | None = None
        self._unfinished: Unfinished | None = None
        self._seen: SeenEpisodes | None = None
        self._window: list[Measured] = []
        self._seconds = 0.0
        folder.mkdir(parents=True, exist_ok=True)
        if checkpoint is not None:
            self._restore(checkpoint)
        else:
            self._log({"kind": "begin", "agent": definition.name, "seed": recipe.seed, "recipe": recipe.sha256(),
                       "precision": self.learner.precision, "threads": threads,
                       "provenance": collect_provenance().as_dict()})

    # ---- where it begins

    def _first_weights(self) -> dict[str, torch.Tensor] | None:
        if self.recipe.start_from is None:
            return None
        agent = load_agent(self.recipe.start_from, device="cpu")
        if not isinstance(agent, VPTAgent) or agent.policy.config != self.config:
            raise TrainingError(f"start_from: {self.recipe.start_from} is no VPT agent of the same sizes",
                                where=str(self.definition.path))
        weights = dict(agent.policy.state_dict())
        if self.recipe.goals and not isinstance(agent.policy, StevePolicy):
            # Until it learns, what it is told changes nothing of what it does.
            weights |= {f"{GOAL_LAYER}.weight": torch.zeros(self.config.hidsize, EMBED),
                        f"{GOAL_LAYER}.bias": torch.zeros(self.config.hidsize)}
        return weights

    def _refuse_other(self, state: Mapping[str, Any]) -> None:
        mine = {**self.recipe.model_dump(mode="json"), "policy": self.config.policy_kwargs(),
                "precision": image_precision(self.recipe.precision)}
        found = differences(state["recipe"], mine)
        if found:
            raise TrainingError(f"the run in {self.folder} has another recipe; it differs in {', '.join(found[:6])}"
                                + (f" and {len(found) - 6} more" if len(found) > 6 else ""),
                                hint="resume with the recipe and seed it began with, or begin anew with --out")

    # ---- the run

    def run(self, until: int | None = None) -> Path:
        """Train to the end (or to a step), and export.

        Returns:
            The agent file of the result.

        Raises:
            TrainingError: when the loss is not a finite number: the last good checkpoint stays.
        """
        last = self.recipe.n_steps if until is None else min(until, self.recipe.n_steps)
        try:
            while self.step < last:
                index, within = self.recipe.stage_at(self.step)
                self._prepare(index, within)
                self._tell(self.recipe.stages[index].name, self.recipe.n_steps)
                self._report()(self.step)
                self._advance(index, within)
        finally:
            self._stop_control()
        path, _ = self._export(self.folder, self.definition.name)
        return path

    def _export(self, folder: Path, name: str) -> tuple[Path, str]:
        return export_agent(self.learner.policy, self.definition, folder, name, goals=self.recipe.goals,
                            note=f"trained for {self.step} steps, seed {self.recipe.seed}")

    def _tell(self, label: str, total: int | None) -> None:
        if self._progress is not None and label != self._told:
            self._progress.start(label, total)
        self._told = label

    def _prepare(self, index: int, within: int) -> None:
        """Demonstrations and worlds that a stage needs."""
        stage = self.recipe.stages[index]
        if not stage.frozen_stacks:
            self._seen = None
        elif self._seen is None:
            self._seen = SeenEpisodes(self.learner.see)
        if index > self._collected_for:
            self._collected_for = index
            self._stop_control(forget=True)
            if stage.demonstrations:
                self._demonstrate(stage)
        if stage.worlds and self._control is None:
            self._control = SharedControl(
                self._classroom(stage.worlds), self.learner, self.recipe.teacher.episode_ticks, stage.segment,
                self._rngs["control"], self._unfinished)
            self._unfinished = None

    def _classroom(self, worlds: int) -> Classroom:
        return Classroom(self._scenes, self._teacher, worlds, self.config.image_shape, threads=self._threads,
                         others=self._others)

    def _demonstrate(self, stage: Stage) -> None:
        started = time.perf_counter()
        self._tell("demonstrations", stage.demonstrations)
        seeds = [Scenes.draw_seed(self._rngs["seeds"]) for _ in range(stage.demonstrations)]
        room = self._classroom(min(COLLECTING_WORLDS, stage.demonstrations))
        episodes = collect_demonstrations(room, seeds, self.recipe.teacher.episode_ticks, self.recipe.noise,
                                          self._report())
        room.close()
        for episode in episodes:
            self.library.add(episode)
        seconds = time.perf_counter() - started
        self._seconds += seconds
        self._log({"kind": "demonstrations", "stage": stage.name, "episodes": len(episodes),
                   "frames": sum(map(len, episodes)), "seconds": round(seconds, 1)})

    def _report(self) -> Callable[[int], None]:
        return self._progress.to if self._progress is not None else lambda done: None

    def _advance(self, index: int, within: int) -> None:
        """One optimiser step, and what is due around it."""
        started = time.perf_counter()
        stage, recipe = self.recipe.stages[index], self.recipe
        if self._control is not None and within % stage.every == 0:
            first, last = stage.teacher_share
            self._control.collect(self.library, stage.ticks, first + (last - first) * within / stage.steps)
        chunk = self.streams.read(self.library, stage, recipe.chunk, self._rngs["streams"], self._seen)
        rate = learning_rate(stage, within)
        measured = self.learner.learn(chunk, rate)
        if not measured.finite:
            raise self._not_finite(measured)
        self.step += 1
        self._window.append(measured)
        self._seconds += time.perf_counter() - started
        ends = within + 1 == stage.steps
        saves = self.step % recipe.checkpoint_every == 0 or ends
        if self.step % recipe.log_every == 0 or saves:
            self._log_training(stage, rate)
            if self._seen is not None:
                self._seen.forget_all_but([*self.library.noisy, *self.library.shared, *self.streams.episodes()])
        if ends or (recipe.validation.every and self.step % recipe.validation.every == 0):
            self._validate(stage, ends)
        if saves:
            self.save()

    def _not_finite(self, measured: Measured) -> TrainingError:
        kept = checkpoint_dirs(self.folder)
        good = f"the last good checkpoint is {kept[-1]}" if kept else "there is no checkpoint yet"
        return TrainingError(
            f"step {self.step + 1}: the loss is {measured.loss}, its gradient {measured.gradient_norm}; {good}",
            hint="lower learning_rate or optimiser.clip in the recipe and begin anew")

    # ---- what it tells

    def _log(self, row: Mapping[str, Any]) -> None:
        append_row(self.folder / LOG, {"step": self.step, "seconds_total": round(self._seconds, 1), **row})

    def _log_training(self, stage: Stage, rate: float) -> None:
        self._log({"kind": "train", "stage": stage.name, "learning_rate": rate,
                   "frames": self.step * self.recipe.streams * self.recipe.chunk,
                   "library": [len(self.library.noisy), len(self.library.shared)], **summary(self._window)})
        self._window = []

    def _validate(self, stage: Stage, ends: bool) -> None:
        policy = deployed(self.learner.policy)
        for place, (rule, scenario) in enumerate(self._rules):
            started = time.perf_counter()
            seeds = range(rule.first_seed, rule.first_seed + rule.episodes)
            self._tell("validation", rule.episodes)
            # The curve shows the first rule alone.
            told: dict[str, Any] = {"kind": "validation"}
            if place:
                told = {"kind": "also", "outcome": rule.outcome, "parameters": rule.parameters}
            told |= {"goal": rule.goal, "cond_scale": rule.cond_scale} if self.recipe.goals else {}
            for sampling in (True, False) if ends else (True,):
                result = evaluate(policy, scenario, rule.outcome, seeds, steps=rule.steps, sampling=sampling,
                                  goal=rule.goal, cond_scale=rule.cond_scale, report=self._report())
                self._log({**told, "stage": stage.name, **result.as_dict(),
                           "seconds": round(time.perf_counter() - started, 1)})
        keep = self.folder / "kept"
        keep.mkdir(exist_ok=True)
        self._export(keep, f"{self.definition.name}-{self.step:07d}")
        svg = curves_svg(read_log(self.folder / LOG))
        replace_file(self.folder / CURVES, lambda path: path.write_text(svg, encoding="utf-8"))

    # ---- leaving and coming back

    def _stop_control(self, *, forget: bool = False) -> None:
        if self._control is not None:
            self._unfinished = None if forget else self._control.unfinished()
            self._control.close()
            self._control = None
        if forget:
            self._unfinished = None

    def save(self) -> Path:
        """Write a checkpoint."""
        learner = self.learner
        tensors = {f"policy.{name}": weight for name, weight in learner.policy.state_dict().items()}
        tensors |= {f"auxiliary.{name}": weight for name, weight in learner.auxiliary.state_dict().items()}
        for name, parameter in learner.named_parameters():
            tensors |= {f"adam.{name}.{key}": value for key, value in learner.optimiser.state[parameter].items()}
        tensors |= _memory_tensors("memory", learner.memory)
        places = self._places()
        control = self._control.unfinished() if self._control is not None else self._unfinished
        episodes = [(e.seed, e.noisy, e.tokens) for e in places["episodes"]]
        state: dict[str, Any] = {
            "recipe": {**self.recipe.model_dump(mode="json"), "policy": self.config.policy_kwargs(),
                       "precision": learner.precision},
            "rngs": {name: rng.bit_generator.state for name, rng in self._rngs.items()},
            "noisy": places["noisy"], "shared": places["shared"], "streams": places["streams"],
            "collected_for": self._collected_for, "seconds": self._seconds, "control": None,
            "provenance": collect_provenance().as_dict(), "threads": self._threads,
        }
        if control is not None:
            tensors |= _memory_tensors("control", control.memory)
            state["control"] = {"teaching": control.teaching.tolist(), "n_episodes": len(control.episodes),
                                "ticks": [ticks for _, ticks, _ in control.episodes]}
            episodes += [(seed, False, tokens) for seed, _, tokens in control.episodes]
        return write_checkpoint(self.folder, Checkpoint(self.step, tensors, episodes, state))

    def _places(self) -> dict[str, Any]:
        """Every episode once, and which of them is where."""
        known: dict[int, int] = {}
        episodes: list[Episode] = []

        def number(episode: Episode) -> int:
            if id(episode) not in known:
                known[id(episode)] = len(episodes)
                episodes.append(episode)
            return known[id(episode)]

        noisy = [number(e) for e in self.library.noisy]
        shared = [number(e) for e in self.library.shared]
        streams = [None if place is None else [number(place[0]), place[1]] for place in self.streams.places]
        return {"episodes": episodes, "noisy": noisy, "shared": shared, "streams": streams}

    def _restore(self, checkpoint: Checkpoint) -> None:
        state, tensors, learner = checkpoint.state, checkpoint.tensors, self.learner
        self.step, self._collected_for = checkpoint.step, int(state["collected_for"])
        self._seconds = float(state["seconds"])
        learner.policy.load_state_dict(_below(tensors, "policy"))
        learner.auxiliary.load_state_dict(_below(tensors, "auxiliary"))
        for name, parameter in learner.named_parameters():
            learner.optimiser.state[parameter] = _below(tensors, f"adam.{name}")
        learner.memory = _memory_from(tensors, "memory", self.config)
        for name, rng in self._rngs.items():
            rng.bit_generator.state = state["rngs"][name]
        control = state["control"]
        n_whole = len(checkpoint.episodes) - (control["n_episodes"] if control else 0)
        self._tell("playing stored episodes again", n_whole)
        room = self._classroom(COLLECTING_WORLDS)
        episodes = play_again(room, checkpoint.episodes[:n_whole], self._report())
        room.close()
        self.library.noisy = [episodes[i] for i in state["noisy"]]
        self.library.shared = [episodes[i] for i in state["shared"]]
        self.streams.places = [None if place is None else (episodes[place[0]], place[1]) for place in state["streams"]]
        if control:
            rest = [(seed, ticks, tokens) for (seed, _, tokens), ticks
                    in zip(checkpoint.episodes[n_whole:], control["ticks"], strict=True)]
            self._unfinished = Unfinished(rest, np.array(control["teaching"]),
                                          _memory_from(tensors, "control", self.config))
        cut_log(self.folder / LOG, self.step)


def _memory_tensors(prefix: str, state: VPTState) -> dict[str, torch.Tensor]:
    return {f"{prefix}.{name}": torch.from_numpy(array) for name, array in state.to_arrays().items()}


def _memory_from(tensors: Mapping[str, torch.Tensor], prefix: str, config: VPTConfig) -> VPTState:
    return VPTState.from_arrays({name: t.numpy() for name, t in _below(tensors, prefix).items()}, config)


def _below(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
