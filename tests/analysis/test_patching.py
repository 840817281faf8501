"""Patching: the planted cue's frame and no other brings the answer back, and what must be 0 or 1 is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from harness.agent.agent import Agent
from harness.agent.load import load_agent
from harness.agent.scripted import NoopAgent
from harness.analysis.open_loop import log_odds, look_over
from harness.analysis.patching import SITES, Patching, _Bench, activation_patching
from harness.cli import cli
from harness.errors import HarnessError
from harness.intervention import ActivationPatch
from harness.recording.recorder import Recorder
from harness.recording.recording import Recording, open_recording
from harness.rollout import run_episode
from harness.scenario.load import load_scenario
from harness.world.world import make_world

torch = pytest.importorskip("torch")

from harness.agent.steve.agent import SteveAgent  # noqa: E402

CUE, AGE = 6, 12
QUERY = CUE + AGE
HOOKS = ["hook_embed", "blocks.*.attn.hook_k", "blocks.*.attn.hook_v"]


@pytest.fixture(scope="module")
def recall() -> Agent:
    return load_agent("recall", device="cpu")


def play(folder: Path, agent: Agent, cue: str, seed: int = 500, steps: int = QUERY + 1,
         scenario: str = "recall") -> Recording:
    values = {"cue": cue, "cue_at": CUE, "age": AGE} if scenario == "recall" else {}
    with make_world(load_scenario(scenario, parameters=values)) as world, Recorder(folder) as recorder:
        run_episode(world, agent, seed=seed, max_steps=steps, observers=[recorder], hooks=HOOKS)
    return open_recording(recorder.path)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, recall: Agent) -> tuple[Recording, Recording]:
    """A red cue and a blue one; every other picture is the same in both."""
    red, blue = (play(tmp_path_factory.mktemp(cue), recall, f"{cue}_wool") for cue in ("red", "blue"))
    same = [np.array_equal(red.pov[step], blue.pov[step]) for step in range(QUERY + 1)]
    assert [step for step, equal in enumerate(same) if not equal] == [CUE]
    return red, blue


@pytest.fixture(scope="module")
def found(pair: tuple[Recording, Recording], recall: Agent) -> Patching:
    return activation_patching(*pair, agent=recall, key="left")


def test_the_query_is_where_the_answers_part(found: Patching) -> None:
    assert list(found.steps) == [QUERY] and found.difference[0] > 5
    assert list(found.sources) == list(range(QUERY + 1))
    assert found.attribution.shape == found.exact.shape == (4, 4, QUERY + 1)


def test_the_cue_and_no_other_frame_brings_the_answer_back(found: Patching) -> None:
    shares = found.shares(found.frames)
    assert shares[CUE] == pytest.approx(1, abs=0.01)
    assert found.kl_shares(found.frames)[CUE] == pytest.approx(1, abs=0.01)
    assert np.abs(np.delete(shares, CUE)).max() < 1e-4
    assert found.tables()[0].rows[0][0] == CUE


def test_a_heads_memory_of_the_cue_stands_above_the_null(found: Patching) -> None:
    shares = found.shares(found.top)
    layer, head, step = found.top.places[np.argmax(np.abs(shares))]
    assert step == CUE and shares.max() > 0.5
    assert found.null < 0.01 < shares.max() / 10, "99 % of random cells"
    assert found.exact[layer, head, CUE] == shares.max()
    assert len(found.top) == 32 and len(found.controls) == 100
    # Exact wherever it was asked for, and nowhere twice.
    assert (~np.isnan(found.exact)).sum() == 132


def test_what_must_come_out_does(found: Patching) -> None:
    assert abs(found.checks["nothing"]) < 1e-6 and abs(found.checks["own"]) < 1e-6
    assert found.checks["all frames"] == pytest.approx(1, abs=1e-4)
    assert found.checks["all heads"] == pytest.approx(1, abs=1e-4), "the picture of the query is the same in both"


def test_attribution_ranks_the_cells_and_is_weak_where_the_softmax_is_saturated(found: Patching) -> None:
    rho, interval = found.rank_correlation(found.top)
    assert interval is not None and 0 < interval.low <= rho <= interval.high <= 1
    best = int(np.argmax(found.shares(found.top)))
    assert abs(found.top.estimate[best]) < 0.1, "its known failure: one cell carries all, its gradient next to nothing"


def test_the_numbers_are_those_of_the_intervention(pair: tuple[Recording, Recording], recall: Agent, found: Patching
                                                   ) -> None:
    red, blue = pair
    best = int(np.argmax(found.shares(found.top)))
    layer, head, step = map(int, found.top.places[best])
    edits = [ActivationPatch(name, head=head, values=red.activations[name][step:step + 1], steps=(step,))
             for name in (f"blocks.{layer}.attn.{hook}" for hook in SITES["memory"])]
    base, _ = look_over(blue, recall, (), edits, lambda n: None)
    treated, _ = look_over(blue, recall, edits, edits, lambda n: None)
    change = log_odds(treated[QUERY].log_probs["buttons"], "left") - log_odds(base[QUERY].log_probs["buttons"], "left")
    assert found.top.log_odds[best, 0] == pytest.approx(change, abs=1e-3)


def test_what_a_head_read_is_another_place(pair: tuple[Recording, Recording], recall: Agent, found: Patching) -> None:
    output = activation_patching(*pair, agent=recall, key="left", site="output", controls=20)
    best = int(np.argmax(output.shares(output.top)))
    assert output.top.places[best, 2] == QUERY and output.shares(output.top)[best] > 0.5
    held = found.top.places[int(np.argmax(found.shares(found.top)))]
    assert tuple(output.top.places[best, :2]) == tuple(held[:2]), "the head that remembers the cue reads it"


def test_attribution_is_the_derivative_of_patching(pair: tuple[Recording, Recording], recall: Agent) -> None:
    """A hundredth of the way from the corrupted run to the clean one: there estimate and truth must agree."""
    bench = _Bench(recall, pair, 0, [QUERY], "left", "memory")  # type: ignore[arg-type]
    near = {name: x + 0.01 * (bench.clean.parts[name] - x) for name, x in bench.corrupted.parts.items()}
    embeds = bench.corrupted.embeds + np.float32(0.01) * (bench.clean.embeds - bench.corrupted.embeds)
    bench.clean = replace(bench.clean, parts=near, embeds=embeds)
    frames, cells = bench.attribution()
    places = np.stack(np.unravel_index(np.argsort(-np.abs(cells), axis=None)[:6], cells.shape), -1)
    rows: list[dict[str, Any]] = [{"frames": np.arange(QUERY + 1) == CUE}]
    for layer, head, step in places:
        mask = np.zeros((4, QUERY + 1, 4), bool)
        mask[layer, step, head] = True
        rows.append({"cells": mask})
    exact = bench.patched(0, bench.corrupted.before, rows)[0][:, 0] / bench.difference.mean()
    estimate = np.array([frames[CUE], *cells[tuple(places.T)]])
    assert np.abs(estimate).max() > 1e-4
    np.testing.assert_allclose(exact, estimate, atol=0.05 * np.abs(estimate).max())


def test_random_weights_bring_nothing_back_or_say_so(pair: tuple[Recording, Recording]) -> None:
    untrained = load_agent("untrained", device="cpu")
    with pytest.raises(HarnessError, match="nothing to bring back"):
        activation_patching(*pair, agent=untrained, key="left", steps=(QUERY,))
    found = activation_patching(*pair, agent=untrained, key="forward", steps=(CUE,), controls=10)
    assert abs(found.difference[0]) < 0.1 and np.abs(found.shares(found.top)).max() < 0.5
    assert found.rank_correlation(found.top)[0] > 0.8, "nearly linear, so attribution does well here"
    assert all("nothing here was learned" in table.note for table in found.tables()[:2])


def test_several_queries_and_long_ago(pair: tuple[Recording, Recording], recall: Agent) -> None:
    found = activation_patching(*pair, agent=recall, key="left", steps=(CUE + 2, QUERY), oldest=13, top=4, controls=4)
    assert list(found.sources) == list(range(QUERY - 13, QUERY + 1))
    assert found.frames.log_odds.shape == (14, 2)
    later = found.frames.places[:, 2] > CUE + 2
    assert not found.frames.log_odds[later, 0].any(), "what comes after a query changes nothing of it"
    np.testing.assert_allclose(found.frames.kl[later, 0], found.divergence[0])
    late = activation_patching(*pair, agent=recall, key="left", steps=(QUERY,), oldest=4, top=4, controls=4)
    assert late.checks["all frames"] == pytest.approx(0, abs=1e-3), "the cue is older than the frames considered"


def test_under_guidance_both_rows_are_patched(pair: tuple[Recording, Recording]) -> None:
    agent = SteveAgent(size="nano", random_seed=0, goal=np.linspace(-1, 1, 512).tolist(), cond_scale=3.0, device="cpu")
    found = activation_patching(*pair, agent=agent, key="attack", steps=(CUE,), top=4, controls=4)
    assert abs(found.checks["own"]) < 1e-3 and found.checks["all frames"] == pytest.approx(1, abs=1e-2)
    assert np.abs(found.top.estimate - found.shares(found.top)).max() < 0.25 * np.abs(found.top.estimate).max()


@pytest.mark.parametrize(("options", "said"), [
    ({"key": "lefft"}, 'unknown key "lefft"'),
    ({"steps": (3,)}, "nothing to bring back"),
    ({"steps": (QUERY, 99)}, r"from 0 to 18, got \[99\]"),
    ({"steps": (8, QUERY), "oldest": 4}, "lie further apart"),
    ({"top": 0}, "top: expected a whole number from 1 on"),
])
def test_what_means_nothing_is_refused(pair: tuple[Recording, Recording], recall: Agent, options: dict[str, Any],
                                       said: str) -> None:
    with pytest.raises(HarnessError, match=said):
        activation_patching(*pair, agent=recall, **{"key": "left", **options})


def test_recordings_that_are_no_pair_are_refused(pair: tuple[Recording, Recording], recall: Agent, tmp_path: Path
                                                 ) -> None:
    noop = NoopAgent()
    with pytest.raises(HarnessError, match="no memory of frames"):
        activation_patching(*pair, agent=noop)

    def short(steps: int = 3, seed: int = 500, scenario: str = "recall", agent: Agent = recall) -> Recording:
        with make_world(load_scenario(scenario)) as world, Recorder(tmp_path) as recorder:
            run_episode(world, agent, seed=seed, max_steps=steps, observers=[recorder])
        return open_recording(recorder.path)

    base = short()
    for other, said in ((short(steps=2), "other lengths, 3 and 2"), (short(seed=501), "other seeds, 500 and 501"),
                        (short(scenario="trunk"), "other scenarios, recall and trunk"),
                        (short(agent=noop), "other agents, recall .* and noop")):
        with pytest.raises(HarnessError, match=said):
            activation_patching(base, other, agent=recall)


def test_the_command(pair: tuple[Recording, Recording], tmp_path: Path) -> None:
    red, blue = (str(each.path) for each in pair)
    out = tmp_path / "grid.npz"
    words = ["analyse", red, "patching", blue, "--set", "key=left", "--set", "top=4", "--set", "controls=5"]
    told = CliRunner().invoke(cli, [*words, "--json", "--out", str(out)])
    assert told.exit_code == 0, told.output
    tables = json.loads(told.stdout)["tables"]
    assert tables[0]["rows"][0][0] == CUE and [row[0] for row in tables[2]["rows"]][0] == "nothing patched"
    with np.load(out) as arrays:
        assert arrays["attribution"].shape == (4, 4, QUERY + 1) and arrays["top.places"].shape == (4, 3)
    alone = CliRunner().invoke(cli, ["analyse", red, "patching"])
    assert alone.exit_code == 2 and "reads 2 recordings" in alone.stderr
