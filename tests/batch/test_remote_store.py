"""Results that are sent home, recordings that go to an object store; and what Ray's options refuse."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import fsspec
import pytest
from click.testing import CliRunner
from tiny_suites import write_tiny

from harness.batch import ray_engine
from harness.batch.ray_engine import RayEngine
from harness.batch.remote_store import Kept, RecordingStore, RemoteStore
from harness.batch.store import Store
from harness.cli import cli
from harness.errors import SuiteError

RESULT = {"status": "finished", "episodes": [], "metrics": {"held": 1.0}}


def record(folder: Path, text: str, name: str = "header.json") -> None:
    (folder / "recording" / "shards").mkdir(parents=True, exist_ok=True)
    (folder / "recording" / name).write_text(text)
    (folder / "recording" / "shards" / "a").write_text(text)


def test_a_trial_is_put_sent_and_kept(tmp_path: Path) -> None:
    files, sent = fsspec.filesystem("memory"), list[Kept]()
    store = RemoteStore(tmp_path / "worker", RecordingStore("memory://bucket/runs"), sent.append)
    for text, name in (("an earlier try, killed before it was sent", "old.json"), ("whole", "header.json")):
        played = store.open_trial("cell", 7)
        record(played, text, name)
        store.write_steps(played, played / "episode-1", ["{}", "{}"])
        store.finish("cell", 7, RESULT, played)
        assert not played.exists()
    names = sorted(path.partition("/recording/")[2] for path in files.find("/bucket/runs/trials/cell/7"))
    assert names == ["header.json", "shards/a"], "nothing of the earlier try"
    assert files.cat("/bucket/runs/trials/cell/7/recording/shards/a") == b"whole"
    home = Store(tmp_path / "out")
    home.begin("cell", {})
    for kept in sent:  # the second takes the place of the first
        kept.put(home)
    assert list(home.results("cell")) == [{"format": 2, "seed": 7, **RESULT}]
    assert (home.folder("cell") / "7" / "episode-1" / "steps.jsonl").read_text() == "{}\n{}\n"


def test_a_trial_that_fails_leaves_its_recording_where_it_is_kept(tmp_path: Path) -> None:
    store = RemoteStore(tmp_path / "worker", RecordingStore(f"file://{tmp_path}/bucket"), lambda kept: None)
    for seed, keep in ((1, True), (2, False)):
        played = store.open_trial("cell", seed)
        (played / "recorded" / "run").mkdir(parents=True)
        (played / "recorded" / "run" / "header.json").write_text("half")
        store.give_up("cell", seed, keep=keep)
        assert not played.exists()
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("header.json")] == [
        "bucket/trials/cell/1/recording/header.json"]


def test_a_place_that_is_not_shared_is_noticed(tmp_path: Path) -> None:
    place = RecordingStore(f"file://{tmp_path}/bucket")
    assert not place.marked()
    place.mark()
    assert RecordingStore(f"file://{tmp_path}/bucket").marked()


@pytest.mark.parametrize("url", ["nothing://bucket", "file:///proc/nothing/there"])
def test_a_place_that_cannot_be_used_is_named(url: str) -> None:
    with pytest.raises(SuiteError, match="cannot use this place for recordings") as caught:
        RecordingStore(url).mark()
    assert caught.value.where == url


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    suite = write_tiny(tmp_path, agents="noop")
    result = CliRunner().invoke(cli, ["batch", str(suite), "--engine", "ray", "--out", str(tmp_path / "out")])
    assert result.exit_code == 2 and 'pip install "harness-bench[ray]"' in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("words", "message"), [
    (["--address", "a:1"], "--address is for a Ray cluster"),
    (["--gpus-per-worker", "1"], "--gpus-per-worker is for a Ray cluster"),
    (["--recordings", "s3://a"], "--recordings is for a Ray cluster"),
    (["--engine", "ray", "--workers", "0"], "--workers 0 plays in this process"),
])
def test_options_that_do_not_go_together(tmp_path: Path, words: list[str], message: str) -> None:
    suite = write_tiny(tmp_path, agents="noop")
    result = CliRunner().invoke(cli, ["batch", str(suite), *words, "--out", str(tmp_path / "out")])
    assert result.exit_code == 2 and message in result.output and not (tmp_path / "out").exists()


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "head:port", ":6379"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(SuiteError, match="expected host:port"):
        ray_engine._knock(address)


def test_an_address_where_nobody_listens_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(SuiteError, match="nobody answers there as a Ray cluster") as caught:
        ray_engine._knock(f"127.0.0.1:{port}")
    assert caught.value.where == f"127.0.0.1:{port}"


def test_as_many_workers_as_a_node_has_room_for() -> None:
    rooms = [ray_engine._fitting(*each) for each in (
        ({"CPU": 4.0}, 0.0), ({"CPU": 4.0}, 0.5), ({"CPU": 4.0, "GPU": 1.0}, 0.5), ({"CPU": 1.0, "GPU": 2.0}, 0.1),
        ({"CPU": 16.0, "GPU": 1.0}, 0.1), ({"GPU": 2.0}, 1.0))]
    assert rooms == [4, 0, 2, 1, 10, 0]


def test_a_cluster_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setattr(ray_engine, "_CONNECT", 3.0)
    monkeypatch.setattr("ray.init", lambda **_: __import__("time").sleep(20))
    with socket.create_server(("127.0.0.1", 0)) as server, \
            pytest.raises(SuiteError, match="did not answer within 3 s"):
        RayEngine(f"127.0.0.1:{server.getsockname()[1]}")
