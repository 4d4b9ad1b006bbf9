"""The 2D detector: regions, following of people, and the network itself where its weights are present."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from poseboard.datasets import blazepose
from poseboard.datasets.blazepose import BlazePose, Person, Region, follow, people_of
from poseboard.datasets.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "data" / "blazepose" / "pose_landmark_full.tflite"
DEMO = ROOT / "data" / "pose2sim-demo" / "Demo_SinglePerson" / "videos" / "cam01.mp4"


def test_regions_map_the_input_to_the_image() -> None:
    region = Region(100, 50, 512)
    np.testing.assert_allclose(region.to_image @ [128, 128, 1], [100, 50])
    np.testing.assert_allclose(region.to_image @ [0, 0, 1], [100 - 256, 50 - 256])
    turned = Region(100, 50, 512, np.pi / 2)  # clockwise: what is up in the crop lies to the right in the image
    np.testing.assert_allclose(turned.to_image @ [128, 0, 1], [100 + 256, 50], atol=1e-9)


def test_heat_maps_move_points_to_their_centre_of_mass() -> None:
    heat = np.full((39, 64, 64), -20.0)
    heat[0, 20, 30] = heat[0, 20, 31] = 20.0
    heat[1, 5, 5] = -1.0  # not sure
    xy = np.full((39, 2), 200.0)
    xy[0], xy[1] = (124.0, 84.0), (22.0, 22.0)
    refined = blazepose._refined(xy, heat)
    np.testing.assert_allclose(refined[0], [30.5 * 4, 20 * 4], atol=0.01)
    np.testing.assert_array_equal(refined[1:], xy[1:])


class Spots:
    """Network of a world where people are spots: pixel values name people, and the spot is their centre."""

    side_px = 300.0

    def __init__(self) -> None:
        self.searches = 0

    def _person(self, image: np.ndarray, value: int) -> Person | None:
        rows, columns = np.nonzero(image[..., 0] == value)
        if not len(rows):
            return None
        centre = Region(float(columns[0]), float(rows[0]), self.side_px)
        return Person(np.full((33, 2), columns[0], dtype=np.float64), np.full(33, value / 10), 1.0, centre)

    def detect(self, image: np.ndarray, region: Region) -> Person:
        people = [self._person(image, value) for value in (1, 2, 3)]
        near = [p for p in people if p is not None and abs(p.region.x_px - region.x_px) < self.side_px / 2]
        return min(
            near,
            key=lambda p: abs(p.region.x_px - region.x_px),
            default=Person(np.zeros((33, 2)), np.zeros(33), 0.0, region),
        )

    def find(self, image: np.ndarray, known: Sequence[Person]) -> list[Person]:
        self.searches += 1
        people = [self._person(image, value) for value in (1, 2, 3)]
        return [p for p in people if p is not None and not any(p.region.is_same(k.region) for k in known)]


def spots(frames: list[dict[int, int]]) -> list[np.ndarray]:
    """Images with spots at the columns of people."""
    images = []
    for people in frames:
        image = np.zeros((600, 2000, 3), np.uint8)
        for value, column in people.items():
            image[300, column] = value
        images.append(image)
    return images


def values_of(network: Spots, frames: list[dict[int, int]], people: int) -> list[list[int]]:
    """Person at each place of each frame; 0 for none."""
    followed = follow(network, spots(frames), people)  # type: ignore[arg-type]
    return [[0 if p is None else round(10 * p.confidence[0]) for p in places] for places in followed]


def test_a_person_is_followed_with_one_search() -> None:
    network = Spots()
    frames = [{1: 200 + 20 * frame} for frame in range(50)]
    assert values_of(network, frames, 1) == [[1]] * 50
    assert network.searches == 1


def test_a_lost_person_is_searched_for_at_once_and_then_now_and_then() -> None:
    network = Spots()
    frames = [{1: 200}] * 20 + [{1: 1500}] * 5 + [{}] * 40 + [{1: 900}] * 30
    seen = [place[0] for place in values_of(network, frames, 1)]
    assert seen[:25] == [1] * 25, "found again in the frame of the jump"
    assert not any(seen[25:65])
    found = seen.index(1, 65)
    assert found < 65 + 15
    assert all(seen[found:])
    assert network.searches < 10


def test_several_people_keep_their_places() -> None:
    network = Spots()
    frames = [{1: 300, 2: 900}] * 10 + [{1: 300, 2: 900, 3: 1600}] * 30 + [{1: 300, 3: 1600}] * 5
    places = values_of(network, frames, 3)
    assert places[0] == [1, 2, 0]
    assert places[30] == [1, 2, 3]
    assert places[-1] == [1, 0, 3]
    assert values_of(Spots(), frames, 1)[0] == [1]


def test_two_places_never_hold_the_same_person() -> None:
    network = Spots()
    frames = [{1: 300, 2: 700 - 20 * frame} for frame in range(20)] + [{1: 300}] * 5
    assert values_of(network, frames, 2)[-1] in ([1, 0], [0, 1])


def test_tables_of_people() -> None:
    frames = list(follow(Spots(), spots([{1: 300, 2: 900}, {2: 900}, {2: 900}]), 2))  # type: ignore[arg-type]
    people = people_of(frames, tracked=True)
    np.testing.assert_array_equal(people.frame, [0, 0, 1, 2])
    np.testing.assert_array_equal(people.xy_px[:, 0, 0], [300, 900, 900, 900])
    np.testing.assert_array_equal(people.person, [0, 1, 1, 1])
    np.testing.assert_array_equal(people_of(frames, tracked=False).person, [-1] * 4)
    assert people_of([[None]], tracked=False).xy_px.shape == (0, 33, 2)


def test_other_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read .*; run `poseboard data fetch blazepose`"):
        BlazePose(tmp_path / "absent.tflite")
    (tmp_path / "other.tflite").write_bytes(b"TFL3")
    with pytest.raises(InputError, match=r"is not pose_landmark_full\.tflite"):
        BlazePose(tmp_path / "other.tflite")


@pytest.mark.skipif(not WEIGHTS.is_file(), reason="needs `poseboard data fetch blazepose`")
def test_no_person_in_noise() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    assert BlazePose(WEIGHTS).find(noise) == []


@pytest.mark.skipif(not (WEIGHTS.is_file() and DEMO.is_file()), reason="needs both `poseboard data fetch` bundles")
def test_a_photographed_person_is_found_in_turned_and_mirrored_pictures() -> None:
    from poseboard.datasets.video import Video

    network = BlazePose(WEIGHTS)
    with Video(DEMO) as video:
        image = video.read(0)
    (person,) = network.find(image)[:1]
    mirrored = network.find(np.ascontiguousarray(image[:, ::-1]))[0]
    ends = [blazepose.BLAZEPOSE.joints.index(name) for name in ("left_shoulder", "right_shoulder")]
    width = image.shape[1]
    # In the mirror, the left shoulder is where the right one was.
    distance = np.abs(width - 1 - mirrored.xy_px[ends, 0] - person.xy_px[ends[::-1], 0])
    assert distance.max() < 0.05 * person.region.side_px
    half = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    assert np.abs(2 * network.find(half)[0].xy_px[ends] - person.xy_px[ends]).max() < 0.05 * person.region.side_px
