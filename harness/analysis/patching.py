"""Activation patching between two recordings: which frame, and which head's memory of it, makes the difference.

Two runs of one scenario and seed differ in one thing (clean and corrupted). The corrupted one is run again with a piece
of the clean one's activations in place of its own; if the choice comes back, the piece carries the difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from harness.agent.action_mapping import BUTTON_NAMES, button_table
from harness.agent.agent import Agent
from harness.agent.vpt.agent import VPTAgent
from harness.agent.vpt.state import VPTState
from harness.analysis.effects import BLOCK
from harness.analysis.embedded import embeddings, nearest_memory, transformer_agent
from harness.analysis.open_loop import Progress, check_key, check_untreated, kl_divergence, log_odds, ticks
from harness.analysis.result import Cell, Result, Table, result_provenance
from harness.errors import HarnessError, RecordingError
from harness.recording.recording import Recording
from harness.statistics import Interval, block_means, percentile_interval, rank_p, spearman

__all__ = ["Cells", "Patching", "activation_patching"]

Float = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Int = npt.NDArray[np.int64]
SITES: Mapping[str, tuple[str, ...]] = {"memory": ("hook_k", "hook_v"), "output": ("hook_z",)}
"""What of a head is patched, to the hooks that hold it."""
FRAMES_PER_PASS = 4096
"""Rows times frames of one forward pass, those remembered counted in."""
LEAST = 1e-3
"""Nats of a difference that can be shared out; rounding makes some 1e-5."""
TOP = 10
"""Rows of a table."""


@dataclass(frozen=True)
class Cells:
    """What patching some places did.

    Attributes:
        places: (layer, head, step) of each, int64 [cell, 3]; layer and head are -1 where the whole frame is patched.
        estimate: Attribution: the share that a gradient expects, float64 [cell].
        log_odds: Change of the key's log-odds by exact patching, nats, float64 [cell, query]; 0 for queries before.
        kl: D(pi of the clean run || pi of the patched one), float64 [cell, query].
    """

    places: Int
    estimate: Float
    log_odds: Float
    kl: Float

    def __len__(self) -> int:
        return len(self.places)


@dataclass(frozen=True)
class Patching(Result):
    """Which places carry the difference between two runs.

    Attributes:
        steps: The query steps, int64 [query].
        difference: Log-odds of the key at each, clean less corrupted, in nats, float64 [query].
        divergence: D(pi of the clean run || pi of the corrupted one) at each, float64 [query].
        sources: The steps whose frames were considered, oldest first, int64 [source].
        attribution: Estimated share of every cell, float64 [layer, head, source]; an age is query less source.
        exact: Share recovered by exact patching, likewise; NaN where that was not done.
        frames: Whole frames, every source.
        top: The cells that attribution put first, first of all first.
        controls: Cells drawn at random from the rest.
        checks: What must come out, to what came out: shares of ``nothing``, ``own`` (the corrupted run's own
            activations), ``all frames``, and ``all heads`` at all sources.
        key: Whose log-odds.
    """

    steps: Int
    difference: Float
    divergence: Float
    sources: Int
    attribution: Float
    exact: Float
    frames: Cells
    top: Cells
    controls: Cells
    checks: Mapping[str, float]
    key: str

    def shares(self, cells: Cells) -> Float:
        """Recovered share of the log-odds difference, float64 [cell]: 0 is the corrupted run, 1 the clean one."""
        return np.asarray(cells.log_odds.mean(1) / self.difference.mean())

    def kl_shares(self, cells: Cells) -> Float:
        """Recovered share of the divergence, 1 - D(clean || patched) / D(clean || corrupted), float64 [cell]."""
        return np.asarray(1 - cells.kl.mean(1) / self.divergence.mean())

    def interval(self, cells: Cells, cell: int) -> Interval | None:
        """95 % of a share over resampled blocks of 20 steps; None where the queries span no more than one."""
        gap = max(1.0, float(np.median(np.diff(self.steps)))) if len(self.steps) > 1 else 1.0
        length = max(1, round(BLOCK / gap))
        if len(self.steps) <= length:
            return None
        draws = block_means([np.stack([cells.log_odds[cell], self.difference], -1)], length)
        return percentile_interval(draws[:, 0] / draws[:, 1])

    @property
    def null(self) -> float:
        """The 99th percentile of the controls' absolute shares."""
        return float(np.quantile(np.abs(self.shares(self.controls)), 0.99)) if len(self.controls) else float("nan")

    def rank_correlation(self, cells: Cells) -> tuple[float, Interval | None]:
        """Spearman's, of attribution and exact patching over some cells, and 95 % over resampled cells (n >= 4)."""
        one, two = cells.estimate, self.shares(cells)
        found = spearman(one, two) if len(cells) > 1 else float("nan")
        if len(cells) < 4 or np.isnan(found):
            return found, None
        rng = np.random.default_rng(0)
        draws = [spearman(one[pick], two[pick]) for pick in rng.integers(0, len(cells), (1000, len(cells)))]
        return found, percentile_interval(np.array([draw for draw in draws if not np.isnan(draw)]))

    def arrays(self) -> Mapping[str, npt.NDArray[Any]]:
        """The arrays, those of cells too."""
        return {**super().arrays(),
                **{f"{name}.{field}": getattr(getattr(self, name), field) for name in ("frames", "top", "controls")
                   for field in ("places", "estimate", "log_odds", "kl")}}

    def tables(self) -> Sequence[Table]:
        """Frames, cells, and the checks."""
        return (self._of(self.frames, "frames", np.argsort(-np.abs(self.shares(self.frames)))[:TOP]),
                self._of(self.top, "cells", np.argsort(-np.abs(self.shares(self.top)))[:TOP]), self._checked())

    def _of(self, cells: Cells, what: str, order: npt.NDArray[Any]) -> Table:
        shares, kl = self.shares(cells), self.kl_shares(cells)
        rows: list[tuple[Cell, ...]] = []
        for i in order:
            layer, head, step = map(int, cells.places[i])
            null = self.shares(self.controls) if what == "cells" else np.delete(shares, i)
            place = (f"{layer}.{head}",) if what == "cells" else ()
            rows.append((*place, step, self._ages(step), _short(shares[i]), self.interval(cells, int(i)),
                         _short(cells.estimate[i]), _short(kl[i]), rank_p(float(shares[i]), null.tolist())))
        first = ("layer.head",) if what == "cells" else ()
        among = f"{len(self.controls)} cells drawn at random" if what == "cells" else \
            f"the {len(cells) - 1} other frames"
        n = len(self.steps)
        notes = {"frames": f"{n} query step{'s' * (n > 1)}; log-odds of {self.key}, clean less corrupted: "
                           f"{self.difference.mean():.3g} nats. recovered: 0 is the corrupted run, 1 the clean one. ",
                 "cells": f"The {len(cells)} cells that attribution put first were patched exactly; shown are the "
                          f"largest. 99 % of the random ones recover less than {self.null:.2g}. "}
        title = {"frames": f"patching of {self.provenance['agent']}: whole frames",
                 "cells": f"a head's {self.provenance['arguments']['site']} of one frame"}
        columns = (*first, "step", "age", "recovered", "95 %", "attribution", "of KL", "p")
        return Table(title[what], columns, tuple(rows), f"{notes[what]}p: rank among {among}.{self._warning}")

    @property
    def _warning(self) -> str:
        random = "random weights" in str(self.provenance["agent"])
        return " Its weights are random: nothing here was learned." if random else ""

    def _ages(self, step: int) -> str:
        ages = self.steps[self.steps >= step] - step
        return str(ages[0]) if len(ages) == 1 else f"{ages[0]}-{ages[-1]}"

    def _checked(self) -> Table:
        expected: Mapping[str, Cell] = {"nothing": 0, "own": 0, "all frames": 1, "all heads": None}
        said = {"nothing": "nothing patched", "own": "everything, by the corrupted run's own",
                "all frames": "all frames, by the clean run's", "all heads": "all heads, by the clean run's"}
        rows: list[tuple[Cell, ...]] = [(said[name], expected[name], value, None, None)
                                        for name, value in self.checks.items()]
        for name, cells in (("top cells", self.top), ("random cells", self.controls)):
            rho, interval = self.rank_correlation(cells)
            rows.append((f"rank correlation, {name}", None, None if np.isnan(rho) else rho, interval, len(cells)))
        return Table("checks", ("what", "must be", "is", "95 %", "n"), tuple(rows),
                     "Rank correlation: Spearman's, of attribution with exact patching. All heads bring back what came "
                     "by memory; what is missing to 1 is in the pictures of the queries themselves. All frames bring "
                     "back less than 1 where the two runs differ before the oldest of them.")


def _short(value: float) -> float:
    return round(float(value), 4) + 0.0  # no negative zero


def activation_patching(clean: Recording, corrupted: Recording, *, agent: Agent, key: str = "attack",
                        steps: tuple[int, ...] | None = None, n: int = 1,
                        site: Literal["memory", "output"] = "memory", oldest: int | None = None, top: int = 32,
                        controls: int = 100, seed: int = 0, progress: Progress | None = None) -> Patching:
    """Which past frame, and which head's memory of it, carries the difference between two recordings.

    Two recordings of one scenario and seed that differ in one thing: clean and corrupted. The agent runs over the
    corrupted one's pictures, with one place put as it was in the clean run, at the same step. A place is a whole frame
    (``hook_embed`` at step s), or a cell (layer, head, s):

    - site memory: what the head wrote of frame s (``attn.hook_k`` and ``attn.hook_v``); all later frames read it.
    - site output: what the head read at frame s (``attn.hook_z``).

    Frames after s are computed again, from the memory that the patch left: keys and values of higher layers and later
    frames follow from it. With m the mean over the query steps of the key's log-odds (nats),

        recovered = (m patched - m corrupted) / (m clean - m corrupted),
        of KL = 1 - D(pi clean || pi patched) / D(pi clean || pi corrupted), means over the query steps.

    Attribution is the first-order estimate, (gradient of m at the place in the corrupted run) . (clean - corrupted)
    over (m clean - m corrupted): one backward pass for all cells. Exact patching is done for every frame, for the
    ``top`` cells by attribution, and for ``controls`` random others: their shares are the null, and the rank
    correlation of estimate and truth is told for both. A gradient is blind where a softmax is saturated: then only the
    exact column counts, and a cell that attribution missed may be among the random ones.

    Under guidance (STEVE-1) a place is patched in both rows at once, and the log-odds are those of their mixture.

    Sources: activation patching (Vig et al. 2020, arXiv 2004.12265; Meng et al. 2022, arXiv 2202.05262); attribution
    patching (Nanda 2023; Syed et al. 2023, arXiv 2310.10348).

    Args:
        clean: The run whose activations are put in.
        corrupted: The run that they are put into; of the same scenario, seed, agent and length.
        agent: The recordings' agent.
        key: Button whose log-odds to bring back.
        steps: The query steps; default the ``n`` in which the log-odds differ most, in the direction of the greatest
            difference.
        n: How many.
        site: What of a head is patched.
        oldest: The greatest age, counted from the last query; default as far as the window of attention, 127 for VPT.
        top: Cells to patch exactly.
        controls: Random cells to patch exactly.
        seed: Of their choice.
        progress: Told of passes.

    Returns:
        Arrays [layer, head, source].

    Raises:
        AgentError: for an agent without a transformer.
        RecordingError: for recordings that are not a pair, or were made under interventions.
        HarnessError: for an unknown key, steps that are not there, or runs between which the key does not differ.
    """
    check_key(key)
    check_untreated((clean, corrupted))
    player = transformer_agent(agent)
    _check_pair(clean, corrupted)
    for name, value, least in (("n", n, 1), ("top", top, 1), ("controls", controls, 0), ("oldest", oldest, 0)):
        if value is not None and value < least:
            raise HarnessError(f"{name}: expected a whole number from {least} on, got {value}")
    queries = _queries(player, (clean, corrupted), key, steps, n)
    first = max(0, queries[-1] - (player.policy.config.window - 1 if oldest is None else oldest))
    if queries[0] < first:
        raise HarnessError(f"the queries from {queries[0]} to {queries[-1]} lie further apart than the oldest frame, "
                           f"{queries[-1] - first} steps before the last", hint="give a greater oldest, or other steps")
    bench = _Bench(player, (clean, corrupted), first, queries, key, site)
    if abs(bench.difference.mean()) < LEAST:
        raise HarnessError(f"the log-odds of {key} differ by {bench.difference.mean():.2g} nats between the two runs "
                           f"at {'step' if len(queries) == 1 else 'steps'} {', '.join(map(str, queries))}: there is "
                           "nothing to bring back", where=f"{clean.path} and {corrupted.path}",
                           hint="ask about another key, or other steps")
    found = _explore(bench, top, controls, seed, progress)
    options = {"key": key, "steps": queries, "site": site, "oldest": oldest, "top": top, "controls": controls,
               "seed": seed}
    provenance = {**result_provenance("patching", clean, **options), "corrupted": corrupted.path.name,
                  "agent": ", ".join(part for part in (agent.name, agent.description) if part)}
    return Patching(provenance, np.array(queries, np.int64), bench.difference, bench.divergence,
                    np.arange(first, queries[-1] + 1), *found, key)


def _check_pair(clean: Recording, corrupted: Recording) -> None:
    """Two runs whose steps belong together.

    Raises:
        RecordingError: saying why they do not.
    """
    where = f"{clean.path} and {corrupted.path}"
    names = [recording.header["scenario"].get("name") for recording in (clean, corrupted)]
    players = [f"{h.get('name')} ({str(h.get('weights_digest'))[:12]})"
               for h in (recording.header["agent"] for recording in (clean, corrupted))]
    pairs: tuple[tuple[str, Any, Any, str], ...] = (
        ("scenarios", names[0], names[1], "give two of one scenario, with other parameters: --set"),
        ("seeds", clean.seed, corrupted.seed, "play both with one --seed"),
        ("agents", players[0], players[1], "play both with one --agent"),
        ("lengths", len(clean), len(corrupted), f"play both with --steps {min(len(clean), len(corrupted))}"))
    for what, a, b, hint in pairs:
        if a != b:
            raise RecordingError(f"the two recordings are no pair: they have other {what}, {a} and {b}", where=where,
                                 hint=hint)


def _queries(agent: VPTAgent, pair: tuple[Recording, Recording], key: str, steps: tuple[int, ...] | None,
             n: int) -> list[int]:
    """The steps asked about, or those in which the key's log-odds differ most, in order."""
    if steps is not None:
        outside = [step for step in steps if not 0 <= step < len(pair[0])]
        if outside or not steps:
            raise HarnessError(f"steps: expected some from 0 to {len(pair[0]) - 1}, got {list(outside or steps)}")
        return sorted(set(steps))
    clean, corrupted = (_margins(agent, recording, key) for recording in pair)
    difference = clean - corrupted
    greatest = difference[np.argmax(np.abs(difference))]
    order = np.argsort(-difference * np.sign(greatest), kind="stable")[:n]
    return sorted(int(step) for step in order if difference[step] * greatest > 0) or [len(difference) - 1]


def _margins(agent: VPTAgent, recording: Recording, key: str) -> Float:
    """The key's log-odds over a recording, float64 [t]."""
    _, state = nearest_memory(recording, agent, 0)
    found, window = [], agent.policy.config.window
    with torch.inference_mode():
        for first in range(0, len(recording), window):
            embeds = torch.from_numpy(embeddings(recording, agent, first, min(first + window, len(recording))))
            out, state = agent.look_embedded(embeds[None], state)
            found.append(log_odds(out.buttons[0].float().cpu().numpy(), key))
    return np.concatenate(found)


@dataclass(frozen=True)
class _Run:
    """One recording from the oldest frame considered to the last query.

    Attributes:
        before: The memory before it.
        embeds: [t, d].
        parts: What the heads hold, by hook: [guidance row, t, head, d_head].
        log_probs: Buttons [query, 8641] and camera [query, 121].
    """

    before: VPTState
    embeds: Float32
    parts: Mapping[str, torch.Tensor]
    log_probs: tuple[Float, Float]


class _Bench:
    """The corrupted run, with places into which the clean one's activations can be put.

    Attributes:
        first: The oldest frame considered.
        difference: As in ``Patching``.
        divergence: As in ``Patching``.
    """

    def __init__(self, agent: VPTAgent, pair: tuple[Recording, Recording], first: int, queries: Sequence[int], key: str,
                 site: str) -> None:
        self.agent, self.first, self.queries, self._key = agent, first, list(queries), key
        config = agent.policy.config
        self.layers, self.heads, self.n_sources = config.blocks, config.heads, queries[-1] + 1 - first
        self.hooks = {f"blocks.{layer}.attn.{hook}": layer for layer in range(config.blocks) for hook in SITES[site]}
        self.clean, self.corrupted = (self._run(recording) for recording in pair)
        odds = [log_odds(run.log_probs[0], key) for run in (self.clean, self.corrupted)]
        self.difference: Float = odds[0] - odds[1]
        self.divergence = self._divergence(self.corrupted.log_probs)

    def _run(self, recording: Recording) -> _Run:
        agent, last = self.agent, self.queries[-1]
        start, state = nearest_memory(recording, agent, self.first)
        embeds = embeddings(recording, agent, start, last + 1)
        # Plain tensors again: those of inference mode cannot be part of a graph.
        before = agent.load_state(agent.save_state(agent.remember(embeds[:self.first - start], state)))
        embeds = embeds[self.first - start:]
        parts: dict[str, torch.Tensor] = {}

        def keep(x: torch.Tensor, hook: Any) -> None:
            parts[hook.name] = x

        with torch.no_grad(), agent.hooks([(name, keep) for name in self.hooks]):
            out, _ = agent.look_embedded(torch.from_numpy(embeds)[None], before)
        buttons, camera = self._at_queries(out, self.first)
        return _Run(before, embeds, parts, (buttons[0], camera[0]))

    def _at_queries(self, out: Any, start: int) -> tuple[Float, Float]:
        """Log-probabilities [row, query, n] of a pass that began at ``start``; queries before it left out."""
        rows = [query - start for query in self.queries if query >= start]
        buttons, camera = (x[:, rows].float().cpu().numpy().astype(np.float64) for x in (out.buttons, out.camera))
        return buttons, camera

    def _divergence(self, log_probs: tuple[Float, Float]) -> Float:
        """D(clean || these) [..., query], of the last queries if there are fewer."""
        n = log_probs[0].shape[-2]
        return sum(kl_divergence(clean[-n:], one)  # type: ignore[return-value]
                   for clean, one in zip(self.clean.log_probs, log_probs, strict=True))

    def patched(self, start: int, state: VPTState, rows: Sequence[Mapping[str, Any]], values: _Run | None = None
                ) -> tuple[Float, Float]:
        """The corrupted run from a step on, with places patched: one row for each set of places, side by side.

        Args:
            start: The step to begin at.
            state: The corrupted run's memory before it.
            rows: Per row a mask of ``frames`` bool [t] and one of ``cells`` bool [layer, t, head]; absent is none.
            values: Whose activations are put in; the clean run's.

        Returns:
            Change of the log-odds and D(clean || patched), float64 [row, query].
        """
        source, at = values or self.clean, start - self.first
        own = torch.from_numpy(self.corrupted.embeds[at:])
        most = max(1, FRAMES_PER_PASS // (len(own) + self.agent.policy.config.window))
        changes, divergences = [], []
        for begin in range(0, len(rows), most):
            # The first row is left as it is: what the others differ in is then no matter of rounding.
            batch = [{}, *rows[begin:begin + most]]
            n = len(batch)
            frames = torch.from_numpy(np.stack([row.get("frames", np.zeros(len(own), bool)) for row in batch]))
            embeds = torch.from_numpy(source.embeds[at:]).where(frames[..., None], own)
            nothing = np.zeros((self.layers, len(own), self.heads), bool)
            cells = torch.from_numpy(np.stack([row.get("cells", nothing) for row in batch], 1))

            def put(x: torch.Tensor, hook: Any, cells: torch.Tensor = cells, n: int = n) -> torch.Tensor:
                new = source.parts[hook.name][:, at:].repeat_interleave(n, 0)
                mask = cells[self.hooks[hook.name]].to(x.device)
                return new.where(mask.repeat(len(x) // n, 1, 1)[..., None], x)

            with torch.no_grad(), self.agent.hooks([(name, put) for name in self.hooks]):
                out, _ = self.agent.look_embedded(embeds, state.repeated(n))
            log_probs = self._at_queries(out, start)
            odds = log_odds(log_probs[0], self._key)
            changes.append(odds[1:] - odds[0])
            divergences.append(self._divergence(log_probs)[1:])
        return self._padded(np.concatenate(changes), 0.0), self._padded(np.concatenate(divergences), self.divergence)

    def _padded(self, values: Float, before: Any) -> Float:
        """Values [row, query] with those queries in front that came before any patch."""
        whole = np.empty((len(values), len(self.queries)))
        whole[:] = before
        whole[:, len(self.queries) - values.shape[1]:] = values
        return whole

    def attribution(self) -> tuple[Float, Float]:
        """Estimated shares of whole frames [source] and of cells [layer, head, source]: one backward pass."""
        run, agent = self.corrupted, self.agent
        moved = {name: torch.zeros_like(run.parts[name]).requires_grad_() for name in self.hooks}
        embeds = torch.from_numpy(run.embeds)[None].requires_grad_()
        held = torch.from_numpy(button_table()[:, BUTTON_NAMES.index(self._key)] != 0).to(run.before.keys[0].device)
        with torch.enable_grad(), agent.hooks([(name, lambda x, hook: x + moved[hook.name]) for name in self.hooks]):
            out, _ = agent.look_embedded(embeds, run.before)
            said = out.buttons[0, [query - self.first for query in self.queries]]
            margin = (said[:, held].logsumexp(-1) - said[:, ~held].logsumexp(-1)).mean()
            gradients = torch.autograd.grad(margin, [embeds, *moved.values()])
        total = float(self.difference.mean())
        frames = gradients[0][0].numpy() * (self.clean.embeds - run.embeds)
        cells = np.zeros((self.layers, self.heads, self.n_sources))
        for (name, layer), gradient in zip(self.hooks.items(), gradients[1:], strict=True):
            step_head = (gradient * (self.clean.parts[name] - run.parts[name])).sum((0, 3))
            cells[layer] += step_head.double().cpu().numpy().T
        return frames.sum(1, dtype=np.float64) / total, cells / total

    def checks(self) -> dict[str, float]:
        """Shares of what must come out as known."""
        t = self.n_sources
        frames, cells = np.ones(t, bool), np.ones((self.layers, t, self.heads), bool)
        before = self.corrupted.before
        nothing, all_frames, all_heads = self.patched(
            self.first, before, [{}, {"frames": frames}, {"cells": cells}])[0].mean(1)
        own = self.patched(self.first, before, [{"frames": frames, "cells": cells}], self.corrupted)[0].mean()
        total = float(self.difference.mean())
        return {"nothing": float(nothing) / total, "own": float(own) / total, "all frames": float(all_frames) / total,
                "all heads": float(all_heads) / total}


def _explore(bench: _Bench, top: int, controls: int, seed: int, progress: Progress | None
             ) -> tuple[Float, Float, Cells, Cells, Cells, dict[str, float]]:
    """Attribution of all cells; exact patching of all frames, the top cells and the controls, source by source."""
    frames, estimate = bench.attribution()
    order = np.argsort(-np.abs(estimate), axis=None, kind="stable")
    rest = order[top:]
    drawn = np.random.default_rng(seed).choice(rest, min(controls, len(rest)), replace=False)
    chosen = np.concatenate([order[:top], drawn])
    places = np.stack(np.unravel_index(chosen, estimate.shape), -1)
    n_frames, n_queries = bench.n_sources, len(bench.queries)
    changes, kl = np.empty((2, n_frames + len(places), n_queries))
    tick, state = ticks(progress, n_frames), bench.corrupted.before
    for source in range(n_frames):
        here = np.flatnonzero(places[:, 2] == source)
        left = n_frames - source
        rows: list[dict[str, Any]] = [{"frames": np.arange(left) == 0}]
        for layer, head, _ in places[here]:
            cells = np.zeros((bench.layers, left, bench.heads), bool)
            cells[layer, 0, head] = True
            rows.append({"cells": cells})
        at = [source, *(n_frames + here)]
        changes[at], kl[at] = bench.patched(bench.first + source, state, rows)
        state = bench.agent.remember(bench.corrupted.embeds[source:source + 1], state)
        tick(1)
    exact = np.full(estimate.shape, np.nan)
    exact[tuple(places.T)] = changes[n_frames:].mean(1) / bench.difference.mean()
    whole = np.stack([np.full(n_frames, -1), np.full(n_frames, -1), np.arange(n_frames)], -1)
    places = np.concatenate([whole, places]) + [0, 0, bench.first]
    estimates = np.concatenate([frames, estimate.flat[chosen]])
    n_top = n_frames + min(top, len(order))
    whole_frames, top_cells, random_cells = (
        Cells(places[part], estimates[part], changes[part], kl[part])
        for part in (slice(n_frames), slice(n_frames, n_top), slice(n_top, None)))
    return estimate, exact, whole_frames, top_cells, random_cells, bench.checks()
