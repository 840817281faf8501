"""Whole runs, very small: the loss falls, an interrupted run ends in the same bits, the result loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tiny_runs import TINY, tiny_file, write_agent

from harness.agent.load import load_agent, read_weights_file, widened
from harness.agent.vpt.agent import VPTAgent
from harness.agent.vpt.policy import VPTPolicy
from harness.cli.train import train
from harness.errors import TrainingError, WeightsError
from harness.training.checkpoint import checkpoint_dirs, latest_checkpoint, read_checkpoint
from harness.training.log import curves_svg, cut_log, read_log
from harness.training.recipe import Recipe, Stage, read_recipe
from harness.training.trainer import LOG, Trainer, learning_rate
from harness.world.action import KEYS


def start(tmp_path: Path, run: str, change: dict[str, Any] | None = None, **keywords: Any) -> Trainer:
    table = tiny_file()
    table["training"].update(change or {})
    definition, recipe = read_recipe(write_agent(tmp_path, table))
    return Trainer(definition, recipe, tmp_path / run, **keywords)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    return start(folder, "run").run()


def test_the_loss_falls_and_the_result_loads(whole: Path) -> None:
    rows = [row for row in read_log(whole.parent / LOG) if row["kind"] == "train"]
    assert rows[0]["loss"] > 10 and rows[-1]["loss"] < 0.7 * rows[0]["loss"]
    weights = widened(read_weights_file(whole.with_suffix(".safetensors")))
    assert isinstance(VPTPolicy.from_config(TINY, weights), VPTPolicy)
    agent = load_agent(whole, device="cpu")
    assert isinstance(agent, VPTAgent) and "trained for 34 steps" in agent.description
    output = agent.act({"pov": np.zeros((360, 640, 3), np.uint8)}, agent.initial_state(), np.random.default_rng(0))
    assert set(output.action) == set(KEYS)


def test_the_result_is_half_precision_and_sealed(whole: Path, tmp_path: Path) -> None:
    weights = read_weights_file(whole.with_suffix(".safetensors"))
    assert {weight.dtype for weight in weights.values()} == {torch.float16}
    copy = tmp_path / whole.name
    copy.write_text(whole.read_text())
    data = bytearray(whole.with_suffix(".safetensors").read_bytes())
    data[-1] ^= 1
    copy.with_suffix(".safetensors").write_bytes(data)
    with pytest.raises(WeightsError, match="SHA-256"):
        load_agent(copy, device="cpu")


def test_the_log_says_what_happened(whole: Path) -> None:
    rows = read_log(whole.parent / LOG)
    assert rows[0]["kind"] == "begin" and rows[0]["seed"] == 3 and len(rows[0]["recipe"]) == 64
    assert [row["stage"] for row in rows if row["kind"] == "demonstrations"] == ["cloning"]
    tests = [row for row in rows if row["kind"] == "validation"]
    assert [(row["stage"], row["sampling"]) for row in tests] == [
        ("cloning", True), ("cloning", False), ("dagger", True), ("dagger", False),
        ("finish", True), ("finish", False)]
    assert all(0 <= row["low"] <= row["successes"] / row["episodes"] <= row["high"] <= 1 for row in tests)
    last = [row for row in rows if row["kind"] == "train"][-1]
    assert {"attack", "forward", "camera"} <= set(last["agreement"]) and last["library"][1] > 0
    assert sum(part["share"] for part in last["situations"].values()) <= 1.0001
    picture = (whole.parent / "curves.svg").read_text()
    assert picture.startswith("<svg") and picture.count("<polyline") == 9


@pytest.mark.parametrize("stop", [17, 26, 32], ids=["while cloning", "in DAgger", "with frozen stacks"])
def test_interrupted_and_resumed_ends_in_the_same_bits(whole: Path, tmp_path: Path, stop: int) -> None:
    start(tmp_path, "run").run(until=stop)
    resumed = start(tmp_path, "run", resume=True)
    assert 0 < resumed.step < stop
    path = resumed.run()
    assert path.with_suffix(".safetensors").read_bytes() == whole.with_suffix(".safetensors").read_bytes()
    own, other = (read_log(p.parent / LOG) for p in (path, whole))
    assert [row["step"] for row in own] == [row["step"] for row in other]
    assert [row.get("loss") for row in own] == [row.get("loss") for row in other]


def test_another_recipe_or_seed_is_refused_by_name(tmp_path: Path) -> None:
    start(tmp_path, "run").run(until=15)
    with pytest.raises(TrainingError, match="differs in seed"):
        start(tmp_path, "run", {"seed": 4}, resume=True)
    with pytest.raises(TrainingError, match="differs in chunk"):
        start(tmp_path, "run", {"chunk": 2}, resume=True)
    with pytest.raises(TrainingError, match="holds a training run already"):
        start(tmp_path, "run")
    with pytest.raises(TrainingError, match="no checkpoint"):
        start(tmp_path, "elsewhere", resume=True)


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = start(tmp_path, "run")
    trainer.run(until=15)
    good = latest_checkpoint(trainer.folder)
    with torch.no_grad():
        next(iter(trainer.learner.policy.parameters())).fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"step 16: the loss is nan.*checkpoint-0000010"):
        trainer.run()
    assert latest_checkpoint(trainer.folder) == good
    assert all(torch.isfinite(t).all() for t in read_checkpoint(good).tensors.values() if t.is_floating_point())


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    start(tmp_path, "run").run(until=15)
    state = latest_checkpoint(tmp_path / "run") / "state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(TrainingError, match="cannot be read"):
        start(tmp_path, "run", resume=True)


def test_only_two_checkpoints_stay(whole: Path) -> None:
    assert [path.name for path in checkpoint_dirs(whole.parent)] == ["checkpoint-0000030", "checkpoint-0000034"]


def test_more_rules_stand_in_the_log_and_change_nothing_else(whole: Path, tmp_path: Path) -> None:
    also = [{"scenario": "planted", "outcome": "looked_at_stand", "parameters": {"leaves": "none"}, "episodes": 1,
             "steps": 3, "first_seed": 77}]
    path = start(tmp_path, "run", {"also": also}).run()
    rows = [row for row in read_log(path.parent / LOG) if row["kind"] == "also"]
    assert [(row["stage"], row["sampling"]) for row in rows] == [
        (stage, sampling) for stage in ("cloning", "dagger", "finish") for sampling in (True, False)]
    assert rows[0]["scenario"] == "planted" and rows[0]["outcome"] == "looked_at_stand"
    assert rows[0]["parameters"] == {"leaves": "none"} and rows[0]["first_seed"] == 77
    assert path.with_suffix(".safetensors").read_bytes() == whole.with_suffix(".safetensors").read_bytes()


def test_start_from_needs_the_same_sizes(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="start_from: vpt-nano"):
        start(tmp_path, "run", {"start_from": "vpt-nano"})


def test_start_from_takes_the_weights(whole: Path, tmp_path: Path) -> None:
    trainer = start(tmp_path, "run", {"start_from": str(whole)})
    stored = widened(read_weights_file(whole.with_suffix(".safetensors")))
    for name, weight in trainer.learner.policy.state_dict().items():
        assert torch.equal(weight, stored[name]), name


def test_the_rate_rises_and_falls() -> None:
    stage = Stage(name="s", steps=100, learning_rate=(1e-3, 1e-4), warmup=10)
    rates = [learning_rate(stage, step) for step in range(100)]
    assert rates[0] == pytest.approx(1e-4) and max(rates) == rates[9] == rates[10] == pytest.approx(1e-3)
    assert all(a >= b for a, b in zip(rates[10:], rates[11:], strict=False)) and rates[-1] < 1.1e-4


def test_a_cut_off_line_is_left_out(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert [row["step"] for row in read_log(log)] == [1, 2]
    cut_log(log, 1)
    assert log.read_text() == '{"step": 1}\n'
    log.write_text("nonsense\n{}\n")
    with pytest.raises(TrainingError, match="one JSON object"):
        read_log(log)
    assert curves_svg([]).startswith("<svg")


def test_the_command(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(train, [str(tiny), "--smoke", "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["last"]["loss"] < told["first"]["loss"]
    assert Path(told["agent"]).is_file() and told["agent"].startswith("trained/tiny-seed3-smoke/")


def test_recipe_digest_depends_on_every_value(tiny: Path) -> None:
    _, recipe = read_recipe(tiny)
    assert isinstance(recipe, Recipe) and recipe.sha256() != recipe.model_copy(update={"seed": 5}).sha256()
