"""Users' own environments, here and in another process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_environments  # noqa: F401
from click.testing import CliRunner
from fakes import make_scenario

from harness.cli import cli
from harness.errors import WorldError
from harness.scenario.schema import Scenario
from harness.world import conformance
from harness.world.gymnasium_world import GymnasiumWorld
from harness.world.world import World, make_world

HERE = Path(__file__).resolve().parent
WALK = [{"press": ["forward"], "action": 2}, {"press": ["back"], "action": 0}, {"action": 1}]


def corridor(environment: str = "small_environments:Corridor", max_steps: int = 40, **keywords: Any) -> World:
    given: dict[str, Any] = {"picture": "camera.rgb", "actions": WALK, **keywords}
    return make_world(make_scenario(max_steps), backend="gymnasium", environment=environment, **given)


@pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda check: check.__name__)
def test_conformance(check: Any) -> None:
    check(lambda: corridor(actions=[{"action": 1}]))


@pytest.mark.parametrize("more", [
    {}, {"environment": "small_environments:OldCorridor", "picture": ""},
    {"environment": "small_environments:Corridor-v0"}, {"environment": "Corridor-v0", "picture": None},
    {"python": sys.executable, "path": [HERE]},
], ids=["factory", "old gym", "id of a module", "id, rendered", "another process"])
def test_every_way_in_gives_the_same_episode(more: dict[str, Any]) -> None:
    with corridor(**more) as world:
        observation, _ = world.reset(seed=4)
        # 36 x 48 becomes 360 x 480, between bars of 80 columns.
        picture = observation["pov"]
        assert picture.shape == (360, 640, 3) and not picture[:, :80].any() and not picture[:, 560:].any()
        first = int((picture[180, 80:560, 0] == 255).nonzero()[0][0]) // 40
        n = 0
        while True:
            observation, reward, terminated, truncated, info = world.step({"forward": 1})
            n += 1
            if terminated or truncated:
                break
        assert terminated and not truncated and n == 10 - first and reward == 0.0
        assert info["reward"] == 1.0 and info["environment"] == {"hits": float(n)}
        with pytest.raises(WorldError, match="is over"):
            world.step({})
        world.reset(seed=4)
        world.step({"back": 1})


def test_real_environments_play() -> None:
    table = [{"press": ["left"], "action": 0}, {"action": 1}]
    with pytest.raises(WorldError, match="is no picture: expected uint8"):
        make_world(make_scenario(), "gymnasium", environment="CartPole-v1", picture="", actions=table).reset(seed=0)
    with make_world(make_scenario(), "gymnasium", environment="Corridor-v0", actions=WALK) as world:
        world.reset(seed=0)
        assert world.render().any()


def test_outcomes_count_what_the_environment_tells() -> None:
    scenario = Scenario.model_validate({
        "name": "corridor", "episode": {"max_steps": 40, "terminate_when": ["chopped"]},
        "outcomes": {"chopped": {"mined": "oak_log", "at_least": 3}}})
    with make_world(scenario, "gymnasium", environment="small_environments:Corridor", picture="camera.rgb",
                    actions=WALK, counts={"mine_block.oak_log": "hits"}) as world:
        world.reset(seed=0)
        ends = [world.step({"forward": 1})[2] for _ in range(3)]
        assert ends == [False, False, True]
        assert world.observe()[1]["outcomes"]["chopped"] == {"value": True, "first_step": 2, "count": 3}


def test_actions_as_a_mapping() -> None:
    keys = {"jump": "jump", "turn": "camera.yaw", "view": "camera"}
    with corridor("small_environments:Keyed", picture="", actions=keys) as world:
        world.reset(seed=0)
        info = world.step({"jump": 1, "camera": [3.0, -7.0]})[4]
        assert info["environment"] == {"jump": 1.0, "turn": -7.0, "tilt": 3.0}


def test_rules_are_tried_in_order() -> None:
    rules = [{"press": ["attack", "camera.yaw+"], "action": "both"}, {"press": ["camera.yaw-"], "action": "left"},
             {"action": [0, 1]}]
    table = GymnasiumWorld(make_scenario(), environment="small_environments:Keyed", actions=rules)._actions
    still = dict.fromkeys(["attack", "use"], 0)
    assert table.translate({**still, "attack": 1, "camera": np.array([0.0, 2.0])}) == "both"
    assert table.translate({**still, "camera": np.array([0.0, -2.0])}) == "left"
    assert table.translate({**still, "camera": np.array([9.0, 0.0])}) == [0, 1]


@pytest.mark.parametrize(("size", "fit", "bars"), [
    ((36, 64), "letterbox", (0, 0)), ((720, 1280), "letterbox", (0, 0)), ((64, 64), "letterbox", (0, 140)),
    ((30, 640), "letterbox", (165, 0)), ((64, 64), "stretch", (0, 0)),
])
def test_pictures_of_other_sizes(size: tuple[int, int], fit: str, bars: tuple[int, int]) -> None:
    with corridor(arguments={"size": size}, fit=fit) as world:
        picture = world.reset(seed=1)[0]["pov"].any(axis=2)
        rows, columns = picture.any(axis=1).nonzero()[0], picture.any(axis=0).nonzero()[0]
        assert (rows[0], columns[0]) == bars and (359 - rows[-1], 639 - columns[-1]) == bars


@pytest.mark.parametrize(("keywords", "words"), [
    ({"environment": "nowhere_at_all:Env"}, "cannot make nowhere_at_all:Env: ModuleNotFoundError"),
    ({"environment": "NoSuchEnv-v0"}, "cannot make NoSuchEnv-v0"),
    ({"environment": "small_environments:broken"}, "OSError: no licence"),
    ({"environment": "builtins:object"}, "which has no method reset"),
    ({"picture": "camera.depth"}, r"has no \"camera.depth\" \(it holds: rgb\)"),
    ({"arguments": {"kind": "float"}}, r"expected uint8 \[H, W, 3\], got float64 \[36, 48, 3\]"),
    ({"arguments": {"kind": "odd"}}, "expected a tuple of 4 or 5 values"),
    ({"actions": None}, "needs an environment, and a table"),
    ({"actions": []}, "expected rules or a mapping of keys"),
    ({"actions": [{"press": ["forwrd"], "action": 1}, {"action": 0}]}, "(?s)unknown action key \"forwrd\".*'forward'"),
    ({"actions": [{"press": ["forward"], "action": 1}]}, "the last rule of the actions presses keys"),
    ({"actions": [{"press": "forward", "action": 1}]}, "expected a list of keys"),
    ({"actions": [{"keys": ["forward"]}]}, "expected a rule such as"),
    ({"actions": {"go": "forwrd"}}, "unknown action key"),
    ({"fit": "crop"}, "unknown fit \"crop\""),
])
def test_bad_input_is_named(keywords: dict[str, Any], words: str) -> None:
    with pytest.raises(WorldError, match=words), corridor(**keywords) as world:
        world.reset(seed=1)
        world.step({})


def test_on_the_command_line() -> None:
    words = ["run", "meadow", "--agent", "noop", "--backend", "gymnasium", "--steps", "3", "--no-hooks", "--no-record",
             "--json", "--world", "environment=small_environments:Corridor", "--world", "picture=camera.rgb"]
    result = CliRunner().invoke(cli, [*words, "--world", "actions=[{action: 1}]"])
    assert result.exit_code == 0 and '"n_steps": 3' in result.output and '"gymnasium cannot tell: ' in result.output, \
        result.output
    result = CliRunner().invoke(cli, [*words, "--world", "action=[{action: 1}]"])
    assert result.exit_code == 2 and "unknown option of the gymnasium backend" in result.output, result.output
    result = CliRunner().invoke(cli, [*words, "--world", "actions"])
    assert result.exit_code == 2 and "--world: expected NAME=VALUE" in result.output, result.output


def test_a_grey_picture_becomes_three_channels() -> None:
    with corridor(arguments={"kind": "grey"}) as world:
        picture = world.reset(seed=1)[0]["pov"]
        assert (picture[:, :, 0] == picture[:, :, 2]).all()


