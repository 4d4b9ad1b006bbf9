"""2D detection of people in the videos of a rig (`poseboard rig detect`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from poseboard.benchmarks.jobs import Report, progress
from poseboard.datasets.blazepose import BlazePose, Person, follow, people_of
from poseboard.datasets.errors import InputError
from poseboard.datasets.keypoints import Keypoints, write_keypoints
from poseboard.datasets.keypoints.joint_sets import BLAZEPOSE
from poseboard.datasets.rig import DETECTIONS_FILE, RIG_FILE, read_rig
from poseboard.datasets.video import Video, videos_of

WEIGHTS = Path("data") / "blazepose" / "pose_landmark_full.tflite"
"""Weights of BlazePose, where `poseboard data fetch blazepose` puts them."""

_TIMED_FRAMES = 20
_MOST_PEOPLE = 20


def detect(
    target: str,
    home: Path,
    *,
    out: Path | None = None,
    weights: Path | None = None,
    people: int = 1,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Detect people in a folder of videos, or in the videos of a rig, and write a Parquet file of detections.

    Args:
        target: folder with one video per camera, or name of a rig with videos in its rig.yaml.
        home: folder of params.yaml.
        out: file to write; None: detections.parquet in the folder, or the detections of the rig.
        weights: weights of BlazePose; None: `WEIGHTS`.
        people: maximum number of people per camera; the largest people in the image are kept.
        overwrite: whether to replace an existing file.
        say: called with messages for the user.

    Returns:
        Path of the written file.

    Raises:
        InputError: the target has no videos, the file exists, or a video cannot be read.
    """
    folder = Path(target)
    is_folder = folder.is_dir()
    if is_folder:
        videos, path = videos_of(folder), out or folder / DETECTIONS_FILE
    else:
        videos, path = _videos_of_rig(target, home)
        path = out or path
    if path.suffix.lower() != ".parquet":
        raise InputError(path, "is not a Parquet file", "choose a name that ends in .parquet")
    if path.exists() and not overwrite:
        raise InputError(path, "exists already", "choose another file with --out, or add --overwrite")
    keypoints = detect_videos(videos, weights or home / WEIGHTS, people=people, say=say)
    write_keypoints(path, keypoints)
    for line in (*keypoints.summary(), *keypoints.remarks):
        say(f"  {line}")
    say(f"Written: {path}")
    if is_folder:
        say(f"Then: poseboard rig new NAME --calibration FILE --detections {path} --videos {folder}")
    return path


def _videos_of_rig(name: str, home: Path) -> tuple[dict[str, Path], Path]:
    """Videos of a rig by camera, and the path of its detections file."""
    root = home / "data" / name
    if Path(name).name != name or not (root / RIG_FILE).is_file():
        raise InputError(
            name, "is not a folder of videos or a rig", "correct the path, or run `poseboard rig new` first"
        )
    rig = read_rig(root / RIG_FILE)
    videos = {camera: root / entry.video for camera, entry in rig.cameras.items() if entry.video is not None}
    without = [camera for camera in rig.cameras if camera not in videos]
    if without:
        problem = f"has no video of {', '.join(without)}"
        raise InputError(root / RIG_FILE, problem, "name the videos in rig.yaml, or pass their folder")
    return videos, root / rig.detections


def detect_videos(
    videos: Mapping[str, Path],
    weights: Path,
    *,
    people: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> Keypoints:
    """Detect people in videos with BlazePose.

    All videos are opened before the first frame is processed, so that a damaged video is reported at once.

    Args:
        videos: camera -> path of the video.
        weights: path of pose_landmark_full.tflite.
        people: maximum number of people per camera; the largest people in the image are tracked.
        say: called with messages for the user: videos, and the remaining time after the first frames.

    Returns:
        Detections with the joints of `BLAZEPOSE`. People are numbered per camera: person 0 in two cameras may be two
        different people. With ``people`` 1, the person is not tracked over frames.

    Raises:
        InputError: the weights or a video cannot be read, or the number of people is wrong.
    """
    if not 1 <= people <= _MOST_PEOPLE:
        raise InputError("people", f"is {people}", f"give a number from 1 to {_MOST_PEOPLE}")
    network = BlazePose(weights)
    total = 0
    for name, path in videos.items():
        with Video(path) as video:
            say(f"{name}: {video.describe()}")
            total += video.frames
    cameras, short = {}, []
    with progress("Detecting people") as report:
        clock = _Clock(total, report, say)
        for name, path in videos.items():
            with Video(path) as video:
                frames = list(clock.timed(follow(network, video.images(), people)))
                if len(frames) < video.frames:
                    short.append(f"{name}: video ends after {len(frames)} of {video.frames} frames in its header")
                clock.skip(video.frames - len(frames))
            cameras[name] = people_of(frames, tracked=people > 1)
    remark = "detector: BlazePose full; confidence is the smaller of visibility and presence"
    return Keypoints(BLAZEPOSE.joints, cameras, (remark, *short))


class _Clock:
    """Progress over all frames, with a message on the frame rate after the first frames."""

    def __init__(self, total: int, report: Report, say: Callable[[str], None]) -> None:
        self._total, self._report, self._say = total, report, say
        self._done, self._began = 0, time.monotonic()

    def timed(self, frames: Iterator[list[Person | None]]) -> Iterator[list[Person | None]]:
        for frame in frames:
            self._done += 1
            elapsed = time.monotonic() - self._began
            rate = self._done / max(elapsed, 1e-9)
            if self._done == _TIMED_FRAMES:
                left = (self._total - self._done) / rate
                self._say(f"{self._total} frames at {rate:.1f} frames per second: about {_duration(left)}")
            self._report(self._done, self._total, {"frames/s": rate})
            yield frame

    def skip(self, frames: int) -> None:
        """Subtract frames that a header announced but the video lacks."""
        self._total -= frames


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
