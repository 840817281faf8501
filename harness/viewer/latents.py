"""Pages of latents: one HTML file that asks nobody for anything, without scripts."""

from __future__ import annotations

import base64
import functools
import hashlib
import html
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from harness.agent.sae import Sae
from harness.analysis.sae.frames import LatentFrames, TopFrame
from harness.errors import HarnessError

__all__ = ["export_latents", "latent_facts"]

_WIDTH, _HEIGHT, _QUALITY = 320, 180, 80
_FLAME = np.array([255, 96, 32], np.float32)
_MOST = 0.75
"""How much of the hottest place is colour."""


def latent_facts(sae: Sae, results: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Results of ``harness sae name`` and ``steer``, as they were written to files, by what they tell.

    Args:
        sae: That they must be of.
        results: JSON values.

    Returns:
        ``names``, ``members`` and ``consistency``, each with the result that has it.

    Raises:
        HarnessError: for results of another SAE.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for result in results:
        if result.get("provenance", {}).get("sae") != sae.digest():
            raise HarnessError("the result is not of this SAE", hint="run harness sae name or steer again with --out")
        found.update({kind: result for kind in ("names", "members", "consistency") if kind in result})
    return found


def export_latents(pages: Sequence[LatentFrames], path: str | Path, facts: Mapping[str, Mapping[str, Any]]) -> int:
    """Write one page about some latents: top pictures with heat, values, names, steering, do-consistency.

    Args:
        pages: One per latent.
        path: The file, ``.html``.
        facts: From ``latent_facts``.

    Returns:
        The size of the file in bytes.

    Raises:
        HarnessError: for another suffix, or a file that cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise HarnessError(f'cannot write "{path.name}": expected a name that ends in .html', where=str(path))
    style = _part("latents.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    links = " ".join(f'<a href="#latent-{page.latent}">{page.latent}</a>' for page in pages)
    text = Template(_part("latents.html")).substitute(
        policy=policy, style=style, title=html.escape(f"Latents of {pages[0].hook}"), links=links,
        agent=html.escape(pages[0].agent), body="\n".join(_latent(page, facts) for page in pages))
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as problem:
        raise HarnessError(f"cannot write the page: {problem.strerror or problem}", where=str(path)) from problem
    finally:
        part.unlink(missing_ok=True)
    return path.stat().st_size


@functools.cache
def _part(name: str) -> str:
    return (resources.files("harness.viewer") / "page" / name).read_text(encoding="utf-8")


def _latent(page: LatentFrames, facts: Mapping[str, Mapping[str, Any]]) -> str:
    how = "the latent at each place" if page.of_places else "how far it falls when a patch is covered"
    figures = "".join(_figure(frame) for frame in page.frames) or "<p>It is never above 0 in these recordings.</p>"
    return (f'<article id="latent-{page.latent}"><h2>Latent {page.latent}</h2>'
            f"<p class=quiet>above 0 in {page.firing:.1%} of {page.n_steps} steps</p>"
            f"<div class=facts><section><h3>Values above 0</h3>{_histogram(page)}</section>"
            f"<section><h3>States it goes with</h3>{_names(page.latent, facts.get('names'))}</section>"
            f"<section><h3>Steering</h3>{_steering(page.latent, facts.get('members'))}</section>"
            f"<section><h3>Do-consistency</h3>{_consistency(page.latent, facts.get('consistency'))}</section></div>"
            f"<h3>Where it is largest</h3><p class=quiet>Heat: {how}.</p><div class=frames>{figures}</div></article>")


def _figure(frame: TopFrame) -> str:
    small = np.asarray(cv2.resize(frame.picture, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)
    heat = np.maximum(cv2.resize(frame.heat, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_LINEAR), 0)
    share = (_MOST * heat / max(float(heat.max()), 1e-12))[..., None]
    warm = (small * (1 - share) + _FLAME * share).round().astype(np.uint8)
    where = f"{frame.recording}, step {frame.step}"
    return (f'<figure><img src="{_webp(small)}" width={_WIDTH} height={_HEIGHT} alt="{html.escape(where)}">'
            f'<img src="{_webp(warm)}" width={_WIDTH} height={_HEIGHT} alt="with heat">'
            f"<figcaption><b>{frame.value:.3g}</b> {html.escape(where)}</figcaption></figure>")


def _webp(picture: npt.NDArray[np.uint8]) -> str:
    done, data = cv2.imencode(".webp", picture[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])
    assert done
    return f"data:image/webp;base64,{base64.b64encode(data.tobytes()).decode()}"


def _histogram(page: LatentFrames) -> str:
    """Bars on a square-root scale, so that few large values show beside many small ones."""
    if not page.counts.sum():
        return "<p>none</p>"
    high = np.sqrt(page.counts / page.counts.max())
    width = 280 / len(high)
    bars = "".join(f'<rect x="{i * width:.1f}" y="{70 - 64 * h:.1f}" width="{width - 1:.1f}" height="{64 * h:.1f}"/>'
                   for i, h in enumerate(high) if h > 0)
    return (f'<svg viewBox="0 0 280 88" role="img" aria-label="Histogram of {int(page.counts.sum())} values">'
            f'<g class="bars">{bars}</g><path d="M0 70.5h280"/><text x="0" y="84">{page.edges[0]:.2g}</text>'
            f'<text x="280" y="84" text-anchor="end">{page.edges[-1]:.3g}</text></svg>'
            f"<p class=quiet>{int(page.counts.sum())} steps; heights by square root, most {int(page.counts.max())}</p>")


def _names(latent: int, result: Mapping[str, Any] | None) -> str:
    if result is None:
        return "<p class=quiet>not asked: harness sae name</p>"
    own = sorted((each for each in result["names"] if each["latent"] == latent),
                 key=lambda each: -abs((each["auroc"] or 0.5) - 0.5))
    if not own:
        return "<p>none within the false discovery rate</p>"
    rows = [(each["state"], _number(each["auroc"]), _interval(each["interval"]), _number(each["bits"]),
             _number(each["q"]), "yes" if each["held"] else "no") for each in own[:8]]
    return _table(("state", "AUROC", "95 %", "bits", "q", "held"), rows)


def _steering(latent: int, result: Mapping[str, Any] | None) -> str:
    if result is None:
        return "<p class=quiet>not asked: harness sae steer</p>"
    own = result["members"].get("SAE latents", {}).get(str(latent))
    if own is None:
        return "<p>not among the latents that were steered</p>"
    rows = [(key, _number(each["S_f"]), _number(each["null_99"]), _number(each["change"]),
             _number(each["p_directions"]), _number(each["p_latents"])) for key, each in own.items()]
    return _table(("key", "S_f", "99 % null", "change of P", "p, directions", "p, latents"), rows)


def _consistency(latent: int, result: Mapping[str, Any] | None) -> str:
    own = None if result is None else result["consistency"].get(str(latent))
    if result is None or own is None:
        return "<p class=quiet>not asked: harness sae name --world ... --without ...</p>"
    changes = ", ".join(result["provenance"]["changed"])
    rows = [(f"P({result['key']})", f"{own['agree']} of {own['n']}", _interval(own["interval"]),
             _number(own["shuffled"]), _number(own["p"]), _number(own["rank_correlation"]))]
    return _table(("of", "same sign", "95 %", "shuffled", "p", "rank corr."), rows) + \
        f"<p class=quiet>{html.escape(changes)}: the latent changes by {own['activation']:.3g} on average</p>"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(each)}</th>" for each in heads)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _interval(value: Sequence[float] | None) -> str:
    return "" if value is None else f"{value[0]:.3g} to {value[1]:.3g}"
