"""Plug-ins: installed, listed, checked, used; clashes and broken ones are told in one sentence."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from harness.agent import conformance as of_agents
from harness.agent.load import known_names, load_agent
from harness.analysis import conformance as of_analyses
from harness.cli import cli
from harness.errors import AgentError, HarnessError, InterventionError, WorldError
from harness.intervention import conformance as of_interventions
from harness.intervention.build import build_intervention
from harness.registry import TABLES, installed, lookup, names
from harness.scenario.load import load_scenario
from harness.world import conformance as of_worlds
from harness.world.world import make_world

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "docs" / "example-plugin"


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


# ---- the example, really installed


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example as pip installs it."""
    folder = tmp_path_factory.mktemp("site")
    options = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "--target", folder, EXAMPLE], check=True,
                   timeout=240)
    return folder


def program(site: Path, *words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(site), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run([sys.executable, "-W", "error", "-c", "from harness.cli import main; main()",
                           *map(str, words)], env={**os.environ, "PYTHONPATH": path}, cwd=cwd, text=True,
                          capture_output=True, timeout=280)


def test_the_example_is_listed_with_its_distribution(site: Path) -> None:
    listed = json.loads(program(site, "plugins", "list", "--json").stdout)
    mine = {(group, row["name"], row["source"]) for group, rows in listed.items() for row in rows
            if row["source"] != "built in"}
    written = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]["entry-points"]
    assert mine == {(group, name, "harness-example 0.1.0") for group, rows in written.items() for name in rows}
    assert written.keys() == TABLES.keys()
    text = program(site, "plugins", "list").stdout
    assert "  Mirror  (harness-example 0.1.0)\n" in text and "  KeyBlock\n" in text


def test_the_page_shows_the_examples_entry_points_and_every_law() -> None:
    page = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    written = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]["entry-points"]
    assert tomllib.loads(shown)["project"]["entry-points"] == written
    for suite in (of_worlds, of_agents, of_interventions, of_analyses):
        assert all(f"`{check.__name__.removeprefix('check_')}`" in page for check in suite.CHECKS), suite.__name__


@pytest.mark.slow
def test_the_pages_tests_pass(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "test_page.py").write_text(code)
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-c", os.devnull, tmp_path / "test_page.py"],
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, capture_output=True, timeout=280)
    assert done.returncode == 0 and "21 passed" in done.stdout, done.stdout


@pytest.mark.parametrize(("name", "kind", "n_laws"), [
    ("Mirror", "intervention", 11), ("wanderer", "agent", 7), ("stripes", "world", 8), ("turning", "analysis", 4)])
def test_the_example_keeps_the_laws(site: Path, name: str, kind: str, n_laws: int) -> None:
    more = ("--agent", "wanderer") if kind == "analysis" else ()
    done = program(site, "check", name, *more, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert (said["kind"], said["source"], said["ok"]) == (kind, "harness-example 0.1.0", True)
    assert len(said["laws"]) == n_laws and all(law["ok"] and law["why"] is None for law in said["laws"])


def test_the_example_plays_records_and_replays(site: Path, tmp_path: Path) -> None:
    done = program(site, "run", "trunk", "--agent", "wanderer", "--intervene", "{kind: Mirror}", "--steps", "5",
                   "--out", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.iterdir()
    header = json.loads((folder / "header.json").read_text())
    assert header["agent"]["class"] == "WandererAgent" and header["agent"]["every"] == 20
    assert [each["kind"] for each in header["interventions"]] == ["Mirror"]
    verified = program(site, "replay", folder, "--verify")
    assert verified.returncode == 0 and "5 of 5 actions equal" in verified.stdout, verified.stderr
    gone = program(tmp_path, "replay", folder, "--verify")
    assert gone.returncode == 2 and "wanderer" in gone.stderr and "Traceback" not in gone.stderr


def test_the_examples_world_and_agent_fork(site: Path, tmp_path: Path) -> None:
    done = program(site, "run", "trunk", "--backend", "stripes", "--agent", "wanderer", "--steps", "6", "--quiet",
                   "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.iterdir()
    forked = program(site, "fork", folder, "--at", "3", "--out", tmp_path / "forks")
    assert forked.returncode == 0, forked.stderr


# ---- packages that are only pretended: a dist-info and a module


def pretend(folder: Path, distribution: str, points: str, module: str = "", code: str = "") -> None:
    info = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(points)
    if module:
        (folder / f"{module}.py").write_text(code)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


GOOD = '''
from dataclasses import dataclass
from typing import ClassVar
from harness.intervention.intervention import Intervention

@dataclass(frozen=True)
class Dimmer(Intervention):
    """Halve the brightness."""
    site: ClassVar[str] = "input"
    def change_input(self, pov, moment):
        return pov // 2
'''


def test_two_plugins_of_one_name_are_refused_and_both_are_named(folder: Path) -> None:
    pretend(folder, "one-lamp", "[harness.interventions]\nDimmer = lamp_a:Dimmer\n", "lamp_a", GOOD)
    assert type(build_intervention({"kind": "Dimmer"})).__name__ == "Dimmer"
    second = folder / "second"
    pretend(second, "other-lamp", "[harness.interventions]\nDimmer = lamp_b:Dimmer\n", "lamp_b", GOOD)
    sys.path.insert(0, str(second))
    try:
        with pytest.raises(InterventionError, match='more than one intervention is called "Dimmer"') as refused:
            build_intervention({"kind": "Dimmer"})
        assert "one-lamp 1.0 (lamp_a:Dimmer)" in str(refused.value)
        assert "other-lamp 1.0 (lamp_b:Dimmer)" in str(refused.value)
        said = call("check", "Dimmer")
        assert said.exit_code == 2 and "one-lamp" in said.stderr and "other-lamp" in said.stderr
        listed = call("plugins", "list")
        assert listed.exit_code == 0 and "refused: given by other-lamp 1.0 and one-lamp 1.0" in listed.stdout
        # Nobody else is in the way of it.
        assert lookup("harness.interventions", "KeyBlock").__name__ == "KeyBlock"
    finally:
        sys.path.remove(str(second))


def test_a_built_in_name_is_refused_too(folder: Path) -> None:
    pretend(folder, "my-keys", "[harness.interventions]\nKeyBlock = lamp_c:Dimmer\n", "lamp_c", GOOD)
    with pytest.raises(InterventionError, match=r"harness-bench .* and my-keys 1\.0 \(lamp_c:Dimmer\)"):
        build_intervention({"kind": "KeyBlock", "keys": ["attack"]})


AGENT = '''
from harness.agent.scripted import NoopAgent

class Sleeper(NoopAgent):
    """It sleeps."""
    name = "sleeper"
    description = "sleeps"
'''


def test_an_agent_is_loaded_by_its_name_and_may_not_have_anothers(folder: Path) -> None:
    pretend(folder, "sleepers", "[harness.agents]\nsleeper = sleepers:Sleeper\nvpt-nano = sleepers:Sleeper\n"
            "vpt-foundation-1x = sleepers:Sleeper\n", "sleepers", AGENT)
    agent = load_agent("sleeper")
    assert (agent.name, agent.description, type(agent).__name__) == ("sleeper", "sleeps", "Sleeper")
    assert "sleeper" in known_names()
    listed = {row["description"] for row in json.loads(call("agent", "list", "--json").stdout)}
    assert {"of sleepers 1.0", "of sleepers 1.0: refused, the name is taken"} <= listed
    assert call("agent", "show", "sleeper").exit_code == 0
    for taken in ("vpt-nano", "vpt-foundation-1x"):
        with pytest.raises(AgentError, match=rf'more than one agent is called "{taken}": .* sleepers 1\.0'):
            load_agent(taken)
    said = call("train", "sleeper")
    assert said.exit_code == 2 and "only agents of kind vpt and steve can be trained" in said.stderr


def test_a_broken_plugin_breaks_only_itself(folder: Path) -> None:
    pretend(folder, "bad-import", "[harness.agents]\nbad = bad_import:Agent\n", "bad_import", "import no_such_module\n")
    pretend(folder, "bad-class", "[harness.worlds]\nflat = bad_class:World\nround = bad_class:Round\n"
            "[harness.interventions]\nBent = bad_class:World\n[harness.analyses]\nfour = bad_class:FOUR\n",
            "bad_class", "class World:\n    pass\nFOUR = 4\n")
    pretend(folder, "bad-lines", "[harness.agents]\nthis is no entry point\n")
    pretend(folder, "foreign", "[console_scripts]\nnor is this\n")
    listed = call("plugins", "list")
    assert listed.exit_code == 0
    assert "  bad  (bad-import 1.0)" in listed.stdout and "  flat  (bad-class 1.0)" in listed.stdout
    assert "warning: the entry points of bad-lines 1.0" in listed.stderr and "foreign" not in listed.stderr
    assert "bad" in known_names() and call("agent", "list").exit_code == 0
    with pytest.raises(AgentError, match='the agent "bad" of bad-import 1.0 cannot be imported: ModuleNotFoundError: '
                                         "No module named 'no_such_module'") as refused:
        load_agent("bad")
    assert "pip uninstall bad-import" in str(refused.value)
    scenario = load_scenario("trunk")
    with pytest.raises(WorldError, match='the world "flat" of bad-class 1.0 is .*, expected a class derived from '
                                         "harness.world.world:World"):
        make_world(scenario, backend="flat")
    with pytest.raises(WorldError, match='the world "round" of bad-class 1.0 cannot be imported: AttributeError'):
        make_world(scenario, backend="round")
    with pytest.raises(InterventionError, match='the intervention "Bent" of bad-class 1.0 is'):
        build_intervention({"kind": "Bent"})
    with pytest.raises(HarnessError, match='the analysis "four" of bad-class 1.0 is 4, expected a function'):
        lookup("harness.analyses", "four")
    for name in ("bad", "flat", "round", "Bent", "four"):
        said = call("check", name)
        assert said.exit_code == 2 and " 1.0 " in said.stderr and "Traceback" not in said.stderr, (name, said.output)
    assert make_world(scenario).capabilities.backend == "blockworld"


def test_the_first_on_the_path_counts_as_for_python(folder: Path) -> None:
    older = folder / "older"
    pretend(folder, "lamp", "[harness.interventions]\nDimmer = lamp_d:Dimmer\n", "lamp_d", GOOD)
    pretend(older, "lamp", "[harness.interventions]\nDimmer = lamp_e:Dimmer\n")
    sys.path.append(str(older))
    try:
        assert installed("harness.interventions")["Dimmer"].path == "lamp_d:Dimmer"
        assert names("harness.interventions").count("Dimmer") == 1
        assert build_intervention({"kind": "Dimmer"}).site == "input"
    finally:
        sys.path.remove(str(older))


# ---- harness check


BROKEN = '''
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
from harness.agent.scripted import NoopAgent
from harness.agent.agent import AgentOutput
from harness.analysis.result import Result
from harness.intervention.intervention import Intervention
from harness.recording.recording import Recording
from harness.world.blockworld.world import BlockWorld

@dataclass(frozen=True)
class Scribble(Intervention):
    """Writes into the picture."""
    site: ClassVar[str] = "input"
    def change_input(self, pov, moment):
        pov[:9] = 0
        return pov

class Counting(NoopAgent):
    """Remembers on itself."""
    name = "counting"
    n = 0
    def act(self, observation, state, rng, *, hooks=()):
        output = super().act(observation, state, rng, hooks=hooks)
        self.n += 1
        return AgentOutput({**output.action, "jump": self.n % 2}, None)

class Restless(BlockWorld):
    """Its pictures differ when they are drawn again."""
    def render(self):
        return np.roll(super().render(), 1)

def guess(recording: Recording):
    """Draws its result."""
    return Result({"guess": float(np.random.random())})
'''


@pytest.mark.parametrize(("name", "kind", "law", "why"), [
    ("Scribble", "intervention", "inputs", "step 0: it wrote into the picture that it was handed"),
    ("Counting", "agent", "memory", "something is remembered outside the state"),
    ("Restless", "world", "looking", "a picture without nothing differs"),
    ("guess", "analysis", "repeats", "the second result differs from the first")])
def test_a_broken_plugin_of_each_kind_fails_by_the_law_that_it_breaks(folder: Path, name: str, kind: str, law: str,
                                                                      why: str) -> None:
    group = {"analysis": "harness.analyses"}.get(kind, f"harness.{kind}s")
    module = f"broken_{kind}"
    pretend(folder, "broken-things", f"[{group}]\n{name} = {module}:{name}\n", module, BROKEN)
    more = {"world": ("--with", "{size: [64, 36]}"), "analysis": ("--agent", "noop")}.get(kind, ())
    said = call("check", name, *more)
    assert said.exit_code == 1, said.output
    lines = said.stdout.splitlines()
    assert lines[0] == f"{name}: {kind} of broken-things 1.0 ({module}:{name})"
    (at,) = (i for i, line in enumerate(lines) if line.split()[:2] == ["FAILED", law])
    assert why in lines[at + 1]
    told = json.loads(call("plugins", "check", f"{module}:{name}", *more, "--json").stdout)
    assert told["ok"] is False and why in next(each["why"] for each in told["laws"] if each["law"] == law)
    assert any(each["ok"] for each in told["laws"]), "one broken law is not all of them"


def test_check_and_plugins_check_are_one_command() -> None:
    assert cli.get_command(None, "check") is cli.get_command(None, "plugins").get_command(None, "check")  # type: ignore


def test_a_name_of_two_kinds_wants_a_kind(folder: Path) -> None:
    pretend(folder, "twofold", "[harness.agents]\ntwo = twofold:Sleeper\n[harness.analyses]\ntwo = twofold:Sleeper\n",
            "twofold", AGENT)
    said = call("check", "two")
    assert said.exit_code == 2 and "--kind agents or --kind analyses" in said.stderr
    assert call("check", "two", "--kind", "agents").exit_code == 0


def test_an_intervention_is_registered_under_its_class(folder: Path) -> None:
    pretend(folder, "renamed", "[harness.interventions]\ndim = lamp_f:Dimmer\n", "lamp_f", GOOD)
    said = call("check", "dim")
    assert said.exit_code == 1 and "it is registered as dim, the class is Dimmer" in said.stdout


@pytest.mark.parametrize(("words", "message"), [
    (["KeyBloc"], "did you mean 'KeyBlock'"),
    (["KeyBlock", "--kind", "agents"], 'unknown plug-in "KeyBlock"'),
    (["KeyBlock"], "KeyBlock needs keys"),
    (["KeyBlock", "--with", "{key: attack}"], 'unknown field of KeyBlock "key"'),
    (["KeyBlock", "--with", "attack"], "--with: expected a mapping"),
    (["replay"], "needs either actions or the path"),
    (["replay", "--with", "{action: []}"], "it takes actions, path, column, after"),
    (["video"], "plays a video and got none"),
    (["noop", "--agent", "random"], "--agent says nothing about agents"),
    (["attention", "--recording", "nowhere"], "nowhere"),
    (["attention", "--agent", "noop", "--with", "{depth: 1}"], 'unknown option of attention_profile "depth"'),
    (["attention", "--agent", "noop"], "attention pattern"),
    (["no.such.module:Thing"], "cannot import no.such.module:Thing"),
    (["os:getcwd"], "expected a class derived from World, Agent or Intervention"),
])
def test_what_check_refuses(words: list[str], message: str) -> None:
    said = call("check", *words)
    assert said.exit_code == 2 and message in said.stderr and not said.stdout, said.output


def test_without_assertions_nothing_is_checked() -> None:
    code = "from harness.cli import main; main()"
    done = subprocess.run([sys.executable, "-O", "-c", code, "check", "noop"], text=True, capture_output=True,
                          timeout=120)
    assert done.returncode == 2 and "run it without -O" in done.stderr
