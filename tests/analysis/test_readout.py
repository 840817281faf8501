"""The read-out: parts that add up, that are whose they are said to be, and a lens that ends at the policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from fakes import FakeAgent, FakeWorld, make_scenario

from harness.agent.action_mapping import BUTTON_NAMES, button_table
from harness.agent.agent import Agent
from harness.analysis import read_out
from harness.analysis.open_loop import log_odds
from harness.cli import cli
from harness.errors import AgentError, HarnessError, RecordingError
from harness.recording.recorder import Recorder
from harness.recording.recording import Recording, open_recording
from harness.rollout import run_episode
from harness.scenario.load import load_scenario
from harness.world.world import make_world

torch = pytest.importorskip("torch")

from harness.agent.steve.agent import SteveAgent  # noqa: E402
from harness.agent.vpt import VPTConfig  # noqa: E402
from harness.agent.vpt.agent import VPTAgent  # noqa: E402

STEPS = 21
TINY = VPTConfig(hidsize=16, heads=2, impala_width=1, temperature=1.5, blocks=2, window=5, image_shape=(16, 16, 3),
                 channels=(2, 2, 4))
KEYS = ("attack", "forward", "inventory")


def tiny(kind: type[VPTAgent] = VPTAgent, **more: Any) -> Any:
    agent = kind(policy_kwargs=TINY.policy_kwargs(), pi_head_kwargs=TINY.pi_head_kwargs(), random_seed=3, device="cpu",
                 **more)
    rng = torch.Generator().manual_seed(0)
    for name, weight in agent.policy.state_dict().items():
        if "bias" in name or "norm" in name or "_ln" in name:
            weight += 0.3 * torch.randn(weight.shape, generator=rng)  # they are made as zeros and ones
        if "pi_head.buttons" in name:
            weight += torch.randn(weight.shape, generator=rng)
    return agent


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    with Recorder(tmp_path_factory.mktemp("r")) as recorder:
        run_episode(FakeWorld(make_scenario(STEPS)), FakeAgent(), seed=3, observers=[recorder])
    return open_recording(recorder.path)


def outputs(agent: Agent, recording: Recording, hooks: tuple[str, ...] = ()) -> list[Any]:
    """One picture after the other, as in the game."""
    state, found = agent.initial_state(), []
    for pov in recording.pov:
        found.append(agent.act({"pov": pov}, state, np.random.default_rng(0), hooks=hooks))
        state = found[-1].state
    return found


def test_parts_add_up_to_the_margin(recording: Recording) -> None:
    agent = tiny()
    found = read_out(recording, agent=agent, keys=KEYS, controls=3)
    logs = np.stack([o.log_probs["buttons"] for o in outputs(agent, recording)])
    for k, key in enumerate(KEYS):
        np.testing.assert_allclose(found.margins[:, k], log_odds(logs, key), atol=1e-4)
    np.testing.assert_allclose(found.contributions.sum(2), found.margins, atol=1e-4)
    assert found.error < 1e-4
    assert found.components == ("embedding", "0.0", "0.1", "mlp 0", "1.0", "1.1", "mlp 1", "biases", "entropy")
    assert found.contributions.shape == (STEPS, 3, 9) and found.control.shape == (3, 9, 3)
    assert (np.abs(found.contributions).mean(0) > 1e-4).all(), "every part says something, or the sum proves little"
    assert found.contributions.std(0).max() > 1e-3


def by_autograd(agent: VPTAgent, out: Any, weights: np.ndarray) -> dict[str, float]:
    """The same account by another way: the gradient of the frozen read-out times each part, without its bias."""
    net, acts = agent.policy.net, {n: torch.from_numpy(np.array(a)).double() for n, a in out.activations.items()}

    def frozen(x: Any, norm: Any) -> Any:
        scale = (x.var(unbiased=False) + norm.eps).sqrt().detach()
        return (x - x.mean()) / scale * norm.weight.double() + norm.bias.double()

    leaves = {"embedding": acts["hook_embed"]}
    for i in range(2):
        leaves[f"mlp {i}"] = acts[f"blocks.{i}.hook_mlp_out"] - net.recurrent_layer.blocks[i].mlp1.layer.bias.double()
        leaves |= {f"{i}.{h}": acts[f"blocks.{i}.attn.hook_result"][h] for h in range(2)}
    leaves = {name: leaf.clone().requires_grad_() for name, leaf in leaves.items()}
    x = leaves["embedding"]
    for i, block in enumerate(net.recurrent_layer.blocks):
        x = frozen(x, block.pre_r_ln) + leaves[f"{i}.0"] + leaves[f"{i}.1"] + leaves[f"mlp {i}"] \
            + block.r.orc_block.proj_layer.bias.double() + block.mlp1.layer.bias.double()
    hidden = torch.relu(net.lastlayer.layer.weight.double() @ frozen(torch.relu(x), net.lastlayer.norm))
    logits = agent.policy.pi_head.buttons.linear_layer.weight.double() @ frozen(hidden, net.final_ln)
    (torch.from_numpy(weights) @ logits / TINY.temperature).backward()
    return {name: float((leaf.grad * leaf.detach()).sum()) for name, leaf in leaves.items()}


def test_each_part_is_what_the_gradient_of_the_frozen_network_says(recording: Recording) -> None:
    agent = tiny()
    found = read_out(recording, agent=agent, controls=0)
    names = ("hook_embed", "blocks.*.hook_mlp_out", "blocks.*.attn.hook_result")
    down = button_table()[:, BUTTON_NAMES.index("attack")] > 0
    for step in (0, 7, STEPS - 1):
        out = outputs(agent, recording, tuple(agent.resolve_hooks(names)))[step]
        p = np.exp(out.log_probs["buttons"].astype(np.float64))
        weights = np.where(down, p / p[down].sum(), -p / p[~down].sum())
        for name, value in by_autograd(agent, out, weights).items():
            assert found.contributions[step, 0, found.components.index(name)] == pytest.approx(value, abs=1e-4), name


def test_parts_that_write_nothing_contribute_nothing(recording: Recording) -> None:
    agent = tiny()
    blocks = agent.policy.net.recurrent_layer.blocks
    blocks[1].r.orc_block.proj_layer.weight[:, :8] = 0  # head 1.0
    blocks[0].mlp1.layer.weight[:] = 0
    found = read_out(recording, agent=agent, controls=2)
    silent = [found.components.index(name) for name in ("1.0", "mlp 0")]
    assert np.abs(found.contributions[..., silent]).max() < 1e-12 and found.error < 1e-4
    others = np.delete(np.abs(found.contributions).mean((0, 1)), silent)
    assert (others > 1e-4).all()


def test_guided_rows_are_named_and_add_up(recording: Recording) -> None:
    goal = np.random.default_rng(5).standard_normal(512).astype(np.float32)
    agent = tiny(SteveAgent, goal=goal, cond_scale=2.5)
    found = read_out(recording, agent=agent, controls=2)
    np.testing.assert_allclose(found.contributions.sum(2), found.margins, atol=1e-4)
    assert {"cond goal", "uncond goal", "cond embedding", "cond 0.1", "uncond mlp 1", "biases"} <= set(found.components)
    np.testing.assert_allclose(found.margins[:, 0], log_odds(
        np.stack([o.log_probs["buttons"] for o in outputs(agent, recording)]), "attack"), atol=1e-4)
    assert found.lens_kl[:, -1].max() < 1e-4
    plain = read_out(recording, agent=tiny(SteveAgent, goal=goal, cond_scale="none"), controls=0)
    assert plain.components[:2] == ("goal", "embedding") and plain.error < 1e-4


def test_the_lens_ends_at_the_policy_and_skips_what_writes_nothing(recording: Recording) -> None:
    agent = tiny()
    found = read_out(recording, agent=agent)
    assert found.layers == ("embedding", "0", "1")
    assert found.lens_kl[:, -1].max() < 1e-6 and found.lens_agrees[:, -1].all()
    np.testing.assert_allclose(found.lens_margins[:, -1], found.margins, atol=1e-4)
    assert found.lens_kl[:, 0].mean() > 1e-3
    last = agent.policy.net.recurrent_layer.blocks[1]
    for layer in (last.r.orc_block.proj_layer, last.mlp1.layer):
        layer.weight[:], layer.bias[:] = 0, 0
    assert read_out(recording, agent=agent).lens_kl[:, 1].max() < 1e-6, "a block that writes nothing but its norm"
    assert read_out(recording, agent=agent, lens="plain").lens_kl[:, 1].mean() > 1e-3


def test_the_lens_stands_beside_what_knows_nothing(recording: Recording) -> None:
    agent = tiny()
    found = read_out(recording, agent=agent)
    p = np.exp(np.stack([o.log_probs["buttons"] for o in outputs(agent, recording)]).astype(np.float64))
    kl = (p * (np.log(p) - np.log(p.mean(0)))).sum(1).mean()
    assert found.constant[0] == pytest.approx(kl, abs=1e-5)
    assert found.constant[1] == np.bincount(p.argmax(1)).max() / STEPS
    assert found.constant[2] == pytest.approx(float(log_odds(np.log(p.mean(0)), "attack")), abs=1e-4)


def test_random_directions_are_the_control(recording: Recording) -> None:
    """Their spread is that of a direction which has nothing to do with the key; a key of random weights is one."""
    found = read_out(recording, agent=tiny(), controls=200, keys=("attack", "jump", "drop"))
    n = len(found.components) - 2
    means, null = found.contributions.mean(0)[:, :n], found.control[:, :n]
    inside = (means > np.percentile(null, 0.5, -1)) & (means < np.percentile(null, 99.5, -1))
    assert inside.mean() > 0.7
    assert (null.std(-1) > 0).all() and not found.control[:, n:].any()


def test_steps_are_counted_and_tables_tell_who_it_is(recording: Recording) -> None:
    whole = read_out(recording, agent=tiny(), controls=2)
    part = read_out(recording, agent=tiny(), between=(5, 9), top=2, controls=2)
    assert part.steps.tolist() == [5, 6, 7, 8, 9]
    np.testing.assert_allclose(part.contributions, whole.contributions[5:10], atol=1e-9)
    margins, contributions, lens = part.tables()
    assert all("(random weights)" in table.title for table in (margins, contributions, lens))
    assert [row[0] for row in contributions.rows][2:] == ["5 others", "biases", "entropy", "sum", "margin"]
    assert sum(row[1] for row in contributions.rows[:5]) == pytest.approx(contributions.rows[5][1])  # type: ignore
    assert "no log-probabilities" in margins.note, "those of the stripes' agent are of other actions"
    json.dumps(part.as_dict())


def test_what_cannot_be_read_is_refused(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    for options, word in (({"keys": ("atack",)}, "attack"), ({"keys": ()}, "at least one key"), ({"top": 0}, "top"),
                          ({"between": (50, 60)}, "no step lies between 50 and 60")):
        with pytest.raises(HarnessError, match=word):
            read_out(recording, agent=tiny(), **options)  # type: ignore[arg-type]
    with pytest.raises(AgentError, match="no VPT read-out"):
        read_out(recording, agent=FakeAgent())
    assert len(recording) == STEPS
    monkeypatch.setattr(Recording, "first_step", 4)
    with pytest.raises(RecordingError, match="fork"):
        read_out(recording, agent=tiny())


def test_the_bundled_agent_from_the_command_line(tmp_path: Path) -> None:
    with make_world(load_scenario("lone-trunk")) as world, Recorder(tmp_path) as recorder:
        agent = VPTAgent(size="nano", random_seed=1, device="cpu")
        agent.name = "untrained"
        run_episode(world, agent, seed=1, max_steps=6, observers=[recorder])
    run = CliRunner().invoke(cli, ["analyse", str(recorder.path), "readout", "--agent", "vpt-nano", "--set",
                                   "keys=[attack, use]", "--set", "controls=4", "--json", "--out",
                                   str(tmp_path / "x.npz")])
    assert run.exit_code == 0, run.output
    told = json.loads(run.output)
    assert len(told["tables"]) == 4 and "another agent" in told["tables"][0]["note"]
    with np.load(tmp_path / "x.npz") as arrays:
        np.testing.assert_allclose(arrays["contributions"].sum(2), arrays["margins"], atol=1e-4)
    same = read_out(open_recording(recorder.path), agent=agent, controls=0)
    assert same.recorded is not None and same.recorded < 1e-4
