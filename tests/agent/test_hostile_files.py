"""Files made to harm or to confuse: every one is refused by name, in one error, and nothing in them is run."""

from __future__ import annotations

import io
import json
import pickle
import re
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from harness.agent.load import read_config_file, read_model_file, read_weights_file
from harness.agent.pickles import Record, walk_pickle
from harness.agent.vpt import SIZES
from harness.errors import WeightsError

MODEL = {"version": 1361, "model": {"function": "a:b", "args": {
    "net": {"function": "c:d", "args": SIZES["2x"].policy_kwargs()}, "pi_head_opts": {"temperature": 2}}}}


def nothing(name: str) -> bool:
    return False


def proto(body: bytes, protocol: int = 2) -> bytes:
    return b"\x80" + bytes([protocol]) + body


def text(word: str) -> bytes:
    return b"X" + struct.pack("<I", len(word)) + word.encode()


TOUCH = text("touch ran")
# Programs, and what the refusal must name.
PROGRAMS: dict[str, tuple[bytes, str]] = {
    "os.system": (proto(b"cos\nsystem\n(" + TOUCH + b"tR."), "os.system"),
    "os.system in protocol 4": (proto(b"\x8c\x02os\x8c\x06system\x93" + TOUCH + b"\x85R.", 4), "os.system"),
    "posix.system by INST": (b"(S'touch ran'\niposix\nsystem\n.", "posix.system"),
    "OBJ": (proto(b"(cos\nsystem\n" + TOUCH + b"o."), "os.system"),
    "NEWOBJ": (proto(b"cos\nsystem\n(" + TOUCH + b"t\x81."), "os.system"),
    "NEWOBJ_EX": (proto(b"csubprocess\nPopen\n(" + TOUCH + b"t}\x92.", 4), "subprocess.Popen"),
    "eval": (proto(b"cbuiltins\neval\n(" + text("open('ran','w')") + b"tR."), "builtins.eval"),
    "exec of old Python": (b"c__builtin__\nexec\n(S'1'\ntR.", "__builtin__.exec"),
    "getattr": (proto(b"cbuiltins\ngetattr\n."), "builtins.getattr"),
    "dotted name": (proto(b"\x8c\x08builtins\x8c\x10object.__class__\x93.", 4), "builtins.object.__class__"),
    "behind a listed name": (proto(b"\x8c\x0bgym3.types2\x8c\x01x\x93.", 4), "gym3.types2.x"),
    "an import with effects": (proto(b"cantigravity\nfly\n."), "antigravity.fly"),
    "numpy's loader": (proto(b"cnumpy.core.multiarray\n_reconstruct\n."), "numpy.core.multiarray._reconstruct"),
    "torch's storage loader": (proto(b"ctorch.storage\n_load_from_bytes\n."), "torch.storage._load_from_bytes"),
    "persistent id": (b"Pwhatever\n.", "persistent id"),
    "binary persistent id": (proto(b"K\x01Q."), "persistent id"),
    "extension code": (proto(b"\x82\x01."), "extension code"),
    "extension code of 4 bytes": (proto(b"\x84\x01\x00\x00\x00."), "extension code"),
    "buffer": (proto(b"\x97.", 5), "buffer"),
    "byte array": (proto(b"\x96" + struct.pack("<Q", 3) + b"abc.", 5), "byte array"),
    "the call of a text": (proto(text("os.system") + b")R."), "calls a str"),
    "the state of a list": (proto(b"]}b."), "state of a list"),
    "bare object": (proto(b"cbuiltins\nobject\n)R."), "builtins.object"),
    "appending to a text": (proto(text("a") + b"K\x01a."), "appends to a str"),
    "setting items of a list": (proto(b"]K\x01K\x02s."), "items of a list"),
    "a list as a key": (proto(b"}]K\x01s."), "list as a key"),
    "a tuple as a key": (proto(b"}K\x01\x85K\x01s."), "tuple as a key"),
    "a class as its value": (proto(b"cos\nsystem\n0N."), "os.system"),
    "a text of 4 exabytes": (proto(b"\x8d" + struct.pack("<Q", 1 << 62) + b"a.", 4), "damaged or cut off"),
    "a text of 4 gigabytes": (proto(b"X\xff\xff\xff\xffabc."), "damaged or cut off"),
    "a number of 2 gigabytes": (proto(b"\x8b\xff\xff\xff\x7fabc."), "damaged or cut off"),
    "a number of 2040 bits": (proto(b"\x8a\xff" + b"\x7f" * 255 + b"."), "2039 bits"),
    "a number in 5,000 digits": (b"I" + b"9" * 5000 + b"\n.", "damaged or cut off"),
    "no end": (proto(b"]"), "damaged or cut off"),
    "nothing on the stack": (proto(b"R."), "damaged or cut off"),
    "no mark": (proto(b"t."), "damaged or cut off"),
    "unknown memo": (proto(b"h\x05."), "damaged or cut off"),
    "unknown step": (proto(b"\xff."), "damaged or cut off"),
    "two values": (proto(b"NN."), "damaged or cut off"),
    "itself": (proto(b"]q\x00h\x00a."), "refers to itself"),
    "a deep nest": (proto(b"]" * 3000 + b"a" * 2999 + b"."), "nested deeper than 64"),
    "a billion laughs": (proto(b"(K\x01lq\x00" + b"".join(
        b"0(" + (b"h" + bytes([i])) * 8 + b"lq" + bytes([i + 1]) for i in range(20)) + b"."), "unfolds to more"),
    "a long list copied by every call": (proto(
        b"ccollections\nOrderedDict\nq\x010" + text("a") + b"N\x86q\x020]q\x03(" + b"h\x02" * 20_000 + b"e0"
        + b"h\x01h\x03\x85R0" * 20_000 + b"N."), "copies more than"),
    "a long set made by every call": (proto(
        b"cbuiltins\nset\nq\x010]q\x03(" + b"".join(text(f"{i:x}") for i in range(20_000)) + b"e0("
        + b"h\x01h\x03\x85R" * 20_000 + b"1N."), "copies more than"),
    "a long text copied by every call": (proto(
        b"cbuiltins\nset\nq\x01" + text("a" * 100_000) + b"q\x0300" + b"h\x01h\x03\x85R0" * 20_000 + b"N."),
        "copies more than"),
    "marks of a terminal": (proto(text("os") + text("\x1b[2Jsystem" + "x" * 5000) + b"\x93.", 4),
                            r"os.\x1b[2Jsystemxxx"),
    "colliding keys": (proto(b"}(" + b"".join(
        b"\x8a\x0a" + (i * (2**61 - 1)).to_bytes(10, "little", signed=True) + b"N" for i in range(1200)) + b"u."),
        "keys that are no texts"),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_hostile_pickle_is_refused_by_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the machine, as a ``.model`` file, as a ``.weights`` file, and as the program of a ``.weights`` archive."""
    monkeypatch.chdir(tmp_path)
    program, words = PROGRAMS[name]
    with pytest.raises(WeightsError) as caught:
        walk_pickle(io.BytesIO(program), nothing)
    assert words in str(caught.value)
    path = tmp_path / "x.model"
    path.write_bytes(program)
    with pytest.raises(WeightsError) as caught:
        read_model_file(path)
    assert words in str(caught.value) and caught.value.where == str(path)
    archive(path, program)
    for data in (path.read_bytes(), program):
        path.write_bytes(data)
        with pytest.raises(WeightsError, match="without running code"):
            read_weights_file(path)
    assert not (tmp_path / "ran").exists() and "antigravity" not in sys.modules


def archive(path: Path, program: bytes, storages: dict[str, bytes] | None = None, **options: Any) -> None:
    with zipfile.ZipFile(path, "w", **options) as file:
        file.writestr("archive/data.pkl", program)
        file.writestr("archive/version", "3\n")
        for key, data in (storages or {}).items():
            file.writestr(f"archive/data/{key}", data)


def test_python_would_have_run_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The set is not vacuous: the standard library's reader obeys."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(PROGRAMS["os.system"][0])
    assert (tmp_path / "ran").exists()


def test_every_prefix_of_a_good_file_is_refused(tmp_path: Path) -> None:
    data = pickle.dumps(MODEL)
    path = tmp_path / "2x.model"
    for end in range(0, len(data), 7):
        path.write_bytes(data[:end])
        with pytest.raises(WeightsError, match="damaged or cut off"):
            read_model_file(path)


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_noise_raises_nothing_but_one_error(noise: bytes) -> None:
    for program in (noise, proto(noise, 4), pickle.dumps(MODEL)[:60] + noise):
        try:
            walk_pickle(io.BytesIO(program), nothing, persistent=True)
        except WeightsError:
            continue


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-2**70, 2**70) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(0, 9), inner, max_size=4)
    | st.tuples(inner, inner) | st.frozensets(st.integers(), max_size=4) | st.sets(st.text(), max_size=4)
    | st.dictionaries(st.text(), inner, max_size=3).map(OrderedDict), max_leaves=12)


@given(PLAIN, st.integers(0, 5))
@settings(deadline=None)
def test_plain_values_come_back_as_python_reads_them(value: Any, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    try:
        back = walk_pickle(io.BytesIO(data), nothing)
    except WeightsError as problem:
        # Old protocols have no bytes: they make them by a call.
        assert protocol < 3 and re.search(r"_codecs\.encode|builtin__\.bytes", str(problem)), str(problem)
        return
    assert back == value


# --- .model files --------------------------------------------------------------------------------------------------

@pytest.fixture
def gym3(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A stand-in with classes of the names that the released files mention."""
    module = types.ModuleType("gym3.types")

    class Discrete:
        def __init__(self, n: int) -> None:
            self.n = n

    class DictType(dict[str, Any]):
        pass
    for cls in (Discrete, DictType):
        cls.__module__, cls.__qualname__ = "gym3.types", cls.__name__
        setattr(module, cls.__name__, cls)
    monkeypatch.setitem(sys.modules, "gym3", types.ModuleType("gym3"))
    monkeypatch.setitem(sys.modules, "gym3.types", module)
    return module


@pytest.mark.parametrize("protocol", range(6))
def test_a_released_model_file(protocol: int, tmp_path: Path, gym3: types.ModuleType,
                               monkeypatch: pytest.MonkeyPatch) -> None:
    spaces = {"ac_space": gym3.Discrete(3), "ob_space": gym3.DictType(img=gym3.Discrete(256))}
    path = tmp_path / "2x.model"
    path.write_bytes(pickle.dumps({**MODEL, "extra_args": spaces}, protocol))
    monkeypatch.delitem(sys.modules, "gym3.types")
    assert read_model_file(path) == (SIZES["2x"].policy_kwargs(), {"temperature": 2.0})
    assert "gym3.types" not in sys.modules
    value = walk_pickle(io.BytesIO(path.read_bytes()), lambda name: name.startswith("gym3.types."))
    record = value["extra_args"]["ac_space"]
    assert isinstance(record, Record) and record.name == "gym3.types.Discrete" and record.state == {"n": 3}


@pytest.mark.parametrize(("change", "words"), [
    (lambda d: d.pop("model"), "no model"),
    (lambda d: d["model"]["args"].pop("pi_head_opts"), "no model / args / pi_head_opts"),
    (lambda d: d["model"]["args"]["net"].update(args=[1]), "no model / args / net / args"),
    (lambda d: d["model"]["args"]["pi_head_opts"].update(temperature="hot"), "temperature above 0"),
    (lambda d: d["model"]["args"]["pi_head_opts"].update(temperature=0), "temperature above 0"),
    (lambda d: d["model"]["args"]["pi_head_opts"].update(temperature=float("nan")), "temperature above 0"),
    (lambda d: d["model"]["args"]["net"]["args"].update(hidsize={1}), "policy_kwargs.hidsize: expected a plain value"),
    (lambda d: d["model"]["args"]["net"]["args"].update({3: 4}), "texts as keys"),
])
def test_a_model_file_of_another_shape(change: Callable[[Any], Any], words: str, tmp_path: Path) -> None:
    table = pickle.loads(pickle.dumps(MODEL))
    change(table)
    path = tmp_path / "x.model"
    path.write_bytes(pickle.dumps(table))
    with pytest.raises(WeightsError, match=words):
        read_model_file(path)


def test_what_is_no_model_file(tmp_path: Path) -> None:
    path = tmp_path / "x.model"
    with pytest.raises(WeightsError, match="cannot read"):
        read_model_file(path)
    path.write_bytes(b"\0" * ((4 << 20) + 1))
    with pytest.raises(WeightsError, match=r"is it a \.weights file"):
        read_model_file(path)
    path.write_bytes(pickle.dumps(MODEL) + b"more")
    with pytest.raises(WeightsError, match="goes on behind its end"):
        read_model_file(path)


@pytest.mark.parametrize("content", ["", "[1]", "{}", '{"policy_kwargs": 3, "temperature": 1}', "[" * 100_000,
                                     '{"policy_kwargs": {}, "temperature": "x"}'])
def test_what_is_no_config_file(content: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(WeightsError, match=r"is not the config\.json"):
        read_config_file(path)


# --- checkpoints ---------------------------------------------------------------------------------------------------

def tensor_program(**claims: Any) -> bytes:
    """``{"a": tensor}`` as PyTorch writes it, with claims of one's choice."""
    return proto(b"}" + text("a") + tensor_steps(**claims) + b"s.")


def tensor_steps(shape: tuple[int, ...] = (2,), stride: tuple[int, ...] = (1,), count: int = 2, offset: int = 0,
                 kind: str = "FloatStorage", key: str = "0", rebuild: str = "torch._utils\n_rebuild_tensor_v2",
                 hooks: bytes = b"ccollections\nOrderedDict\n)R") -> bytes:
    def number(n: int) -> bytes:
        return b"\x8a\x09" + n.to_bytes(9, "little", signed=True)

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"
    storage = (b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + number(count) + b"tQ")
    return (f"c{rebuild}\n(".encode() + storage + number(offset) + numbers(shape) + numbers(stride) + b"\x89" + hooks
            + b"tR")


def test_the_program_is_pytorchs(tmp_path: Path) -> None:
    path = tmp_path / "a.weights"
    archive(path, tensor_program(), {"0": struct.pack("<2f", 1, 2)})
    assert read_weights_file(path)["a"].tolist() == [1, 2]


@pytest.mark.parametrize(("claims", "words"), [
    ({"shape": (10**6, 10**6), "stride": (10**6, 1)}, "claims"),
    ({"shape": (10**12,), "stride": (0,)}, "claims"),
    ({"shape": (3,)}, "claims"),
    ({"offset": 1}, "claims"),
    ({"count": 10**15}, "claims"),
    ({"count": 3, "shape": (3,)}, "claims"),
    ({"shape": (-1,)}, "expected a tensor"),
    ({"stride": (-1,)}, "expected a tensor"),
    ({"shape": (2, 1)}, ""),
    ({"key": "../../secret"}, "not in the file"),
    ({"kind": "UntypedStorage"}, "asks for torch.UntypedStorage"),
    ({"kind": "load"}, "asks for torch.load"),
    ({"rebuild": "torch._utils\n_rebuild_sparse_tensor"}, "_rebuild_sparse_tensor"),
    ({"rebuild": "torch._utils\n_rebuild_meta_tensor_no_storage"}, "_rebuild_meta_tensor_no_storage"),
])
def test_tensors_that_claim_more_than_the_file_holds(claims: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.weights"
    archive(path, tensor_program(**claims), {"0": struct.pack("<2f", 1, 2)})
    with pytest.raises(WeightsError) as caught:
        read_weights_file(path)
    assert words in str(caught.value)


GOOD, LARGE = tensor_steps(), tensor_steps(shape=(1 << 28,), count=1 << 28)
DICT = b"ccollections\nOrderedDict\n)R"


@pytest.mark.parametrize("program", [
    DICT + text("a") + GOOD + b"s}" + text("x") + LARGE + b"sb", LARGE + b"0" + DICT + text("a") + GOOD + b"s",
    DICT + text("a") + LARGE + b"s" + text("a") + GOOD + b"s",
    DICT + text("a") + tensor_steps(hooks=DICT + text("x") + LARGE + b"s") + b"s",
], ids=["among attributes", "let drop", "written over", "among a tensor's hooks"])
def test_tensors_that_are_made_and_not_kept(program: bytes, tmp_path: Path) -> None:
    """PyTorch's reader makes them all the same."""
    path = tmp_path / "a.weights"
    archive(path, proto(program + b"."), {"0": struct.pack("<2f", 1, 2)})
    with pytest.raises(WeightsError, match="not in the table: claims"):
        read_weights_file(path)


def test_many_tensors_of_the_same_bytes(tmp_path: Path) -> None:
    """Each would be copied; the very same tensor under several names is one."""
    path = tmp_path / "a.weights"
    tied = b"}" + text("a") + GOOD + b"s" + text("b") + GOOD + b"s"
    archive(path, proto(tied + b"."), {"0": struct.pack("<2f", 1, 2)})
    back = read_weights_file(path)
    assert back["a"] is back["b"]
    archive(path, proto(tied + text("c") + tensor_steps(shape=(1,), offset=1) + b"s."), {"0": struct.pack("<2f", 1, 2)})
    with pytest.raises(WeightsError, match="tensors overlap: together they claim 12 bytes, and the file holds 8"):
        read_weights_file(path)


def test_storages_are_not_made_by_call(tmp_path: Path) -> None:
    """PyTorch's own safe reader would allocate whatever number stands here."""
    path = tmp_path / "a.weights"
    archive(path, proto(b"}" + text("a") + b"ctorch\nFloatStorage\n(J\x00\x00\x00\x40tRs."))
    with pytest.raises(WeightsError, match="expected a tensor, got a torch.FloatStorage"):
        read_weights_file(path)


def test_zip_bombs(tmp_path: Path) -> None:
    path = tmp_path / "a.weights"
    archive(path, tensor_program(), {"0": bytes(50 << 20)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match="is compressed: "):
        read_weights_file(path)
    # The same bytes under many names: the directory claims more than there is.
    archive(path, tensor_program(), {"0": bytes(1 << 16)})
    data = bytearray(path.read_bytes())
    start = data.index(b"PK\x01\x02")
    at = data.index(b"archive/data/0", start) - 46
    data[at + 20:at + 28] = struct.pack("<II", 1 << 30, 1 << 30)
    path.write_bytes(bytes(data))
    with pytest.raises(WeightsError, match=r"claims 1,073,\d\d\d,\d\d\d bytes"):
        read_weights_file(path)


def test_odd_archives(tmp_path: Path) -> None:
    path = tmp_path / "a.weights"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("hello", "x")
    with pytest.raises(WeightsError, match=r"no data\.pkl"):
        read_weights_file(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", tensor_program())
        file.writestr("b/data.pkl", tensor_program())
    with pytest.raises(WeightsError, match=r"2 data\.pkl"):
        read_weights_file(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", tensor_program())
        file.writestr("a/code/x.py", "import os")
    with pytest.raises(WeightsError, match="TorchScript"):
        read_weights_file(path)
    with zipfile.ZipFile(path, "w") as file, pytest.warns(UserWarning, match="Duplicate name"):
        file.writestr("a/data.pkl", tensor_program())
        file.writestr("a/data.pkl", tensor_program())
    with pytest.raises(WeightsError, match="same name"):
        read_weights_file(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/DATA.PKL", tensor_program(count=1 << 28, shape=(1 << 28,)))
        file.writestr("a/data.pkl", tensor_program())
    with pytest.raises(WeightsError, match="same name"):  # PyTorch would read the first
        read_weights_file(path)


def test_an_archive_glued_to_another(tmp_path: Path) -> None:
    """Python reads the one behind, PyTorch the one in front: what was checked would not be what is loaded."""
    checked, loaded, path = (tmp_path / name for name in ("checked", "loaded", "a.weights"))
    archive(checked, tensor_program(shape=(1,)), {"0": struct.pack("<2f", 1, 2)})
    archive(loaded, tensor_program(shape=(2,)), {"0": struct.pack("<2f", 5, 6)})
    path.write_bytes(loaded.read_bytes() + checked.read_bytes())
    with zipfile.ZipFile(path) as file:
        assert file.read("archive/data.pkl") == tensor_program(shape=(1,))
    assert torch.load(path, weights_only=True)["a"].tolist() == [5, 6], "the set is not vacuous"
    torch.save({"a": torch.ones(2)}, checked)
    whole = checked.read_bytes()
    end64 = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, 9, len(whole) - 31)
    for data in (path.read_bytes(), b"x" + whole, whole + b"x", whole[:-2] + b"\1\0x",
                 whole[:-98] + end64 + whole[-42:], whole[:-34] + struct.pack("<Q", 40) + whole[-26:]):
        path.write_bytes(data)
        with pytest.raises(WeightsError, match="not all of the file"):
            read_weights_file(path)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("ran"),))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("table", [
    {"a": Evil()}, {"state_dict": {"a": Evil()}}, {"state_dict": {"a": torch.zeros(2)}, "extra": Evil()},
    {"a": torch.zeros(2), "b": {"c": Evil()}}, OrderedDict(a=torch.zeros(2), b=[Evil()]),
])
def test_payloads_among_tensors(table: Any, zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(table, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"it asks for (pathlib|builtins|__builtin__)\.\w+"):
        read_weights_file(tmp_path / "x.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(("table", "words"), [
    ({}, "an empty dict"), ({"a": 3}, 'int under "a"'), ([torch.zeros(1)], "holds list"), ({1: torch.zeros(1)}, '"1"'),
    ({"a": {"b": torch.zeros(1)}}, 'a dict under "a"'), ({"state_dict": {}}, "an empty dict"),
    ({"state_dict": {"a": torch.zeros(1)}, "optimizer": {"b": torch.zeros(1)}}, 'a dict under "optimizer"'),
    (torch.zeros(3), "expected tensors by name"), (None, "NoneType"),
])
def test_checkpoints_that_are_no_state_dict(table: Any, words: str, zipped: bool, tmp_path: Path) -> None:
    torch.save(table, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError) as caught:
        read_weights_file(tmp_path / "x.pt")
    assert words in str(caught.value)


KINDS = {"a": torch.arange(12.).view(3, 4), "c": torch.arange(12.).view(3, 4).t(), "d": torch.tensor(3.),
         "e": torch.arange(3), "h": torch.ones(2).half(), "p": torch.nn.Parameter(torch.ones(2)),
         "n": torch.zeros(0, 3), "bf": torch.ones(3, dtype=torch.bfloat16), "t": torch.ones(2, dtype=torch.bool)}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapped", [True, False])
def test_good_checkpoints_come_back_whole(zipped: bool, wrapped: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    table = {**KINDS, "tied": KINDS["a"]}
    torch.save({"state_dict": table, "epoch": 3, "note": "x"} if wrapped else table, path,
               _use_new_zipfile_serialization=zipped)
    back = read_weights_file(path)
    assert list(back) == list(table)
    for name, tensor in table.items():
        assert back[name].dtype == tensor.dtype and torch.equal(back[name], tensor) and back[name].is_contiguous()
        assert not back[name].requires_grad
    assert back["tied"] is back["a"] or not zipped
    halved = read_weights_file(path, "bfloat16", exact="d")
    assert (halved["a"].dtype, halved["d"].dtype, halved["e"].dtype) == (torch.bfloat16, torch.float32, torch.int64)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(WeightsError, match="the archive is cut off" if zipped else "without running code"):
        read_weights_file(path)


def test_a_modules_state_dict_with_its_attributes(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    torch.save(module.state_dict(), tmp_path / "x.pt")
    assert list(read_weights_file(tmp_path / "x.pt")) == ["0.weight", "0.bias", "1.weight", "1.bias"]


# --- safetensors ---------------------------------------------------------------------------------------------------

def safetensors_file(path: Path, header: Any, body: bytes = b"") -> None:
    text_bytes = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text_bytes)) + text_bytes + body)


@pytest.mark.parametrize("header", [
    {"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 8]}},
    {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 1 << 50]}},
    {"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}},
    {"a": {"dtype": "os.system", "shape": [2], "data_offsets": [0, 8]}},
    {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "b": {"dtype": "F32", "shape": [2],
                                                                     "data_offsets": [0, 8]}},
    {}, {"__metadata__": {"a": "b"}}, b"{" + b"[" * 5000,
])
def test_hostile_safetensors(header: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    safetensors_file(path, header, bytes(8))
    with pytest.raises(WeightsError, match="without running code"):
        read_weights_file(path)


def test_a_folder_of_the_hub(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="folder without a model.safetensors"):
        read_weights_file(tmp_path)
    save_file({"a": torch.ones(2)}, tmp_path / "model.safetensors")
    assert read_weights_file(tmp_path)["a"].tolist() == [1, 1]
    (tmp_path / "config.json").write_text(json.dumps({"policy_kwargs": {"hidsize": 3}, "temperature": 2}))
    assert read_config_file(tmp_path / "config.json") == ({"hidsize": 3}, {"temperature": 2.0})
