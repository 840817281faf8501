"""Tensors from the files that others made: safetensors and PyTorch checkpoints, checked before they are read.

A PyTorch checkpoint is a pickle with an archive around it. Its program is walked first (``pickles``), against a short
list of names, and every tensor it describes is held against the bytes that are really in the file; only then does
PyTorch read it, with ``weights_only=True``. What comes back shares no memory with the file: tensors are copied one by
one, and the mapping is let go every so often, so that loading takes little more memory than the weights.
"""

from __future__ import annotations

import io
import math
import os
import re
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.agent.pickles import Record, walk_pickle
from harness.errors import WeightsError, nearest_names, out_of_memory

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PRECISIONS", "read_torchscript", "read_weights_file", "torchscript_root"]

PRECISIONS = ("float32", "bfloat16", "float16")
"""What floating-point weights may be read as."""

_REBUILD = "torch._utils._rebuild_tensor_v2"
_PARAMETER = "torch._utils._rebuild_parameter"
_ITEM_SIZES = {"Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1,
               "Byte": 1, "Bool": 1}
_STORAGES = {f"torch.{kind}Storage": size for kind, size in _ITEM_SIZES.items()}
_LISTED = frozenset({_REBUILD, _PARAMETER, *_STORAGES})
_SCRIPTED = ("__torch__.", "torch.jit._pickle.")
"""Beginnings of the names of a TorchScript program's own classes and of its marks for lists."""
_BESIDE = (bool, int, float, str, type(None))
"""What may stand beside a ``state_dict`` in a checkpoint, and is let go."""
_MOST_ENTRIES = 20_000
_MOST_PICKLE = 32 << 20
_MAPPED = 32 << 20
"""Bytes read through one mapping before it is let go."""
_ZIP_MAGIC = b"PK\x03\x04"
_ZIP_END, _ZIP64_END = 22, 76
"""Bytes of the record that ends an archive, and of the two before it in one of 64 bits."""
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_HINT = "expected safetensors, or a state dict of tensors saved by torch.save"


def read_weights_file(path: str | Path, precision: str | None = None, *, exact: str | None = None,
                      wanted: Callable[[str], bool] | None = None) -> dict[str, Tensor]:
    """Tensors by name, as the file names them; no code in the file is ever run.

    Args:
        path: ``.safetensors``, or what ``torch.save`` wrote of a dict of tensors (``.weights``, ``.pt``, ``.pth``),
            alone or under ``state_dict``; or a folder with a ``model.safetensors``.
        precision: Turn floating-point tensors into this while reading (``float32``, ``bfloat16``, ``float16``); None
            leaves them as they are.
        exact: With a ``precision``: what has this in its name becomes float32 all the same.
        wanted: Says of a name whether to read it; None reads all. What is not read is checked as well.

    Returns:
        Tensors of their own memory; names that are tied in the file give the same tensor.

    Raises:
        WeightsError: for a missing, damaged or foreign file, one that would have to run code, one that claims more
            than it holds, and with a ``precision`` for float64, which no published file has.
        HarnessError: when there is not enough memory for what is in it.
    """
    path, wish = _file(Path(path)), _Wish(precision, exact, wanted or (lambda name: True))
    try:
        if _is_safetensors(path):
            return _read_safetensors(path, wish)
        return _read_checkpoint(path, wish)
    except WeightsError as problem:
        raise WeightsError(f"{path.name} is not a weights file that can be read without running code: "
                           f"{problem.message}", where=str(path), hint=problem.hint or _HINT) from problem
    except Exception as problem:  # each reader has its own errors for a damaged file
        lack = out_of_memory(problem)
        if lack is not None:
            raise lack from problem
        raise WeightsError(f"{path.name} is not a weights file that can be read without running code: "
                           f"{_refusal(problem)}", where=str(path), hint=_HINT) from problem


def torchscript_root(path: Path) -> str | None:
    """The top folder, with its slash, of a TorchScript archive; None for any other file."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()[:_MOST_ENTRIES]
    roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
    return roots[0] if len(roots) == 1 and any(name.startswith(f"{roots[0]}code/") for name in names) else None


def read_torchscript(path: str | Path, wanted: Callable[[str], bool] | None = None) -> dict[str, Tensor]:
    """The tensors of a TorchScript archive, such as OpenAI's ``ViT-B-32.pt``; its program is never read, let alone run.

    The archive's ``data.pkl`` describes the module as nested attributes. It is walked as any other pickle here
    (``pickles``), the program's own classes become records, and every tensor is held against the bytes of its storage
    and copied from there. PyTorch takes no part in it.

    Args:
        path: What ``torch.jit.save`` wrote.
        wanted: Says of a name whether to read it; None reads all.

    Returns:
        Tensors by the names of ``state_dict()``, as they are in the file.

    Raises:
        WeightsError: for a damaged archive, one that is no TorchScript, one that claims more than it holds, or asks for
            anything but its own classes and tensors.
    """
    path = Path(path)
    try:
        return _read_script(path, wanted or (lambda name: True))
    except WeightsError as problem:
        raise WeightsError(f"{path.name} is not a TorchScript archive that can be read without running code: "
                           f"{problem.message}", where=str(path), hint=problem.hint or _HINT) from problem
    except (zipfile.BadZipFile, OSError, ValueError, struct.error, NotImplementedError) as problem:
        raise WeightsError(f"{path.name} is not a TorchScript archive that can be read without running code: "
                           f"{_refusal(problem)}", where=str(path), hint=_HINT) from problem


def _read_script(path: Path, wanted: Callable[[str], bool]) -> dict[str, Tensor]:
    root = torchscript_root(path)
    if root is None:
        raise WeightsError("it is none")
    _check_end(path)
    made: list[Record] = []
    with zipfile.ZipFile(path) as archive:
        # The program itself is compressed, and is left alone.
        entries = [entry for entry in archive.infolist() if entry.filename.startswith((f"{root}data/",
                                                                                       f"{root}data.pkl"))]
        sizes = _checked_sizes(path, entries)
        if (n_bytes := sizes[f"{root}data.pkl"]) > _MOST_PICKLE:
            raise WeightsError(f"its data.pkl has {n_bytes:,} bytes, expected at most {_MOST_PICKLE:,}")
        module = walk_pickle(io.BytesIO(archive.read(f"{root}data.pkl")),
                             lambda name: name in _LISTED or name.startswith(_SCRIPTED), persistent=True, made=made)
        prefix = f"{root}data/"
        storages = {name.removeprefix(prefix): n for name, n in sizes.items() if name.startswith(prefix)}
        records = dict(_attributes(module))
        claims = {name: _claim(name[:80], record, storages) for name, record in records.items()}
        if sum(claim.n_bytes for claim in set(claims.values())) > sum(storages.values()):
            raise WeightsError("its tensors overlap")
        found = {name: _copied(archive.read(prefix + claim.storage), claim, records[name])
                 for name, claim in claims.items() if wanted(name)}
    if not found:
        raise WeightsError("it holds no tensors that are asked for")
    return found


def _attributes(module: Any, prefix: str = "") -> Iterator[tuple[str, Record]]:
    """Every tensor of a scripted module by its dotted name, in the order of the file."""
    state = module.state if isinstance(module, Record) else None
    if not isinstance(state, dict):
        raise WeightsError(f"{prefix[:80] or 'it'}: expected a module, got {_kind(module)}")
    for name, value in state.items():
        if isinstance(value, Record) and value.name == _REBUILD:
            yield f"{prefix}{name}", value
        elif isinstance(value, Record) and value.name.startswith("__torch__."):
            yield from _attributes(value, f"{prefix}{name}.")


def _copied(raw: bytes, claim: _Claim, record: Record) -> Tensor:
    import torch

    kind = record.arguments[0].arguments[0][1].name.removeprefix("torch.").removesuffix("Storage").lower()
    numbers = torch.frombuffer(bytearray(raw), dtype=getattr(torch, kind)) if raw else torch.empty(0)
    return torch.as_strided(numbers, claim.shape, claim.stride, claim.offset).clone(
        memory_format=torch.contiguous_format)


def _file(path: Path) -> Path:
    if path.is_dir() and (path / "model.safetensors").is_file():
        return path / "model.safetensors"
    if path.is_file():
        return path
    if path.is_dir():
        raise WeightsError(f"{path} is a folder without a model.safetensors", where=str(path))
    near = nearest_names(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else []
    raise WeightsError(f"there is no weights file at {path}",
                       hint=f"did you mean {' or '.join(near)}?" if near else None)


def _is_safetensors(path: Path) -> bool:
    # Eight bytes of header length, then JSON.
    return _first_bytes(path, 9)[8:] == b"{"


def _first_bytes(path: Path, n: int) -> bytes:
    with path.open("rb") as file:
        return file.read(n)


def _refusal(problem: BaseException) -> str:
    """A reader's reason without its advice to read the file unsafely."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    asked = re.search(r"GLOBAL\s+([\w.]+)", str(problem))
    return f"it asks for {asked[1]}" if asked else (lines[0] if lines else type(problem).__name__)[:200].split(". ")[0]


@dataclass(frozen=True)
class _Wish:
    """What tensors are to become."""

    precision: str | None
    exact: str | None
    wanted: Callable[[str], bool]

    def fresh(self, name: str, tensor: Tensor) -> Tensor:
        """A contiguous copy with memory of its own; only what somebody asked to be narrowed loses digits."""
        import torch

        dtype = tensor.dtype
        if self.precision is not None and tensor.is_floating_point():
            if dtype == torch.float64:
                raise WeightsError(f"{name[:200]}: expected float32, bfloat16 or float16, got float64")
            spared = self.exact is not None and self.exact in name
            dtype = torch.float32 if spared else getattr(torch, self.precision)
        return torch.empty(tensor.shape, dtype=dtype).copy_(tensor.detach())


def _batches(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Names in order, so many at a time that together they have about ``_MAPPED`` bytes."""
    batch: list[str] = []
    n_bytes = 0
    for name, size in sizes.items():
        batch.append(name)
        n_bytes += size
        if n_bytes >= _MAPPED:
            yield batch
            batch, n_bytes = [], 0
    if batch:
        yield batch


# --- safetensors ---------------------------------------------------------------------------------------------------

def _read_safetensors(path: Path, wish: _Wish) -> dict[str, Tensor]:
    """The library checks that every tensor lies inside the file and has the bytes that its shape asks for."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        sizes = {name: math.prod(file.get_slice(name).get_shape()) * 4 for name in file.keys()  # noqa: SIM118
                 if wish.wanted(name)}
    found: dict[str, Tensor] = {}
    for batch in _batches(sizes):
        with safe_open(path, framework="pt") as file:
            for name in batch:
                found[name] = wish.fresh(name, file.get_tensor(name))
    if not found:
        raise WeightsError("it holds no tensors that are asked for")
    return found


# --- PyTorch checkpoints -------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class _Claim:
    """One tensor as the checkpoint's pickle describes it, in elements."""

    storage: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    item_size: int

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * self.item_size

    def reach(self) -> int:
        """Elements from the storage's start to behind the tensor's last."""
        if 0 in self.shape:
            return self.offset
        return self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True)) + 1


def _read_checkpoint(path: Path, wish: _Wish) -> dict[str, Tensor]:
    zipped = zipfile.is_zipfile(path)
    if not zipped and _first_bytes(path, 4) == _ZIP_MAGIC:
        raise WeightsError("the archive is cut off: its directory, which stands at the end, is missing")
    made: list[Record] = []
    table, storages = _open_zip(path, made) if zipped else _open_legacy(path, made)
    claims, nested = _claims(table, storages)
    for record in made:  # PyTorch makes these all, also where the program lets them drop
        if record.name == _REBUILD:
            _claim("a tensor that is not in the table", record, storages)
    claims = {name: claim for name, claim in claims.items() if wish.wanted(name)}
    if not zipped:
        # No mapping here: PyTorch's own tensors are the copies.
        own = _load(path, nested, mmap=False)
        return {name: own[name].detach().contiguous() if wish.precision is None else wish.fresh(name, own[name])
                for name in claims}
    copies: dict[_Claim, Tensor] = {}
    for batch in _batches({name: claim.n_bytes for name, claim in claims.items()}):
        mapped = _load(path, nested, mmap=True)
        for name in batch:
            if claims[name] not in copies:
                copies[claims[name]] = wish.fresh(name, mapped[name])
        del mapped
    return {name: copies[claim] for name, claim in claims.items()}


def _load(path: Path, nested: bool, *, mmap: bool) -> dict[str, Tensor]:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old files have typed storages; that is no news
        table = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    return dict(table["state_dict"] if nested else table)


def _open_zip(path: Path, made: list[Record]) -> tuple[Any, dict[str, int]]:
    """What the archive's pickle describes, and the bytes of each storage; nothing is unpacked before it is counted."""
    _check_end(path)
    with zipfile.ZipFile(path) as archive:
        names = _checked_sizes(path, archive.infolist())
        root = _root(names)
        if (n_bytes := names[f"{root}data.pkl"]) > _MOST_PICKLE:
            raise WeightsError(f"its data.pkl has {n_bytes:,} bytes, expected at most {_MOST_PICKLE:,}")
        table = walk_pickle(io.BytesIO(archive.read(f"{root}data.pkl")), _LISTED.__contains__, persistent=True,
                            made=made)
    prefix = f"{root}data/"
    return table, {name.removeprefix(prefix): size for name, size in names.items() if name.startswith(prefix)}


def _checked_sizes(path: Path, entries: Sequence[zipfile.ZipInfo]) -> dict[str, int]:
    """Bytes of each entry by its name, none compressed and none twice."""
    if len(entries) > _MOST_ENTRIES:
        raise WeightsError(f"the archive has {len(entries):,} entries, expected at most {_MOST_ENTRIES:,}")
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise WeightsError(f"{entry.filename[:60]} in it is compressed: {entry.file_size:,} bytes are said to "
                               f"come out of {entry.compress_size:,}; PyTorch does not compress")
    names = {entry.filename: entry.file_size for entry in entries}
    if len({name.lower() for name in names}) != len(entries):  # PyTorch finds them in any case
        raise WeightsError("two entries of the archive have the same name")
    if sum(names.values()) > path.stat().st_size:
        raise WeightsError(f"the archive claims {sum(names.values()):,} bytes, the file has {path.stat().st_size:,}")
    return names


def _check_end(path: Path) -> None:
    """One archive from the file's first byte to its last.

    Where a directory does not lie right before the records that point to it, PyTorch counts from the start of the file
    and Python back from its end: each could read another archive, and what is checked here would not be what is loaded.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(-min(size, _ZIP_END + _ZIP64_END), os.SEEK_END)
        tail = file.read().rjust(_ZIP_END + _ZIP64_END, b"\0")
    end, end64 = tail[_ZIP64_END:], tail[:_ZIP64_END]
    at = size - _ZIP_END
    n_bytes, start = struct.unpack("<II", end[12:20])
    whole = end[:4] == b"PK\5\6" and end[20:] == b"\0\0"  # no comment behind it
    if end64[-20:-16] == b"PK\6\7":  # a locator, and before it the record in 64 bits that takes the other's place
        at -= _ZIP64_END
        n_bytes, start, record = struct.unpack("<QQ8xQ4x", end64[40:])
        whole = whole and record == at and end64[:4] == b"PK\6\6"
    if not whole or start + n_bytes != at:
        raise WeightsError("the archive is not all of the file: something stands before, behind or amid its directory")


def _root(names: Mapping[str, int]) -> str:
    """The archive's one top folder, with its slash."""
    found = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
    if len(found) != 1:
        raise WeightsError(f"the archive has {len(found) or 'no'} data.pkl, expected one")
    if any(name.startswith((f"{found[0]}code/", f"{found[0]}constants.pkl")) for name in names):
        raise WeightsError("it is a TorchScript program")
    return found[0]


def _open_legacy(path: Path, made: list[Record]) -> tuple[Any, dict[str, int]]:
    """The same for the format before PyTorch 1.6: pickles in a row, then each storage as a count and its numbers."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = io.BytesIO(file.read(_MOST_PICKLE))
        magic = walk_pickle(start, _LISTED.__contains__)
        if magic != _LEGACY_MAGIC:
            raise WeightsError(f"it holds {_kind(magic)}, and PyTorch did not write it")
        walk_pickle(start, _LISTED.__contains__), walk_pickle(start, _LISTED.__contains__)
        table = walk_pickle(start, _LISTED.__contains__, persistent=True, made=made)
        keys = walk_pickle(start, _LISTED.__contains__)
        file.seek(start.tell())
        described = [_storage(record) for record in made if record.name == "persistent id"]
        item_sizes = {key: item_size for key, item_size, _ in described}
        storages: dict[str, int] = {}
        for key in keys:
            (count,) = struct.unpack("<q", file.read(8))
            n_bytes = count * item_sizes.get(key, 0)
            if count < 0 or file.tell() + n_bytes > size:
                raise WeightsError(f"storage {str(key)[:20]} claims {count:,} numbers, more than the file holds")
            storages[str(key)] = n_bytes
            file.seek(n_bytes, os.SEEK_CUR)
    return table, storages


def _claims(table: Any, storages: Mapping[str, int]) -> tuple[dict[str, _Claim], bool]:
    """Each tensor as described, held against what is there; and whether they stood under ``state_dict``.

    Raises:
        WeightsError: for anything but tensors by name, and for tensors larger than their bytes.
    """
    nested = isinstance(table, dict) and isinstance(table.get("state_dict"), dict)
    if nested:
        for key, value in table.items():
            if key != "state_dict" and not isinstance(value, _BESIDE):
                raise WeightsError(f'it holds {_kind(value)} under "{str(key)[:40]}" beside its state_dict')
        table = table["state_dict"]
    if not isinstance(table, dict) or not table:
        raise WeightsError(f"it holds {_kind(table)}, expected tensors by name")
    claims = {}
    for name, value in table.items():
        if not isinstance(name, str) or not isinstance(value, Record):
            raise WeightsError(f'it holds {_kind(value)} under "{str(name)[:60]}", expected tensors by name')
        claims[name] = _claim(name[:80], value, storages)
    if (n_bytes := sum(claim.n_bytes for claim in set(claims.values()))) > sum(storages.values()):
        raise WeightsError(f"its tensors overlap: together they claim {n_bytes:,} bytes, and the file holds "
                           f"{sum(storages.values()):,}")
    return claims, nested


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return "an empty dict" if not value else "a dict"
    return f"a {value.name}" if isinstance(value, Record) else f"{type(value).__name__}"


def _claim(name: str, record: Record, storages: Mapping[str, int]) -> _Claim:
    while record.name == _PARAMETER and record.arguments and isinstance(record.arguments[0], Record):
        record = record.arguments[0]
    if record.name != _REBUILD:
        raise WeightsError(f"{name}: expected a tensor, got a {record.name[:80]}")
    try:
        storage, offset, shape, stride = record.arguments[:4]
        key, item_size, count = _storage(storage)
        claim = _Claim(key, offset, tuple(shape), tuple(stride), item_size)
        numbers = (offset, count, *claim.shape, *claim.stride)
        fits = len(claim.shape) == len(claim.stride) and all(type(n) is int and n >= 0 for n in numbers)
    except (ValueError, TypeError, IndexError) as problem:
        raise WeightsError(f"{name}: expected a tensor, and its description is not one") from problem
    if not fits:
        raise WeightsError(f"{name}: expected a tensor, got shape {str(list(shape))[:80]} and strides "
                           f"{str(list(stride))[:80]}")
    if key not in storages:
        raise WeightsError(f"{name}: its numbers are not in the file")
    if count * item_size > storages[key] or claim.reach() > count or math.prod(claim.shape) > count:
        raise WeightsError(f"{name}: claims {list(claim.shape)}, {claim.n_bytes:,} bytes, and the file holds "
                           f"{storages[key]:,} for it")
    return claim


def _storage(record: Any) -> tuple[str, int, int]:
    """Key, bytes per number and count of a storage: the persistent id ("storage", type, key, place, count[, view])."""
    (words,) = record.arguments
    what, kind, key, _, count = words[:5]
    if record.name != "persistent id" or what != "storage" or (len(words) > 5 and words[5] is not None):
        raise WeightsError("it asks for a persistent id that is no storage")
    if getattr(kind, "name", None) not in _STORAGES or not isinstance(key, str) or type(count) is not int:
        raise WeightsError("it describes a storage in another way than PyTorch does")
    return key, _STORAGES[kind.name], count
