"""Rigs that differ from the training rig, in the multi-view layout of Human3.6M.

A "subject" of the labels is a rig (R01, R02, …) with its own cameras. All samples are for testing: rows are trained on
`human36m` (``train_on`` in params.yaml), so a network that has memorised its rig fails here. Subjects K01, K02, … form
the split "known", the control: the people of R01, R02, … in front of the training rig. No data set of this kind is
published. Render one (`synthetic.rigs`), or use your own recordings in the same layout.
"""

from __future__ import annotations

from poseboard.datasets.human36m import LABELS, Human36M

KNOWN, UNSEEN = "K", "R"
"""First letters of subjects. K07 is the person of R07 in front of the training rig."""


class Human36MRigs(Human36M):
    """Adapter of unseen rigs: `Human36M` with rigs as subjects, all for testing.

    Example:
        >>> dataset = Human36MRigs(Path("data/human36m-rigs"))  # doctest: +SKIP
        >>> dataset.sample("R01/Walking-1/000032").group.subject  # doctest: +SKIP
        'R01'
    """

    name = "human36m-rigs"
    title = "Unseen rigs (in the layout of Human3.6M multi-view)"
    licence = "none: rendered, or your own"
    obtain = (
        "choose a profile that renders it, or put sequences of your own rigs there in the layout of human36m, with "
        f"labels at {LABELS}"
    )
    layout = "human36m_rigs"
    splits = ("train", "test", "known")

    def split_of(self, subject: str) -> str:
        """Split of a subject: "known" for K07 if there is an R07, else "test"."""
        twin = UNSEEN + subject.removeprefix(KNOWN)
        return "known" if subject.startswith(KNOWN) and twin in self._labels.subjects else "test"
