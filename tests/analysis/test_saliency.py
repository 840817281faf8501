"""Saliency: pixels that are known to matter, numbers made elsewhere, and nothing from nothing."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.agent.agent import Agent
from harness.agent.load import load_agent
from harness.agent.preprocessing import policy_frame
from harness.analysis import effect, saliency_maps
from harness.analysis.saliency.result import AREA, Saliency
from harness.analysis.saliency.scene import Scene
from harness.analysis.saliency.scoring import (
    cover_of,
    hit,
    label_p,
    mass_share,
    rank_correlations,
    shifted_ratios,
)
from harness.analysis.saliency.tally import Tally
from harness.cli import cli
from harness.errors import HarnessError
from harness.intervention import Inpaint, Schedule
from harness.recording.recorder import Recorder
from harness.recording.recording import Recording, open_recording
from harness.recording.video import write_share_video
from harness.rollout import run_episode
from harness.scenario.load import load_scenario
from harness.world.world import make_world

torch = pytest.importorskip("torch")
from harness.agent.mineclip import MineCLIP  # noqa: E402
from harness.agent.steve.agent import SteveAgent  # noqa: E402
from harness.analysis.saliency.methods import METHODS, Settings, baseline_picture, saliency_map  # noqa: E402
from harness.analysis.saliency.patches import attention_rollout, patch_attention, rolled_out  # noqa: E402
from harness.analysis.saliency.targets import PictureTarget, read_target  # noqa: E402

QUICK = Settings(path=8, samples=4, masks=64)
ROWS, COLUMNS = slice(8, 16), slice(20, 28)
"""Where the toy looks: in the second row of its grid of eights, between columns 2 and 3."""


def play(folder: Path, scenario: str, agent: Agent, seed: int, steps: int, hooks: tuple[str, ...] = ()) -> Recording:
    with make_world(load_scenario(scenario)) as world, Recorder(folder) as recorder:
        run_episode(world, agent, seed=seed, max_steps=steps, observers=[recorder], hooks=list(hooks))
    return open_recording(recorder.path)


class Toy:
    """Looks at the green of one block and at nothing else."""

    batch = 8

    def __call__(self, pictures: Any) -> Any:
        return torch.tanh(pictures[:, ROWS, COLUMNS, 1].mean((1, 2)) ** 2 * 3)

    def with_maps(self, pictures: Any) -> tuple[Any, Any]:
        """Two channels: green where the block is, and all of red, which the number does not read."""
        seen = torch.zeros_like(pictures[..., :2])
        seen[:, ROWS, COLUMNS, 0] = pictures[:, ROWS, COLUMNS, 1]
        seen[..., 1] = pictures[..., 0]
        maps = torch.nn.functional.avg_pool2d(seen.permute(0, 3, 1, 2), 4).requires_grad_()
        return 3 * maps[:, 0].sum((1, 2)), maps


@pytest.fixture(scope="module")
def picture() -> Any:
    return 0.2 + 0.8 * torch.rand(32, 40, 3, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def agent() -> Any:
    return load_agent("planted", device="cpu")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, agent: Agent) -> Recording:
    return play(tmp_path_factory.mktemp("planted"), "planted", agent, 3, 36, ("readout.*.hook_margin",))


# --- methods --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", [*METHODS])
def test_every_method_finds_the_only_block_that_matters(name: str, picture: Any) -> None:
    heat = saliency_map(name, Toy(), picture, Settings(path=8, samples=4, patch=8, stride=4, masks=512,
                                                       baseline="black"))
    block = np.zeros((32, 40), np.float32)
    block[ROWS, COLUMNS] = 1
    assert heat.dtype == np.float32 and heat.shape == (32, 40)
    wide = np.asarray(cv2.dilate(block, np.ones((7, 7))), np.float32)
    assert hit(heat, wide if name == "rise" else block)
    if name in ("gradient", "input-x-gradient", "integrated-gradients", "smoothgrad"):
        assert mass_share(heat, block) == pytest.approx(1.0)
    if name == "grad-cam":  # the red channel has weight 0, however bright it is; the rest is the enlargement's rim
        assert mass_share(heat, wide) > 0.99
    # Everything else must be beaten by far: 512 masks leave noise in RISE, a square reaches over the block's rim.
    assert shifted_ratios(heat, block)[0, 0] > (2.0 if name == "rise" else 4.0)


def test_occlusion_is_nothing_where_no_square_touches_the_block(picture: Any) -> None:
    heat = saliency_map("occlusion", Toy(), picture, dataclasses.replace(QUICK, patch=8, stride=8, baseline="black"))
    touched = np.zeros((32, 40), bool)
    touched[8:16, 16:32] = True  # the two squares of the grid that share the block
    assert (heat[touched] > 0).all() and not heat[~touched].any()


@pytest.mark.parametrize("baseline", ["mean", "black", "blur"])
def test_integrated_gradients_are_complete(baseline: Any, picture: Any) -> None:
    """Sundararajan et al.: the map sums to f(x) - f(baseline)."""
    heat = saliency_map("integrated-gradients", Toy(), picture, Settings(baseline=baseline))
    fall = float(Toy()(picture[None]) - Toy()(baseline_picture(picture, baseline)[None]))
    assert abs(fall) > 1e-3, "a fall of nothing would prove nothing"
    assert float(heat.sum(dtype=np.float64)) == pytest.approx(fall, rel=1e-4)


@pytest.mark.slow
def test_integrated_gradients_of_a_policy_come_closer_to_completeness(agent: Any, recorded: Recording) -> None:
    frames = recorded.pov[:6]
    state = agent.look_ahead(frames[:5], agent.initial_state())[1]
    target = PictureTarget(agent, state, read_target("attack"))
    x = torch.from_numpy(policy_frame(frames[5])).float() / 255
    with torch.no_grad():
        fall = float(target(x[None]) - target(baseline_picture(x, "blur")[None]))
    off = [abs(float(saliency_map("integrated-gradients", target, x, Settings(path=n, baseline="blur")).sum()) - fall)
           for n in (16, 512)]
    assert abs(fall) > 0.5 and off[1] < 0.05 * abs(fall) < off[0]


def test_grad_cam_by_hand(picture: Any) -> None:
    heat = saliency_map("grad-cam", Toy(), picture, QUICK)
    _, maps = Toy().with_maps(picture[None])
    by_hand = 3 * maps[0, 0].detach().numpy()
    np.testing.assert_allclose(heat[2::4, 2::4] + heat[1::4, 1::4], 2 * by_hand, atol=by_hand.max() / 2)
    assert heat[11, 24] == pytest.approx(by_hand[2, 6], rel=0.4)


def test_noise_and_masks_are_drawn_from_the_seed(picture: Any) -> None:
    for name in ("smoothgrad", "rise"):
        one, two, three, four = (saliency_map(name, Toy(), picture, dataclasses.replace(QUICK, seed=seed), draw)
                                 for seed, draw in ((0, 0), (0, 0), (1, 0), (0, 1)))
        np.testing.assert_array_equal(one, two)
        assert (one != three).any() and (one != four).any(), name


def test_the_numbers_are_captums(agent: Any, recorded: Recording) -> None:
    """Our methods beside another's, on the policy with its memory: the function of the picture is all captum needs."""
    captum = pytest.importorskip("captum.attr")
    frames = recorded.pov[:4]
    state = agent.look_ahead(frames[:3], agent.initial_state())[1]
    target = PictureTarget(agent, state, read_target("attack"))
    x = torch.from_numpy(policy_frame(frames[3])).float()[None] / 255
    black = torch.zeros_like(x)
    ours = {name: saliency_map(name, target, x[0], Settings(baseline="black", path=16, patch=32, stride=16))
            for name in ("gradient", "input-x-gradient", "integrated-gradients", "occlusion")}
    theirs = {
        "gradient": captum.Saliency(target).attribute(x.clone().requires_grad_()).amax(-1),
        "input-x-gradient": captum.InputXGradient(target).attribute(x.clone().requires_grad_()).sum(-1),
        "integrated-gradients": captum.IntegratedGradients(target).attribute(
            x, black, n_steps=16, internal_batch_size=8).sum(-1),
        # captum covers three channels at once and gives each of them the whole fall.
        "occlusion": captum.Occlusion(target).attribute(
            x, (32, 32, 3), (16, 16, 3), baselines=black, perturbations_per_eval=7)[..., 0],
    }
    for name, found in theirs.items():
        other = found[0].detach().numpy()
        np.testing.assert_allclose(ours[name], other, rtol=1e-3, atol=2e-4 * np.abs(other).max(), err_msg=name)


# --- targets --------------------------------------------------------------------------------------------------------

def test_a_target_is_the_recorded_readout_at_the_recorded_memory(agent: Any, recorded: Recording) -> None:
    frames, step = recorded.pov[:12], 11
    chosen, _ = agent.look_ahead(frames, agent.initial_state())
    expected = chosen[step](None)
    state = agent.look_ahead(frames[:step], agent.initial_state())[1]
    x = (torch.from_numpy(policy_frame(frames[step])).float() / 255)[None].repeat(3, 1, 1, 1)

    def of(name: str) -> Any:
        with torch.no_grad():
            return PictureTarget(agent, state, read_target(name))(x).numpy()

    for key in ("attack", "forward"):
        np.testing.assert_allclose(of(key), recorded.activations[f"readout.{key}.hook_margin"][step], atol=1e-3)
    np.testing.assert_allclose(of("camera.60"), expected.log_probs["camera"][60], atol=1e-4)
    np.testing.assert_allclose(of("value"), expected.value, atol=1e-4)
    with torch.no_grad():
        forgetful = PictureTarget(agent, agent.initial_state(), read_target("attack"))(x)
    assert abs(float(forgetful[0]) - of("attack")[0]) > 1e-3, "the memory counts"


@pytest.mark.parametrize("scale", [None, 4.0])
def test_pictures_after_one_goal_are_those_of_looking_ahead(scale: float | None) -> None:
    """Under guidance a memory has two rows an episode; each of several pictures gets both."""
    steve: Any = load_agent("steve-nano", device="cpu", goal=[0.1] * 512, cond_scale="none" if scale is None else scale)
    frames = np.random.default_rng(0).integers(0, 256, (4, 360, 640, 3), np.uint8)
    state = steve.look_ahead(frames[:2], steve.initial_state())[1]
    pictures = torch.from_numpy(np.stack([policy_frame(each) for each in frames[2:]])).float() / 255
    out = steve.look_at(pictures.requires_grad_(), state)
    for row, frame in enumerate(frames[2:]):
        alone = steve.look_ahead(frame[None], state)[0][0](None)
        np.testing.assert_allclose(out.buttons[row, 0].detach(), alone.log_probs["buttons"], atol=1e-3)
    assert torch.autograd.grad(out.buttons[0, 0, 5], pictures)[0][0].abs().sum() > 0
    with pytest.raises(HarnessError, match="pictures: expected"):
        steve.look_at(pictures[..., :2], state)


# --- MineCLIP -------------------------------------------------------------------------------------------------------

def test_rollout_of_known_patterns() -> None:
    eye, uniform = torch.eye(4)[None], torch.full((2, 4, 4), 0.25)
    torch.testing.assert_close(rolled_out([eye, eye]), torch.eye(4))
    torch.testing.assert_close(rolled_out([uniform]), torch.eye(4) / 2 + 0.125)
    first = torch.tensor([[[0.0, 1, 0], [0, 1, 0], [0, 0, 1]]])   # the class token reads patch 1
    second = torch.tensor([[[1.0, 0, 0], [0, 0, 1], [0, 0, 1]]])  # then itself
    torch.testing.assert_close(rolled_out([first, second])[0], torch.tensor([0.5, 0.5, 0.0]))


def test_mineclip_looks_at_patches() -> None:
    model = MineCLIP.random("nano", 1)
    view = np.random.default_rng(1).integers(0, 256, (360, 640, 3), np.uint8)
    rows, columns = model.config.grid
    rolled, last = attention_rollout(model, view), patch_attention(model, view)
    assert rolled.shape == last.shape == (rows, columns) and 0 < rolled.sum() < 1 and 0 < last.sum() < 1
    assert not np.allclose(last, patch_attention(model, view, 0))
    with pytest.raises(HarnessError, match="block: expected -2 to 1, got 2"):
        patch_attention(model, view, 2)


def test_mineclips_patches_beside_the_policys_maps(recorded: Recording) -> None:
    steve = SteveAgent(size="nano", random_seed=0, prompt="chop a tree", device="cpu")
    methods = ("gradient", "mineclip-attention", "mineclip-rollout")
    result = saliency_maps([recorded], agent=steve, methods=methods, steps=(3,), random_networks=1)
    rolled = attention_rollout(steve.mineclip("a test"), recorded.pov[3])
    np.testing.assert_allclose(result.maps[2, 0], cv2.resize(rolled, (128, 128)), atol=1e-6)
    assert (result.maps[1] != result.maps[2]).any() and len(result.method_scores) == 4


# --- scores ---------------------------------------------------------------------------------------------------------

def test_a_cover_is_what_the_policys_resize_makes_of_a_mask() -> None:
    mask = np.zeros((360, 640), np.uint8)
    cv2.ellipse(mask, (300, 150), (90, 60), 20, 0, 360, 255, -1)
    shown = policy_frame(np.repeat(mask[..., None], 3, 2))[..., 0] / 255
    np.testing.assert_allclose(cover_of(mask, (128, 128)), shown, atol=1 / 255)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31), st.integers(1, 5))
def test_shares_of_a_partition_add_up_and_shifts_are_rolls(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    heat = rng.standard_normal((9, 14)).astype(np.float32)
    label = rng.integers(0, n, heat.shape)
    covers = [np.asarray(label == i, np.float32) for i in range(n) if (label == i).any()]
    assert sum(mass_share(heat, cover) for cover in covers) == pytest.approx(1)
    ratios = shifted_ratios(heat, covers[0])
    assert ratios.mean() == pytest.approx(1, abs=1e-3)
    assert ratios[0, 0] == pytest.approx(mass_share(heat, covers[0]) / covers[0].mean(), rel=1e-3)
    rolled = [mass_share(np.roll(heat, (y, x), (0, 1)), covers[0]) / covers[0].mean()
              for y in range(9) for x in range(14)]
    np.testing.assert_allclose(np.sort(ratios.ravel()), np.sort(rolled), atol=1e-3)


def test_the_top_of_a_flat_hill_is_its_middle() -> None:
    heat = np.zeros((8, 8), np.float32)
    heat[2:5, 3:6] = -2
    there = np.zeros_like(heat)
    there[3, 4] = 1
    assert hit(heat, there) and not hit(heat, 1 - there)


def test_rank_correlations_and_their_chance() -> None:
    effect = np.tile(np.arange(7.0), (5, 1))
    effect[:, 6] = np.nan
    agree, against = effect / 21, -effect / 21
    assert rank_correlations(agree, effect) == pytest.approx(1)
    assert rank_correlations(against, effect) == pytest.approx(-1)
    assert label_p(agree, effect) == pytest.approx(0.005, abs=0.02)
    noise = np.tile(np.array([3, 1, 4, 2, 5, 0, 9.0]), (5, 1))
    found = label_p(noise, effect)
    assert found is not None and found > 0.1
    few = np.where(np.arange(7) < 2, effect, np.nan)
    assert np.isnan(rank_correlations(agree, few)).all() and label_p(agree, few) is None


def _halves(shape: tuple[int, int] = (16, 16)) -> dict[str, np.ndarray]:
    covers = {name: np.zeros(shape, np.float32) for name in ("small", "left", "right")}
    covers["small"][2:6, 2:6] = 1
    covers["left"][:, :8] = 1
    covers["left"] -= covers["small"]
    covers["right"][:, 8:] = 1
    return covers


def _tallied(maps: list[list[np.ndarray]], n: int = 6) -> Saliency:
    covers = _halves()
    tally = Tally(len(maps), ["one"])
    truth = {"small": 3.0, "left": -1.0, "right": 0.1}
    for step in range(n):
        tally.add(0, Scene(step, np.zeros((360, 640, 3), np.uint8), covers, {}), maps, [truth] * len(maps))
    return tally.result({"agent": "none"}, "target", np.zeros((1, n, 16, 16), np.float32), ())


def test_a_map_that_is_the_object_scores_in_full() -> None:
    rng = np.random.default_rng(0)
    covers = _halves()
    heat = covers["small"] + 0.2 * covers["left"] * covers["left"].sum() ** -1
    result = _tallied([[heat.astype(np.float32)], [rng.random((16, 16)).astype(np.float32)]])
    small, right = result.score("one", "small"), result.score("one", "right")
    assert small.ratio == pytest.approx(16, rel=0.02) and small.ratio > small.null and small.hits == small.n == 6
    assert small.p < 0.01 and right.ratio == pytest.approx(0) and right.hits == 0 and right.p > 0.1
    assert small.random == pytest.approx(1, abs=0.3) and small.n_random == 0, "noise is at chance"
    scores = {each.method: each for each in result.method_scores}
    assert scores["one"].rank == pytest.approx(1) and scores[AREA].rank == pytest.approx(-1)
    assert scores["one"].above == 1 and scores["one"].above_random == 0 and abs(scores["one"].alike or 0) < 0.3
    assert [each.size for each in result.object_effects] == pytest.approx([1.0, 0.1, 3.0])


def test_maps_of_zeros_count_nowhere() -> None:
    result = _tallied([[np.zeros((16, 16), np.float32)]])
    assert result.object_scores == () and result.method_scores[1].rank is None and result.heat(0) is None


# --- the analysis ---------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def found(agent: Agent, recorded: Recording) -> Saliency:
    return saliency_maps([recorded], agent=agent, steps=(24, 34), methods=("gradient", "occlusion"), random_networks=1,
                         stride=16)


def test_every_pixel_belongs_to_one_object(found: Saliency) -> None:
    assert set(found.objects) == {"birch_leaves", "grass_block", "hand", "hud", "sky", "stand"}
    np.testing.assert_allclose(np.nansum(found.area, 1), 1, atol=0.01)
    np.testing.assert_allclose(np.nansum(found.mass, 3), 1, atol=0.01)


def test_the_planted_trigger_is_what_matters(tmp_path: Path, agent: Agent, recorded: Recording) -> None:
    """Known: it attacks the stand, and only under birch leaves. Truth first, or no map could be right.

    Where the stand is attacked, covering it and masks find it beyond chance, and gradients the leaves over it.
    """
    several = [recorded, *(play(tmp_path, "planted", agent, seed, 36) for seed in (4, 5))]
    result = saliency_maps(several, agent=agent, steps=(28, 34), methods=("gradient", "occlusion"), random_networks=1,
                           stride=16)
    sizes = {each.object: each.size or 0.0 for each in result.object_effects}
    assert sizes["stand"] > 5 > 50 * max(size for name, size in sizes.items() if name != "stand")
    stand, leaves = result.score("occlusion", "stand"), result.score("gradient", "birch_leaves")
    assert stand.ratio > stand.null and leaves.ratio > leaves.null
    assert stand.p < 0.01 and stand.n_random == 0 and stand.ratio > 2 * (stand.random or 0)
    assert stand.interval is not None and stand.interval.low > 1


@pytest.mark.slow
def test_which_methods_find_the_planted_trigger(tmp_path: Path, agent: Agent) -> None:
    """The table of docs/gallery/saliency.md."""
    result = saliency_maps([play(tmp_path, "planted", agent, seed, 40) for seed in (3, 4, 5)], agent=agent,
                           steps=(22, 28, 34), random_networks=0)
    stands = {method: result.score(method, "stand") for method in result.methods}
    found = {method for method, stand in stands.items() if stand.ratio > stand.null}
    assert found == {"input-x-gradient", "integrated-gradients", "grad-cam", "occlusion", "rise"}
    assert stands["occlusion"].ratio == pytest.approx(3.29, rel=0.1)


def test_an_effect_is_that_of_the_intervention_at_one_step(found: Saliency, agent: Any, recorded: Recording) -> None:
    """The same number from ``Inpaint`` in an open-loop run, whose memory is untouched until that step."""
    for step in (24, 34):
        edit = Inpaint(region={"object": "stand"}, schedule=Schedule(at=step))
        series = effect(recorded, agent, [edit], controls=0).series["attack"][0]
        here = found.effects[0, list(found.steps).index(step), found.objects.index("stand")]
        assert here == pytest.approx(series[step], abs=2e-3) and not series[:step].any()


def test_a_result_can_be_drawn_and_written(found: Saliency, recorded: Recording) -> None:
    heat = found.heat(34, "occlusion")
    assert heat is not None and heat.shape == (360, 640) and heat.dtype == np.float32
    assert heat.min() >= 0 and heat.max() == pytest.approx(1, abs=0.05)
    assert found.heat(5) is None and found.heat(34) is not None and found.heat(34, episode=1) is None
    assert found.maps.shape == (2, 2, 128, 128) and found.maps.dtype == np.float32
    titles = [table.title for table in found.tables()]
    assert len(titles) == 4 and "log-odds of attack" in titles[0] and titles[2:] == ["gradient", "occlusion"]
    told = json.loads(json.dumps(found.as_dict()))
    assert len(told["object_scores"]) == 12 and {each["method"] for each in told["method_scores"]} == {
        AREA, "gradient", "occlusion"}
    assert {"maps", "mass", "hits", "effects", "area", "steps"} <= set(found.arrays())


def test_random_weights_are_at_chance(recorded: Recording) -> None:
    """The untrained agent's own result: nothing it does depends on the stand, and no map says so."""
    untrained = load_agent("untrained", device="cpu")
    result = saliency_maps([recorded], agent=untrained, steps=(24, 34), methods=("gradient", "occlusion"),
                           random_networks=0, stride=16)
    assert max(each.size for each in result.object_effects if each.size is not None) < 0.05
    for method in result.methods:
        stand = result.score(method, "stand")
        assert stand.ratio < stand.null and stand.random is None
    assert "random weights" in result.tables()[0].title


def test_only_some_objects_and_a_camera_bin(agent: Agent, recorded: Recording) -> None:
    told: list[tuple[int, int]] = []
    result = saliency_maps([recorded], agent=agent, steps=(3,), methods=("gradient",), target="camera.60",
                           objects=("leaves", "armor_stand", "birch_log"), random_networks=0,
                           progress=lambda done, total: told.append((done, total)))
    assert result.objects == ("armor_stand", "leaves") and result.target == "log-probability of camera.60"
    assert result.notes == ("never seen in these steps: birch_log",)
    assert told[-1] == (4, 4), "three pictures looked at, one map made"


@pytest.mark.parametrize(("more", "message"), [
    ({"target": "atack"}, 'unknown target "atack"'),
    ({"target": "camera.121"}, "expected a camera bin from camera.0 to camera.120, got 'camera.121'"),
    ({"methods": ("gradients",)}, 'unknown method "gradients"'),
    ({"methods": ()}, "methods: expected some"),
    ({"methods": ("mineclip-rollout",)}, "needs an agent with MineCLIP"),
    ({"steps": (36,)}, "steps: expected 0 to 35, got 36"),
    ({"steps": ()}, "at least one"),
    ({"n_steps": 0, "steps": None}, "n_steps: expected at least 1"),
    ({"random_networks": 21}, "random_networks: expected 0 to 20"),
    ({"path": 0}, "path: expected 1 to 1000, got 0"),
    ({"stride": 17}, "stride: expected 1 to 16, got 17"),
    ({"objects": ("vilager",)}, 'unknown tag, creature or block "vilager"'),
])
def test_what_cannot_be_done_is_refused(more: Any, message: str, agent: Agent, recorded: Recording) -> None:
    with pytest.raises(HarnessError, match=message):
        saliency_maps([recorded], agent=agent,
                      **{"methods": ("gradient",), "steps": (1,), "random_networks": 0, **more})


def test_agents_without_a_network_or_mineclip_are_refused(recorded: Recording) -> None:
    with pytest.raises(HarnessError, match="has no network"):
        saliency_maps([recorded], agent=load_agent("noop"))
    with pytest.raises(HarnessError, match="needs MineCLIP, and this agent "):
        saliency_maps([recorded], agent=load_agent("steve-nano", device="cpu"), methods=("mineclip-attention",))


def test_a_video_has_maps_and_no_scores(tmp_path: Path, agent: Agent, recorded: Recording) -> None:
    video = tmp_path / "seen.mp4"
    write_share_video(recorded.pov[:4], video, 20.0)
    traced = CliRunner().invoke(cli, ["trace", str(video), "--agent", "planted", "--out", str(tmp_path / "out")])
    assert traced.exit_code == 0, traced.output
    folder = next(path.parent for path in (tmp_path / "out").rglob("header.json"))
    result = saliency_maps([open_recording(folder)], agent=agent, steps=(2,), methods=("gradient",))
    assert result.objects == () and "is a video" in result.notes[0]
    table, = result.tables()
    assert "is a video" in table.note and result.heat(2) is not None


def test_the_command(tmp_path: Path, recorded: Recording) -> None:
    out = tmp_path / "found.npz"
    ran = CliRunner().invoke(cli, ["analyse", str(recorded.path), "saliency", "--set", "methods=[gradient]", "--set",
                                   "steps=[2]", "--set", "random_networks=0", "--out", str(out), "--quiet"])
    assert ran.exit_code == 0, ran.output
    assert "saliency of the log-odds of attack" in ran.output
    with np.load(out) as arrays:
        assert arrays["maps"].shape == (1, 1, 128, 128)
    wrong = CliRunner().invoke(cli, ["analyse", str(recorded.path), "saliency", "--set", "target=atack"])
    assert wrong.exit_code == 2 and "attack" in wrong.output
