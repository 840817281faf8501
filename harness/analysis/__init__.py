"""What can be read out of a recording. Each analysis returns a result with its provenance."""

from __future__ import annotations

import importlib as _importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.analysis.attention import AttentionMaps, attention_maps
    from harness.analysis.attention_profiles import AttentionProfile, attention_profile
    from harness.analysis.classification import (
        Classification,
        Suppression,
        SuppressionEffect,
        classify,
        suppression_effect,
    )
    from harness.analysis.comparison import Comparison, compare
    from harness.analysis.effects import Effect, effect
    from harness.analysis.keyframes import KeyFrames, key_frames
    from harness.analysis.labelled_pictures import LabelledPictures, read_labels
    from harness.analysis.means import difference_of_means, mean_activation
    from harness.analysis.memory_knockout import MemoryEffects, memory_effects
    from harness.analysis.patching import Patching, activation_patching
    from harness.analysis.privileged import privileged_state
    from harness.analysis.probe import Probes, probes
    from harness.analysis.readout import Readout, read_out
    from harness.analysis.result import Result, Table
    from harness.analysis.sae.closed_loop import ClosedLoop, steer_episodes
    from harness.analysis.sae.collect import collect_episodes, collect_recordings, collect_videos
    from harness.analysis.sae.conduct import Scene
    from harness.analysis.sae.consistency import DoConsistency, do_consistency
    from harness.analysis.sae.evaluate import LossRecovered, SaeFit, loss_recovered, sae_fit
    from harness.analysis.sae.frames import LatentFrames, latent_frames
    from harness.analysis.sae.naming import LatentNames, name_latents
    from harness.analysis.sae.pictures import AttributeLatents, attribute_latents, collect_pictures
    from harness.analysis.sae.recipe import SaeRecipe
    from harness.analysis.sae.repair import Repair, repair
    from harness.analysis.sae.steerability import Steerability, steerability
    from harness.analysis.sae.store import ActivationStore
    from harness.analysis.sae.train import train_saes
    from harness.analysis.saliency.maps import saliency_maps
    from harness.analysis.saliency.result import Saliency

_DOOR = {
    "ActivationStore": "sae.store",
    "AttentionMaps": "attention",
    "AttentionProfile": "attention_profiles",
    "AttributeLatents": "sae.pictures",
    "Classification": "classification",
    "ClosedLoop": "sae.closed_loop",
    "Comparison": "comparison",
    "DoConsistency": "sae.consistency",
    "Effect": "effects",
    "KeyFrames": "keyframes",
    "LabelledPictures": "labelled_pictures",
    "LatentFrames": "sae.frames",
    "LatentNames": "sae.naming",
    "LossRecovered": "sae.evaluate",
    "MemoryEffects": "memory_knockout",
    "Patching": "patching",
    "Probes": "probe",
    "Readout": "readout",
    "Repair": "sae.repair",
    "Result": "result",
    "SaeFit": "sae.evaluate",
    "SaeRecipe": "sae.recipe",
    "Saliency": "saliency.result",
    "Scene": "sae.conduct",
    "Steerability": "sae.steerability",
    "Suppression": "classification",
    "SuppressionEffect": "classification",
    "Table": "result",
    "activation_patching": "patching",
    "attention_maps": "attention",
    "attention_profile": "attention_profiles",
    "attribute_latents": "sae.pictures",
    "classify": "classification",
    "collect_episodes": "sae.collect",
    "collect_pictures": "sae.pictures",
    "collect_recordings": "sae.collect",
    "collect_videos": "sae.collect",
    "compare": "comparison",
    "difference_of_means": "means",
    "do_consistency": "sae.consistency",
    "effect": "effects",
    "key_frames": "keyframes",
    "latent_frames": "sae.frames",
    "loss_recovered": "sae.evaluate",
    "mean_activation": "means",
    "memory_effects": "memory_knockout",
    "name_latents": "sae.naming",
    "privileged_state": "privileged",
    "probes": "probe",
    "read_labels": "labelled_pictures",
    "read_out": "readout",
    "repair": "sae.repair",
    "sae_fit": "sae.evaluate",
    "saliency_maps": "saliency.maps",
    "steer_episodes": "sae.closed_loop",
    "steerability": "sae.steerability",
    "suppression_effect": "classification",
    "train_saes": "sae.train",
}

__all__ = [
    "ActivationStore",
    "AttentionMaps",
    "AttentionProfile",
    "AttributeLatents",
    "Classification",
    "ClosedLoop",
    "Comparison",
    "DoConsistency",
    "Effect",
    "KeyFrames",
    "LabelledPictures",
    "LatentFrames",
    "LatentNames",
    "LossRecovered",
    "MemoryEffects",
    "Patching",
    "Probes",
    "Readout",
    "Repair",
    "Result",
    "SaeFit",
    "SaeRecipe",
    "Saliency",
    "Scene",
    "Steerability",
    "Suppression",
    "SuppressionEffect",
    "Table",
    "activation_patching",
    "attention_maps",
    "attention_profile",
    "attribute_latents",
    "classify",
    "collect_episodes",
    "collect_pictures",
    "collect_recordings",
    "collect_videos",
    "compare",
    "difference_of_means",
    "do_consistency",
    "effect",
    "key_frames",
    "latent_frames",
    "loss_recovered",
    "mean_activation",
    "memory_effects",
    "name_latents",
    "privileged_state",
    "probes",
    "read_labels",
    "read_out",
    "repair",
    "sae_fit",
    "saliency_maps",
    "steer_episodes",
    "steerability",
    "suppression_effect",
    "train_saes",
]


def __getattr__(name: str) -> Any:
    if name in _DOOR:
        return getattr(_importlib.import_module(f"{__name__}.{_DOOR[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
