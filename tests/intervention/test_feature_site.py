"""Edits of activations: what they change, what they leave, and that memory carries them on."""

from __future__ import annotations

import json
import zlib
from base64 import b64encode
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import BLOCKS, HEADS, WIDTH, WINDOW, logits, pictures, play, tiny_agent

from harness.errors import HarnessError, HookError, InterventionError
from harness.intervention import (
    ActivationPatch,
    AttentionEdit,
    Intervention,
    InterventionStack,
    MeanAblation,
    NoiseAblation,
    ProjectOut,
    RandomShift,
    ResampleAblation,
    Schedule,
    Steering,
    ZeroAblation,
)
from harness.intervention.arrays import ArrayValue
from harness.intervention.build import build_intervention

torch = pytest.importorskip("torch")

N = 14
FRAMES = pictures(N)
PLAIN, PLAIN_STATE, _ = play([], FRAMES, [1] * N)
RESID, Z, SCORES = "blocks.0.hook_resid_post", "blocks.1.attn.hook_z", "blocks.1.attn.hook_attn_scores"

schedules = st.one_of(st.just(Schedule()), st.builds(lambda at: Schedule(at=at), st.integers(0, N - 1)),
                      st.builds(lambda a, b: Schedule(between=(min(a, b), max(a, b))), st.integers(0, N - 1),
                                st.integers(0, N - 1)), st.just(Schedule(every=3)))
heads = st.one_of(st.none(), st.integers(0, HEADS - 1))
blocks = st.sampled_from(["0", "1", "*"])
vectors = st.integers(0, 99).map(lambda s: ArrayValue(np.random.default_rng(s).standard_normal(WIDTH)))


@st.composite
def edits(draw: st.DrawFn) -> Intervention:
    """One feature intervention that fits the tiny agent."""
    schedule, block, head = draw(schedules), draw(blocks), draw(heads)
    resid, z = f"blocks.{block}.hook_resid_post", f"blocks.{block}.attn.hook_z"
    one = draw(st.sampled_from(["hook_k", "hook_v", "hook_q", "hook_z"]))
    frames = draw(st.lists(st.integers(0, WINDOW - 1), min_size=1, max_size=3))
    return draw(st.sampled_from([
        ZeroAblation(f"blocks.{block}.attn.{one}", head, schedule=schedule),
        ZeroAblation(resid, units=(0, 3), schedule=schedule),
        MeanAblation(resid, values=draw(vectors), schedule=schedule),
        ResampleAblation(resid, values=ArrayValue(np.random.default_rng(1).standard_normal((4, WIDTH))),
                         schedule=schedule),
        NoiseAblation(z, head, scale=0.5, schedule=schedule),
        NoiseAblation("hook_embed", scale=0.3, relative=False, schedule=schedule),
        ProjectOut(resid, direction=draw(vectors), schedule=schedule),
        Steering(resid, direction=draw(vectors), strength=2.0, schedule=schedule),
        Steering(resid, direction=draw(vectors), strength=30.0, mode="rotate", schedule=schedule),
        Steering(resid, direction=draw(vectors), strength=-1.0, mode="clamp", schedule=schedule),
        ActivationPatch(resid, values=draw(vectors), schedule=schedule),
        AttentionEdit(f"blocks.{block}.attn.hook_attn_scores", head, ages=frames, schedule=schedule),
        AttentionEdit(f"blocks.{block}.attn.hook_pattern", head, steps=frames, schedule=schedule),
        AttentionEdit(f"blocks.{block}.attn.hook_attn_scores", head, mode="force", steps=frames, schedule=schedule),
        AttentionEdit(f"blocks.{block}.attn.hook_pattern", head, mode="uniform", schedule=schedule),
    ]))


stacks = st.lists(edits(), min_size=1, max_size=3)


@settings(max_examples=25, deadline=None)
@given(stacks, st.lists(st.integers(1, 8), min_size=1, max_size=6))
def test_chunked_is_stepped_under_any_stack(stack: list[Intervention], chunks: list[int]) -> None:
    """Outputs, memory and log are the same however many frames the network sees at once."""
    n = min(sum(chunks), N)
    lengths, left = [], n
    for length in chunks:
        lengths.append(min(length, left))
        left -= lengths[-1]
    lengths = [length for length in lengths if length]
    stepped, state, log = play(stack, FRAMES, [1] * n)
    chunked, whole, chunk_log = play(stack, FRAMES, lengths)
    np.testing.assert_allclose(logits(chunked), logits(stepped), atol=2e-4)
    for part in state.names():
        torch.testing.assert_close(whole[part], state[part], atol=2e-4, rtol=2e-4)
    assert [(a.step, a.index) for a in sorted(chunk_log, key=lambda a: (a.step, a.index))] == [
        (a.step, a.index) for a in sorted(log, key=lambda a: (a.step, a.index))]


@settings(max_examples=25, deadline=None)
@given(stacks)
def test_any_stack_is_left_as_it_was_entered_also_through_an_exception(stack: list[Intervention]) -> None:
    agent = tiny_agent()
    digest = agent.weights_digest()
    play(stack, FRAMES, [5, 3])
    with pytest.raises(RuntimeError), InterventionStack(stack, agent=agent, seed=1) as entered, \
            entered.looking(range(1)):
        raise RuntimeError
    assert not agent.policy.hook_stack.listeners and not agent.policy.hook_stack.depth
    agent._digest = None
    assert agent.weights_digest() == digest
    assert np.array_equal(logits(play([], FRAMES, [1] * N)[0]), logits(PLAIN))


@settings(max_examples=40, deadline=None)
@given(edits())
def test_a_description_builds_the_same(edit: Intervention) -> None:
    again = build_intervention(json.loads(json.dumps(edit.describe())))
    assert again == edit and hash(again) == hash(edit)


def test_an_edit_at_one_step_stays_in_what_later_steps_read() -> None:
    """It changes nothing before, the step itself, and later steps through keys and values, as far as memory reaches."""
    edited = logits(play([ZeroAblation(RESID, schedule=Schedule(at=4))], FRAMES, [1] * N)[0])
    differs = [not np.array_equal(a, b) for a, b in zip(edited, logits(PLAIN), strict=True)]
    # Block 1 keeps what block 0 wrote for a window less one; then it is gone.
    assert differs == [False] * 4 + [True] * WINDOW + [False] * (N - 4 - WINDOW)


def test_the_order_of_a_stack_matters_as_documented() -> None:
    """Of two edits of one activation the later one sees what the earlier one left."""
    zero, add = ZeroAblation(RESID), Steering(RESID, direction=ArrayValue(np.ones(WIDTH)), strength=2.0)
    _, _, log = play([zero, add], FRAMES, [1])
    assert torch.equal(log[1].parts[RESID][1], torch.full((1, WIDTH), 2.0))
    _, _, log = play([add, zero], FRAMES, [1])
    assert not log[1].parts[RESID][1].any() and log[1].parts[RESID][0].any()


def test_only_the_head_and_the_units_named_change() -> None:
    _, _, log = play([ZeroAblation(Z, head=1, units=[0, 2], schedule=Schedule(at=3))], FRAMES, [1] * 5)
    (entry,) = log
    before, after = entry.parts[Z]
    changed = (before != after)[0]
    assert entry.step == 3 and changed[1, [0, 2]].all() and changed.sum() == 2
    digests = entry.describe()["changed"][Z]
    assert len(digests) == 2 and digests[0] != digests[1]


def test_directions() -> None:
    v = np.zeros(WIDTH, np.float32)
    v[0] = 3.0

    def after(edit: Intervention) -> Any:
        return play([edit], FRAMES, [1])[2][0].parts[RESID][1][0].numpy()

    x = play([ZeroAblation(RESID)], FRAMES, [1])[2][0].parts[RESID][0][0].numpy()
    assert after(ProjectOut(RESID, direction=v))[0] == pytest.approx(0, abs=1e-6)
    assert after(Steering(RESID, direction=v, strength=2.0))[0] == pytest.approx(x[0] + 6.0, abs=1e-5)
    assert after(Steering(RESID, direction=v, strength=2.0, mode="clamp"))[0] == pytest.approx(2.0, abs=1e-5)
    for angle in (10.0, 180.0):
        turned = after(Steering(RESID, direction=v, strength=angle, mode="rotate"))
        assert np.linalg.norm(turned) == pytest.approx(np.linalg.norm(x), rel=1e-5)
        was, now = (np.degrees(np.arccos(y[0] / np.linalg.norm(y))) for y in (x, turned))
        assert now == pytest.approx(max(0.0, was - angle), abs=0.05)


def test_a_patch_from_the_same_run_changes_nothing_and_one_from_another_does() -> None:
    run, _, _ = play([], FRAMES, [1] * N, hooks=[RESID])
    own = np.stack([np.asarray(output.activations[RESID]) for output in run])
    kept = logits(play([ActivationPatch(RESID, values=own[3:6], steps=(3, 4, 5))], FRAMES, [1] * N)[0])
    assert np.array_equal(kept, logits(PLAIN))
    other = play([ActivationPatch(RESID, values=own[0], schedule=Schedule(at=5))], FRAMES, [1] * N, hooks=[RESID])[0]
    assert np.array_equal(np.asarray(other[5].activations[RESID]), own[0])
    assert np.array_equal(logits(other)[:5], logits(PLAIN)[:5])
    assert not np.array_equal(logits(other)[5], logits(PLAIN)[5])


@pytest.mark.parametrize("scores", [True, False])
def test_attention_is_cut_forced_and_flattened(scores: bool) -> None:
    hook = f"blocks.*.attn.{'hook_attn_scores' if scores else 'hook_pattern'}"
    names = [f"blocks.{i}.attn.hook_pattern" for i in range(BLOCKS)]

    def patterns(edit: Intervention) -> Any:
        outputs, _, _ = play([edit], FRAMES, [1] * N, hooks=names)
        return np.stack([[np.asarray(o.activations[name])[:, ::-1] for name in names] for o in outputs])  # by age

    cut = patterns(AttentionEdit(hook, ages=[1, 2]))
    assert not cut[:, :, :, [1, 2]].any() and (cut[1:, :, :, 0] > 0).all()
    assert np.allclose(cut.sum(-1), 1, atol=1e-5) == scores
    forced = patterns(AttentionEdit(hook, mode="force", steps=[3], head=0))
    for t in range(4, 3 + WINDOW):
        assert np.allclose(forced[t, :, 0, t - 3], 1, atol=1e-6) and (forced[t, :, 1, t - 3] < 1).all()
    flat = patterns(AttentionEdit(hook, mode="uniform"))
    assert np.allclose(flat[9, :, :, :WINDOW], 1 / WINDOW, atol=1e-6)
    assert np.allclose(flat[0, :, :, 0], 1)


def test_a_query_is_never_left_with_nothing_to_look_at() -> None:
    outputs, _, _ = play([AttentionEdit("blocks.*.attn.hook_attn_scores", ages=list(range(WINDOW)))], FRAMES, [1] * N)
    assert np.array_equal(logits(outputs), logits(PLAIN))


def test_noise_belongs_to_seed_and_step() -> None:
    noise = NoiseAblation(RESID, schedule=Schedule(between=(3, 9)))
    first = logits(play([noise], FRAMES, [1] * N)[0])
    assert np.array_equal(first, logits(play([noise], FRAMES, [1] * N)[0]))
    assert not np.array_equal(first[3], logits(play([noise], FRAMES, [1] * N, seed=8)[0])[3])
    # Another one beside it, with a schedule that never meets it in effect, leaves its noise as it was.
    both = [ZeroAblation("hook_embed", schedule=Schedule(at=13)), noise]
    assert np.array_equal(first[:13], logits(play(both, FRAMES, [1] * N)[0])[:13])


def test_controls_are_like_the_edit_and_elsewhere() -> None:
    agent, v = tiny_agent(), ArrayValue(np.arange(1.0, WIDTH + 1))
    steering = Steering(RESID, direction=v, strength=2.0)
    control = steering.control(0, agent)
    assert isinstance(control, Steering) and control != steering and control.strength == 2.0
    assert np.linalg.norm(control.direction.array) == pytest.approx(np.linalg.norm(v.array), rel=1e-5)
    assert ZeroAblation(Z, head=0).control(0, agent) == ZeroAblation(Z, head=1)
    units = ZeroAblation(RESID, units=[0, 1]).control(5, agent)
    assert units is not None and len(units.units or ()) == 2 and not set(units.units or ()) & {0, 1}
    assert NoiseAblation(RESID).control(0, agent) is None
    assert AttentionEdit(SCORES, head=0, ages=[1]).control(0, agent) == AttentionEdit(SCORES, head=1, ages=[1])
    for seed in range(9):
        frames = AttentionEdit(SCORES, ages=[WINDOW - 1]).control(seed, agent)
        assert isinstance(frames, AttentionEdit) and frames.ages and 1 <= frames.ages[0] < WINDOW - 1
        frames.check(agent)
    assert AttentionEdit(SCORES, mode="uniform").control(0, agent) is None


@pytest.mark.parametrize("edit", [
    ZeroAblation(RESID, schedule=Schedule(at=3)), ActivationPatch(Z, values=np.ones((HEADS, WIDTH // HEADS)),
                                                                  schedule=Schedule(at=3))])
def test_a_whole_activation_has_a_random_shift_as_long_for_its_control(edit: ZeroAblation | ActivationPatch) -> None:
    control, other = (edit.control(seed, tiny_agent()) for seed in (0, 1))
    assert isinstance(control, RandomShift) and control.schedule == edit.schedule and control != other
    moved = []
    for one in (edit, control, other):
        (entry,) = play([one], FRAMES, [1] * 5)[2]  # type: ignore[list-item]
        (before, after), = entry.parts.values()
        moved.append((after - before).flatten().numpy())
    lengths = [np.linalg.norm(shift) for shift in moved]
    assert lengths == pytest.approx([lengths[0]] * 3, rel=1e-5)
    assert all(abs(moved[a] @ moved[b]) < 0.9 * lengths[0] ** 2 for a, b in ((0, 1), (0, 2), (1, 2)))
    again = build_intervention(json.loads(json.dumps(control.describe())))
    assert again == control and hash(again) == hash(control)
    assert ZeroAblation("blocks.0.attn.hook_pattern").control(0, tiny_agent()) is None


@pytest.mark.parametrize(("edit", "message"), [
    (lambda: RandomShift(RESID, like=ZeroAblation(Z)), "expected an edit of blocks.0.hook_resid_post"),
    (lambda: RandomShift(RESID, like=ZeroAblation(RESID), seed=-1), "seed: expected"),
    (lambda: ZeroAblation("blocks.0.attn.hook_zz"), "matches none of this policy"),
    (lambda: ZeroAblation(Z, head=HEADS), f"heads 0 to {HEADS - 1}, got head {HEADS}"),
    (lambda: ZeroAblation(RESID, units=[WIDTH]), f"units 0 to {WIDTH - 1}"),
    (lambda: ZeroAblation("readout.attack.hook_margin"), "is a read-out"),
    (lambda: MeanAblation(RESID, values=np.zeros(WIDTH + 1)), "the values"),
    (lambda: ActivationPatch(Z, values=np.zeros(WIDTH)), "an agent of the same size"),
    (lambda: ActivationPatch(RESID, values=np.zeros((2, WIDTH)), steps=[4]), "1 steps need as many values"),
    (lambda: ResampleAblation(RESID, values=np.zeros((3, WIDTH - 1))), "pool's entries"),
    (lambda: ProjectOut(RESID, direction=np.zeros(WIDTH)), "not all 0"),
    (lambda: Steering(RESID, direction=np.ones(WIDTH + 2)), "has 16 units, the direction 18"),
    (lambda: Steering(RESID, direction=np.ones(WIDTH), mode="push"), "expected add, clamp, rotate"),
    (lambda: Steering(RESID), "needs a direction"),
    (lambda: AttentionEdit(SCORES, ages=[WINDOW]), f"ages 0 to {WINDOW - 1}"),
    (lambda: AttentionEdit(RESID, ages=[1]), "is no attention"),
    (lambda: AttentionEdit(SCORES), "needs ages or steps"),
    (lambda: NoiseAblation(RESID, scale=0), "above 0"),
    (lambda: Steering(RESID, direction={"recording": "x", "hook": RESID}), "names a recording"),
    (lambda: MeanAblation(RESID, values=[[1.0], [2.0, 3.0]]), "equal length"),
    (lambda: MeanAblation(RESID, values=[float("nan")] * WIDTH), "NaN"),
    (lambda: ZeroAblation(RESID, schedule=Schedule(at=20)), "outside the episode of 14 steps"),
])
def test_what_does_not_fit_is_refused_before_anything_runs(edit: Any, message: str) -> None:
    with pytest.raises((HookError, InterventionError), match=message):
        InterventionStack([edit()], agent=tiny_agent(), seed=0, n_steps=N)


@pytest.mark.parametrize("value", [
    {"dtype": "object", "shape": [1], "data": ""}, {"dtype": "float32", "shape": [10**9], "data": ""},
    {"dtype": "float32", "shape": [-1], "data": ""}, {"dtype": "float32", "shape": [2], "data": "!"},
    {"dtype": "float32", "shape": [2], "data": b64encode(b"no zlib").decode()},
    {"dtype": "float32", "shape": [2], "data": b64encode(zlib.compress(b"\0" * 10_000_000)).decode()},
    {"dtype": "float32", "shape": [2]}, ["a"], "abc", [[1], [2, 3]], {"a": 1}, None])
def test_arrays_from_strangers_are_read_with_care(value: Any) -> None:
    with pytest.raises(HarnessError):
        ArrayValue.read(value)


def test_arrays_do_not_change() -> None:
    source = np.arange(4.0)
    value = ArrayValue(source)
    source[0] = 9
    assert value.array[0] == 0 and value == ArrayValue.read(json.loads(json.dumps(value.describe())))
    with pytest.raises(ValueError):
        value.array[0] = 1
    with pytest.raises(AttributeError):
        value.array = source  # type: ignore[misc]
