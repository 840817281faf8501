"""CLIP from files on this machine: OpenAI's archives, OpenCLIP's and Hugging Face's, whose names are tables here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.agent.clip.config import ACTIVATIONS, CLIP_SIZES, Activation, CLIPConfig, Tower, clip_size
from harness.agent.clip.model import CLIP, weight_shapes
from harness.agent.vpt.weights import check_weights
from harness.agent.weights_file import read_torchscript, read_weights_file, torchscript_root
from harness.errors import AgentError, WeightsError, unknown_name

__all__ = ["clip_of", "load_clip"]

_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin", "model.safetensors", "pytorch_model.bin")
"""What is looked for in a folder, in this order."""
_OPENAI = {
    "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af": "ViT-B/32",
    "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f": "ViT-B/16",
}
"""SHA-256 of the archives that OpenAI published (openai/CLIP, clip/clip.py); all of them use quick_gelu."""
_LARGEST_CONFIG = 1 << 20


@dataclass(frozen=True)
class _Row:
    """One of our weights, and how another file has it.

    Attributes:
        ours: Its name here; ``{i}`` stands for a block.
        theirs: Its name there; several are put one behind the other.
        turned: Whether it is transposed.
    """

    ours: str
    theirs: tuple[str, ...]
    turned: bool = False


def _pairs(ours: str, theirs: str, names: Mapping[str, str]) -> list[_Row]:
    """Weight and bias of each."""
    return [_Row(f"{ours}{a}.{kind}", (f"{theirs}{b}.{kind}",))
            for a, b in names.items() for kind in ("weight", "bias")]


def _openai_tower(ours: str, theirs: str) -> list[_Row]:
    same = ("ln_1", "ln_2", "attn.out_proj", "mlp.c_fc", "mlp.c_proj")
    ours, theirs = f"{ours}.blocks.{{i}}.", f"{theirs}transformer.resblocks.{{i}}."
    return [*_pairs(ours, theirs, {name: name for name in same}),
            *(_Row(f"{ours}attn.{name}", (f"{theirs}attn.{name}",)) for name in ("in_proj_weight", "in_proj_bias"))]


def _hf_tower(ours: str, theirs: str) -> list[_Row]:
    names = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "attn.out_proj": "self_attn.out_proj", "mlp.c_fc": "mlp.fc1",
             "mlp.c_proj": "mlp.fc2"}
    ours, theirs = f"{ours}.blocks.{{i}}.", f"{theirs}.encoder.layers.{{i}}."
    return [*_pairs(ours, theirs, names),
            *(_Row(f"{ours}attn.in_proj_{kind}", tuple(f"{theirs}self_attn.{each}_proj.{kind}" for each in "qkv"))
              for kind in ("weight", "bias"))]


@dataclass(frozen=True)
class _Layout:
    """A family of files.

    Attributes:
        name: For messages.
        mark: A weight that every file of the family has, and no other.
        rows: All its weights.
        beside: Names that may stand in it and are no weights.
    """

    name: str
    mark: str
    rows: tuple[_Row, ...]
    beside: frozenset[str]


_LAYOUTS = (
    _Layout("OpenAI", "visual.conv1.weight", (
        _Row("logit_scale", ("logit_scale",)),
        _Row("vision_model.cls_token", ("visual.class_embedding",)),
        _Row("vision_model.pos_embed", ("visual.positional_embedding",)),
        _Row("vision_model.projection", ("visual.proj",)),
        _Row("vision_model.conv1.weight", ("visual.conv1.weight",)),
        *_pairs("vision_model.", "visual.", {"ln_pre": "ln_pre", "ln_post": "ln_post"}),
        *_openai_tower("vision_model", "visual."),
        _Row("text_model.pos_embed", ("positional_embedding",)),
        _Row("text_model.projection", ("text_projection",)),
        _Row("text_model.token_embedding.weight", ("token_embedding.weight",)),
        *_pairs("text_model.", "", {"ln_final": "ln_final"}),
        *_openai_tower("text_model", ""),
    ), frozenset({"input_resolution", "context_length", "vocab_size", "attn_mask"})),
    _Layout("Hugging Face", "vision_model.embeddings.patch_embedding.weight", (
        _Row("logit_scale", ("logit_scale",)),
        _Row("vision_model.cls_token", ("vision_model.embeddings.class_embedding",)),
        _Row("vision_model.pos_embed", ("vision_model.embeddings.position_embedding.weight",)),
        _Row("vision_model.projection", ("visual_projection.weight",), turned=True),
        _Row("vision_model.conv1.weight", ("vision_model.embeddings.patch_embedding.weight",)),
        *_pairs("vision_model.", "vision_model.", {"ln_pre": "pre_layrnorm", "ln_post": "post_layernorm"}),
        *_hf_tower("vision_model", "vision_model"),
        _Row("text_model.pos_embed", ("text_model.embeddings.position_embedding.weight",)),
        _Row("text_model.projection", ("text_projection.weight",), turned=True),
        _Row("text_model.token_embedding.weight", ("text_model.embeddings.token_embedding.weight",)),
        *_pairs("text_model.", "text_model.", {"ln_final": "final_layer_norm"}),
        *_hf_tower("text_model", "text_model"),
    ), frozenset({"text_model.embeddings.position_ids", "vision_model.embeddings.position_ids"})),
)


def load_clip(path: str | Path, *, size: CLIPConfig | str | None = None, activation: str | None = None) -> CLIP:
    """CLIP with the weights in a file or folder of this machine; nothing is downloaded and no code in it is run.

    Read are OpenAI's published ``ViT-B-32.pt`` and ``ViT-B-16.pt`` (TorchScript archives, of which only the tensors are
    read), OpenCLIP's ``open_clip_pytorch_model.bin`` or ``open_clip_model.safetensors``, and Hugging Face's
    ``model.safetensors`` or ``pytorch_model.bin``. Half precision becomes float32.

    Sizes, activation and colours are those of the configuration beside the weights (``open_clip_config.json`` or
    ``config.json`` and ``preprocessor_config.json``). Without one the shapes must be those of a known size. The
    activation cannot be seen in weights: it is known of OpenAI's own archives by their digest, and must be told of
    others.

    Args:
        path: File or folder.
        size: ``ViT-B/32``, ``ViT-B/16`` or sizes of one's own, where no configuration says.
        activation: ``quick_gelu`` or ``gelu``, where no configuration says.

    Raises:
        WeightsError: for a missing, damaged or foreign file; weights that are missing, unexpected or misshapen, by the
            names in the file, with the nearest.
        AgentError: where size or activation are not known, contradict each other, or are of another architecture.
    """
    if activation is not None and activation not in ACTIVATIONS:
        raise unknown_name("activation", activation, ACTIVATIONS, error=AgentError)
    file = _file(Path(path))
    told = _told(file)
    scripted = file.is_file() and torchscript_root(file) is not None
    weights = read_torchscript(file) if scripted else read_weights_file(file)
    digest = _sha256(file)
    layout = _layout_of(weights, str(file))
    weights = {name: each.float() if each.is_floating_point() else each for name, each in weights.items()
               if name not in layout.beside}
    asked = clip_size(size) if isinstance(size, str) else size
    if told is not None and asked is not None and replace(told, activation=asked.activation) != asked:
        raise AgentError("its configuration says other sizes than you", where=str(file), hint="leave yours out")
    config = told or asked or _by_shape(weights, layout, file)
    config = _with_activation(config, told, activation, _OPENAI.get(digest), file)
    model = clip_of(weights, config, where=str(file))
    model.description += f", {file.name} {digest[:12]}"
    return model


def clip_of(weights: Mapping[str, Tensor], config: CLIPConfig, *, where: str | None = None) -> CLIP:
    """CLIP with weights that are named as OpenAI or Hugging Face name them.

    Args:
        weights: float32 tensors, which are taken over; nothing beside the weights.
        config: Sizes, activation, colours.
        where: The place to name in errors.

    Raises:
        WeightsError: for names of neither, and each missing, unexpected or misshapen weight, with the nearest name.
    """
    layout = _layout_of(weights, where)
    try:
        check_weights(_wanted(layout, config), weights)
    except WeightsError as problem:
        problem.where = where
        raise
    return CLIP.from_weights(dict(_ours(layout, config, weights)), config, adopt=True).requires_grad_(False)


def _file(path: Path) -> Path:
    if path.is_dir():
        found = next((path / name for name in _FILES if (path / name).is_file()), None)
        if found is None:
            raise WeightsError(f"the folder holds no weights of CLIP: expected one of {', '.join(_FILES)}",
                               where=str(path), hint="or give the path of the file itself")
        return found
    return path


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _layout_of(weights: Mapping[str, Tensor], where: str | None) -> _Layout:
    for layout in _LAYOUTS:
        if layout.mark in weights:
            return layout
    some = ", ".join(sorted(weights)[:3])
    raise WeightsError(f"no CLIP with a vision transformer is known that names weights like this: {some[:200]}, ...",
                       where=where, hint="expected the names of OpenAI and OpenCLIP (visual.conv1.weight, ...) or "
                                         "of Hugging Face (vision_model.embeddings.patch_embedding.weight, ...)")


def _rows(layout: _Layout, config: CLIPConfig) -> Iterator[_Row]:
    """The layout's rows, block by block."""
    for row in layout.rows:
        if "{i}" not in row.ours:
            yield row
            continue
        n = config.image.n_blocks if row.ours.startswith("vision_model") else config.text.n_blocks
        for i in range(n):
            yield _Row(row.ours.format(i=i), tuple(name.format(i=i) for name in row.theirs), row.turned)


def _wanted(layout: _Layout, config: CLIPConfig) -> dict[str, Tensor]:
    """The file's names with the shapes that the sizes ask for, on the meta device."""
    shapes, wanted = weight_shapes(config), {}
    for row in _rows(layout, config):
        first, *rest = shapes[row.ours] or (1,)
        shape = (first // len(row.theirs), *rest) if shapes[row.ours] else ()
        for name in row.theirs:
            wanted[name] = torch.empty(shape[::-1] if row.turned else shape, device="meta")
    return wanted


def _ours(layout: _Layout, config: CLIPConfig, weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for row in _rows(layout, config):
        parts = [weights[name] for name in row.theirs]
        whole = parts[0] if len(parts) == 1 else torch.cat(parts)
        yield row.ours, whole.T.contiguous() if row.turned else whole


def _by_shape(weights: Mapping[str, Tensor], layout: _Layout, file: Path) -> CLIPConfig:
    """The preset whose shapes these are; the width of heads is no shape, so that nothing else will do."""
    for config in CLIP_SIZES.values():
        wanted = _wanted(layout, config)
        if wanted.keys() == weights.keys() and all(each.shape == weights[name].shape for name, each in wanted.items()):
            return config
    kernel = weights[layout.mark]
    raise AgentError(f"no configuration lies beside the weights, and their shapes are those of no known size (the "
                     f"first convolution is {list(kernel.shape)})", where=str(file),
                     hint="put its config.json or open_clip_config.json beside it, or say the size: "
                          f"{', '.join(CLIP_SIZES)}")


def _with_activation(config: CLIPConfig, told: CLIPConfig | None, activation: str | None, published: str | None,
                     file: Path) -> CLIPConfig:
    known = told.activation if told is not None else "quick_gelu" if published else None
    if known is not None and activation is not None and known != activation:
        source = "its configuration" if told is not None else "that OpenAI published it with quick_gelu, and it"
        raise AgentError(f"activation: {source} says {known}, and you say {activation}", where=str(file),
                         hint="leave yours out, or mend the configuration")
    chosen: Any = activation or known
    if chosen is None:
        raise AgentError("nothing says which activation these weights were trained with: quick_gelu or gelu",
                         where=str(file), hint="put its configuration beside it, or say activation: OpenAI's models "
                                               "use quick_gelu, most that OpenCLIP trained (laion, datacomp) gelu")
    return replace(config, activation=chosen)


# --- configurations ------------------------------------------------------------------------------------------------

def _told(file: Path) -> CLIPConfig | None:
    """What the configuration beside a file says; None where there is none."""
    readers: Sequence[tuple[str, Callable[[_Keys, Path], CLIPConfig]]] = (
        ("open_clip_config.json", _open_clip), ("config.json", _hugging_face))
    if file.name in _FILES[2:]:
        readers = readers[::-1]
    for name, reader in readers:
        beside = file.with_name(name)
        if beside.is_file():
            return reader(_Keys.read(beside), beside)
    return None


@dataclass(frozen=True)
class _Keys:
    """A JSON object, read key by key; every problem names file and key."""

    values: Mapping[str, Any]
    where: str

    @classmethod
    def read(cls, path: Path) -> _Keys:
        try:
            if path.stat().st_size > _LARGEST_CONFIG:
                raise ValueError(f"it has more than {_LARGEST_CONFIG:,} bytes")
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as problem:
            raise AgentError(f"{path.name} is no configuration in JSON: {problem}", where=str(path)) from problem
        if not isinstance(found, dict):
            raise AgentError(f"{path.name} is no configuration: expected an object", where=str(path))
        return cls(found, str(path))

    def wrong(self, key: str, expected: str) -> AgentError:
        return AgentError(f"{key}: expected {expected}, got {str(self.values.get(key))[:60]!r}", where=self.where,
                          hint="only CLIP's own vision transformers are read")

    def inner(self, key: str) -> _Keys:
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            raise self.wrong(key, "an object")
        return _Keys(value, f"{self.where} {key}")

    def whole(self, key: str, default: int | None = None) -> int:
        value = self.values.get(key, default)
        if isinstance(value, dict):  # {"height": 224, "width": 224}, {"shortest_edge": 224}
            value = next(iter(value.values()), None)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= 1 << 20:
            raise self.wrong(key, "a whole number above 0")
        return value

    def only(self, key: str, allowed: Any) -> None:
        """Refuse another value than the one that is built here; a key that is not there has it."""
        if self.values.get(key, allowed) != allowed:
            raise self.wrong(key, repr(allowed))

    def colours(self, key: str, default: tuple[float, float, float]) -> tuple[float, float, float]:
        value = self.values.get(key) or default
        if not isinstance(value, list | tuple) or len(value) != 3 or not all(
                isinstance(x, int | float) and 0 < x < 10 for x in value):
            raise self.wrong(key, "three numbers above 0")
        return (float(value[0]), float(value[1]), float(value[2]))


def _config(image: Tower, text: Tower, patch: int, side: int, d_embed: int, activation: Activation, context: int,
            n_tokens: int, colours: _Keys, mean: str, std: str) -> CLIPConfig:
    own = CLIPConfig()
    return CLIPConfig(image, text, patch, (side, side), d_embed, activation, context, n_tokens,
                      colours.colours(mean, own.pixel_mean), colours.colours(std, own.pixel_std))


def _open_clip(keys: _Keys, path: Path) -> CLIPConfig:
    """OpenCLIP's ``model_cfg``; without ``quick_gelu`` it uses gelu (open_clip, model.py)."""
    model, colours = keys.inner("model_cfg"), keys.inner("preprocess_cfg")
    image, text = model.inner("vision_cfg"), model.inner("text_cfg")
    for part, known in ((image, {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"}),
                        (text, {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"})):
        part.only("mlp_ratio", 4.0)
        for key in part.values.keys() - known:
            raise part.wrong(key, "a key of a plain vision transformer or text tower")
    width, heads = text.whole("width", 512), text.whole("heads", 8)
    if width % heads:
        raise text.wrong("heads", f"a divisor of {width}")
    activation: Activation = "quick_gelu" if model.values.get("quick_gelu") is True else "gelu"
    return _config(Tower(image.whole("width", 768), image.whole("layers", 12), image.whole("head_width", 64)),
                   Tower(width, text.whole("layers", 12), width // heads), image.whole("patch_size", 16),
                   image.whole("image_size", 224), model.whole("embed_dim"), activation,
                   text.whole("context_length", 77), text.whole("vocab_size", 49408), colours, "mean", "std")


def _hugging_face(keys: _Keys, path: Path) -> CLIPConfig:
    """Hugging Face's ``CLIPConfig``; keys that it leaves out have the defaults of that class."""
    keys.only("model_type", "clip")
    image, text = keys.inner("vision_config"), keys.inner("text_config")
    towers, activations = [], set[str]()
    for part, width, heads in ((image, 768, 12), (text, 512, 8)):
        width, heads = part.whole("hidden_size", width), part.whole("num_attention_heads", heads)
        if width % heads or part.whole("intermediate_size", 4 * width) != 4 * width:
            raise part.wrong("intermediate_size", f"{4 * width}, and a width that {heads} heads divide")
        part.only("layer_norm_eps", 1e-5)
        activations.add(str(part.values.get("hidden_act", "quick_gelu")))
        towers.append(Tower(width, part.whole("num_hidden_layers", 12), width // heads))
    if len(activations) > 1 or not activations <= set(ACTIVATIONS):
        raise image.wrong("hidden_act", f"one of {', '.join(ACTIVATIONS)}, the same in both towers")
    beside = path.with_name("preprocessor_config.json")
    colours = _Keys.read(beside) if beside.is_file() else _Keys({}, str(beside))
    chosen: Any = activations.pop()
    return _config(towers[0], towers[1], image.whole("patch_size", 32), image.whole("image_size", 224),
                   keys.whole("projection_dim", 512), chosen, text.whole("max_position_embeddings", 77),
                   text.whole("vocab_size", 49408), colours, "image_mean", "image_std")
