"""Models that answer together: their mean, what they have to share, a damaged ensemble.json."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from e2enet.bundle import Bundle
from e2enet.events import BadInput
from e2enet.inference.ensemble import open_models
from e2enet.inference.sliding_window.ensemble import MeanPredictor
from e2enet.inference.sliding_window.predictor import Predictor


def test_the_mean_of_the_members():
    torch.manual_seed(0)
    networks = [torch.nn.Conv3d(1, 3, 1) for _ in range(3)]
    image = np.random.default_rng(0).normal(size=(1, 9, 14, 11)).astype(np.float32)
    members = [Predictor(network, patch=(4, 8, 8), classes=3) for network in networks]
    alone = [np.concatenate([np.array(block) for block in one.stream(image)]) for one in members]
    together = MeanPredictor(members)
    steps = []
    found = np.concatenate(list(together.stream(image, on_windows=steps.append)))
    np.testing.assert_allclose(found, np.mean(alone, axis=0), atol=1e-6)
    assert sum(steps) == together.count(image.shape[1:]) == 3 * members[0].count(image.shape[1:])


def test_one_model_alone(tiny_bundle):
    found = open_models(tiny_bundle)
    assert [bundle.path for bundle in found.bundles] == [tiny_bundle]
    assert found.keep_largest == ()
    assert open_models([Bundle.open(tiny_bundle)] * 2).bundles[1].path == tiny_bundle


def test_models_that_do_not_go_together(tiny_bundle, make_bundle):
    with pytest.raises(BadInput, match="their channels differ"):
        open_models([tiny_bundle, make_bundle(channels=("MRI", "T2"))])
    with pytest.raises(BadInput, match="their spacing differ"):
        open_models([tiny_bundle, make_bundle(plan={"spacing": [2.0, 1.0, 1.0]})])


def together(folder, bundle, **record):
    folder.mkdir()
    shutil.copytree(bundle, folder / "fold_0")
    (folder / "ensemble.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def test_a_folder_of_folds(tiny_bundle, tmp_path):
    folder = together(tmp_path / "cv", tiny_bundle, models=["fold_0"], keep_largest=[2])
    found = open_models(folder)
    assert found.bundles[0].path == folder / "fold_0"
    assert found.keep_largest == ((2,),)
    folder = together(tmp_path / "cv2", tiny_bundle, models=["fold_0"], keep_largest=[[1, 2], [1]])
    assert open_models(folder).keep_largest == ((1, 2), (1,))


@pytest.mark.parametrize(
    "record",
    [{}, {"models": [], "keep_largest": []}, {"models": [1], "keep_largest": []},
     {"models": ["fold_0"], "keep_largest": ["a"]}, {"models": ["fold_0"], "keep_largest": [9]},
     {"models": ["fold_0"], "keep_largest": [[]]}],
)  # fmt: skip
def test_a_damaged_folder(tiny_bundle, tmp_path, record):
    with pytest.raises(BadInput, match=r"ensemble\.json is damaged"):
        open_models(together(tmp_path / "cv", tiny_bundle, **record))


def test_a_cross_validation_among_models(tiny_bundle, tmp_path):
    folder = together(tmp_path / "cv", tiny_bundle, models=["fold_0"], keep_largest=[])
    with pytest.raises(BadInput, match="cv is a cross-validation"):
        open_models([tiny_bundle, folder])


def test_no_model_at_all():
    with pytest.raises(BadInput, match="No model"):
        open_models([])
