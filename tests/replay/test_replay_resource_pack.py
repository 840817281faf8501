"""A recording keeps which resource pack its pictures wear, and is replayed with that one only."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from pack_files import as_folder, as_zip, flat, pack_files

from harness.agent.scripted import NoopAgent
from harness.cli import cli
from harness.errors import RecordingError, WorldError
from harness.recording.recorder import Recorder
from harness.recording.recording import Recording, open_recording
from harness.replay.replay import recorded_world, replay_recording
from harness.rollout import run_episode
from harness.scenario.load import load_scenario
from harness.world.world import make_world

GRASS = "block/grass_block_top"


def record(folder: Path, pack: Path) -> Recording:
    with make_world(load_scenario("meadow"), resource_pack=pack) as world, Recorder(folder) as recorder:
        run_episode(world, NoopAgent(), seed=1, max_steps=3, observers=[recorder])
    return open_recording(recorder.path)


def test_a_pack_changes_the_picture_and_nothing_else(tmp_path: Path) -> None:
    pack = as_folder(tmp_path / "pack", pack_files({GRASS: flat((255, 255, 255))}))
    seen = []
    for keywords in ({}, {"resource_pack": pack}, {}):
        with make_world(load_scenario("meadow"), **keywords) as world:
            observation, info = world.reset(seed=3)
            seen.append((observation["pov"], info, world.options()))
    assert (seen[0][0] == seen[2][0]).all() and seen[0][2] == {}
    changed = (seen[0][0] != seen[1][0]).any(axis=-1)
    assert 0.3 < changed.mean() < 0.9
    assert not changed[:100].any()  # the sky
    assert seen[0][1] == seen[1][1]
    assert np.asarray(seen[1][0]).dtype == np.uint8 and len(seen[1][2]["resource_pack"]["sha256"]) == 64


def test_a_replay_needs_the_same_pack(tmp_path: Path) -> None:
    files = pack_files({GRASS: flat((255, 0, 255))})
    pack = as_zip(tmp_path / "pack.zip", files)
    recording = record(tmp_path / "recordings", pack)
    assert recording.header["world"]["resource_pack"]["path"] == str(pack)
    assert replay_recording(recording, agent=NoopAgent()).ok
    pack.unlink()
    with pytest.raises(RecordingError, match="no longer there"):
        recorded_world(recording)
    as_zip(pack, pack_files({GRASS: flat((255, 0, 254))}))
    with pytest.raises(RecordingError, match="not the one that was recorded with"):
        recorded_world(recording)
    pack.unlink()
    shutil.copytree(as_folder(tmp_path / "folder", files), pack)  # the same pictures, unpacked
    recorded_world(recording).close()
    recording.header["world"]["resource_pack"] = "pack.zip"
    with pytest.raises(RecordingError, match="no usable"):
        recorded_world(recording)


def test_without_a_pack_the_header_says_nothing_of_one(tmp_path: Path) -> None:
    with make_world(load_scenario("meadow")) as world, Recorder(tmp_path) as recorder:
        run_episode(world, NoopAgent(), seed=1, max_steps=1, observers=[recorder])
    recording = open_recording(recorder.path)
    assert "resource_pack" not in recording.header["world"]
    recorded_world(recording).close()


def test_the_command(tmp_path: Path) -> None:
    pack = as_zip(tmp_path / "pack.zip", pack_files({GRASS: flat((255, 0, 255))}))
    base = ["scenario", "preview", "meadow", "--out", str(tmp_path / "a.png")]
    good = CliRunner().invoke(cli, [*base, "--resource-pack", str(pack)])
    assert good.exit_code == 0 and (tmp_path / "a.png").stat().st_size > 1000, good.output
    run = CliRunner().invoke(cli, ["run", "meadow", "--agent", "noop", "--steps", "2", "--quiet", "--resource-pack",
                                   str(pack), "--out", str(tmp_path / "recordings")])
    assert run.exit_code == 0, run.output
    (folder,) = (tmp_path / "recordings").iterdir()
    assert CliRunner().invoke(cli, ["replay", str(folder), "--verify"]).exit_code == 0
    missing = CliRunner().invoke(cli, [*base, "--resource-pack", str(tmp_path / "none.zip")])
    assert missing.exit_code == 2 and "no resource pack here" in missing.output
    other = CliRunner().invoke(cli, [*base, "--backend", "video", "--resource-pack", str(pack)])
    assert other.exit_code == 2 and "is for blockworld" in other.output


def test_a_pack_that_is_none_makes_no_world(tmp_path: Path) -> None:
    with pytest.raises(WorldError, match="no resource pack here"):
        make_world(load_scenario("meadow"), resource_pack=tmp_path / "none")
