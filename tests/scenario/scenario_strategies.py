"""Hypothesis strategies for whole scenarios."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from harness.scenario.catalogue import catalogue
from harness.scenario.schema import Scenario

_KNOWN = catalogue()
NAMES = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,12}", fullmatch=True)
TEXTS = st.text(max_size=40)
BLOCKS = st.sampled_from(sorted(_KNOWN.blocks))
COLUMNS = st.integers(-64, 63)
CELLS = st.tuples(COLUMNS, st.integers(90, 130), COLUMNS)
POINTS = st.tuples(st.floats(-64, 64), st.floats(0, 255), st.floats(-64, 64))
SEEDS = st.integers(0, 2**63 - 1)


def mapping(required: dict[str, Any], optional: dict[str, Any] | None = None) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional or {})


_JITTER = mapping({}, {"position": st.floats(0, 16), "yaw": st.floats(0, 180), "pitch": st.floats(0, 90)})
_BODY = {
    "tag": NAMES, "pitch": st.floats(-90, 90), "ai": st.booleans(), "health": st.floats(0.5, 1024),
    "facing": st.sampled_from(["player", "north", "east"]), "invulnerable": st.booleans(),
    "villager": mapping({}, {"type": st.sampled_from(sorted(_KNOWN.villager_types)),
                             "profession": st.sampled_from(sorted(_KNOWN.professions))}),
}
_SCATTER = {"from": st.tuples(COLUMNS, COLUMNS), "to": st.tuples(COLUMNS, COLUMNS), "count": st.just([0, 4])}
_BLOCK_STEP = st.one_of(
    mapping({"fill": BLOCKS, "from": CELLS, "to": CELLS}, {"replace": BLOCKS}),
    mapping({"set": st.just("none") | BLOCKS, "at": CELLS}),
    mapping({"line": BLOCKS, "from": CELLS, "to": CELLS}),
    mapping({"tree": st.sampled_from(sorted(_KNOWN.trees)), "at": CELLS}, {"height": st.integers(2, 16)}),
    mapping({"scatter": st.lists(st.sampled_from(sorted(_KNOWN.trees)), min_size=1, max_size=3), **_SCATTER},
            {"min_distance": st.floats(0, 10), "keep_clear": st.floats(0, 10)}),
)
_STEP = {"step": st.integers(0, 40)}
_EVENT = st.one_of(
    mapping({"fill": st.just("none") | BLOCKS, "from": CELLS, "to": CELLS, **_STEP}, {"replace": BLOCKS}),
    mapping({"set": BLOCKS, "at": CELLS, **_STEP}),
    mapping({"line": BLOCKS, "from": CELLS, "to": CELLS, **_STEP}),
)
_ENTITY_STEP = st.one_of(
    mapping({"type": st.sampled_from(sorted(_KNOWN.creatures)), "at": POINTS}, {**_BODY, "jitter": _JITTER}),
    mapping({"scatter": st.lists(st.sampled_from(sorted(_KNOWN.creatures)), min_size=1, max_size=3), **_SCATTER},
            _BODY),
    st.builds(lambda at, tag: {"type": "armor_stand", "at": at, "colour": "#a0B1c2", "tag": tag}, POINTS, NAMES),
)
_SCALAR = st.integers(-10**6, 10**6) | st.floats(-1e6, 1e6) | TEXTS | st.booleans()
_JSON = st.recursive(st.none() | _SCALAR, lambda inner: st.lists(inner, max_size=3)
                     | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=6)
_OUTCOME = st.one_of(
    mapping({"damaged": st.sampled_from(["villager", "*", "any"])}, {"at_least": st.integers(1, 9)}),
    mapping({"killed": st.sampled_from(["cow", "armor_*"])}),
    mapping({"mined": st.sampled_from(["*_log", "stone"])}, {"at_least": st.integers(1, 9)}),
    mapping({"collected": st.sampled_from(["*_log", "stick"])}),
    mapping({"looked_at": st.sampled_from(["pig", "*_leaves"])}, {"within": st.floats(0.5, 9),
     "reachable": st.booleans()}),
    mapping({"moved": st.floats(0.1, 20)}),
    mapping({"pressed": st.lists(st.sampled_from(["left", "attack"]), min_size=1, max_size=2)},
            {"since": st.integers(0, 9), "until": st.integers(9, 40)}),
    mapping({"looked_at": st.just("pig"), "pressing": st.sampled_from(["attack", "use"])}),
)


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    outcomes = draw(st.dictionaries(NAMES, _OUTCOME, max_size=4))
    data = draw(mapping(
        {"name": NAMES},
        {
            "description": TEXTS,
            "parameters": st.dictionaries(NAMES, _SCALAR, max_size=3),
            "world": mapping({}, {
                "seed": SEEDS, "ground": BLOCKS, "ground_y": st.integers(80, 120),
                "biome": st.sampled_from(_KNOWN.biomes), "time": st.integers(0, 23999) | st.just("midnight"),
                "weather": st.sampled_from(_KNOWN.weathers), "difficulty": st.sampled_from(_KNOWN.difficulties),
                "rules": mapping({}, {n: st.booleans() if isinstance(v, bool) else st.integers(0, 99)
                                      for n, v in _KNOWN.rules.items()}),
                "blocks": st.lists(_BLOCK_STEP, max_size=4), "entities": st.lists(_ENTITY_STEP, max_size=4)}),
            "player": mapping({}, {
                "at": POINTS, "yaw": st.floats(-360, 360), "pitch": st.floats(-90, 90), "jitter": _JITTER,
                "selected": st.integers(0, 8),
                "hotbar": st.dictionaries(st.integers(0, 8), st.sampled_from(sorted(_KNOWN.items)), max_size=3)}),
            "agent": mapping({}, {"name": TEXTS, "options": st.dictionaries(TEXTS, _JSON, max_size=3)}),
            "hooks": st.lists(TEXTS, max_size=3), "events": st.lists(_EVENT, max_size=4),
            "interventions": st.dictionaries(NAMES, st.builds(
                lambda extra, kind: {**extra, "kind": kind},
                 st.dictionaries(TEXTS, _JSON, max_size=3), TEXTS), max_size=2),
            "episode": mapping({}, {
                "max_steps": st.integers(41, 10**6), "settle_steps": st.integers(0, 200),
                "terminate_when": st.lists(st.sampled_from(sorted(outcomes)), max_size=2) if outcomes
                else st.just([])}),
        }))
    return Scenario.model_validate({**data, "outcomes": outcomes})
