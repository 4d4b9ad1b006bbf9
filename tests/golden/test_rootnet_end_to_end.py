"""The recorded files of MuPoTS-3D, through adapter, crops and protocol, to the recorded AP."""

import json

import numpy as np
import pytest

from poseboard.datasets.boxes import crop_boxes
from poseboard.datasets.mupots import MuPoTS
from poseboard.datasets.skeleton import ROOT
from poseboard.methods.rootnet.crop import PersonCrop
from poseboard.protocols.ap_root import ApRoot
from poseboard.protocols.base import TruthTable
from poseboard.protocols.condition import Condition
from poseboard.protocols.predictions import PoseTable, PredictionInfo


@pytest.mark.parametrize(("name", "boxes"), [("e2e_gtbox", "annotated"), ("e2e_detbox", "detected")])
def test_files_to_ap(golden_rootnet, tmp_path, name, boxes):
    file = golden_rootnet("eval_mupots")
    content = json.loads(file["e2e_gtbox/json"].tobytes())
    (tmp_path / "data").mkdir()
    (tmp_path / "bbox").mkdir()
    (tmp_path / "data" / "MuPoTS-3D.json").write_bytes(file["e2e_gtbox/json"].tobytes())
    (tmp_path / "bbox" / "bbox_mupots_output.json").write_bytes(file["e2e_detbox/det_json"].tobytes())
    dataset = MuPoTS(tmp_path, boxes=boxes)
    key_of = {image["id"]: image["file_name"].rsplit(".", 1)[0] for image in content["images"]}
    recorded = file[f"{name}/bbox"]
    roots, keys, used = [], [], {key: set() for key in key_of.values()}
    for image_id, box, (x, y, depth) in zip(
        file[f"{name}/image_id"].tolist(), recorded, file[f"{name}/pred"].astype(np.float64), strict=True
    ):
        key = key_of[image_id]
        view = dataset.sample(key).views[0]
        tight = np.concatenate([view.boxes_px[:, :2], view.boxes_px[:, 2:] - view.boxes_px[:, :2]], axis=1)
        cropped = crop_boxes(tight, view.camera.size)
        apart = np.abs(cropped - box).max(axis=1)
        apart[list(used[key])] = np.inf
        person = int(np.argmin(apart))
        assert apart[person] < 1e-6
        used[key].add(person)
        crop = PersonCrop.of(view, person, cropped=False)
        roots.append(crop.root_mm(np.array([x, y]) / 64, depth))
        keys.append(key)
    assert all(len(used[key]) == len(dataset.sample(key).views[0].boxes_px) for key in used)
    np.testing.assert_allclose(roots, file[f"{name}/dump_root_cam"], rtol=0, atol=1e-3)
    scores = np.ones(len(keys)) if name == "e2e_gtbox" else file[f"{name}/score"]
    info = PredictionInfo(skeleton=ROOT.name, joints=ROOT.joints, dataset="mupots", manifest=dataset.manifest(),
                          condition=Condition(cameras=dataset.views), method="rootnet")  # fmt: skip
    pred = PoseTable(
        np.array(keys, dtype=object), np.arange(len(keys), dtype=np.int32), scores.astype(np.float32),
        np.full(len(keys), dataset.views[0], dtype=object), np.array(roots, dtype=np.float32)[:, None], info,
    )  # fmt: skip
    published = ApRoot(rule="published")
    found = published.summarise(published.errors(pred, TruthTable.collect(dataset, "test")))
    assert found == pytest.approx(100 * float(file[f"{name}/ap"]), abs=1e-9)
