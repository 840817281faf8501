"""How fast the released sizes step and replay, against a plain port of the published loop (``plain_vpt.py``).

    python benchmarks/released.py [--sizes 1x,2x] [--threads 2] [--rounds 15] [--only steps|chunks|modes|batches|limits]
                                  [--device cuda] [--compile]

Random weights; speed does not hang on their values. The ways take turns within a round, in an order that rotates, so
that a disturbance of the machine meets them alike; a ratio is the median of the ratios within a round, with the
interval between the 2.5 and 97.5 percentiles of 2,000 bootstrap resamples of the rounds. Before anything is timed the
plain port and the project's policy are checked to say the same.

* ``steps``: one frame at a time, B = 1: the plain port untraced; ours untraced; ours with every hook of the transformer
  kept as an array, first without and then with ``attn.hook_result``, which reads the output projection twice.
* ``chunks``: 128 frames at once, image network and transformer apart, per frame, against the plain port's chunk and
  against our own stepping.
* ``modes``: bfloat16 weights and activations, automatic bfloat16, and with ``--compile`` the policy through
  ``torch.compile`` (on a GPU also as CUDA graphs), its hook points left out; each with its largest error of a
  log-probability and its mean KL divergence (nats) against float32. Compiling takes minutes on a CPU.
* ``batches``: milliseconds per world when B worlds share one forward.
* ``limits``: bytes of weights a step must read over measured memory bandwidth, and convolution FLOPs over the measured
  peak of one large matrix product: how close a step comes to what the machine can do.
* ``memory`` (on a CPU): resident memory above that after ``import torch``, over the weights' size, while a traced
  policy of the last size steps; measured in a process of its own.
"""

from __future__ import annotations

import argparse
import functools
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from plain_vpt import PlainVPT

from harness.agent.vpt import VPTPolicy
from harness.agent.vpt.compiled import CompiledForward
from harness.agent.vpt.config import VPTConfig
from harness.errors import AgentError

CHUNK = 128
WHOLE = ["blocks.*"]
Way = Callable[[], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1x,2x", help="of nano, 1x, 2x, 3x")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", choices=["steps", "chunks", "modes", "batches", "limits", "memory"])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--compile", action="store_true", help="in modes: also through torch.compile")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error(f"this PyTorch ({torch.__version__}) sees no CUDA device")
    torch.set_num_threads(options.threads)
    print(f"{machine(options.device)}, torch {torch.__version__}, {options.threads} threads")
    parts = {"steps": steps, "chunks": chunks, "modes": functools.partial(modes, compiling=options.compile),
             "batches": batches, "limits": limits}
    for size in options.sizes.split(","):
        if options.only == "memory":
            break
        ours = VPTPolicy.random(size, 0).to(options.device)
        for name, part in parts.items():
            if options.only in (None, name):
                print(f"\n{size}: {name}")
                with torch.inference_mode():
                    part(ours, options.rounds)
    if options.only in (None, "memory") and options.device == "cpu":
        memory(options.sizes.split(",")[-1], options.threads)


def machine(device: str) -> str:
    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, TF32 {'on' if torch.backends.cuda.matmul.allow_tf32 else 'off'}"
    return f"{platform.processor() or platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"


def plain(ours: VPTPolicy) -> PlainVPT:
    """The plain port with the same weights; checked to say the same."""
    with torch.device("meta"):
        port = PlainVPT(ours.config)
    port.load_state_dict(ours.state_dict(), assign=True)
    port.eval()
    with torch.inference_mode():
        shown = pictures(3, device=ours.device)
        first = torch.tensor([[True, False, False]], device=ours.device)
        mine, _ = ours(shown, first, ours.initial_state())
        said, _ = port(shown, first, port.initial_state(1))
        apart = float((mine.buttons - said[0]).abs().max())
    assert apart < 1e-3, f"the plain port is {apart} away"
    return port


def pictures(t: int, b: int = 1, device: torch.device | str = "cpu") -> torch.Tensor:
    shown = np.random.default_rng(0).integers(0, 256, (b, t, 128, 128, 3), dtype=np.uint8)
    return torch.from_numpy(shown).to(device)


class Stepper:
    """Steps a policy, or goes another way through it, on and on with its memory."""

    def __init__(self, policy: Any, b: int = 1, hooks: list[str] | None = None, through: Any = None) -> None:
        device = next(policy.parameters()).device
        self.policy, self.through, self.state = policy, through or policy, policy.initial_state(b)
        self.shown, self.first = pictures(1, b, device), torch.zeros(b, 1, dtype=torch.bool, device=device)
        self.names = policy.hook_stack.resolve(hooks) if hooks else []
        self.kept: dict[str, Any] = {}

    def __call__(self) -> None:
        """One step."""
        if not self.names:
            _, self.state = self.through(self.shown, self.first, self.state)
            return

        def keep(x: torch.Tensor, hook: Any) -> None:
            self.kept[hook.name] = x.float().cpu().numpy()

        with self.policy.hooks([(name, keep) for name in self.names]):
            _, self.state = self.policy(self.shown, self.first, self.state)


def measure(ways: dict[str, Way], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each way in each round, the GPU's work included where there is one."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    order = list(ways)
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    for way in ways.values():
        way()
    wait()
    for number in range(rounds):
        shift = number % len(order)
        for name in order[shift:] + order[:shift]:
            begin = time.perf_counter()
            ways[name]()
            wait()
            found[name].append(1e3 * (time.perf_counter() - begin))
    return found


def ratio(above: list[float], below: list[float]) -> str:
    """Median ratio within a round, and its bootstrap interval."""
    ratios = np.array(above) / np.array(below)
    picks = np.random.default_rng(0).integers(0, len(ratios), (2000, len(ratios)))
    low, high = np.percentile(np.median(ratios[picks], 1), [2.5, 97.5])
    return f"{np.median(ratios):.2f} [{low:.2f}, {high:.2f}]"


def show(name: str, times: list[float], note: str = "") -> None:
    print(f"  {name:<34} {np.median(times):8.1f} ms (from {min(times):.1f} to {max(times):.1f}) {note}")


def steps(ours: VPTPolicy, rounds: int) -> None:
    # What run_with_cache keeps unless it is told names.
    traced = [name for name in ours.hook_stack.resolve(WHOLE) if not name.endswith("attn.hook_result")]
    ways: dict[str, Way] = {"plain port, untraced": Stepper(plain(ours)), "ours, untraced": Stepper(ours),
                            "ours, transformer traced": Stepper(ours, hooks=traced),
                            "ours, heads' shares as well": Stepper(ours, hooks=WHOLE)}
    found = measure(ways, 3 * rounds)
    base = found["plain port, untraced"]
    for name, times in found.items():
        show(name, times, "" if times is base else f"plain port / this: {ratio(base, times)}")


def chunks(ours: VPTPolicy, rounds: int) -> None:
    port, shown = plain(ours), pictures(CHUNK, device=ours.device)
    one, first = pictures(1, device=ours.device), torch.zeros(1, CHUNK, dtype=torch.bool, device=ours.device)
    embedded, state = ours.embed(shown), ours.initial_state()
    single = embedded[:, :1].contiguous()
    theirs = port.initial_state(1)

    def steps_of(n: int, way: Way) -> Way:
        def run() -> None:
            for _ in range(n):
                way()
        return run

    ways: dict[str, Way] = {
        "image, plain port's chunk": lambda: port.net.img_process(shown),
        "image, our chunk": lambda: ours.embed(shown),
        "image, our steps (16)": steps_of(16, lambda: ours.embed(one)),
        "transformer, plain port's chunk": lambda: port.heads(port.net.transformer(embedded, first, theirs)[0]),
        "transformer, our chunk": lambda: ours.forward_embedded(embedded, first, state),
        "transformer, our steps (16)": steps_of(16, lambda: ours.forward_embedded(single, first[:, :1], state)),
    }
    per = {name: [t / (16 if "steps" in name else CHUNK) for t in times]
           for name, times in measure(ways, max(5, rounds // 3)).items()}
    for name, times in per.items():
        show(f"{name}, a frame", times)
    for part in ("image", "transformer"):
        chunk = per[f"{part}, our chunk"]
        theirs_over, steps_over = (ratio(per[f"{part}, {way}"], chunk)
                                   for way in ("plain port's chunk", "our steps (16)"))
        print(f"  {part}: plain port's chunk / our chunk {theirs_over}, our steps / our chunk {steps_over}")


class Said(NamedTuple):
    """Log-probabilities of some frames."""

    buttons: torch.Tensor
    camera: torch.Tensor


def error(reference: Any, other: Any) -> str:
    """Largest error of a log-probability, and mean KL divergence, over both heads."""
    worst, divergence = 0.0, 0.0
    for a, b in ((reference.buttons, other.buttons.float()), (reference.camera, other.camera.float())):
        worst = max(worst, float((a - b).abs().max()))
        divergence += float((a.exp() * (a - b)).sum(-1).mean())
    return f"largest error {worst:.2g}, KL {divergence:.2g} nats"


def modes(ours: VPTPolicy, rounds: int, *, compiling: bool = False) -> None:
    shown, first = pictures(8, device=ours.device), torch.zeros(1, 8, dtype=torch.bool, device=ours.device)
    reference, _ = ours(shown, first, ours.initial_state())
    low = VPTPolicy.from_config(ours.config, ours.state_dict()).to(torch.bfloat16)
    through: dict[str, Any] = {"float32": ours, "bfloat16": low, "automatic bfloat16": automatic(ours)}
    if compiling:
        through["compiled"] = CompiledForward(ours)
        if ours.device.type == "cuda":
            through["compiled, CUDA graphs"] = CompiledForward(ours, cuda_graphs=True)
    ways: dict[str, Way] = {}
    notes = {}
    for name, way in through.items():
        policy, begin = low if way is low else ours, time.perf_counter()
        try:
            notes[name] = error(reference, stepped(way, shown, policy))
        except AgentError as problem:  # it cannot be compiled here: say so and go on
            print(f"  {name}: not measured, {problem.message}")
            continue
        if isinstance(way, CompiledForward):
            notes[name] += f", first {shown.shape[1]} steps {time.perf_counter() - begin:.0f} s"
        ways[name] = Stepper(policy, through=way)
    found = measure(ways, 2 * rounds)
    for name, times in found.items():
        show(name, times, f"float32 / this: {ratio(found['float32'], times)} {notes[name]}")


def automatic(ours: VPTPolicy) -> Callable[..., Any]:
    def forward(*arguments: Any) -> Any:
        with torch.autocast(ours.device.type, torch.bfloat16):
            return ours(*arguments)
    return forward


def stepped(way: Any, shown: torch.Tensor, policy: VPTPolicy) -> Said:
    """What a way through a policy says of frames shown one by one."""
    first, state, rows = torch.zeros(1, 1, dtype=torch.bool, device=policy.device), policy.initial_state(), []
    for i in range(shown.shape[1]):
        out, state = way(shown[:, i:i + 1], first, state)
        rows.append(out)
    return Said(*(torch.cat([getattr(row, head) for row in rows], 1) for head in ("buttons", "camera")))


def batches(ours: VPTPolicy, rounds: int) -> None:
    sizes = (1, 2, 4, 8)
    found = measure({str(b): Stepper(ours, b) for b in sizes}, max(5, rounds // 2))
    for b in sizes:
        show(f"B = {b}, per world", [t / b for t in found[str(b)]],
             f"B = 1 / this: {ratio(found['1'], [t / b for t in found[str(b)]])}")


def convolution_flops(config: VPTConfig) -> float:
    """Floating-point operations of the convolutions for one frame (a product and a sum are two)."""
    total, maps, before = 0.0, config.map_sizes(), 3
    for channels, large, small in zip(config.stack_channels, maps, maps[1:], strict=False):
        total += 2 * 9 * (before * channels * large[0] * large[1] + 4 * channels**2 * small[0] * small[1])
        before = channels
    return total


def limits(ours: VPTPolicy, rounds: int) -> None:
    n = 64 << 20
    source, target = torch.ones(n, device=ours.device), torch.empty(n, device=ours.device)
    a, b = torch.rand(2, 1536, 1536, device=ours.device)
    found = measure({"read": lambda: source.sum(), "copy": lambda: target.copy_(source), "product": lambda: a @ b,
                     "image": ImageStepper(ours), "rest": RestStepper(ours)}, max(5, rounds // 2))
    bandwidth = 4 * n / (1e-3 * min(found["read"]))
    peak = 2 * 1536**3 / (1e-3 * min(found["product"]))
    image = [w for name, w in ours.state_dict().items() if name.startswith("net.img_process.")]
    weights = sum(w.numel() * w.element_size() for w in ours.state_dict().values())
    rest = weights - sum(w.numel() * w.element_size() for w in image)
    flops = convolution_flops(ours.config)
    print(f"  memory read {bandwidth / 1e9:.1f} GB/s, float32 peak {peak / 1e9:.0f} GFLOP/s (best of the rounds)")
    for name, bound, what in (("image", 1e3 * flops / peak, f"{flops / 1e9:.2f} GFLOP of convolutions"),
                              ("rest", 1e3 * rest / bandwidth, f"{rest / 1e6:.0f} MB of weights to read")):
        took = float(np.median(found[name]))
        print(f"  {name:<6} {took:7.1f} ms a step; {what}: at least {bound:.1f} ms, so {bound / took:.0%} of the limit")


class ImageStepper:
    """The image network alone on one frame."""

    def __init__(self, policy: VPTPolicy) -> None:
        self.policy, self.shown = policy, pictures(1, device=policy.device)

    def __call__(self) -> None:
        """One frame."""
        self.policy.embed(self.shown)


class RestStepper:
    """Transformer and heads alone on one frame."""

    def __init__(self, policy: VPTPolicy) -> None:
        self.policy, self.state = policy, policy.initial_state()
        self.embedded = policy.embed(pictures(1, device=policy.device))
        self.first = torch.zeros(1, 1, dtype=torch.bool, device=policy.device)

    def __call__(self) -> None:
        """One step."""
        _, self.state = self.policy.forward_embedded(self.embedded, self.first, self.state)


MEMORY = """
import sys, torch
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
before = resident()
sys.path.insert(0, sys.argv[3])
torch.set_num_threads(int(sys.argv[2]))
from released import Stepper, WHOLE
from harness.agent.vpt import VPTPolicy
policy = VPTPolicy.random(sys.argv[1], 0)
weights = sum(w.numel() * w.element_size() for w in policy.state_dict().values())
with torch.inference_mode():
    stepper = Stepper(policy, hooks=WHOLE)
    for _ in range(12):
        stepper()
print(f"{(resident() - before) / weights:.2f} {weights / 1e6:.0f}")
"""


def memory(size: str, threads: int) -> None:
    out = subprocess.run([sys.executable, "-c", MEMORY, size, str(threads), sys.path[0]], capture_output=True,
                         text=True, check=True).stdout.split()
    print(f"\n{size}: resident while stepping traced, above import torch: {out[0]} x the weights' {out[1]} MB")


if __name__ == "__main__":
    main()
