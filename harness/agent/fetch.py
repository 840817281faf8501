"""Downloading published agents: resumed where it broke off, checked before it counts, never half a file under its name.

Only the standard library: a cache of folders, HTTP's Range and If-Range, and SHA-256. While it is on its way a file is
called ``NAME.part`` and has a ``NAME.part.json`` beside it that says which version of the address it belongs to. When
it is whole and its digest is right it gets its name, and a ``NAME.sha256`` beside it. Where nobody has published a
digest, the first one seen is the one that every later download and every load is held against.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.agent.published import PublishedAgent, PublishedFile, agent_folder, where_to_place
from harness.errors import WeightsError

__all__ = ["Progress", "checked_digest", "download", "fetch_agent"]

Progress = Callable[[str, int, int], None]
"""Called with a file's name, the bytes that are here, and the bytes there will be."""

ATTEMPTS = 5
PAUSE = 1.0
"""Seconds before the second attempt; it doubles from there."""
TIMEOUT = 30.0
"""Seconds without a byte."""
_CHUNK = 1 << 20


class _Interrupted(Exception):
    """Worth another attempt, from where it broke off."""


class _Unreachable(_Interrupted):
    """No answer at all."""


class _OnlyAsSafe(urllib.request.HTTPRedirectHandler):
    """Follows redirections, though not from https to anything less."""

    def redirect_request(self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
                         ) -> urllib.request.Request | None:
        if urlsplit(req.full_url).scheme == "https" and urlsplit(newurl).scheme != "https":
            raise WeightsError(f"{urlsplit(req.full_url).hostname} redirects to an unprotected address, {newurl[:200]}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch_agent(agent: PublishedAgent, source: str | None = None, progress: Progress | None = None) -> list[Path]:
    """Bring an agent's files into the cache; what is there and right is left alone.

    Args:
        agent: From ``published_agent``.
        source: One of its sources; None for the usual one.
        progress: Told about every megabyte or so.

    Returns:
        The files.

    Raises:
        AgentError: for a source it does not have.
        WeightsError: when a file cannot be had, or is not the one it should be; says what to place where by hand.
    """
    origin, folder = agent.source(source), agent_folder(agent)
    paths = []
    for file in origin.files:
        target = folder / file.file
        paths.append(target)
        if target.is_file():
            checked_digest(target, file)
            continue
        if file.url is None:
            raise WeightsError(f"{file.file} cannot be fetched by a program\n{where_to_place(agent, origin)}")
        try:
            download(file.url, target, file, progress)
        except WeightsError as problem:
            raise WeightsError(f"{problem.message}\nto do it by hand, {where_to_place(agent, origin)}",
                               where=problem.where, hint=problem.hint) from problem
    return paths


def checked_digest(path: Path, file: PublishedFile | None = None) -> str:
    """The SHA-256 of a file in the cache; remembered beside it, and held against what is known.

    Raises:
        WeightsError: for another digest than the published one or the one seen first, and a file that cannot be read.
    """
    try:
        digests = _digests(path, file)
        _compare(path.name, digests, file, path)
    except OSError as problem:
        raise WeightsError(f"cannot read {path.name}, or what is recorded of it: {problem.strerror or problem}",
                           where=str(path)) from problem
    with contextlib.suppress(OSError):  # a cache that cannot be written to can still be read
        _remember(path, digests["sha256"])
    return digests["sha256"]


def download(url: str, target: Path, file: PublishedFile | None = None, progress: Progress | None = None) -> str:
    """Bring one file, going on where an earlier attempt broke off.

    Args:
        url: http or https.
        target: Its name appears when the whole file is there and its digest is right.
        file: Its digests and its size, where they are known.
        progress: Told about every megabyte or so.

    Returns:
        Its SHA-256.

    Raises:
        WeightsError: when the server cannot be reached or does not have it, when it keeps breaking off (what came is
            kept for the next time), and for a wrong digest (nothing is kept).
    """
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(part):
            _bring(url, part, file, progress)
            digests = _digests(part, file)
            try:
                _compare(target.name, digests, file, target)
            except WeightsError:
                _forget(part)
                raise
            with part.open("rb+") as whole:
                os.fsync(whole.fileno())
            _remember(target, digests["sha256"])
            os.replace(part, target)
            _forget(part)
    except OSError as problem:
        raise WeightsError(f"cannot write {target.name}: {problem.strerror or problem}", where=str(target.parent),
                           hint="HARNESS_CACHE names another folder for downloads") from problem
    return digests["sha256"]


def _bring(url: str, part: Path, file: PublishedFile | None, progress: Progress | None) -> None:
    """Make ``part`` whole, in several attempts if need be."""
    failures, reached = 0, -1
    while True:
        try:
            _attempt(url, part, file, progress)
            return
        except _Interrupted as problem:
            here = part.stat().st_size if part.exists() else 0
            # Whoever gets on, however slowly, may go on.
            failures = 1 if here > reached >= 0 else failures + 1
            first, reached = reached < 0, here
            if failures >= ATTEMPTS or (isinstance(problem, _Unreachable) and first):
                kept = f"; {here:,} bytes are kept, and the next fetch goes on from there" if here else ""
                raise WeightsError(f"{urlsplit(url).netloc}: {problem}{kept}", where=url) from problem
            time.sleep(PAUSE * 2 ** (failures - 1))


def _attempt(url: str, part: Path, file: PublishedFile | None, progress: Progress | None) -> None:
    note = _note(part)
    here = part.stat().st_size if part.exists() else 0
    if not note or note["url"] != url or not here:
        here = 0
    request = urllib.request.Request(url, headers={
        "User-Agent": f"harness-bench/{metadata.version('harness-bench')}", "Accept-Encoding": "identity"})
    if here and here == note["total"]:
        return
    if here:
        request.add_header("Range", f"bytes={here}-")
        request.add_header("If-Range", note["validator"])
    with _opened(request, part) as answer:
        here = _resumed_at(answer, here, note, part)
        total = _total(answer, here, file)
        _check_room(part, total - here)
        _note_file(part).write_text(json.dumps({"url": url, "validator": _validator(answer.headers), "total": total}),
                                    encoding="utf-8")
        with part.open("ab" if here else "wb") as out:
            _copy(answer, out, here, total, part.name.removesuffix(".part"), progress)


@contextlib.contextmanager
def _opened(request: urllib.request.Request, part: Path) -> Iterator[http.client.HTTPResponse]:
    """An answer; every way of not getting one becomes one of two errors."""
    opener = urllib.request.build_opener(_OnlyAsSafe)
    host = urlsplit(request.full_url).netloc
    try:
        answer = opener.open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as problem:
        problem.close()
        if problem.code == 416:
            _forget(part)
            raise _Interrupted("the file there has another size now") from problem
        if problem.code in (408, 429) or problem.code >= 500:
            raise _Interrupted(f"the server answers {problem.code} {problem.reason}") from problem
        raise WeightsError(f"{host} does not give the file: {problem.code} {problem.reason}",
                           where=request.full_url) from problem
    except (OSError, http.client.HTTPException, ValueError) as problem:
        reason = getattr(problem, "reason", problem)
        raise _Unreachable(f"it cannot be reached ({reason})") from problem
    with answer:
        yield answer


def _resumed_at(answer: http.client.HTTPResponse, here: int, note: Mapping[str, Any], part: Path) -> int:
    """The byte that the answer begins with: ``here`` where the server went on, 0 where it began again."""
    if answer.status != 206:
        return 0
    given = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", answer.headers.get("Content-Range", ""))
    if not given or int(given[1]) != here or int(given[3]) != note.get("total"):
        _forget(part)
        raise _Interrupted("the server continues another file than the one that was begun")
    return here


def _total(answer: http.client.HTTPResponse, here: int, file: PublishedFile | None) -> int:
    if answer.headers.get_content_type() == "text/html":
        raise WeightsError(f"{urlsplit(answer.url).netloc} sent a web page instead of the file", where=answer.url)
    packing = answer.headers.get("Content-Encoding", "identity")
    if packing != "identity":
        raise WeightsError(f"{urlsplit(answer.url).netloc} sent the file packed ({packing[:40]}), and was "
                           "asked for it as it is", where=answer.url)
    length = answer.headers.get("Content-Length", "")
    if not length.isdecimal():
        raise WeightsError(f"{urlsplit(answer.url).netloc} does not say how long the file is, so it could not be told "
                           "whether it is whole", where=answer.url)
    total = here + int(length)
    # Where nobody has published a digest, what comes first is believed later: it should at least be about as large.
    if not total or (file is not None and not file.n_bytes / 2 - (1 << 20) <= total <= 2 * file.n_bytes + (1 << 20)):
        about = "some" if file is None else f"about {file.n_bytes:,}"
        raise WeightsError(f"the file there has {total:,} bytes, expected {about}", where=answer.url)
    return total


def _check_room(part: Path, n_bytes: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if free < n_bytes:
        raise WeightsError(f"the disk has {free:,} bytes left, and {n_bytes:,} are to come", where=str(part.parent),
                           hint="HARNESS_CACHE names another folder for downloads")


def _copy(answer: http.client.HTTPResponse, out: Any, here: int, total: int, name: str,
          progress: Progress | None) -> None:
    while True:
        try:
            chunk = answer.read(_CHUNK)
        except http.client.IncompleteRead as problem:
            chunk = problem.partial
            if not chunk:
                raise _Interrupted(f"broke off after {here:,} of {total:,} bytes") from problem
        except (OSError, http.client.HTTPException) as problem:
            raise _Interrupted(f"broke off after {here:,} of {total:,} bytes") from problem
        if not chunk:
            break
        out.write(chunk)
        here += len(chunk)
        if progress is not None:
            progress(name, here, total)
    if here != total:
        raise _Interrupted(f"broke off after {here:,} of {total:,} bytes")


def _validator(headers: Any) -> str:
    """What If-Range can hold: a strong ETag, or a date; a weak ETag promises too little."""
    tag = str(headers.get("ETag", ""))
    return tag if tag and not tag.startswith("W/") else str(headers.get("Last-Modified", ""))


# --- files beside the file -----------------------------------------------------------------------------------------

def _note_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _note(part: Path) -> dict[str, Any]:
    """What is known of the file that ``part`` is the beginning of; empty where it cannot be continued."""
    try:
        note = json.loads(_note_file(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    usable = isinstance(note, dict) and isinstance(note.get("total"), int) and note.get("validator")
    return note if usable else {}


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note_file(part).unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(part: Path) -> Iterator[None]:
    """Let one process at a time write a file."""
    lock = part.with_name(f"{part.name}.lock")
    with lock.open("w") as file:
        try:
            import fcntl
        except ImportError:  # Windows: two processes at once would still both be checked by the digest
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            raise WeightsError(f"another process is fetching {part.name.removesuffix('.part')}", where=str(part),
                               hint="wait for it, or stop it") from problem
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _digests(path: Path, file: PublishedFile | None) -> dict[str, str]:
    """SHA-256, and MD5 where that is all that was published."""
    sums = {"sha256": hashlib.sha256()}
    if file is not None and file.md5 is not None:
        sums["md5"] = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            for each in sums.values():
                each.update(chunk)
    return {kind: each.hexdigest() for kind, each in sums.items()}


def _compare(name: str, digests: Mapping[str, str], file: PublishedFile | None, target: Path) -> None:
    for kind in ("sha256", "md5"):
        expected = getattr(file, kind, None)
        if expected is not None and digests[kind] != expected:
            raise WeightsError(f"{name} is not the published file: its {kind.upper()} is {digests[kind]}, expected "
                               f"{expected}", where=str(target), hint="delete it if it is there, and fetch it again")
    record = _record(target)
    try:
        first = record.read_text(encoding="utf-8").partition(" ")[0]
    except FileNotFoundError:
        return
    except ValueError:
        first = ""
    if not re.fullmatch("[0-9a-f]{64}", first):
        raise WeightsError(f"{record.name} does not hold the SHA-256 of {name}", where=str(record),
                           hint="delete it to have the file's digest recorded anew")
    if digests["sha256"] != first:
        raise WeightsError(f"{name} is not the file that was here first: its SHA-256 is {digests['sha256']}, "
                           f"{record.name} says {first}", where=str(target),
                           hint=f"if it was exchanged on purpose, delete {record}")


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _remember(path: Path, sha256: str) -> None:
    record = _record(path)
    if not record.exists():
        part = record.with_name(f"{record.name}.part")
        part.write_text(f"{sha256}  {path.name}\n", encoding="utf-8")
        os.replace(part, record)
