"""A real Ray cluster of two nodes on this machine: ``pytest -m ray tests/batch/test_ray.py``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mortal
import pytest
from tiny_suites import write_tiny

from harness.batch.load import load_suite
from harness.batch.ray_engine import RayEngine
from harness.batch.report import Report
from harness.batch.runner import run_suite
from harness.batch.suite import RecordingPolicy
from harness.errors import SuiteError
from harness.recording.recording import open_recording

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

BATCH = 4
# Loopback addresses that Ray does not take for "localhost", which it would replace by the machine's own address.
HEAD, OTHER = "127.0.0.2", "127.0.0.3"
MEMORY = 80_000_000
PATHS = os.pathsep.join([str(Path(mortal.__file__).parent), *filter(None, sys.path)])


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one CPU each, without dashboard or reports to anybody."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    patch.setenv("RAY_worker_niceness", "0")  # else whatever runs beside the tests holds them up
    patch.setenv("PYTHONPATH", PATHS)  # where nodes find ``mortal``
    beats = {"health_check_period_ms": 500, "health_check_failure_threshold": 4, "health_check_initial_delay_ms": 500}
    head = {"num_cpus": 1, "node_ip_address": HEAD, "include_dashboard": False, "object_store_memory": MEMORY,
            "_system_config": beats}
    made = Cluster(initialize_head=True, head_node_args=head)
    add_node(made)
    yield made
    made.shutdown()
    patch.undo()


def add_node(cluster: Any) -> Any:
    return cluster.add_node(num_cpus=1, node_ip_address=OTHER, object_store_memory=MEMORY)


def results(out: Path) -> dict[str, Any]:
    """What was measured, by cell and seed, without what depends on the clock or on who was killed."""
    found = {}
    for path in sorted(out.glob("trials/*/*/result.json")):
        result = json.loads(path.read_text())
        del result["seconds"]
        found[f"{path.parent.parent.name}/{path.parent.name}"] = result
    return found


def reference_of(folder: Path, **options: str) -> tuple[Path, dict[str, Any]]:
    suite = write_tiny(folder, **options)
    run_suite(suite, out=folder / "out", batch=BATCH)
    return suite, results(folder / "out")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The tiny suite, and its results played in this process."""
    return reference_of(tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The same with an agent without a network, whose workers begin sooner."""
    return reference_of(tmp_path_factory.mktemp("scripted"), agents="random")


def played(cluster: Any, suite: Path, out: Path, **options: Any) -> Report:
    engine = RayEngine(cluster.address, **{key: options.pop(key) for key in ("entry", "recordings") if key in options})
    try:
        assert engine.capacity == 2
        return run_suite(suite, out=out, batch=BATCH, engine=engine, **options)
    finally:
        engine.close()


def at_work(out: Path) -> set[int]:
    """The processes that have a trial in their hands."""
    return {int(path.name.split("-")[-1].removesuffix(".part")) for path in out.glob("trials/*/.*.part")
            if path.is_dir()}


def during(out: Path, n: int, strike: Callable[[set[int]], None]) -> threading.Thread:
    """Strike as soon as n processes are playing."""
    def watch() -> None:
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline:
            if len(there := at_work(out)) >= n:
                strike(there)
                return
            time.sleep(0.02)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_a_cluster_plays_what_one_process_plays(cluster: Any, reference: tuple[Path, dict[str, Any]], tmp_path: Path
                                                ) -> None:
    suite, wanted = reference
    pids: set[int] = set()
    watcher = during(tmp_path, 2, pids.update)
    report = played(cluster, suite, tmp_path, entry=mortal.work_slowly)
    watcher.join()
    assert not report.failures and not report.missing and results(tmp_path) == wanted
    assert len(pids) == 2 and os.getpid() not in pids


def test_a_closed_engine_meets_its_cluster_again(cluster: Any, scripted: tuple[Path, dict[str, Any]], tmp_path: Path
                                                 ) -> None:
    """A suite that may end early is played in blocks, each of which closes the engine."""
    suite, wanted = scripted
    engine = RayEngine(cluster.address)
    try:
        for seeds in (1, None):
            run_suite(suite, out=tmp_path, batch=BATCH, engine=engine, seeds=seeds)
    finally:
        engine.close()
    assert results(tmp_path) == wanted


def test_recordings_go_to_a_store_and_results_come_home(cluster: Any, reference: tuple[Path, dict[str, Any]],
                                                        tmp_path: Path) -> None:
    suite, wanted = reference
    report = played(cluster, suite, tmp_path / "out", recordings=f"file://{tmp_path}/kept",
                    record=RecordingPolicy("first", 1))
    assert not report.failures and not report.missing and results(tmp_path / "out") == wanted
    assert not list((tmp_path / "out").glob("trials/*/*/recording"))
    kept = sorted((tmp_path / "kept").glob("trials/*/*/recording"))
    assert [path.parent.name for path in kept] == ["40", "40"]
    assert all(open_recording(path).complete for path in kept)
    steps = sorted((tmp_path / "out").glob("trials/*/*/steps.jsonl"))
    assert len(steps) == 10 and {len(path.read_text().splitlines()) for path in steps} == {5, 8}


def test_a_worker_killed_in_mid_trial_costs_nobody_else_anything(cluster: Any, scripted: tuple[Path, dict[str, Any]],
                                                                 tmp_path: Path) -> None:
    suite, wanted = scripted
    killed: list[int] = []

    def strike(pids: set[int]) -> None:
        killed.append(min(pids))
        os.kill(killed[0], signal.SIGKILL)

    watcher = during(tmp_path, 2, strike)
    report = played(cluster, suite, tmp_path, entry=mortal.work_slowly)
    watcher.join()
    assert killed and not report.failures and not report.missing and results(tmp_path) == wanted
    assert not list(tmp_path.glob("trials/*/.*"))


def test_a_trial_that_kills_its_worker_is_lost_and_named(cluster: Any, scripted: tuple[Path, dict[str, Any]],
                                                         tmp_path: Path) -> None:
    suite, wanted = scripted
    report = played(cluster, suite, tmp_path, entry=mortal.work_until_it_dies, only=["target=villager"])
    assert {(failure.status, failure.trial.seed) for failure in report.failures} == {("lost", mortal.DEADLY)}
    assert all("is gone" in str(failure) and "pid" in str(failure) for failure in report.failures)
    found = {key: result for key, result in results(tmp_path).items() if result["status"] == "finished"}
    assert len(found) == 4 and all(wanted[key] == result for key, result in found.items())


def test_a_driver_killed_and_started_again_goes_on(cluster: Any, tmp_path: Path) -> None:
    suite = write_tiny(tmp_path, agents="random", edit=("count: 5", "count: 40"))
    run_suite(suite, out=tmp_path / "whole")
    wanted, out = results(tmp_path / "whole"), tmp_path / "out"
    script = tmp_path / "program.py"
    script.write_text("import sys\nimport mortal\nfrom harness.batch.ray_engine import RayEngine\n"
                      "from harness.batch.runner import run_suite\n"
                      f"run_suite({str(suite)!r}, out={str(out)!r}, engine=RayEngine({cluster.address!r}, "
                      "entry=mortal.work_slowly))\n")
    driver = subprocess.Popen([sys.executable, str(script)])
    try:
        deadline = time.monotonic() + 250
        while len(list(out.glob("trials/*/*/result.json"))) < 3 and driver.poll() is None \
                and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        driver.kill()
        driver.wait()
    born = {path: path.stat().st_mtime_ns for path in out.glob("trials/*/*/result.json")}
    assert 3 <= len(born) < len(wanted) == 80
    words = ["batch", str(suite), "--out", str(out), "--engine", "ray", "--address", cluster.address, "--quiet"]
    again = subprocess.run([sys.executable, "-c", "from harness.cli import main; main()", *words], capture_output=True,
                           text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert results(out) == wanted, "none is lost, and each is what one process plays"
    assert all(path.stat().st_mtime_ns == born[path] for path in born), "none is repeated"


def test_a_timeout_ends_its_worker_only(cluster: Any, scripted: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    suite, wanted = scripted
    report = played(cluster, suite, tmp_path, entry=mortal.work_until_it_hangs, timeout=8,
                    only=["target=villager"])
    assert {(failure.status, failure.trial.seed) for failure in report.failures} == {("timeout", mortal.DEADLY)}
    found = {key: result for key, result in results(tmp_path).items() if result["status"] == "finished"}
    assert len(found) == 4 and all(wanted[key] == result for key, result in found.items())


def test_what_does_not_fit_is_said(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    with pytest.raises(SuiteError, match=r"no node .* room for a worker, which takes 1 CPU and 0\.5 GPU"):
        RayEngine(cluster.address, gpus_per_worker=0.5)
    with monkeypatch.context() as patch:
        patch.setattr(ray, "__version__", "1.0.0")
        with pytest.raises(SuiteError, match=r"cannot join the Ray cluster: Version mismatch.*Ray: 1\.0\.0"):
            RayEngine(cluster.address)
    suite = load_suite(write_tiny(tmp_path, agents="noop"))
    engine = RayEngine(cluster.address)
    monkeypatch.setattr("harness.batch.ray_engine._versions", lambda: ("0.0", "0.0", "NONE"))
    with pytest.raises(SuiteError, match=r"node \S+ has another Harness: .*, expected 0\.0"):
        run_suite(suite, out=tmp_path / "out", engine=engine)


def test_a_node_that_goes_takes_no_trial_along(cluster: Any, scripted: tuple[Path, dict[str, Any]], tmp_path: Path
                                               ) -> None:
    """The last one: it leaves the cluster with one node less."""
    suite, wanted = scripted
    node = cluster.list_all_nodes()[-1]
    there: list[int] = []

    def strike(pids: set[int]) -> None:
        cluster.remove_node(node, allow_graceful=False)
        there.append(len(results(tmp_path)))

    watcher = during(tmp_path, 2, strike)
    report = played(cluster, suite, tmp_path, entry=mortal.work_slowly)
    watcher.join()
    assert len(cluster.list_all_nodes()) == 1 and there[0] < len(wanted)
    assert not report.failures and not report.missing and results(tmp_path) == wanted
