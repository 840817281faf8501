"""The table of a VPT policy's hook points: names, axes and sizes, in the order of the forward pass."""

from __future__ import annotations

from harness.agent.action_mapping import BUTTON_NAMES
from harness.agent.hooks import HookPoint
from harness.agent.vpt.config import N_BUTTONS, N_CAMERA, VPTConfig

__all__ = ["BLOCK_HOOKS", "block_aliases", "hook_points"]

# Short name within `blocks.{i}.` -> axes after batch; sizes are looked up in `_sizes`.
BLOCK_HOOKS: dict[str, tuple[str, ...]] = {
    "hook_resid_pre": ("t", "d"),
    "ln1.hook_scale": ("t", "1"),
    "ln1.hook_normalized": ("t", "d"),
    "attn.hook_q": ("t", "h", "d_head"),
    "attn.hook_k": ("t", "h", "d_head"),
    "attn.hook_v": ("t", "h", "d_head"),
    "attn.hook_k_mem": ("T", "h", "d_head"),
    "attn.hook_v_mem": ("T", "h", "d_head"),
    "attn.hook_rel_bias": ("h", "t", "T"),
    "attn.hook_attn_scores": ("h", "t", "T"),
    "attn.hook_pattern": ("h", "t", "T"),
    "attn.hook_z": ("t", "h", "d_head"),
    "attn.hook_result": ("t", "h", "d"),
    "hook_attn_out": ("t", "d"),
    "hook_resid_mid": ("t", "d"),
    "ln2.hook_normalized": ("t", "d"),
    "mlp.hook_pre": ("t", "d_mlp"),
    "mlp.hook_post": ("t", "d_mlp"),
    "hook_mlp_out": ("t", "d"),
    "hook_resid_post": ("t", "d"),
}


def block_aliases(i: int) -> dict[str, str]:
    """TransformerLens 3's names of a block's ends."""
    return {f"blocks.{i}.hook_in": f"blocks.{i}.hook_resid_pre", f"blocks.{i}.hook_out": f"blocks.{i}.hook_resid_post"}


def _image_points(config: VPTConfig) -> list[HookPoint]:
    maps = ("b", "t", "C", "H", "W")
    points = [HookPoint("hook_image", ("b", "t", "H", "W", "rgb"), tuple(config.image_shape))]
    sizes = config.map_sizes()
    for s, channels in enumerate(config.stack_channels):
        before, after = (channels, *sizes[s]), (channels, *sizes[s + 1])
        points.append(HookPoint(f"cnn.stacks.{s}.hook_firstconv", maps, before))
        points.append(HookPoint(f"cnn.stacks.{s}.hook_pool", maps, after))
        for k in range(2):
            points += [HookPoint(f"cnn.stacks.{s}.blocks.{k}.{short}", maps, after)
                       for short in ("hook_resid_pre", "hook_conv0", "hook_branch_out", "hook_resid_post")]
    points.append(HookPoint("cnn.hook_dense", ("b", "t", "d_dense"), (256,)))
    points.append(HookPoint("hook_embed", ("b", "t", "d"), (config.hidsize,)))
    return points


def hook_points(config: VPTConfig) -> list[HookPoint]:
    """Every hook point of a policy of this size, in the order of the forward pass."""
    sizes = {"d": config.hidsize, "h": config.heads, "d_head": config.d_head, "d_mlp": config.d_mlp,
             "T": config.window + 1, "1": 1}
    points = _image_points(config)
    for i in range(config.blocks):
        for short, axes in BLOCK_HOOKS.items():
            shape = tuple(sizes[axis] for axis in axes if axis != "t")
            points.append(HookPoint(f"blocks.{i}.{short}", ("b", *axes), shape))
    width = (config.hidsize,)
    points += [HookPoint(name, ("b", "t", "d"), width)
               for name in ("hook_latent_pre", "lastlayer.hook_out", "ln_final.hook_normalized")]
    points.append(HookPoint("unembed.camera.hook_out", ("b", "t", "camera"), (N_CAMERA,)))
    points.append(HookPoint("unembed.buttons.hook_out", ("b", "t", "buttons"), (N_BUTTONS,)))
    points += [HookPoint(f"readout.{key}.hook_margin", ("b", "t"), (), derived=True) for key in BUTTON_NAMES]
    points.append(HookPoint("value.hook_out", ("b", "t", "1"), (1,)))
    return points
