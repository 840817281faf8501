"""Resource packs: what is read, what is worn, and what is refused."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pack_files import TEXTURES, as_folder, as_zip, flat, pack_files, png

from harness.errors import WorldError
from harness.scenario.catalogue import catalogue
from harness.world.blockworld import resource_pack
from harness.world.blockworld.models import Models, part_names
from harness.world.blockworld.resource_pack import layout, open_resource_pack, unfolded
from harness.world.blockworld.textures import BlockLayers, block_layers, item_sprite, texture

RED, GREEN, BLUE, GREY = (200, 30, 40), (30, 180, 60), (20, 40, 210), (128, 128, 128)
STONE = f"{TEXTURES}/block/stone.png"


def test_the_layout_names_what_blockworld_has() -> None:
    faces = {block.face_texture(face) for block in catalogue().blocks.values() if block.shape != "none"  # type: ignore[arg-type]
             for face in ("top", "bottom", "side", "front")}
    assert set(layout()["blocks"]) == faces
    models = Models("plains")
    for creature in catalogue().creatures.values():
        boxes = models._own(creature.id, 0, 1).boxes
        assert len(layout()["creatures"][creature.name]["boxes"]) == len(boxes)
    assert len(layout()["creatures"]["hand"]["boxes"]) == len(models._own(-1, 0, 0).boxes)


def test_a_folder_and_a_zip_of_it_are_the_same_pack(tmp_path: Path) -> None:
    files = pack_files({"block/stone": flat(RED), "item/stick": flat(BLUE)})
    folder, archive = open_resource_pack(as_folder(tmp_path / "a", files)), open_resource_pack(
        as_zip(tmp_path / "a.zip", files))
    assert folder == archive and folder.digest == archive.digest
    other = open_resource_pack(as_folder(tmp_path / "b", pack_files({"block/stone": flat(GREEN)})))
    assert other != folder
    assert "block/dirt" in folder.missing and "block/stone" not in folder.missing


@pytest.mark.parametrize("side", [8, 16, 32, 64, 128])
def test_tiles_of_any_size_become_16(tmp_path: Path, side: int) -> None:
    picture = flat(RED, side, side)
    picture[: side // 2] = (*BLUE, 255)
    pack = open_resource_pack(as_folder(tmp_path, pack_files({"block/stone": picture})))
    tile = pack.tile("stone", "opaque")
    assert tile is not None and tile.shape == (16, 16, 4)
    assert (tile[:8, :, :3] == BLUE).all() and (tile[8:, :, :3] == RED).all()


def test_a_smaller_picture_is_the_mean_of_what_shows(tmp_path: Path) -> None:
    picture = flat(RED, 32, 32)
    picture[::2, :, :3], picture[::2, :, 3] = 0, 0  # black under transparent texels is no colour
    pack = open_resource_pack(as_folder(tmp_path, pack_files({"block/oak_leaves": picture, "block/stone": picture})))
    leaves = pack.tile("oak_leaves", "cutout")
    assert leaves is not None and (leaves[..., :3] == RED).all() and set(np.unique(leaves[..., 3])) <= {0, 255}
    stone = pack.tile("stone", "opaque")
    assert stone is not None and (stone[..., 3] == 255).all()


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    strip = np.concatenate([flat(GREEN), flat(BLUE), flat(RED)])
    path = f"{TEXTURES}/block/water_still.png.mcmeta"
    plain = open_resource_pack(as_folder(tmp_path / "a", pack_files({"block/water_still": strip}, {
        path: b'{"animation": {"frametime": 2}}'})))
    assert (plain.pictures["block/water_still"] == flat(GREEN)).all()
    for k, frames in enumerate((b"[2, 1]", b'[{"index": 2, "time": 4}]')):
        pack = open_resource_pack(as_folder(tmp_path / str(k), pack_files({"block/water_still": strip}, {
            path: b'{"animation": {"frames": ' + frames + b"}}"})))
        assert (pack.pictures["block/water_still"] == flat(RED)).all()


def test_leaves_and_grass_take_the_biomes_colour(tmp_path: Path) -> None:
    over = flat(GREY)
    over[4:, :, 3] = 0
    pack = open_resource_pack(as_folder(tmp_path, pack_files({
        "block/oak_leaves": flat(GREY), "block/spruce_leaves": flat(GREY), "block/grass_block_top": flat(GREY),
        "block/grass_block_side": flat(RED), "block/grass_block_side_overlay": over})))
    blocks = catalogue().blocks
    plains, desert = BlockLayers("plains", pack), BlockLayers("desert", pack)

    def colour(layers: BlockLayers, block: str, face: int = 3) -> list[int]:
        return layers.tile(blocks[block].id, face)[0, 0, :3].tolist()

    def tinted(tint: str) -> list[int]:
        return [round(128 * int(tint[k:k + 2], 16) / 255) for k in (1, 3, 5)]

    assert colour(plains, "oak_leaves") == tinted("#77ab2f") and colour(desert, "oak_leaves") == tinted("#aea42a")
    assert colour(plains, "spruce_leaves") == colour(desert, "spruce_leaves") == tinted("#619961")
    assert colour(plains, "grass_block") == tinted("#91bd59")
    side = plains.tile(blocks["grass_block"].id, 0)
    assert side[0, 0, :3].tolist() == tinted("#91bd59") and (side[4:, :, :3] == RED).all()


def test_without_a_pack_nothing_changes(tmp_path: Path) -> None:
    """What a pack lacks is the built-in picture, bit for bit."""
    pack = open_resource_pack(as_folder(tmp_path, pack_files({"item/stick": flat(BLUE)})))
    bare, worn = block_layers("plains"), block_layers("plains", pack)
    assert (bare.texels == worn.texels).all()
    assert (bare.tile(catalogue().blocks["stone"].id, 0) == texture("stone")).all()
    assert (item_sprite("stick", pack)[..., :3] == BLUE).all()
    assert (item_sprite("stick") != item_sprite("stick", pack)).any()
    own, other = Models("plains"), Models("plains", pack)
    for models in (own, other):
        for creature in catalogue().creatures.values():
            models.number(creature.id, 3, 0)
    assert (own.texels == other.texels).all() and (own.parts == other.parts).all()
    assert (own.texel_parts == other.texel_parts).all()


def box_skin(width: int, height: int, box: tuple[int, ...], k: int = 1) -> np.ndarray:
    """A skin whose six faces have the colours 10, 20, ... 60: right, front, left, back, top, bottom."""
    u, v, x, y, z = box
    skin = np.zeros((height, width, 4), dtype=np.uint8)
    places = ((0, z, z, y), (z, z, x, y), (z + x, z, z, y), (2 * z + x, z, x, y), (z, 0, x, z), (z + x, 0, x, z))
    for number, (left, top, w, h) in enumerate(places, 1):
        skin[v + top:v + top + h, u + left:u + left + w] = (10 * number, 0, 0, 255)
    return np.repeat(np.repeat(skin, k, axis=0), k, axis=1)


@pytest.mark.parametrize("k", [1, 4])
def test_faces_are_cut_as_minecraft_unfolds_them(k: int) -> None:
    box = (4, 8, 6, 5, 3)
    faces = unfolded(box_skin(64, 32, box, k), [*box], 64)
    assert [int(face[0, 0, 0]) for face in faces] == [10, 30, 60, 50, 40, 20]  # -x +x -y +y -z +z
    assert all((face[..., 0] == face[0, 0, 0]).all() for face in faces)
    assert [face.shape[:2] for face in faces] == [(h * k, w * k) for h, w in (
        (5, 3), (5, 3), (3, 6), (3, 6), (5, 6), (5, 6))]
    mirrored = unfolded(box_skin(64, 32, box, k), [*box, "mirrored"], 64)
    assert [int(face[0, 0, 0]) for face in mirrored] == [30, 10, 60, 50, 40, 20]
    turned = unfolded(box_skin(64, 32, box, k), [*box, "turned"], 64)
    assert [int(face[0, 0, 0]) for face in turned] == [10, 30, 20, 40, 60, 50]
    assert turned[0].shape[:2] == (3 * k, 5 * k) and turned[3].shape[:2] == (5 * k, 6 * k)


def villager_pack(tmp_path: Path) -> Path:
    """Skin, a red robe for plains, and a blue apron of the librarian's on the front of the body alone, and a hat."""
    base, robe, job = (flat((0, 0, 0), 64, 64, 0) for _ in range(3))
    base[:] = (*GREY, 255)
    base[0:18, 32:64] = base[47:64, 30:64] = 0  # no hat
    robe[20:38, 16:44] = robe[38:64, :28] = (*RED, 255)
    job[26:38, 22:30] = (*BLUE, 255)  # the body's front
    job[0:18, 32:64] = (*GREEN, 255)  # the hat
    return as_folder(tmp_path, pack_files({
        "entity/villager/villager": base, "entity/villager/type/plains": robe,
        "entity/villager/profession/librarian": job}))


def test_a_villager_wears_type_and_profession_over_each_other(tmp_path: Path) -> None:
    models = Models("plains", open_resource_pack(villager_pack(tmp_path)))
    plain, librarian = models._make(1, 0, 0), models._make(1, 8, 0)
    head, body = plain.boxes[0], plain.boxes[2]
    assert (head.faces[5][..., :3] == GREY).all() and (body.faces[5][..., :3] == RED).all()
    assert not [box for box in plain.boxes if box.part == "hat"]
    assert (librarian.boxes[2].faces[5][..., :3] == BLUE).all()
    assert (librarian.boxes[2].faces[4][..., :3] == RED).all()
    numbers = {name: number for number, name in part_names().items()}
    assert (librarian.boxes[2].labels()[5] == numbers["apron"]).all()
    assert (librarian.boxes[2].labels()[4] == numbers["robe"]).all()
    hats = [box for box in librarian.boxes if box.part == "hat"]
    assert len(hats) == 1 and hats[0].cutout
    # A dress that the pack lacks is the built-in one, whole.
    desert = 16 * catalogue().villager_types["desert"].id
    own = Models("plains")._make(1, desert, 0)
    assert all((a == b).all() for box, other in zip(models._make(1, desert, 0).boxes, own.boxes, strict=True)
               for a, b in zip(box.faces, other.faces, strict=True))


def test_a_plate_is_dyed_and_the_stand_is_not(tmp_path: Path) -> None:
    pack = open_resource_pack(as_folder(tmp_path, pack_files({
        "entity/armorstand/wood": flat(GREY, 64, 64), "models/armor/leather_layer_1": flat((255, 255, 255), 32, 64)})))
    colour = (RED[0] << 16 | RED[1] << 8 | RED[2]) + 1
    boxes = Models("plains", pack)._make(6, 0, colour).boxes
    assert {box.part: box.faces[5][0, 0, :3].tolist() for box in boxes} == {"stand": list(GREY), "plate": list(RED)}


def test_what_is_missing_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack = open_resource_pack(as_folder(tmp_path, pack_files({"block/stone": flat((1, 2, 3))})))
    resource_pack.announce_missing(pack)
    resource_pack.announce_missing(pack)
    said = capsys.readouterr().err
    assert said.count("lacks") == 1 and "block/grass_block_top" in said


def test_palettes_grey_and_16_bit_pictures_are_read(tmp_path: Path) -> None:
    """Minecraft's own pictures often have palettes, some of whose colours are clear."""
    palette = [(b"PLTE", bytes([*RED, *BLUE])), (b"tRNS", b"\xff\x00")]
    wide = struct.pack(">3H", 0x8000, 0x1000, 0xFF00)
    files = pack_files({}, {
        STONE: chunked(3, 8, [b"\0" + bytes([0, 1] * 8)] * 16, palette),
        f"{TEXTURES}/block/dirt.png": chunked(0, 8, [b"\0" + bytes([77] * 16)] * 16, []),
        f"{TEXTURES}/block/sand.png": chunked(2, 16, [b"\0" + wide * 16] * 16, [])})
    pictures = open_resource_pack(as_folder(tmp_path, files)).pictures
    assert pictures["block/stone"][0, 0].tolist() == [*RED, 255]
    assert pictures["block/stone"][0, 1, 3] == 0
    assert (pictures["block/dirt"] == (77, 77, 77, 255)).all()
    assert (pictures["block/sand"] == (0x80, 0x10, 0xFF, 255)).all()


# What is refused -----------------------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def chunked(colour: int, depth: int, rows: list[bytes], more: list[tuple[bytes, bytes]],
            size: tuple[int, int] = (16, 16)) -> bytes:
    head = struct.pack(">2I5B", *size, depth, colour, 0, 0, 0)
    middle = b"".join(chunk(*one) for one in more)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + middle + chunk(b"IDAT", zlib.compress(b"".join(rows))) + chunk(
        b"IEND", b"")


def refused(path: Path, *words: str) -> None:
    with pytest.raises(WorldError) as caught:
        open_resource_pack(path)
    assert all(word in str(caught.value) for word in words), str(caught.value)


GOOD = png(flat(RED))
BROKEN: dict[str, tuple[bytes, str]] = {
    "no picture": (b"not a picture at all, but long enough to be one", "not a PNG"),
    "cut off": (GOOD[:40], "broken"),
    "nothing": (b"", "not a PNG"),
    "damaged": (GOOD[:45] + bytes(10) + GOOD[55:], "broken"),
    "a huge head": (chunked(6, 8, [], [], (1_000_000, 1_000_000)), "1000000 x 1000000"),
    "many pixels": (chunked(6, 8, [], [], (16384, 16384)), "16384 x 16384"),
    "no pixels": (chunked(6, 8, [], [], (0, 16)), "0 x 16"),
    "no power of two": (png(flat(RED, 24, 24)), "24 x 24"),
    "too large": (png(flat(RED, 2048, 2048)), "2048 x 2048"),
    "not square": (png(flat(RED, 16, 32)), "expected a square"),
}


@pytest.mark.parametrize(("data", "words"), BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("packed", [as_folder, as_zip])
def test_a_broken_picture_is_named(tmp_path: Path, data: bytes, words: str, packed: Callable[..., Path]) -> None:
    refused(packed(tmp_path / "pack.zip", pack_files({}, {STONE: data})), words, "block/stone.png")


def test_a_skin_of_the_wrong_size_is_named(tmp_path: Path) -> None:
    for size in ((64, 64), (32, 96), (16, 32)):
        refused(as_folder(tmp_path / str(size), pack_files({"entity/cow/cow": flat(RED, *size)})), "cow.png",
                "64 x 32")


@pytest.mark.parametrize("text", [b"{", b"[]", b'{"animation": {"frames": [9]}}', b'{"animation": {"frames": ["a"]}}',
                                  b'{"animation": {"width": 7}}', b'{"animation": 3}', b"[" * 100_000])
def test_a_broken_animation_is_named(tmp_path: Path, text: bytes) -> None:
    files = pack_files({"block/stone": flat(RED, 32, 16)}, {f"{STONE}.mcmeta": text})
    refused(as_folder(tmp_path, files), "stone.png.mcmeta")


@pytest.mark.parametrize("name", ["../../evil.png", "/etc/evil", "assets\\..\\evil", "C:/evil", "a/../../b"])
def test_a_zip_that_leads_out_of_itself_is_refused(tmp_path: Path, name: str) -> None:
    path = as_zip(tmp_path / "pack.zip", {**pack_files({"block/stone": flat(RED)}), name: b"x"})
    refused(path, "leads out of it")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pack.zip"]


def test_a_folder_that_leads_out_of_itself_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(GOOD)
    pack = as_folder(tmp_path / "pack", pack_files({"block/dirt": flat(RED)}))
    (pack / STONE).symlink_to(secret)
    refused(pack, "leads out of the resource pack")


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = bytes(6 << 20)
    refused(as_zip(tmp_path / "swells.zip", pack_files({}, {STONE: zeros})), "no picture packs so well")
    refused(as_zip(tmp_path / "large.zip", pack_files({}, {STONE: bytes(9 << 20)})), "larger than")
    refused(as_folder(tmp_path / "folder", pack_files({}, {STONE: bytes(9 << 20)})), "larger than")
    monkeypatch.setattr(resource_pack, "_MOST_ENTRIES", 20)
    many = {f"assets/{k}": b"" for k in range(30)}
    refused(as_zip(tmp_path / "many.zip", pack_files({"block/stone": flat(RED)}, many)), "entries")
    monkeypatch.setattr(resource_pack, "_LARGEST_TOTAL", 100)
    refused(as_folder(tmp_path / "sum", pack_files({"block/stone": flat(RED), "block/dirt": flat(RED)})), "more than")


def test_an_entry_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    path = as_zip(tmp_path / "pack.zip", pack_files({}, {STONE: GOOD + bytes(5000)}))
    data = path.read_bytes()
    size = struct.pack("<I", len(GOOD) + 5000)
    assert data.count(size) >= 2
    path.write_bytes(data.replace(size, struct.pack("<I", 64)))
    refused(path)


def test_what_is_no_pack_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "nothing", "no resource pack here")
    refused(as_folder(tmp_path / "bare", {STONE: GOOD}), "no pack.mcmeta")
    refused(as_folder(tmp_path / "old", pack_files({}, {"assets/minecraft/textures/blocks/stone.png": GOOD})), "1.13")
    text = tmp_path / "pack.zip"
    text.write_text("no zip")
    refused(text, "cannot be read")
    cut = as_zip(tmp_path / "cut.zip", pack_files({"block/stone": flat(RED)}))
    cut.write_bytes(cut.read_bytes()[:-30])
    refused(cut, "cannot be read")
    inner = pack_files({"block/stone": flat(RED)})
    nested = as_zip(tmp_path / "nested.zip", {f"mine/{name}": data for name, data in inner.items()})
    refused(nested, "no pack.mcmeta at its top")
    twice = tmp_path / "twice.zip"
    with zipfile.ZipFile(twice, "w") as archive, pytest.warns(UserWarning):
        archive.writestr("pack.mcmeta", "{}")
        archive.writestr("pack.mcmeta", "{}")
    refused(twice, "twice")
