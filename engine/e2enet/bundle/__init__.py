"""A trained model on disk: a folder with `model.json`, weights, fusion history and a README.

    model.json           what the model is: network, plan, labels, channels, provenance, licence
    weights.safetensors  dense layers whole, sparse layers with their live kernels only
    evolution.json       share of live connections by direction and node over training
    README.md            for a person

Everything up to the weights needs only the standard library, so that the Slicer panel can list
models before anything is installed. Nothing is ever unpickled.
"""

from e2enet.bundle.bundle import Bundle, write_bundle
from e2enet.bundle.description import EVOLUTION, MODEL, README, SCHEMA_VERSION, WEIGHTS, Label
from e2enet.bundle.store import find_model, list_models, model_folders

__all__ = [
    "EVOLUTION",
    "MODEL",
    "README",
    "SCHEMA_VERSION",
    "WEIGHTS",
    "Bundle",
    "Label",
    "find_model",
    "list_models",
    "model_folders",
    "write_bundle",
]
