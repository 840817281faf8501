"""How fast activations are collected, and how fast an SAE learns beside a plain loop and beside sae-lens.

    python benchmarks/sae.py                      collecting and training, some two minutes
    python benchmarks/sae.py train --width 256    training alone

The plain loop is the twelve lines of ``plain``: the same TopK SAE in ordinary PyTorch, the same Adam, the same data.
The contestants take turns, round by round, so that what else the machine does falls on all of them; the ratios are of
the medians. sae-lens takes part where it is installed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

import harness
from harness.analysis.sae.collect import STATE, collect_episodes
from harness.analysis.sae.learner import SaeLearner
from harness.analysis.sae.recipe import SaeRecipe

Step = Callable[[np.ndarray], object]


def plain(width: int, m: int, k: int) -> Step:
    encoder, decoder = (torch.nn.Parameter(torch.randn(m, width) / width ** 0.5) for _ in range(2))
    b_enc, b_dec = torch.nn.Parameter(torch.zeros(m)), torch.nn.Parameter(torch.zeros(width))
    adam = torch.optim.Adam([encoder, decoder, b_enc, b_dec], lr=1e-3)

    def step(batch: np.ndarray) -> None:
        x = torch.from_numpy(batch)
        values, places = ((x - b_dec) @ encoder.T + b_enc).topk(k, dim=1)
        latents = torch.zeros(len(x), m).scatter(1, places, values.relu())
        loss = (x - latents @ decoder - b_dec).square().sum(1).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    return step


def ours(width: int, m: int, k: int, sample: np.ndarray) -> Step:
    return SaeLearner(SaeRecipe(k=k, expansion=m / width, dead_window=10**9), sample, 10_000).step


def sae_lens(width: int, m: int, k: int) -> Step | None:
    try:
        from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
        from sae_lens.saes.sae import TrainStepInput
    except ImportError:
        return None
    sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=width, d_sae=m, k=k))
    adam = torch.optim.Adam(sae.parameters(), lr=1e-3)

    def step(batch: np.ndarray) -> None:
        given = TrainStepInput(sae_in=torch.from_numpy(batch), coefficients={}, dead_neuron_mask=None,
                               n_training_steps=0, is_logging_step=False)
        out = sae.training_forward_pass(given)
        adam.zero_grad()
        out.loss.backward()
        adam.step()
    return step


def batches(width: int, size: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    pool = rng.standard_normal((8 * size, width), dtype=np.float32)
    while True:
        yield pool[rng.integers(0, len(pool), size)]


def train(width: int, m: int, k: int, size: int, rounds: int, threads: int) -> None:
    torch.set_num_threads(threads)
    data = batches(width, size)
    steps: dict[str, Step | None] = {"ours": ours(width, m, k, next(data)), "plain loop": plain(width, m, k),
                                     "sae-lens": sae_lens(width, m, k)}
    steps = {name: step for name, step in steps.items() if step is not None}
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for n in range(rounds + 1):
        batch = next(data)
        for name, step in steps.items():
            began = time.perf_counter()
            step(batch)
            if n:  # the first warms up
                taken[name].append(time.perf_counter() - began)
    print(f"TopK {width} -> {m}, k {k}, batches of {size}, {threads} threads, {rounds} rounds:")
    mine = np.median(taken["ours"])
    for name, seconds in taken.items():
        rate, low, high = size / np.median(seconds), size / np.max(seconds), size / np.min(seconds)
        print(f"  {name:10} {rate:9,.0f} tokens/s [{low:,.0f}, {high:,.0f}], a million in {1e6 / rate / 60:.1f} min"
              + ("" if name == "ours" else f"; ours is {np.median(seconds) / mine:.2f} x as fast"))


def collect(episodes: int, max_steps: int) -> None:
    agent, scenario = harness.load_agent("vpt-nano"), harness.load_scenario("treechop")
    for variables in ((), STATE):
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            store = collect_episodes(agent, [scenario], range(episodes), ["blocks.2.hook_resid_post"], folder,
                                     variables=variables, max_steps=max_steps)
            seconds = time.perf_counter() - began
        rate = store.n_steps / seconds
        print(f"collecting with {len(variables)} state variables: {store.n_steps} steps, {rate:.0f}/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", nargs="?", choices=["train", "collect"])
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--latents", type=int, default=4096)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--episodes", type=int, default=32)
    parser.add_argument("--steps", type=int, default=100)
    given = parser.parse_args()
    if given.what != "train":
        collect(given.episodes, given.steps)
    if given.what != "collect":
        train(given.width, given.latents, given.k, given.batch, given.rounds, given.threads)


if __name__ == "__main__":
    main()
