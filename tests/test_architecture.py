"""The import law of docs/architecture.md, checked on the source text."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "harness"
ROOMS = (
    "ground", "scenario", "world", "agent", "intervention", "rollout", "recording", "replay", "training", "analysis",
    "overlay", "viewer", "batch", "cli",
)
GROUND = {"errors", "registry", "provenance", "statistics"}
TORCH_ALLOWED = (
    "agent/load.py", "agent/weights_file.py", "agent/released.py", "agent/hooks.py", "agent/vpt/",
    "agent/sae.py", "agent/clip/", "agent/mineclip/", "agent/steve/", "training/",
    "intervention/feature.py", "intervention/memory.py", "analysis/saliency/", "analysis/memory_knockout.py",
    "analysis/patching.py", "analysis/probe.py", "analysis/readout.py", "analysis/steerability.py", "analysis/sae/",
)
ENGINES = {"minerl": "world/minerl.py", "minestudio": "world/minestudio.py", "mcio_ctrl": "world/mcio_driver.py"}
FILES = sorted(p for p in ROOT.rglob("*.py") if "_data" not in p.parts)


def room(module: str) -> str:
    """The room of ``harness.a.b`` (the front door itself has none)."""
    parts = module.split(".")
    if len(parts) == 1:
        return "front door"
    return "ground" if parts[1] in GROUND else parts[1]


def module_of(path: Path) -> str:
    parts = ("harness", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> list[tuple[ast.stmt, str, list[str], bool]]:
    """(node, absolute module, imported names, inside a function) of every import in a file."""
    found: list[tuple[ast.stmt, str, list[str], bool]] = []

    def visit(node: ast.AST, inside: bool) -> None:
        for child in ast.iter_child_nodes(node):
            deeper = inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            if isinstance(child, ast.Import):
                found.extend((child, alias.name, [], inside) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}:{child.lineno}: relative import"
                found.append((child, child.module or "", [a.name for a in child.names], inside))
            else:
                visit(child, deeper)

    visit(ast.parse(path.read_text(encoding="utf-8")), False)
    return found


def broken(path: Path, node: ast.stmt, law: str) -> str:
    return f"{path.relative_to(ROOT.parent)}:{node.lineno}: {law}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_import_law(path: Path) -> None:
    mine = room(module_of(path))
    relative = path.relative_to(ROOT).as_posix()
    problems: list[str] = []
    for node, module, names, inside in imports(path):
        top = module.split(".")[0]
        if top == "harness":
            problems += _own_import(path, node, module, names, inside, mine)
        if top == "torch" and not relative.startswith(TORCH_ALLOWED):
            problems.append(broken(path, node, "torch is imported only where docs/architecture.md lists it"))
        if top == "numba" and not relative.startswith("world/blockworld/"):
            problems.append(broken(path, node, "numba only in world/blockworld"))
        if top in ENGINES and relative != ENGINES[top]:
            problems.append(broken(path, node, f"{top} only in {ENGINES[top]}"))
        if top == "importlib" and (module != "importlib" or "import_module" in names) and relative not in (
                "registry.py", "__init__.py") and module != "importlib.metadata" and module != "importlib.resources":
            problems.append(broken(path, node, "only registry.py and the front doors import by string"))
    assert not problems, "\n".join(problems)


def _own_import(path: Path, node: ast.stmt, module: str, names: list[str], inside: bool, mine: str) -> list[str]:
    problems = []
    targets = [module] if module != "harness" else [f"harness.{name}" for name in names]
    if isinstance(node, ast.Import) or (module == "harness" and mine != "front door" and not _is_rooms(names)):
        problems.append(broken(path, node, "no `import harness` inside harness"))
    if inside:
        problems.append(broken(path, node, "no function-local import of our own package"))
    for target in targets:
        theirs = room(target)
        if mine == "front door" or theirs == "front door":
            continue
        assert theirs in ROOMS, broken(path, node, f"{target} is in no room")
        if ROOMS.index(theirs) > ROOMS.index(mine):
            problems.append(broken(path, node, f"{mine} may not import {theirs}: rooms import leftward only"))
        if theirs != mine:
            private = [n for n in (*names, *target.split(".")) if n.startswith("_")]
            problems += [broken(path, node, f"private name {n} crosses rooms") for n in private]
    return problems


def _is_rooms(names: list[str]) -> bool:
    return bool(names) and all(name in ROOMS for name in names)


def test_every_file_has_a_room() -> None:
    assert {room(module_of(p)) for p in FILES} <= {*ROOMS, "front door"}


def test_torch_is_not_needed_by_a_scripted_agent(tmp_path: Path) -> None:
    """With torch unimportable, a scripted agent still runs, records, and the recording opens and is viewed."""
    program = f"""
import sys
sys.modules["torch"] = None
import harness
scenario = harness.load_scenario("trunk")
agent = harness.load_agent("noop")
with harness.make_world(scenario) as world, harness.Recorder({str(tmp_path)!r}) as recorder:
    harness.run_episode(world, agent, seed=1, max_steps=5, observers=[recorder])
recording = harness.open_recording(recorder.path)
assert len(recording) == 5 and recording.complete, (len(recording), recording.complete)
assert recording.pov[4].shape == (360, 640, 3)
assert harness.viewer.export_page(recording, {str(tmp_path / "x.html")!r}) > 50_000
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=240)
