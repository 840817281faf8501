"""What is taken from a memory is gone in exactly the sense that was asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import BLOCKS, HEADS, WINDOW, logits, pictures, play, tiny_agent

from harness.agent.scripted import NoopAgent
from harness.agent.steve.agent import SteveAgent
from harness.errors import HarnessError, InterventionError
from harness.intervention import (
    Intervention,
    InterventionStack,
    MemoryFreeze,
    MemoryKnockout,
    MemoryReset,
    MemorySwap,
    MemoryWindow,
    Schedule,
    ZeroAblation,
)
from harness.intervention.build import build_intervention

torch = pytest.importorskip("torch")

N = 14
FRAMES = pictures(N)
PATTERNS = [f"blocks.{i}.attn.hook_pattern" for i in range(BLOCKS)]
PLAIN, PLAIN_STATE, _ = play([], FRAMES, [1] * N, hooks=PATTERNS)


def by_age(outputs: list[Any]) -> np.ndarray[Any, Any]:
    """Attention [t, layer, head, age]."""
    return np.stack([[np.asarray(o.activations[name])[:, ::-1] for name in PATTERNS] for o in outputs])


def memory_of(steps: list[int]) -> Any:
    """The memory after these frames of the video and no others."""
    return play([], FRAMES[steps], [1] * len(steps))[1]


def assert_same_memory(one: Any, other: Any, atol: float = 1e-5) -> None:
    seen = one["state.0.mask"]
    for name in one.names():
        a, b = one[name], other[name]
        if name.endswith((".k", ".v")):
            a, b = a[seen], b[seen]
        torch.testing.assert_close(a, b, atol=atol, rtol=1e-4)


def changes(log: list[Any]) -> set[tuple[int, int]]:
    """Steps and places in the stack where something came out otherwise."""
    return {(a.step, a.index) for a in log if any(before != after for before, after in a.digests.values())}


schedules = st.one_of(st.builds(lambda at: Schedule(at=at), st.integers(1, N - 1)), st.just(Schedule(every=3)),
                      st.builds(lambda a, b: Schedule(between=(min(a, b), max(a, b))), st.integers(0, N - 1),
                                st.integers(0, N - 1)))
frames_named = st.one_of(
    st.lists(st.integers(0, WINDOW - 1), min_size=1, max_size=3).map(lambda ages: {"ages": ages}),
    st.lists(st.integers(0, N - 1), min_size=1, max_size=3).map(lambda steps: {"steps": steps}),
    st.integers(0, WINDOW - 2).map(lambda age: {"older_than": age}))
SWAP = tiny_agent().save_state(memory_of([5, 6, 7]))


@st.composite
def edits(draw: st.DrawFn) -> Intervention:
    """One memory intervention that fits the tiny agent."""
    schedule, where = draw(schedules), {"layers": draw(st.sampled_from([None, [0], [0, 1]])),
                                        "heads": draw(st.sampled_from([None, [1]]))}
    return draw(st.sampled_from([
        MemoryWindow(last=draw(st.integers(1, WINDOW - 1)), schedule=schedule, **where),
        MemoryKnockout(**draw(frames_named), schedule=schedule, **where),
        MemoryKnockout(**draw(frames_named), mode="write", schedule=schedule, **where),
        MemoryKnockout(**draw(frames_named), strongest=2, schedule=schedule, **where),
        MemoryKnockout(steps=[draw(st.integers(0, 9)), 10], mode="full", schedule=schedule),
        MemoryKnockout(ages=[draw(st.integers(1, 9))], mode="full", schedule=Schedule(at=draw(st.integers(1, N - 1)))),
        MemoryFreeze(schedule=schedule), MemoryReset(schedule=schedule), MemorySwap(SWAP, schedule=schedule),
    ]))


def composed(draw_from: list[Intervention]) -> list[Intervention]:
    """Without what cannot run beside a full removal."""
    if any(getattr(each, "mode", "") == "full" for each in draw_from):
        return [each for each in draw_from if not each.edits() or getattr(each, "mode", "") == "full"]
    return draw_from


stacks = st.lists(edits(), min_size=1, max_size=2).map(composed)


@settings(max_examples=25, deadline=None)
@given(stacks, st.lists(st.integers(1, 8), min_size=2, max_size=6))
def test_chunked_is_stepped(stack: list[Intervention], lengths: list[int]) -> None:
    chunks, left = [], N
    for length in lengths:
        if left:
            chunks.append(min(length, left))
            left -= chunks[-1]
    n = sum(chunks)
    stepped, state, log = play(stack, FRAMES, [1] * n)
    chunked, whole, chunk_log = play(stack, FRAMES, chunks)
    np.testing.assert_allclose(logits(chunked), logits(stepped), atol=2e-4)
    assert_same_memory(whole, state, atol=2e-4)
    assert changes(chunk_log) == changes(log)


@settings(max_examples=25, deadline=None)
@given(stacks, st.integers(1, N - 2))
def test_a_snapshot_goes_on_as_the_episode_did_and_nothing_stays_behind(stack: list[Intervention], at: int) -> None:
    agent = tiny_agent()
    whole = logits(play(stack, FRAMES, [1] * N)[0])
    state, halves = agent.initial_state(), []
    first = InterventionStack(stack, agent=agent, seed=7)
    second = InterventionStack(stack, agent=agent, seed=7, first_step=at)
    for part, steps in ((first, range(at)), (second, range(at, N))):
        if part is second:
            part.load(first.save())
            state = agent.load_state(agent.save_state(state))
        with part:
            for step in steps:
                state = part.change_memory(state, step, {})
                with part.looking(range(step, step + 1)):
                    (choose,), state = agent.look_ahead(FRAMES[step:step + 1], state)
                halves.append(choose(None))
    assert np.array_equal(logits(halves), whole)
    assert not agent.policy.hook_stack.listeners
    assert np.array_equal(logits(play([], FRAMES, [1] * N)[0]), logits(PLAIN))


@settings(max_examples=40, deadline=None)
@given(edits())
def test_a_description_builds_the_same(edit: Intervention) -> None:
    again = build_intervention(json.loads(json.dumps(edit.describe())))
    assert again == edit and hash(again) == hash(edit)


def test_read_hides_in_the_steps_of_the_schedule_and_leaves_what_others_read() -> None:
    outputs, _, _ = play([MemoryKnockout(ages=[2], schedule=Schedule(at=8))], FRAMES, [1] * N, hooks=PATTERNS)
    seen = by_age(outputs)
    assert not seen[8, :, :, 2].any() and (seen[8, :, :, [1, 3]] > 0).all() and np.allclose(seen[8].sum(-1), 1)
    assert (seen[9, :, :, 3] > 0).all()  # the same frame, a step later
    assert np.array_equal(logits(outputs)[:8], logits(PLAIN)[:8])
    assert not np.array_equal(logits(outputs)[8], logits(PLAIN)[8])


def test_write_hides_from_all_later_readers_and_keeps_what_others_took_over() -> None:
    """Frame 6 is gone from step 8 on; frame 7 was made while it was there, and is as it was."""
    outputs, state, _ = play([MemoryKnockout(steps=[6], mode="write", schedule=Schedule(at=8))], FRAMES, [1] * N,
                             hooks=PATTERNS)
    seen = by_age(outputs)
    for step in range(8, 6 + WINDOW):
        assert not seen[step, :, :, step - 6].any() and (seen[step, :, :, step - 7] > 0).all()
    assert (seen[7, :, :, 1] > 0).all() and np.array_equal(logits(outputs)[:8], logits(PLAIN)[:8])
    _, after, _ = play([MemoryKnockout(steps=[6], mode="write", schedule=Schedule(at=8))], FRAMES, [1] * 8)
    assert_same_memory(after, play([], FRAMES, [1] * 8)[1], atol=0)


@pytest.mark.parametrize("gone", [[6], [3, 6], [0], [7]])
@pytest.mark.parametrize("by_ages", [True, False])
def test_full_is_a_memory_that_never_saw_the_frame(gone: list[int], by_ages: bool) -> None:
    at, named = 9, {"ages": [9 - s for s in gone]} if by_ages else {"steps": gone}
    edit = MemoryKnockout(**named, mode="full", schedule=Schedule(at=at))
    outputs, state, log = play([edit], FRAMES, [1] * N)
    rest = [step for step in range(N) if step not in gone]
    assert_same_memory(state, memory_of(rest))
    expected = logits(play([], FRAMES[rest], [1] * len(rest))[0])[rest.index(at):]
    np.testing.assert_allclose(logits(outputs)[at:], expected, atol=1e-4)
    assert np.array_equal(logits(outputs)[:at], logits(PLAIN)[:at]) and [a.step for a in log] == [at]


def test_the_three_senses_differ() -> None:
    last = {mode: logits(play([MemoryKnockout(steps=[6], mode=mode, schedule=Schedule(at=9))], FRAMES, [1] * N)[0])
            for mode in ("read", "write", "full")}
    at9 = [last[mode][9] for mode in last]
    assert not np.allclose(at9[0], at9[2], atol=1e-6)  # full also forgets what frames 7 and 8 took over
    np.testing.assert_allclose(at9[0], at9[1], atol=1e-5)  # at its own step, read sees what write leaves
    assert not np.allclose(last["read"][10], last["write"][10], atol=1e-6)


def test_a_full_removal_runs_no_more_than_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, ran = tiny_agent(), []
    remember = agent.remember
    monkeypatch.setattr(agent, "remember", lambda x, state: ran.append(len(x)) or remember(x, state))
    play([MemoryKnockout(ages=[4], mode="full", schedule=Schedule(at=12))], FRAMES, [1] * N)
    assert ran == [3]  # frames 9, 10 and 11


def test_a_window_and_the_strongest() -> None:
    seen = by_age(play([MemoryWindow(last=3)], FRAMES, [1] * N, hooks=PATTERNS)[0])
    assert not seen[:, :, :, 3:].any() and (seen[5:, :, :, :3] > 0).all() and np.allclose(seen.sum(-1), 1)
    plain = by_age(PLAIN)
    cut = by_age(play([MemoryKnockout(older_than=1, strongest=1, schedule=Schedule(at=9))], FRAMES, [1] * N,
                      hooks=PATTERNS)[0])
    for head in range(HEADS):  # the first block reads what it read; what it reads is the same up to there
        best = 2 + int(plain[9, 0, head, 2:WINDOW].argmax())
        assert cut[9, 0, head, best] == 0 and (np.delete(cut[9, 0, head, :WINDOW], best) > 0).all()


def test_freeze_reset_and_swap() -> None:
    frozen = play([MemoryFreeze(schedule=Schedule(between=(5, 9)))], FRAMES, [1] * N)[0]
    held = memory_of([0, 1, 2, 3, 4])
    for step in range(5, 10):
        alone = tiny_agent().look_ahead(FRAMES[step:step + 1], held)[0][0](None)
        assert np.array_equal(alone.log_probs["buttons"], frozen[step].log_probs["buttons"])
    outputs, state, _ = play([MemoryReset(schedule=Schedule(at=6))], FRAMES, [1] * N)
    assert_same_memory(state, memory_of(list(range(6, N))), atol=0)
    _, state, log = play([MemorySwap(SWAP, schedule=Schedule(at=9))], FRAMES, [1] * 10)
    assert_same_memory(state, memory_of([5, 6, 7, 9]), atol=0)
    assert log[0].describe()["changed"]["memory"][0] != log[0].describe()["changed"]["memory"][1]


def test_layers_and_heads() -> None:
    seen = by_age(play([MemoryKnockout(ages=[1], layers=[1], heads=[0])], FRAMES, [1] * N, hooks=PATTERNS)[0])
    assert not seen[2:, 1, 0, 1].any() and (seen[2:, 1, 1, 1] > 0).all() and (seen[2:, 0, :, 1] > 0).all()


def test_a_control_is_other_frames_of_about_the_same_age() -> None:
    edit, agent = MemoryKnockout(ages=[3, 4]), tiny_agent(window=12)
    controls = {edit.control(seed, agent) for seed in range(20)}
    assert len(controls) > 3 and all(c is not None and len(c.ages or ()) == 2 and not set(c.ages or ()) & {3, 4}
                                     for c in controls)
    for control in controls:
        assert control is not None
        control.check(agent)
    nearest = {MemoryKnockout(ages=[4]).control(seed, tiny_agent(window=6)) for seed in range(20)}
    assert {c.ages for c in nearest if c is not None} == {(1,), (2,), (3,), (5,)}
    assert MemoryKnockout(older_than=3).control(0, tiny_agent()) is None


@pytest.mark.parametrize(("edit", "message"), [
    (lambda: MemoryKnockout(), "expected one of ages, steps or older_than, got none"),
    (lambda: MemoryKnockout(ages=[1], steps=[2]), "got ages and steps"),
    (lambda: MemoryKnockout(ages=[1], mode="erase"), "expected read, write, full"),
    (lambda: MemoryKnockout(ages=[WINDOW]), f"ages 0 to {WINDOW - 1}, got {WINDOW}"),
    (lambda: MemoryKnockout(ages=[-1]), "whole number from 0 on"),
    (lambda: MemoryKnockout(ages=[1], layers=[BLOCKS]), f"layers 0 to {BLOCKS - 1}, got {BLOCKS}"),
    (lambda: MemoryKnockout(ages=[1], heads=[HEADS]), f"heads 0 to {HEADS - 1}, got {HEADS}"),
    (lambda: MemoryKnockout(ages=[1], row="both"), "expected cond or uncond"),
    (lambda: MemoryKnockout(steps=[1], mode="full", layers=[0]), "mean nothing"),
    (lambda: MemoryKnockout(ages=[1], mode="full"), "at every step"),
    (lambda: MemoryKnockout(ages=[0], mode="full", schedule=Schedule(at=3)), "ages from 1 on"),
    (lambda: MemoryKnockout(ages=[1], mode="write", strongest=2), "depends on each query"),
    (lambda: MemoryWindow(last=0), "from 1 on"),
    (lambda: MemoryWindow(last=WINDOW), f"sees {WINDOW} frames anyway"),
    (lambda: MemoryReset(), "without a schedule"),
    (lambda: MemorySwap({}, schedule=Schedule(at=1)), "arrays by name"),
    (lambda: MemorySwap({"state.0.k": [1.0]}, schedule=Schedule(at=1)), "the memory lacks"),
    (lambda: MemorySwap({"recording": "x", "step": 1}, schedule=Schedule(at=1)), "names a recording"),
])
def test_what_does_not_fit_is_refused(edit: Any, message: str) -> None:
    with pytest.raises(InterventionError, match=message):
        InterventionStack([edit()], agent=tiny_agent(), seed=0, n_steps=N)


def test_what_cannot_compose_and_who_has_no_memory() -> None:
    full = MemoryKnockout(steps=[2], mode="full")
    with pytest.raises(InterventionError, match="cannot run together: a full removal"):
        InterventionStack([full, ZeroAblation("blocks.0.hook_resid_post")], agent=tiny_agent(), seed=0)
    with pytest.raises(InterventionError, match="has no memory"):
        InterventionStack([MemoryReset(schedule=Schedule(at=3))], agent=NoopAgent(), seed=0)
    late = InterventionStack([MemoryKnockout(ages=[5], mode="full", schedule=Schedule(at=9))], agent=tiny_agent(),
                             seed=0, first_step=8)
    with pytest.raises(HarnessError, match="nothing from before step 8 was kept"):
        late.change_memory(tiny_agent().initial_state(), 8, {})


# --- under guidance --------------------------------------------------------------------------------------------------


def guided(interventions: list[Intervention], steps: list[int], hooks: Sequence[str] = ("blocks.*.attn.hook_pattern",)
           ) -> tuple[Any, Any]:
    """STEVE-1 with a goal that is drawn at the first frame, over frames of the video."""
    agent = SteveAgent(policy_kwargs=tiny_agent().policy.config.policy_kwargs(), random_seed=3, device="cpu",
                       pi_head_kwargs=tiny_agent().policy.config.pi_head_kwargs(), prompt="chop a tree", cond_scale=3.0)
    state, rng, outputs = agent.initial_state(), np.random.default_rng(1), []
    names = agent.resolve_hooks(hooks)
    with InterventionStack(interventions, agent=agent, seed=7) as stack:
        for step, frame in enumerate(steps):
            state = stack.change_memory(state, step, {})
            with stack.looking(range(step, step + 1)):
                outputs.append(agent.act({"pov": FRAMES[frame]}, state, rng, hooks=names))
            state = outputs[-1].state
    return outputs, state


def test_guidance_loses_the_frame_in_both_rows_and_keeps_its_goal() -> None:
    edit = MemoryKnockout(steps=[2], mode="full", schedule=Schedule(at=5))
    without = guided([edit], list(range(8)))[1]
    plain = guided([], [0, 1, 3, 4, 5, 6, 7])[1]
    assert_same_memory(without, plain)
    assert without.batch_size == 2 and torch.equal(without.goals[0], plain.goals[0])
    reset = guided([MemoryReset(schedule=Schedule(at=5))], list(range(8)))[1]
    assert torch.equal(reset.goals[0], plain.goals[0]) and int(reset["state.0.mask"][0].sum()) == 3


def test_an_activation_is_edited_in_both_rows_or_in_the_one_named() -> None:
    hook = "blocks.0.attn.hook_z"
    for named, zero in ((hook, ("cond", "uncond")), (f"uncond.{hook}", ("uncond",))):
        agent_outputs, _ = guided([ZeroAblation(named, head=1)], [0, 1], hooks=[hook])
        for row in ("cond", "uncond"):
            z = np.asarray(agent_outputs[1].activations[f"{row}.{hook}"])
            assert bool(z[1].any()) == (row not in zero) and z[0].any()


def test_a_row_may_be_named() -> None:
    outputs, _ = guided([MemoryKnockout(ages=[1], row="cond")], list(range(5)))
    for layer in range(BLOCKS):
        cut, kept = (np.asarray(outputs[4].activations[f"{row}.blocks.{layer}.attn.hook_pattern"])
                     for row in ("cond", "uncond"))
        assert not cut[:, -2].any() and (kept[:, -2] > 0).all()
