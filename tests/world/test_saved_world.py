"""The saved world that builds a scenario without commands: another's parser reads it, MineRL's loader finds it."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import pytest

from harness.scenario.compile import compile_scenario, to_commands
from harness.scenario.load import load_scenario
from harness.world.saved_world import write_saved_world

nbtlib = pytest.importorskip("nbtlib", reason="it comes with the extra that the tests of commands need")


@pytest.fixture
def saved(tmp_path: Path) -> zipfile.ZipFile:
    setup = compile_scenario(load_scenario("villager"), seed=3)
    return zipfile.ZipFile(write_saved_world(setup, tmp_path / "world.zip"))


def test_the_first_entry_names_the_world_and_folders_come_first(saved: zipfile.ZipFile) -> None:
    names = saved.namelist()
    assert names[0].split("/")[2] == "harness", "MineRL's loader takes the third part of the first entry"
    for index, name in enumerate(names):
        folder = name.rstrip("/").rpartition("/")[0] + "/"
        assert folder in names[:index] or folder in ("./saves/", "./"), f"{name} comes before its folder"


def test_level_dat_is_what_another_parser_reads(saved: zipfile.ZipFile) -> None:
    raw = gzip.decompress(saved.read("./saves/harness/level.dat"))
    data = nbtlib.File.parse(io.BytesIO(raw))["Data"]
    assert (data["DataVersion"], data["Version"]["Name"], data["DayTime"]) == (2586, "1.16.5", 6000)
    assert data["GameRules"]["sendCommandFeedback"] == "false" and data["Difficulty"] == 1
    assert (data["SpawnX"], data["SpawnY"], data["SpawnZ"]) == (0, 100, 0)
    flat = data["WorldGenSettings"]["dimensions"]["minecraft:overworld"]["generator"]["settings"]
    assert sum(int(layer["height"]) for layer in flat["layers"]) == 100, "the ground's top layer is y = 99"
    assert flat["layers"][-1]["block"] == "minecraft:grass_block"
    assert list(data["DataPacks"]["Enabled"]) == ["vanilla", "file/harness"]


def test_the_datapack_says_what_the_commands_say(saved: zipfile.ZipFile) -> None:
    root = "./saves/harness/datapacks/harness/data/harness/functions/"
    said = [line for name in ("session", "episode")
            for line in saved.read(f"{root}{name}.mcfunction").decode().splitlines()]
    wanted = [line.removeprefix("/") for line in to_commands(compile_scenario(load_scenario("villager"), seed=3))]
    assert said == wanted
