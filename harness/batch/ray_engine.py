"""Workers on a Ray cluster (https://ray.io), which is an extra.

A worker is an actor, and is asked again and again what it has said; each question brings the reply to what it said
before. So one call is under way per worker, as ``pool`` has one pipe per worker: what it returns comes in order and
once, and its failure is the worker's end. Ray tries nothing again: that is the scheduler's.
"""

from __future__ import annotations

import queue
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.batch.engine import Answer, Done, Ended, Entry, Message, NextLane, NextTrial, Reply, Stopped
from harness.batch.job import Job
from harness.batch.remote_store import Kept, RecordingStore, RemoteStore
from harness.batch.store import Store
from harness.batch.worker import work
from harness.errors import HarnessError, SuiteError
from harness.provenance import collect_provenance

__all__ = ["RayEngine"]

_CONNECT = 60.0  # seconds until a cluster that does not answer is given up
_SECONDS_BETWEEN_LOOKS = 5.0  # at which nodes there are
_Versions = tuple[str, str | None, str]
_HOW = "ray start --head  begins a cluster, ray start --address=HOST:6379  joins it; see docs/cluster.md"


class RayEngine:
    """Workers on the nodes of a Ray cluster, one CPU each; see ``engine.Engine``.

    Without ``recordings``, workers write into the output folder, which must lie under the same path on every node.
    With it, nodes need nothing in common: results are sent to this process, which writes them.

    Args:
        address: Of the cluster's head, ``host:port``; ``auto``: the cluster that runs on this machine.
        workers: At most so many; else as many as there is room for.
        gpus_per_worker: Of a node's GPUs, kept for each worker; a fraction lets several share one.
        recordings: URL under which recordings are put, for fsspec.
        entry: What a worker runs.

    Raises:
        HarnessError: when Ray is not installed.
        SuiteError: when the cluster does not answer, has another version of Ray or no room for a worker, or when the
            URL cannot be written.
    """

    can_kill = True

    def __init__(self, address: str = "auto", *, workers: int | None = None, gpus_per_worker: float = 0.0,
                 recordings: str | None = None, entry: Entry = work) -> None:
        if recordings is not None:
            RecordingStore(recordings).mark()
        self._address, self._ray = address, _connected(address)
        self._most, self._gpus, self._recordings, self._entry = workers, gpus_per_worker, recordings, entry
        self._actors: dict[int, _Handle] = {}
        self._numbers: dict[Any, int] = {}
        self._store: Store | None = None
        self._room, self._looked = 0, -_SECONDS_BETWEEN_LOOKS
        if not self._look():
            self.close()
            wanted = "1 CPU" + (f" and {gpus_per_worker:g} GPU" if gpus_per_worker else "")
            raise SuiteError(f"no node of the cluster has room for a worker, which takes {wanted}", where=address,
                             hint="ray status  shows what there is; ray start takes --num-cpus and --num-gpus")
        self._actor = self._ray.remote(num_cpus=1, num_gpus=gpus_per_worker, max_restarts=0, max_task_retries=0,
                                       scheduling_strategy="SPREAD")(_Actor)

    @property
    def capacity(self) -> int:
        """How many workers there is room for on the nodes that are alive, which may come and go; at least 1."""
        if time.monotonic() - self._looked > _SECONDS_BETWEEN_LOOKS:
            self._look()
        return max(1, self._room if self._most is None else min(self._room, self._most))

    @property
    def device(self) -> str:
        """Where networks compute: ``cpu``, or ``cuda`` with the kind of GPU, where Ray knows it.

        Raises:
            SuiteError: when nodes have GPUs of several kinds: numbers would depend on who plays.
        """
        if not self._gpus:
            return "cpu"
        kinds = sorted({name.partition(":")[2] for name in self._ray.cluster_resources()
                        if name.startswith("accelerator_type:")})
        if len(kinds) > 1:
            raise SuiteError(f"the cluster has several kinds of GPU: {', '.join(kinds)}",
                             hint="numbers depend on the kind: use a cluster of one, or play on the CPU")
        return " ".join(("cuda", *kinds))

    def _look(self) -> int:
        if not self._ray.is_initialized():  # closed after a block of seeds, and started again for the next
            self._ray = _connected(self._address)
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        self._room = sum(_fitting(node, self._gpus) for node in nodes)
        self._looked = time.monotonic()
        return self._room

    def start(self, worker: int, job: Job) -> None:
        """Begin an actor; it waits where the cluster is busy with something else."""
        if not self._ray.is_initialized():
            self._look()
        self._store = job.store
        absolute = replace(job, store=Store(job.store.root.resolve()))
        actor = self._actor.remote(absolute, self._entry, self._recordings, _versions())
        self._actors[worker] = _Handle(actor)
        self._listen(worker)

    def _listen(self, worker: int, *reply: Reply) -> None:
        each = self._actors[worker]
        each.heard = each.actor.hear.remote(*reply)
        self._numbers[each.heard] = worker

    def serve(self, answer: Answer, timeout: float) -> None:
        """Wait, and take from every actor what it has said."""
        calls = list(self._numbers)
        if calls and self._ray.wait(calls, timeout=timeout)[0]:
            for call in self._ray.wait(calls, num_returns=len(calls), timeout=0)[0]:
                self._hear(self._numbers.pop(call), call, answer)

    def _hear(self, number: int, call: Any, answer: Answer) -> None:
        try:
            said = self._ray.get(call)
        except self._ray.exceptions.RayError as problem:
            said = [Ended(_words(problem), clean=False)]
        for message in said:
            if isinstance(message, Kept):
                assert self._store is not None
                message.put(self._store)
                continue
            if isinstance(message, Ended):
                self._ray.kill(self._actors.pop(number).actor)
            reply = answer(number, message)
            if isinstance(message, NextLane | NextTrial):
                self._listen(number, reply)
                return
        if number in self._actors:
            self._listen(number)

    def kill(self, worker: int) -> None:
        """End an actor's process; the call under way then says so."""
        if worker in self._actors:
            self._ray.kill(self._actors[worker].actor)

    def close(self) -> None:
        """End all of them, and leave the cluster."""
        if self._ray.is_initialized():
            for each in self._actors.values():
                self._ray.kill(each.actor)
            self._ray.shutdown()
        self._actors, self._numbers, self._looked = {}, {}, -_SECONDS_BETWEEN_LOOKS


@dataclass
class _Handle:
    actor: Any
    heard: Any = None


def _connected(address: str) -> Any:
    """Ray, as a part of the cluster."""
    try:
        import ray
    except ImportError as problem:
        raise HarnessError("Ray is not installed", hint='pip install "harness-bench[ray]" brings it') from problem
    _knock(address)
    problems: list[Exception] = []

    def connect() -> None:
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", ignore_reinit_error=True)
        except Exception as problem:  # Ray raises many kinds
            problems.append(problem)

    # Ray tries for many minutes to reach nodes that do not answer, and cannot be told to give up.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(_CONNECT)
    if thread.is_alive():
        raise SuiteError(f"the Ray cluster did not answer within {_CONNECT:g} s", where=address, hint=_HOW)
    if problems:
        words = " ".join(str(problems[0]).split())
        hint = "install the same version of Ray and Python on all nodes" if "Version mismatch" in words else _HOW
        raise SuiteError(f"cannot join the Ray cluster: {words}", where=address, hint=hint) from problems[0]
    return ray


def _knock(address: str) -> None:
    """Refuse an address that is none, or at which nobody listens."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        raise SuiteError(f"--address: expected host:port of the cluster's head, got {address!r}",
                         hint="the command runs on a node of the cluster; ray:// addresses are not used")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as problem:
        raise SuiteError(f"nobody answers there as a Ray cluster: {problem}", where=address, hint=_HOW) from problem


def _fitting(resources: dict[str, float], gpus: float) -> int:
    """How many workers fit into a node; Ray gives a worker several GPUs only whole."""
    cpus = int(resources.get("CPU", 0))
    return cpus if not gpus else min(cpus, int(resources.get("GPU", 0) / gpus + 1e-9))


def _versions() -> _Versions:
    """What a trial's bits depend on beside its cell: Harness, PyTorch, vector instructions."""
    here = collect_provenance()
    return here.harness, here.packages["torch"], here.cpu_capability


def _words(problem: Exception) -> str:
    """What Ray tells of a dead actor, in one line."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    facts = [line for line in lines if line.startswith(("pid:", "ip:"))]
    place = f" ({', '.join(facts)})" if facts else ""
    # Of a node that lacks something, the last line is the exception.
    why = next((line for line in lines if line.startswith("The actor is dead because")), lines[-1])
    return f"the Ray worker{place} is gone: {why.partition(' Worker exit')[0]}"


class _Actor:
    """A worker on a node: it plays in a thread, while ``hear`` waits for what it says."""

    def __init__(self, job: Job, entry: Entry, recordings: str | None, versions: _Versions) -> None:
        self._said: queue.SimpleQueue[Message | Kept] = queue.SimpleQueue()
        self._replies: queue.SimpleQueue[Reply] = queue.SimpleQueue()
        self._job = job
        self._remote: RemoteStore | None = None
        threading.Thread(target=self._live, args=(entry, recordings, versions), daemon=True).start()

    def hear(self, *reply: Reply) -> Sequence[Message | Kept]:
        """Bring a reply, and wait for what is said next: all of it, up to what asks."""
        for each in reply:
            self._replies.put(each)
        said = [self._said.get()]
        while not self._said.empty():
            said.append(self._said.get())
        return said

    def _live(self, entry: Entry, recordings: str | None, versions: _Versions) -> None:
        folder: Path | None = None
        try:
            _same(versions)
            if recordings is None:
                self._reach()
            else:
                folder = Path(tempfile.mkdtemp(prefix="harness-"))
                self._remote = self._carry(folder, recordings)
            entry(self._job, self._tell)
            self._said.put(Ended("it ended", clean=True))
        except SuiteError as problem:
            self._said.put(Stopped(problem.message, problem.where, problem.hint))
        except BaseException as problem:
            self._said.put(Ended(f"{type(problem).__name__}: {problem}", clean=False))
        finally:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)

    def _reach(self) -> None:
        path = self._job.store.folder(self._job.ids[0]) / "cell.json"
        if not path.is_file():
            raise SuiteError(f"node {socket.gethostname()} does not see the output folder", where=str(path.parent),
                             hint="choose --out on a file system that all nodes share, or say --recordings URL")

    def _carry(self, folder: Path, url: str) -> RemoteStore:
        recordings = RecordingStore(url)
        if not recordings.marked():
            raise SuiteError(f"node {socket.gethostname()} sees another place under this URL", where=url,
                             hint="it must be the same for all nodes, such as an object store or a shared folder")
        store = RemoteStore(folder, recordings, self._said.put)
        self._job = replace(self._job, store=store)
        return store

    def _tell(self, message: Message) -> Reply:
        if isinstance(message, Done) and message.problem is not None and self._remote is not None:
            self._remote.give_up(self._job.ids[message.order.cell], message.order.seed, keep=message.order.record)
        self._said.put(message)
        return self._replies.get() if isinstance(message, NextLane | NextTrial) else None


def _same(wanted: _Versions) -> None:
    """Refuse to play where numbers would be others than the results say."""
    for name, here, there in zip(("Harness", "PyTorch", "vector instructions"), _versions(), wanted, strict=True):
        if here != there:
            raise SuiteError(f"node {socket.gethostname()} has another {name}: {here}, expected {there}",
                             hint="all nodes need what the machine has that runs the command; unlike processors "
                                  "agree with ATEN_CPU_CAPABILITY=avx2 before each ray start and before the command")
