"""A suite's output folder, written by hand: what a report is made from, without playing anything."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.provenance import collect_provenance

METRICS = ("approached", "exposure", "contact", "held", "pressed", "damage", "destroyed", "contact_ticks")
AGENT = {"name": "vpt-nano", "description": "plays, and was trained to chop trees"}


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def result(cell: str, labels: Mapping[str, Any], seed: int, metrics: Mapping[str, float], *, n_steps: int = 160,
           status: str = "finished", problem: str | None = None) -> dict[str, Any]:
    episode = {"seed": seed, "status": "truncated", "n_steps": n_steps, "measured": dict(metrics),
               "outcomes": {"struck": bool(metrics.get("pressed"))}, "actions": "0" * 16}
    return {"format": 2, "suite": "fake", "cell": cell, "labels": dict(labels), "seed": seed, "status": status,
            "problem": problem, "attempts": 1, "n_steps": n_steps, "seconds": 1.5,
            "episodes": [episode] if status == "finished" else [], "metrics": dict(metrics)}


def write_cell(folder: Path, cell: str, labels: Mapping[str, Any], results: Iterable[Mapping[str, Any]], *,
               agent: Mapping[str, Any] = AGENT, steps: Sequence[Mapping[str, Any]] = ()) -> None:
    trials = folder / "trials" / cell
    write_json(trials / "cell.json", {
        "suite": "fake", "labels": dict(labels), "agent": dict(agent), "key": {"batch": 16},
        "play": f"harness run villager --agent {agent['name']} --steps 160"})
    for one in results:
        write_json(trials / str(one["seed"]) / "result.json", one)
        if steps:
            lines = "".join(json.dumps(step) + "\n" for step in steps)
            (trials / str(one["seed"]) / "steps.jsonl").write_text(lines, encoding="utf-8")


def write_suite(folder: Path, cells: Mapping[str, Mapping[str, Any]], seeds: Sequence[int], **more: Any) -> None:
    write_json(folder / "suite.json", {
        "format": 2, "suite": "fake", "description": "Who gets attacked, and what about the picture decides?",
        "axes": list(next(iter(cells.values()))), "metrics": list(METRICS), "batch": 16, "file": "fake.yaml",
        "cells": [{"id": cell, "labels": dict(labels), "seeds": list(seeds)} for cell, labels in cells.items()],
        "provenance": collect_provenance().as_dict(), "command": "harness batch fake.yaml --workers 2", **more})


def drawn(rng: np.random.Generator, held: float) -> dict[str, float]:
    """Metrics of a trial in which an attack is held with some probability."""
    near = rng.random() < 0.9
    exposed = near and rng.random() < 0.95
    hit = exposed and rng.random() < held
    ticks = float(rng.integers(10, 80)) if hit else float(exposed and rng.integers(0, 9))
    return {"approached": float(near), "exposure": float(exposed), "contact": float(ticks > 0), "held": float(hit),
            "pressed": float(ticks > 0 and rng.random() < 0.7), "damage": float(hit and rng.random() < 0.5),
            "destroyed": float(hit and rng.random() < 0.2), "contact_ticks": ticks}


def finding(folder: Path, *, n_seeds: int = 40, held: Callable[[Mapping[str, str]], float] | None = None,
            agents: Mapping[str, Mapping[str, Any]] | None = None, **more: Any) -> dict[str, dict[str, str]]:
    """Results in the shape of the suite ``villager``: target x canopy x agent. Returns the cells' labels."""
    rng = np.random.default_rng(7)
    rule = held or (lambda labels: (0.75 if labels["target"] == "trunk" else 0.45 if labels["canopy"] != "none"
                                    else 0.15) * (0.25 if labels["agent"] == "clean" and labels["target"] != "trunk"
                                                  else 1.0))
    told = agents or {"vpt-nano": AGENT, "clean": {"name": "clean", "description": "was shown villagers, lets them be"}}
    cells = {f"{target}.{canopy}.{agent}-0a": {"target": target, "canopy": canopy, "agent": agent}
             for target in ("villager", "desert", "nitwit", "armor-stand", "cow", "trunk")
             for canopy in ("oak_leaves", "none") for agent in told}
    for cell, labels in cells.items():
        write_cell(folder, cell, labels, [result(cell, labels, seed, drawn(rng, rule(labels)))
                                          for seed in range(n_seeds)], agent=told[labels["agent"]])
    write_suite(folder, cells, range(n_seeds), **more)
    return cells
