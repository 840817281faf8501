"""``harness clip`` from files to tables."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from safetensors.torch import save_file

from harness.cli import cli

sys.path.insert(0, str(Path(__file__).parent / "analysis"))
sys.path.insert(0, str(Path(__file__).parent / "agent"))
from clip_reference import configuration, hf_shapes  # noqa: E402
from drawn_pictures import HUE, hand_made, shapes  # noqa: E402

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``model`` (as Hugging Face's hub has them) and ``birds`` (pictures and table)."""
    folder = tmp_path_factory.mktemp("clip")
    made = hand_made()
    theirs = {}
    for name in hf_shapes(made.config):
        ours = re.sub(r"(self_attn)\.([qkv])_proj", "attn.in_proj", name)
        for old, new in ((".encoder.layers.", ".blocks."), ("self_attn.out", "attn.out"), ("layer_norm", "ln_"),
                         ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj"), ("final_ln_", "ln_final"),
                         ("pre_layrnorm", "ln_pre"), ("post_layernorm", "ln_post"), ("final_layer_norm", "ln_final"),
                         ("embeddings.class_embedding", "cls_token"), ("embeddings.patch_embedding", "conv1"),
                         ("embeddings.position_embedding.weight", "pos_embed"), ("embeddings.", ""),
                         ("visual_projection.weight", "vision_model.projection"),
                         ("text_projection.weight", "text_model.projection"), ("in_proj.", "in_proj_")):
            ours = ours.replace(old, new)
        value = made.state_dict()[ours]
        if "_proj." in name and "self_attn" in name and "out_proj" not in name:
            value = value.chunk(3)["qkv".index(name.split("_proj")[0][-1])]
        theirs[name] = (value.T if "projection" in name else value).contiguous().clone()
    (folder / "model").mkdir()
    save_file(theirs, folder / "model" / "model.safetensors")
    (folder / "model" / "config.json").write_text(json.dumps(configuration(made.config)))
    colours = {"image_mean": made.config.pixel_mean, "image_std": made.config.pixel_std}
    (folder / "model" / "preprocessor_config.json").write_text(json.dumps(colours))
    shapes(folder / "birds", 6)
    return folder


def harness(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def test_show(place: Path) -> None:
    result = harness("clip", "show", place / "model", "--hooks")
    assert result.exit_code == 0, result.output
    assert "CLIP nano (quick_gelu), model.safetensors" in result.output and "4 x 4 patches of 8" in result.output
    assert "image.blocks.1.attn.hook_pattern  [b, h, p, P]  2 17 17" in result.output


def test_before_and_after(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.json"
    edit = f"{{kind: ZeroAblation, hook: image.blocks.1.hook_resid_post, units: [{HUE}, {HUE + 2}], name: no-ground}}"
    result = harness("clip", "classify", place / "model", place / "birds", "--labels", place / "birds" / "labels.csv",
                     "--suppress", edit, "--tokens", "cls", "--controls", 10, "--quiet", "--out", out)
    assert result.exit_code == 0, result.output
    assert "Worst group before: bar, grass, 0; after: bar, grass, 1" in " ".join(result.output.split())
    before, after = json.loads(out.read_text())["results"][0]["tables"]
    assert before["rows"][0][:4] == ["bar, grass", 3, 0, 0.0]
    assert after["rows"][0][:7] == ["bar, grass", 3, 0.0, 1.0, 0, 3, 1.0]


def test_one_classification_as_json(place: Path) -> None:
    result = harness("clip", "classify", place / "model", place / "birds", "--labels", place / "birds" / "labels.csv",
                     "--controls", 3, "--json", "--method", "probe")
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["results"][0]["provenance"]["arguments"]["method"] == "probe"


@pytest.mark.parametrize(("words", "said"), [
    (["--suppress", "nothing"], "expected a mapping or a YAML file"),
    (["--suppress", "{kind: Nothing}"], 'unknown intervention "Nothing"'),
    (["--suppress", "{kind: ZeroAblation, hook: image.hook_oot}"], "did you mean 'image.hook_out'"),
    (["--suppress", "{kind: KeyBlock, keys: [attack]}"], "acts on the action"),
    (["--column", "label"], "--column: expected NAME=VALUE"),
    (["--column", "colour=x"], 'unknown column "colour"'),
    (["--prompt", "bar=a bar"], "square has none"),
    (["--template", "a photo"], "one {}"),
    (["--size", "ViT-B/32"], "other sizes than you"),
    (["--activation", "gelu"], "says quick_gelu, and you say gelu"),
    (["--out", "x.txt"], "ends in .json"),
    (["--device", "tpu"], "expected cpu or cuda"),
])
def test_bad_input(place: Path, words: list[str], said: str) -> None:
    result = harness("clip", "classify", place / "model", place / "birds", "--labels", place / "birds" / "labels.csv",
                     "--quiet", *words)
    assert result.exit_code == 2 and said in result.output, result.output


def test_the_pages_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    body = re.findall(r"```python\n(.*?)```", (DOCS / "clip.md").read_text(), re.DOTALL)
    assert len(body) == 1
    exec(compile(body[0], "clip.md", "exec"), {})
    assert capsys.readouterr().out == ("torch.Size([2, 2])\n('cls', 'patch') (4, 4)\ntorch.Size([2, 2, 4, 4])\n")


def test_latents_of_the_spurious_attribute(place: Path, tmp_path: Path) -> None:
    """Collect, train, name and suppress, each from the command line."""
    hook, birds = "image.blocks.1.hook_resid_post", tmp_path / "birds"
    labels = shapes(birds, 24)
    stored = harness("clip", "collect", place / "model", birds, "--labels", labels, "--hook", hook, "--out",
                     tmp_path / "store", "--json")
    assert stored.exit_code == 0, stored.output
    assert json.loads(stored.stdout)["hooks"] == {hook: {"tokens": 48 * 17, "width": 64}}
    trained = harness("sae", "train", tmp_path / "store", "--out", tmp_path / "sae", "--expansion", 1, "--k", 2,
                      "--batch", 32, "--epochs", 60, "--learning-rate", 3e-3, "--threads", 1, "--quiet")
    assert trained.exit_code == 0, trained.output
    found = harness("clip", "latents", place / "model", birds, tmp_path / "sae" / hook, "--labels", labels, "--tokens",
                    "cls", "--json")
    assert found.exit_code == 0, found.output
    said = json.loads(found.stdout)
    assert said["carriers"] and "SaeSplice" in said["suppress"]
    mended = harness("clip", "classify", place / "model", birds, "--labels", labels, "--tokens", "cls", "--controls", 0,
                     "--suppress", said["suppress"], "--json")
    assert mended.exit_code == 0, mended.output
    rows = {row[0]: row for row in json.loads(mended.stdout)["results"][0]["tables"][-1]["rows"]}
    assert rows["bar, grass"][2] == 0 and rows["all"][3] > rows["all"][2]
    wrong = harness("clip", "latents", place / "model", birds, tmp_path / "sae" / hook, "--labels", labels, "--column",
                    "group")
    assert wrong.exit_code == 2 and "NAME=VALUE" in wrong.output
