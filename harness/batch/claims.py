"""What a suite claims of its cells, read from the keys ``hypotheses``, ``expect``, ``tolerance`` and ``statistics``.

A row of ``hypotheses`` compares cells with others, one of ``expect`` with the approved baseline or with a number; for
every cell that its ``in`` selects, it is one claim.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from harness.batch.labels import cell_name
from harness.errors import nearest_names, unknown_name
from harness.scenario.source import Entry, Node, Place

__all__ = ["BASELINE", "CLAIM_KEYS", "RELATIONS", "Claim", "Statistics", "read_claims"]

BASELINE = "baseline"
Relation = Literal["at_least", "at_most", "equal", "different"]
RELATIONS: tuple[Relation, ...] = ("at_least", "at_most", "equal", "different")
CLAIM_KEYS = ("hypotheses", "expect", "tolerance", "statistics")
"""Keys of a suite file that ``read_claims`` reads."""

_ROW_KEYS = ("metric", "in", *RELATIONS, "by", "tolerance")
_RULES = ("family_error", "power", "correction", "sequential", "block")


@dataclass(frozen=True)
class Claim:
    """One claim of one cell.

    With d the cell's mean less the reference's: ``at_least`` claims d >= margin, ``at_most`` d <= -margin, ``equal``
    abs(d) <= margin, and ``different`` abs(d) > margin.

    Attributes:
        metric: A number per trial.
        cell: Its name, from ``cell_name``.
        relation: What is claimed.
        reference: Another cell's name, ``BASELINE``, or a number.
        margin: See above; in the metric's unit.
    """

    metric: str
    cell: str
    relation: Relation
    reference: str | float
    margin: float = 0.0

    @property
    def other(self) -> str | None:
        """The cell it is compared with, if it is one."""
        return self.reference if isinstance(self.reference, str) and self.reference != BASELINE else None

    @property
    def against_baseline(self) -> bool:
        """Whether it is about a change since the baseline."""
        return self.reference == BASELINE

    def __str__(self) -> str:
        if not isinstance(self.reference, str):
            to = f"{self.reference:g}"
        else:
            to = "the baseline" if self.against_baseline else f"that of [{self.reference}]"
        words = {"at_least": "at least", "at_most": "at most", "equal": "equal to", "different": "different from"}
        margin = ""
        if self.margin and self.relation in ("equal", "different"):
            margin = f", give or take {self.margin:g}" if self.relation == "equal" else f" by more than {self.margin:g}"
        elif self.margin:
            up = (self.margin > 0) == (self.relation == "at_least")
            margin = f" {'plus' if up else 'less'} {abs(self.margin):g}"
        return f"{self.metric} of [{self.cell}] is {words[self.relation]} {to}{margin}"


@dataclass(frozen=True)
class Statistics:
    """How a suite's claims are decided.

    Attributes:
        family_error: Chance of any false alarm in the whole suite; with ``correction: bh``, share of false ones among
            the alarms. The same again for claims that are shown falsely.
        power: How often a change of the size that is told before a run is to be found.
        correction: For many tests: Holm's, or Benjamini and Hochberg's.
        sequential: Whether trials end early where all is decided.
        block: Seeds between two looks, if sequential.
    """

    family_error: float = 0.005
    power: float = 0.85
    correction: Literal["holm", "bh"] = "holm"
    sequential: bool = False
    block: int = 10


class Complain(Protocol):
    """Notes a problem in the file."""

    def __call__(self, message: str, place: Place | None, hint: str | None = None) -> None:
        """What is wrong, where, and what to do."""


def read_claims(top: Mapping[str, Entry], cells: Sequence[Mapping[str, Any]], metrics: Sequence[str],
                complain: Complain, lacking: Collection[tuple[str, str]] = ()) -> tuple[tuple[Claim, ...], Statistics]:
    """Read the keys ``CLAIM_KEYS`` of a suite file.

    Args:
        top: The file.
        cells: Labels of each combination of the matrix, axis to value.
        metrics: Names of what is measured.
        complain: Told of every mistake, with its place.
        lacking: Cell names and metrics that they do not have, such as those of a target without one: a row leaves
            them out, if it has others.
    """
    reader = _Reader(cells, metrics, complain, lacking)
    tolerance = reader.tolerances(top.get("tolerance"))
    claims: dict[tuple[str, str, Relation, str | float], Claim] = {}
    for key in ("hypotheses", "expect"):
        if key not in top:
            continue
        rows = top[key].node.value
        if not isinstance(rows, list):
            complain(f"{key}: expected a list of rows", top[key].node.place, _example(key))
            continue
        for row in rows:
            for claim in reader.row(key, row, tolerance):
                same = (claim.metric, claim.cell, claim.relation, claim.reference)
                if same in claims:
                    complain(f"{key}: this is claimed twice: {claim}", row.place, "keep one of the two rows")
                claims[same] = claim
    return tuple(claims.values()), reader.statistics(top.get("statistics"))


def _example(key: str) -> str:
    return ("for instance  - {metric: held, in: {target: villager}, at_least: {target: control}, by: 0.3}"
            if key == "hypotheses" else "for instance  - {metric: held, equal: baseline}")


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same(one: object, other: object) -> bool:
    """Equal, and not as 1 equals true."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


class _Reader:
    """Reads rows, and complains."""

    def __init__(self, cells: Sequence[Mapping[str, Any]], metrics: Sequence[str], complain: Complain,
                 lacking: Collection[tuple[str, str]]) -> None:
        self.cells, self.metrics, self.complain, self.lacking = cells, metrics, complain, lacking
        self.axes = {axis: [c[axis] for c in cells] for axis in (cells[0] if cells else {})}

    def unknown(self, kind: str, name: str, known: Sequence[str], place: Place) -> None:
        problem = unknown_name(kind, name, known)
        self.complain(problem.message, place, problem.hint)

    def fields(self, what: str, node: Node, known: Sequence[str]) -> Mapping[str, Entry]:
        """The entries of a mapping; other keys are told."""
        if not isinstance(node.value, dict):
            self.complain(f"{what}: expected keys and values", node.place)
            return {}
        for key, entry in node.value.items():
            if key not in known:
                self.unknown(f"key in {what}:", key, known, entry.key)
        return node.value

    def tolerances(self, entry: Entry | None) -> Mapping[str, float]:
        """Metric to how far it may lie from what is expected; the empty name stands for all others."""
        if entry is None:
            return {}
        if not isinstance(entry.node.value, dict):
            return {"": self.size("tolerance", entry)}
        return {name: self.size("tolerance", each)
                for name, each in self.fields("tolerance", entry.node, self.metrics).items()}

    def size(self, what: str, entry: Entry, *, signed: bool = False) -> float:
        value = entry.node.value
        if not _number(value) or (not signed and value < 0):  # type: ignore[operator]  # a number, by now
            self.complain(f"{what}: expected a number{'' if signed else ' of at least 0'}", entry.node.place)
            return 0.0
        return float(value)  # type: ignore[arg-type]

    def row(self, key: str, node: Node, tolerance: Mapping[str, float]) -> Iterator[Claim]:
        """The claims of a row."""
        found = self.fields(key, node, _ROW_KEYS)
        given = [relation for relation in RELATIONS if relation in found]
        if not found or any(name not in _ROW_KEYS for name in found):
            return
        if "metric" not in found or len(given) != 1:
            self.complain(f"{key}: a row needs a metric and one of {', '.join(RELATIONS)}", node.place, _example(key))
            return
        (relation,) = given
        metrics = self.names(key, found["metric"])
        references = self.references(key, found, relation, node.place)
        if not references or not metrics:
            return
        for metric in metrics:
            margin = self.margin(key, found, relation, tolerance.get(metric, tolerance.get("", 0.0)))
            if margin is None:
                return
            found_here = {cell: other for cell, other in references.items() if (cell, metric) not in self.lacking}
            if not found_here:
                self.complain(f"{key}: none of these cells has a {metric}", node.place, "select others with in: {...}")
            for cell, reference in found_here.items():
                if (reference, metric) in self.lacking:
                    self.complain(f"{key}: [{reference}] has no {metric} to compare [{cell}] with", node.place)
                yield Claim(metric, cell, relation, reference, margin)

    def names(self, key: str, entry: Entry) -> list[str]:
        """One metric, or a list of them."""
        nodes = entry.node.value if isinstance(entry.node.value, list) else [entry.node]
        names = []
        for node in nodes:
            if not isinstance(node.value, str):
                self.complain(f"{key}: metric: expected a name", node.place)
            elif node.value not in self.metrics:
                self.unknown(f"metric in {key}:", node.value, self.metrics, node.place)
            else:
                names.append(node.value)
        return names

    def references(self, key: str, found: Mapping[str, Entry], relation: Relation, place: Place
                   ) -> dict[str, str | float]:
        """Each cell of a row to what it is compared with."""
        chosen = self.chosen(key, found.get("in"))
        node = found[relation].node
        if key == "expect":
            if node.value != BASELINE and not _number(node.value):
                self.complain(f"expect: {relation}: expected a number or the word {BASELINE}", node.place,
                              "what compares two cells stands under hypotheses")
                return {}
            value = BASELINE if node.value == BASELINE else float(node.value)  # type: ignore[arg-type]
            return {cell_name(cell): value for cell in chosen}
        changed = self.selector(f"{key}: {relation}", node, single=True)
        if changed is None:
            return {}
        names = {cell_name(cell) for cell in self.cells}
        pairs: dict[str, str | float] = {}
        for cell in chosen:
            other = cell_name({axis: changed[axis][0] if axis in changed else value for axis, value in cell.items()})
            if other not in names:
                self.complain(f"{key}: there is no cell [{other}] to compare [{cell_name(cell)}] with", node.place,
                              "it is the same cell with the values given; name more axes, or select fewer cells")
                return {}
            if other != cell_name(cell):
                pairs[cell_name(cell)] = other
        if chosen and not pairs:
            self.complain(f"{key}: this compares every cell with itself", place, "select other cells with in: {...}")
        return pairs

    def chosen(self, key: str, entry: Entry | None) -> list[Mapping[str, Any]]:
        """The cells that a row's ``in`` selects: all, without one."""
        if entry is None:
            return list(self.cells)
        wanted = self.selector(f"{key}: in", entry.node)
        if wanted is None:
            return []
        chosen = [cell for cell in self.cells
                  if all(any(_same(cell[axis], value) for value in values) for axis, values in wanted.items())]
        if not chosen:
            self.complain(f"{key}: in: no cell has these values together", entry.node.place,
                          "look at what the suite's matrix excludes")
        return chosen

    def selector(self, what: str, node: Node, *, single: bool = False) -> dict[str, list[Any]] | None:
        """Axis to values, from ``{axis: value}`` or ``{axis: [values]}``; None when something is wrong."""
        if not isinstance(node.value, dict) or not node.value:
            self.complain(f"{what}: expected axes and their values", node.place,
                          f"for instance  {{{', '.join(f'{axis}: {at[0]}' for axis, at in self.axes.items())}}}")
            return None
        wanted, fine = {}, True
        for axis, entry in node.value.items():
            if axis not in self.axes:
                self.unknown(f"axis in {what}:", axis, list(self.axes), entry.key)
                fine = False
                continue
            nodes = entry.node.value if isinstance(entry.node.value, list) and not single else [entry.node]
            wanted[axis] = [each.plain() for each in nodes]
            for each in nodes:
                if not any(_same(each.plain(), value) for value in self.axes[axis]):
                    known = list(dict.fromkeys(str(value) for value in self.axes[axis]))
                    near = nearest_names(str(each.plain()), known, 1)
                    self.complain(f"{what}: {axis} has no {each.plain()!r}", each.place,
                                  f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}")
                    fine = False
        return wanted if fine else None

    def margin(self, key: str, found: Mapping[str, Entry], relation: Relation, usual: float) -> float | None:
        """The margin of a row, from ``by`` or its tolerance; None when something is wrong."""
        tolerance = self.size(f"{key}: tolerance", found["tolerance"]) if "tolerance" in found else usual
        baseline = found[relation].node.value == BASELINE
        if relation in ("at_least", "at_most"):
            if "by" in found:
                return self.size(f"{key}: by", found["by"], signed=True)
            return -tolerance if baseline else 0.0
        if "by" in found:
            self.complain(f"{key}: by goes with at_least and at_most", found["by"].key, "give a tolerance")
            return None
        if relation == "equal" and not baseline and tolerance <= 0:
            self.complain(f"{key}: equal needs a tolerance: how far apart is still equal?", found[relation].key,
                          "without one, no number of trials could show it; for instance  tolerance: 0.1")
            return None
        return tolerance

    def statistics(self, entry: Entry | None) -> Statistics:
        """The rules by which claims are decided."""
        if entry is None:
            return Statistics()
        found = self.fields("statistics", entry.node, _RULES)
        checks: dict[str, tuple[Callable[[Any], bool], str]] = {
            "family_error": (lambda v: _number(v) and 0 < v < 0.5, "a number between 0 and 0.5"),
            "power": (lambda v: _number(v) and 0.5 <= v < 1, "a number from 0.5 to below 1"),
            "correction": (lambda v: v in ("holm", "bh"), "holm or bh"),
            "sequential": (lambda v: isinstance(v, bool), "true or false"),
            "block": (lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= 1, "a whole number of seeds"),
        }
        kept = {}
        for name, each in found.items():
            if name in checks:
                fits, expected = checks[name]
                if fits(each.node.value):
                    kept[name] = each.node.plain()
                else:
                    self.complain(f"statistics: {name}: expected {expected}", each.node.place)
        return Statistics(**kept)
