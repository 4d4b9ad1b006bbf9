"""RootNet (Moon et al., ICCV 2019): root positions of people in the camera frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from poseboard.datasets.camera import Array
from poseboard.datasets.errors import InputError
from poseboard.datasets.sample import Image, Poses, Sample, View, warp_image
from poseboard.datasets.skeleton import ROOT, Skeleton
from poseboard.methods.base import Picture, Training, parse_options
from poseboard.methods.checkpoint import Checkpoint
from poseboard.methods.nets.architecture import Architecture
from poseboard.methods.nets.fusion import folded
from poseboard.methods.nets.network_method import NetworkMethod
from poseboard.methods.nets.starting_weights import IMAGE_NETWORK, checkpoint_of_option, load_backbone
from poseboard.methods.rootnet.crop import PersonCrop
from poseboard.methods.rootnet.model import JOINTS, RootArchitecture, RootNet
from poseboard.methods.rootnet.train import NO_CHANGE, PriorTraining, RootnetOptions, RootnetTraining, inputs_of

PRIOR_CROP_PX = 32
"""Side of the crops of network "none", which uses only their cameras."""


class Rootnet(NetworkMethod[RootnetOptions, RootNet]):
    """Root position of every person in a view, in the camera frame (mm), with the score of the box.

    Predictions are always in the joint set `ROOT`. Options: `RootnetOptions`.
    """

    each_view = True

    def __init__(self, options: Mapping[str, Any], skeleton: Skeleton) -> None:
        parsed = parse_options(RootnetOptions, options, "rootnet")
        super().__init__("rootnet", parsed, skeleton, inputs_of(whole_frames=False, crop_px=32, extrinsics=False))
        self.answers = ROOT
        self._gamma: float | None = None
        self._folded: RootNet | None = None

    def load(self, checkpoint: Path | None, device: str) -> None:
        """Load a checkpoint; for network "none" only its constant ``gamma``.

        Raises:
            InputError: the checkpoint belongs to another network or method, or ``gamma`` is missing.
        """
        prior = self.options.network == "none"
        read = None if checkpoint is None else Checkpoint.read(checkpoint)
        if checkpoint is not None and read is not None and (read.architecture.get("network") == "none") != prior:
            raise InputError(checkpoint, "is for another network than the row", "set `network` to match the weights")
        if not prior:
            super().load(checkpoint, device)
            self._folded = folded(self.loaded)
            architecture = self.loaded.architecture
            self.inputs = inputs_of(
                whole_frames=architecture.whole_frames, crop_px=architecture.backbone.crop_px, extrinsics=False
            )
            return
        if checkpoint is None or read is None or "gamma" not in read.constants:
            problem = "has no factor gamma, which training estimates" if checkpoint else "has no checkpoint"
            raise InputError(checkpoint or "rootnet", problem, "train the row first")
        self._gamma = read.constants["gamma"]
        self.inputs = inputs_of(whole_frames=False, crop_px=PRIOR_CROP_PX, extrinsics=False, images=False)

    def network(self, read: Checkpoint, where: Path) -> tuple[RootNet, int]:
        """Build the network of a checkpoint, and return it with the side of its crops; options play no role."""
        architecture = parse_options(RootArchitecture, read.architecture, f"{where}: architecture")
        exact = architecture.model_copy(update={"backbone": architecture.backbone.exact})
        with torch.random.fork_rng(devices=[]):
            return RootNet(exact, exact.backbone.build(seed=0)), exact.backbone.crop_px

    @torch.inference_mode()
    def predict(self, samples: Sequence[Sample]) -> list[Poses]:
        """Predict all people in the first view of each sample, in the order of the boxes.

        The score of a person is the score of the box, or 1 if boxes have no scores.
        """
        seen = [
            (index, view, person)
            for index, sample in enumerate(samples)
            for view in sample.views[:1]
            for person in range(len(view.boxes_px))
        ]
        roots = self._roots_mm([(view, person) for _, view, person in seen])
        of_sample = np.array([index for index, _, _ in seen], dtype=np.int64)
        return [
            Poses(
                ROOT,
                roots[of_sample == index, None],
                _scores(sample),
                sample.views[0].name if sample.views else "world",
            )
            for index, sample in enumerate(samples)
        ]

    def _roots_mm(self, people: Sequence[tuple[View, int]]) -> Array:
        """Root positions (n, 3), mm, of people in the frames of their views."""
        if self._gamma is not None:
            crops = [PersonCrop.of(view, person, cropped=True) for view, person in people]
            found = [crop.root_mm((0.5, 0.5), self._gamma * crop.prior_mm) for crop in crops]
            return np.array(found).reshape(-1, 3)
        model = self._folded or self.loaded
        architecture = model.architecture
        side_px = architecture.backbone.crop_px
        chunk = max(1, architecture.backbone.chunk // 2)  # what a layer leaves is still in the processor's caches
        roots = np.empty((len(people), 3))
        for start in range(0, len(people), chunk):
            part = people[start : start + chunk]
            crops = [PersonCrop.of(view, person, cropped=not architecture.whole_frames) for view, person in part]
            patches = [self._patch(view, crop, side_px) for (view, _), crop in zip(part, crops, strict=True)]
            images = torch.from_numpy(np.stack(patches)).to(self._device)
            k_mm = torch.tensor([crop.prior_mm for crop in crops], dtype=torch.float32, device=self._device)
            root = model(architecture.prepare(images), k_mm)
            share, depth = root.share.double().cpu().numpy(), root.depth_mm.double().cpu().numpy()
            roots[start : start + chunk] = [crop.root_mm(share[i], depth[i]) for i, crop in enumerate(crops)]
        return roots

    @staticmethod
    def _patch(view: View, crop: PersonCrop, side_px: int) -> Image:
        image, size = view.pixels(), (side_px, side_px)
        return warp_image(image, NO_CHANGE.affine(crop.box_xywh, image.shape[1], size), size)

    def figures(self, sample: Sample, answer: Poses, *, images: bool) -> list[Picture]:
        """Draw the root plan, all people from above; [] if the view is the crop of one person."""
        from poseboard.methods.drawing.root_plan import Photograph, draw_plan, plan_caption
        from poseboard.methods.drawing.style import pixels

        view = sample.views[0] if sample.views else None
        side = self.inputs.crop_px
        if view is None or not len(answer.score) or view.camera.size == (side, side):
            return []
        image = view.pixels() if images and view.image is not None else None
        photograph = Photograph(view.camera, image, view.boxes_px)
        plan = draw_plan(photograph, answer.joints_mm[:, 0])
        return [Picture("Root plan", plan_caption(true=False), pixels(plan))]

    def training(self, start: Path | None, seed: int) -> Training:
        """Training from the backbone in the option ``start_weights`` or in ``start``, else from random weights."""
        options = self.options
        if options.network == "none":
            return PriorTraining(PRIOR_CROP_PX, self.skeleton)
        if options.start_weights is not None:
            start = checkpoint_of_option("rootnet", options.start_weights)
        published = options.recipe == "published"
        if start is None:
            architecture = Architecture(
                network=options.architecture,
                joints=JOINTS,
                crop_px=options.image_px or (256 if published else 96),
                precision=options.precision,
            )
            backbone = architecture.build(seed)
        else:
            read = Checkpoint.read(start)
            if read.method not in (IMAGE_NETWORK, "backbone"):
                raise InputError(start, f"is a checkpoint of {read.method}", "use a checkpoint of a 2D backbone")
            changes: dict[str, Any] = {"joints": JOINTS, "multiplier": 1.0, "softmax": True}
            if read.method == IMAGE_NETWORK:  # which learned on RGB
                changes["channels"] = "rgb"
            changes |= {"alg_confidences": False, "vol_confidences": False}
            if options.image_px is not None or published:
                changes["crop_px"] = options.image_px or 256
            architecture = Architecture.of(read, start).model_copy(update=changes)
            backbone = load_backbone(architecture, read, start, seed, fresh_maps=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            whole = RootArchitecture(backbone=architecture, raw_input=options.compat, whole_frames=published)
            model = RootNet(whole, backbone, gamma=0.0 if published else 1.0)
        return RootnetTraining(model, options, self.skeleton)


def _scores(sample: Sample) -> Array:
    if not sample.views:
        return np.empty(0)
    view = sample.views[0]
    return np.ones(len(view.boxes_px)) if view.box_scores is None else np.asarray(view.box_scores, dtype=np.float64)
