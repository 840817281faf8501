"""Activation stores: what goes in comes out, whatever interrupts; damage is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sparse_data import HOOK, make_store, opened

from harness.analysis.sae.store import ActivationStore
from harness.analysis.sae.tokens import Tokens, token_layout
from harness.errors import HookError, StoreError


def numbers(n: int, d: int = 4) -> np.ndarray:
    return np.arange(n * d, dtype=np.float32).reshape(n, d)


def everything(store: ActivationStore) -> np.ndarray:
    return np.concatenate([values[HOOK] for _, values in store.rows([HOOK])])


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    store = opened(tmp_path / "s", {HOOK: numbers(100)}, shard_bytes=64, state=np.arange(100))
    assert store.n_shards > 10 and store.n_steps == 100
    assert np.array_equal(everything(store), numbers(100))
    columns = [store.columns(i) for i in range(store.n_shards)]
    assert np.concatenate([c.state for c in columns]).ravel().tolist() == list(range(100))
    assert np.concatenate([c.episode for c in columns]).tolist() == [n // 10 for n in range(100)]
    assert np.concatenate([c.camera for c in columns]).tolist() == list(range(1, 101))


def test_an_interrupted_store_goes_on_at_its_shard(tmp_path: Path) -> None:
    whole = opened(tmp_path / "whole", {HOOK: numbers(100)}, shard_bytes=64)
    make_store(tmp_path / "cut", {HOOK: numbers(100)}, shard_bytes=64, units=4)
    # As if it had stopped in the midst of the fourth unit: its last shard was not written.
    manifest = tmp_path / "cut" / "store.json"
    told = json.loads(manifest.read_text())
    lost = told["shards"].pop()
    told["units"].pop()
    manifest.write_text(json.dumps(told))
    (tmp_path / "cut" / lost["file"]).unlink()
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cut").glob("*.safetensors")}
    with pytest.raises(StoreError, match="not finished"):
        ActivationStore(tmp_path / "cut")
    make_store(tmp_path / "cut", {HOOK: numbers(100)}, shard_bytes=64, resume=True)
    cut = ActivationStore(tmp_path / "cut")
    assert all((tmp_path / "cut" / name).stat().st_mtime_ns == at for name, at in kept.items())
    assert np.array_equal(everything(cut), everything(whole))
    assert [s["file"] for s in cut._shards] == [s["file"] for s in whole._shards]


def test_a_store_is_not_written_over_nor_mixed_up(tmp_path: Path) -> None:
    make_store(tmp_path, {HOOK: numbers(20)})
    with pytest.raises(StoreError, match="store already"):
        make_store(tmp_path, {HOOK: numbers(20)})
    with pytest.raises(StoreError, match="other episodes"):
        make_store(tmp_path, {HOOK: numbers(20)}, episodes=5, resume=True)


def test_damage_is_named(tmp_path: Path) -> None:
    store = opened(tmp_path, {HOOK: numbers(100)}, shard_bytes=400)
    shard = tmp_path / "shard-00001.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-10])
    with pytest.raises(StoreError, match="cut short: shard-00001"):
        ActivationStore(tmp_path)
    bad = np.frombuffer(whole, np.uint8).copy()
    place = whole.index(numbers(100)[13].tobytes()[4:])
    bad[place:place + 4] = np.frombuffer(np.float32("nan").tobytes(), np.uint8)
    shard.write_bytes(bad.tobytes())
    with pytest.raises(StoreError, match="NaN") as problem:
        list(store.batches([HOOK], 10))
    assert "shard-00001.safetensors" in str(problem.value.where)
    shard.unlink()
    with pytest.raises(StoreError, match="shard-00001.safetensors is missing"):
        ActivationStore(tmp_path)
    with pytest.raises(StoreError, match="blocks.0"):
        store.tokens("blocks.9.hook_resid_post")


def test_what_is_not_finite_or_does_not_fit_is_not_stored(tmp_path: Path) -> None:
    bad = numbers(20)
    bad[3, 1] = np.inf
    with pytest.raises(StoreError, match="NaN or infinities in 1 of"):
        make_store(tmp_path / "a", {HOOK: bad})
    with pytest.raises(StoreError, match="shape"):
        make_store(tmp_path / "b", {HOOK: numbers(20)}, tokens=Tokens((), (), 5))


def test_batches_hold_each_token_once_and_are_mixed(tmp_path: Path) -> None:
    store = opened(tmp_path, {HOOK: numbers(1000)}, shard_bytes=800)
    found = [batch for _, batch in store.batches([HOOK], 50, buffer_bytes=4000)]
    first = np.concatenate(found)[:, 0] / 4
    assert sorted(first.tolist()) == list(range(1000))
    assert np.abs(np.corrcoef(first, np.arange(1000))[0, 1]) < 0.3
    again = [batch for _, batch in store.batches([HOOK], 50, buffer_bytes=4000)]
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))
    other = [batch for _, batch in store.batches([HOOK], 50, buffer_bytes=4000, seed=1)]
    assert not np.array_equal(found[0], other[0])


def test_several_hooks_come_from_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(tmp_path, {HOOK: numbers(100), "b": -numbers(100)}, shard_bytes=800)
    reads = []
    whole = ActivationStore.columns
    monkeypatch.setattr(ActivationStore, "columns", lambda self, shard: reads.append(shard) or whole(self, shard))
    got = list(store.batches([HOOK, "b"], 10))
    assert len(got) == 20 and len(reads) == store.n_shards
    assert all((batch >= 0).all() if hook == HOOK else (batch <= 0).all() for hook, batch in got)


def test_the_split_goes_by_world(tmp_path: Path) -> None:
    store = opened(tmp_path, {HOOK: numbers(100)})
    store.episodes = [{"recording": str(e), "scenario": "s", "seed": e // 2} for e in range(10)]
    train, test = store.split(0.4)
    assert sorted(train + test) == list(range(10)) and len(test) == 4
    assert {e // 2 for e in train}.isdisjoint({e // 2 for e in test})
    store.episodes = store.episodes[:1]
    with pytest.raises(StoreError, match="one episode"):
        store.split()


def test_the_tokens_of_a_hook() -> None:
    assert token_layout("r", ("b", "t", "d"), (8,)).kinds() == ["frame"]
    assert token_layout("z", ("b", "t", "h", "d_head"), (2, 4)).kinds() == ["head 0", "head 1"]
    maps = token_layout("cnn", ("b", "t", "C", "H", "W"), (3, 2, 5))
    assert (maps.width, maps.per_step, maps.grid) == (3, 10, (2, 5))
    x = np.arange(60).reshape(2, 3, 2, 5)
    assert np.array_equal(maps.split(x)[11], x[1, :, 0, 1])
    image = token_layout("i", ("b", "t", "p", "d"), (50, 4))
    assert image.kinds()[:2] == ["CLS", "patch"] and image.grid == (7, 7)
    assert token_layout("e", ("b", "t", "p", "d"), (49, 4)).kinds()[0] == "patch"
    with pytest.raises(HookError, match="no vector"):
        token_layout("attn.hook_pattern", ("b", "h", "t", "T"), (4, 129))
