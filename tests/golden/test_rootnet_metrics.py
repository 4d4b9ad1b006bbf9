"""AP_25 against the reference implementation's numbers, the case list of the vectors and both recorded files."""

import json

import numpy as np
import pytest

from poseboard.protocols.average_precision import average_precision, curve, match, match_published

CASES = {
    # sound AP of the cases whose published one has a quirk
    "single_perfect": 1.0,
    "two_perfect": 1.0,
    "all_invalid_image": None,
    "no_pred": 0.0,
}


def published_ap(pred, pred_image, score, truth, truth_image):
    """(precision, recall, AP) of valid annotations."""
    matches = match_published(pred, pred_image, score, truth, truth_image)
    precision, recall = curve(matches, score, len(truth))
    judged = matches.judged
    ap = average_precision(
        matches.correct[judged],
        score[judged],
        np.zeros(int(judged.sum()), dtype=int),
        np.array([float(len(truth))]),
        np.ones((1, 1)),
        published=True,
    )[0]
    return precision, recall, float(np.nan_to_num(ap))


def test_every_case(golden_rootnet):
    file = golden_rootnet("eval_mupots")
    names = file["names"].tolist()
    assert len(names) >= 10
    for name, expected in zip(names, file["aps"], strict=True):
        case = {key.split("/")[1]: value for key, value in file.items() if key.startswith(f"{name}/")}
        valid = case["gt_valid"] == 1
        truth, image = case["gt_root"][valid], case["gt_image_id"][valid]
        assert len(truth) == case["gt_num"]
        args = case["pred_root"], case["pred_image_id"], case["pred_score"], truth, image
        copies = [value.copy() for value in args]
        precision, recall, ap = published_ap(*args)
        np.testing.assert_allclose(precision, case["precision"], rtol=0, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(recall, case["recall"], rtol=0, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(ap, expected, rtol=0, atol=1e-12, err_msg=name)
        if name in CASES:
            found = match(*args)
            people = np.array([float(len(truth))])
            codes = np.zeros(len(found.correct), dtype=int)
            sound = average_precision(found.correct, case["pred_score"], codes, people, np.ones((1, 1)))[0]
            assert sound == CASES[name] if CASES[name] is not None else np.isnan(sound)
        for value, copy in zip(args, copies, strict=True):
            np.testing.assert_array_equal(value, copy)


@pytest.mark.parametrize("name", ["e2e_gtbox", "e2e_detbox"])
def test_recorded_files(golden_rootnet, name):
    file = golden_rootnet("eval_mupots")
    content = json.loads(file["e2e_gtbox/json"].tobytes())
    valid = [annotation for annotation in content["annotations"] if annotation["is_valid"] == 1]
    truth = np.array([annotation["keypoints_cam"][14] for annotation in valid], dtype=np.float64)
    image = np.array([annotation["image_id"] for annotation in valid])
    score = file["e2e_gtbox/dump_score"] if name == "e2e_gtbox" else file["e2e_detbox/score"]
    _, _, ap = published_ap(file[f"{name}/dump_root_cam"], file[f"{name}/image_id"], score, truth, image)
    np.testing.assert_allclose(ap, file[f"{name}/ap"], rtol=0, atol=1e-12)
