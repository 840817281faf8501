"""A snapshot may be a stranger's: what compiled code would index with is checked before any of it runs."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from harness.errors import WorldError
from harness.scenario.load import load_scenario
from harness.world.blockworld.state import BAG, CLOCK, ITEM, MOB, PLAYER, STATISTICS
from harness.world.conformance import some_actions
from harness.world.world import World, make_world

ACTIONS = some_actions(30)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with make_world(load_scenario("villager")) as made:
        made.reset(seed=1)
        for action in ACTIONS:
            made.step(action)
        yield made


@pytest.fixture(scope="module")
def parts(world: World) -> tuple[dict[str, Any], bytes]:
    body = world.snapshot()[16:]
    size = struct.unpack("<I", body[:4])[0]
    return json.loads(body[4:4 + size]), zlib.decompress(body[4 + size:])


def packed(header: dict[str, Any], payload: bytes) -> bytes:
    text = json.dumps(header).encode()
    body = struct.pack("<I", len(text)) + text + zlib.compress(payload, 1)
    return b"HBW1" + struct.pack("<QI", len(body), zlib.crc32(body)) + body


def place(header: dict[str, Any], array: str, field: str | int, row: int = 0) -> int:
    """Where a number lies in the payload."""
    sizes = {"player": (PLAYER, 1), "clock": (CLOCK, 1), "mobs": (MOB, header["n_mobs"]),
             "items": (ITEM, header["n_items"]), "bag": (np.dtype("i8"), 2 * BAG), "statistics": (np.dtype("i8"),
                                                                                                 STATISTICS)}
    at = 0
    for name, (kind, n) in sizes.items():
        if name == array:
            inside = 8 * field if isinstance(field, int) else kind.fields[field][1]  # type: ignore[index]
            return at + row * kind.itemsize + inside
        at += kind.itemsize * n
    raise AssertionError(array)


def test_an_untouched_one_is_restored(world: World, parts: tuple[dict[str, Any], bytes]) -> None:
    world.restore(packed(*parts))
    world.step(ACTIONS[0])


@pytest.mark.parametrize(("array", "field", "value"), [
    ("mobs", "kind", 10_000), ("mobs", "kind", -1), ("mobs", "label", 7), ("mobs", "id", 70_000),
    ("mobs", "x", float("nan")), ("mobs", "vy", 1e18), ("mobs", "variant", 256), ("player", "selected", 9),
    ("player", "selected", -1), ("player", "in_hand", 100_000), ("player", "x", float("inf")), ("player", "vx", -1e9),
    ("player", "health", float("nan")), ("player", "yaw", float("nan")), ("player", "gui", 2), ("clock", "n_mobs", 127),
    ("clock", "n_items", 10**12), ("clock", "n_events", -4), ("clock", "next_id", 2**40), ("clock", "time", -5),
    ("bag", 0, 10_000), ("bag", 0, -3), ("bag", 1, -1)])
def test_a_number_that_no_world_holds_is_refused(world: World, parts: tuple[dict[str, Any], bytes], array: str,
                                                 field: str | int, value: float) -> None:
    header, payload = parts
    at = place(header, array, field)
    wrong = struct.pack("<d" if isinstance(value, float) else "<q", value)
    with pytest.raises(WorldError, match="not a snapshot that blockworld can restore"):
        world.restore(packed(header, payload[:at] + wrong + payload[at + 8:]))
    world.restore(packed(header, payload))


@pytest.mark.parametrize("change", [
    {"voxels": [4, 4]}, {"voxels": [40, 16, -16]}, {"voxels": [40, 17, 16]}, {"voxels": [2**40, 16, 16]}, {"voxels": 3},
    {"n_mobs": -1}, {"n_mobs": 129}, {"n_mobs": 1.0}, {"n_items": None}, {"n_events": 10**9}, {"origin": [0, 0]},
    {"origin": [0, 0, 1e300]}, {"ground": [999, 99]}, {"ground": [-300, 99]}, {"ground": []}, {"labels": [[]]},
    {"labels": [[3]]}, {"labels": None}, {"labels": []}, {"weather": []}, {"weather": "hail"}, {"biome": 7},
    {"difficulty": None}, {"rules": 3}, {"steps": "x"}, {"steps": None}, {"outcomes": {}}, {"outcomes": 4},
    {"np_random": {}}, {"np_random": {"bit_generator": "MT19937"}}, {"seed": "x"}, {"seed": None}, {"setup": 7}])
def test_a_header_that_no_world_wrote_is_refused(world: World, parts: tuple[dict[str, Any], bytes],
                                                 change: dict[str, Any]) -> None:
    header, payload = parts
    with pytest.raises(WorldError):
        world.restore(packed({**header, **change}, payload))
    world.restore(packed(header, payload))


def test_blocks_that_do_not_exist_are_refused(world: World, parts: tuple[dict[str, Any], bytes]) -> None:
    header, payload = parts
    with pytest.raises(WorldError, match="blocks that do not exist"):
        world.restore(packed(header, payload[:-1] + b"\xff"))


def test_random_numbers_in_it_are_refused_or_harmless(world: World, parts: tuple[dict[str, Any], bytes]) -> None:
    """Whatever is let through can be drawn, told and played."""
    header, payload = parts
    rng, n_refused = np.random.default_rng(0), 0
    fixed = len(payload) - int(np.prod(header["voxels"]))
    for _ in range(150):
        wrong = bytearray(payload)
        for at in 8 * rng.integers(fixed // 8, size=2):
            kind = rng.integers(3)
            wrong[at:at + 8] = struct.pack("<d", rng.normal() * 10.0 ** rng.integers(300)) if kind == 0 else \
                struct.pack("<q", rng.integers(-2**62, 2**62) if kind == 1 else rng.integers(-5, 300))
        try:
            world.restore(packed(header, bytes(wrong)))
        except WorldError:
            n_refused += 1
            continue
        world.observe()
        for action in ACTIONS[:3]:
            world.step(action)
        world.world_state(segmentation=True)
    assert 0 < n_refused < 150
