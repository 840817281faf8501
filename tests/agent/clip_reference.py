"""CLIP as Hugging Face's transformers compute it, to compare ours with; and the golden numbers made with it.

    pip install --target FOLDER transformers
    python tests/agent/clip_reference.py FOLDER tests/golden/golden_clip_nano.npz
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden_policies import fill_rule

from harness.agent.clip import CLIP_SIZES, CLIPConfig, Tower, prompt_tokens

PROMPTS = ["a photo of a waterbird", "a photo of a landbird on water, 1 of 7"]
NANO = CLIP_SIZES["nano"]


def pictures(n: int, config: CLIPConfig) -> np.ndarray:
    height, width = config.image_size
    return np.random.default_rng(5).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def pixels(shown: np.ndarray, config: CLIPConfig) -> torch.Tensor:
    """What a processor of Hugging Face gives, [b, 3, H, W]."""
    mean, std = np.float32(config.pixel_mean), np.float32(config.pixel_std)
    return torch.from_numpy(((shown.astype(np.float32) / np.float32(255) - mean) / std).transpose(0, 3, 1, 2).copy())


def configuration(config: CLIPConfig) -> dict[str, Any]:
    """Hugging Face's ``config.json`` of these sizes."""
    def tower(sizes: Tower) -> dict[str, Any]:
        return {"hidden_size": sizes.width, "intermediate_size": sizes.d_mlp, "num_hidden_layers": sizes.n_blocks,
                "num_attention_heads": sizes.n_heads, "hidden_act": config.activation, "layer_norm_eps": 1e-5,
                "projection_dim": config.d_embed}
    return {"model_type": "clip", "projection_dim": config.d_embed,
            "vision_config": {**tower(config.image), "image_size": config.image_size[0], "patch_size": config.patch},
            "text_config": {**tower(config.text), "vocab_size": config.n_tokens, "eos_token_id": 49407,
                            "bos_token_id": 49406, "max_position_embeddings": config.context}}


def hf_shapes(config: CLIPConfig) -> dict[str, tuple[int, ...]]:
    """Hugging Face's names and shapes, written down by hand: the tests' own table, not the loader's."""
    shapes: dict[str, tuple[int, ...]] = {"logit_scale": ()}
    for part, tower in (("vision_model", config.image), ("text_model", config.text)):
        d, m = tower.width, tower.d_mlp
        for i in range(tower.n_blocks):
            at = f"{part}.encoder.layers.{i}."
            for name, out, into in (*((f"self_attn.{x}_proj", d, d) for x in ("q", "k", "v", "out")),
                                    ("mlp.fc1", m, d), ("mlp.fc2", d, m)):
                shapes |= {f"{at}{name}.weight": (out, into), f"{at}{name}.bias": (out,)}
            for name in ("layer_norm1", "layer_norm2"):
                shapes |= {f"{at}{name}.weight": (d,), f"{at}{name}.bias": (d,)}
    d, t = config.image.width, config.text.width
    shapes |= {f"{name}.{kind}": (n,) for name, n in (
        ("vision_model.pre_layrnorm", d), ("vision_model.post_layernorm", d), ("text_model.final_layer_norm", t))
        for kind in ("weight", "bias")}
    return shapes | {
        "vision_model.embeddings.class_embedding": (d,),
        "vision_model.embeddings.patch_embedding.weight": (d, 3, config.patch, config.patch),
        "vision_model.embeddings.position_embedding.weight": (config.n_image_tokens, d),
        "text_model.embeddings.token_embedding.weight": (config.n_tokens, t),
        "text_model.embeddings.position_embedding.weight": (config.context, t),
        "visual_projection.weight": (config.d_embed, d), "text_projection.weight": (config.d_embed, t),
    }


def filled(config: CLIPConfig) -> dict[str, torch.Tensor]:
    """Weights by the golden rule, under Hugging Face's names."""
    return {name: torch.from_numpy(np.array(fill_rule().fill_value(name, shape)))
            for name, shape in hf_shapes(config).items()}


def reference(config: CLIPConfig, weights: dict[str, torch.Tensor], shown: np.ndarray) -> dict[str, torch.Tensor]:
    """What transformers compute: hidden states, attention, pooled and projected features, logits."""
    from transformers import CLIPConfig as HFConfig
    from transformers import CLIPModel

    told = HFConfig(**{k: v for k, v in configuration(config).items() if k != "model_type"},
                    attn_implementation="eager")
    with torch.device("meta"):
        model = CLIPModel(told)
    places = {name: torch.arange(n)[None] for name, n in (
        ("vision_model.embeddings.position_ids", config.n_image_tokens),
        ("text_model.embeddings.position_ids", config.context))}
    model.load_state_dict(weights, strict=True, assign=True)
    for name, value in places.items():  # not part of the state
        owner = model.get_submodule(name.rpartition(".")[0])
        owner.register_buffer("position_ids", value, persistent=False)
    model.eval()
    found: dict[str, torch.Tensor] = {}

    def keep(part: str) -> Any:
        def hook(module: Any, into: Any, out: Any) -> None:
            found[f"{part}.pooled"], found[f"{part}.projected"] = into[0], out
        return hook

    for part, projection in (("image", model.visual_projection), ("text", model.text_projection)):
        projection.register_forward_hook(keep(part))
    with torch.no_grad():
        out = model(input_ids=torch.from_numpy(prompt_tokens(PROMPTS)), pixel_values=pixels(shown, config),
                    output_hidden_states=True, output_attentions=True)
    found |= {"logits": out.logits_per_image, "logit_scale": model.logit_scale}
    for part, one in (("image", out.vision_model_output), ("text", out.text_model_output)):
        found |= {f"{part}.hidden.{i}": x for i, x in enumerate(one.hidden_states)}
        found |= {f"{part}.pattern.{i}": x for i, x in enumerate(one.attentions)}
    return {name: value.detach().clone() for name, value in found.items()}


def in_short(name: str, value: torch.Tensor) -> torch.Tensor:
    """What of it is kept in the golden file: few tokens' states, the first token's attention."""
    if ".hidden." in name:
        return value[:, [0, 5]]
    return value[:, :, [0, 5], :20] if ".pattern." in name else value


def main(folder: str, golden: str) -> None:
    from dataclasses import replace

    sys.path.append(folder)
    kept = {}
    for activation in ("quick_gelu", "gelu"):
        config = replace(NANO, activation=activation)  # type: ignore[arg-type]
        made = reference(config, filled(config), pictures(2, config))
        kept |= {f"{activation}.{name}": in_short(name, value).numpy() for name, value in made.items()}
    np.savez_compressed(Path(golden), **kept)


if __name__ == "__main__":
    main(*sys.argv[1:])
