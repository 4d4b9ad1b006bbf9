"""People before rigs that no training has seen, in the multi-view layout of Human3.6M.

A "subject" of the labels is a rig (R01, R02, …) with its own cameras; everything is for testing. Rows are trained on
`human36m` (``train_on`` in params.yaml), so that a network which has learnt its rig by heart is found out here.
Subjects K01, K02, … are the control, the split "known": who R01, R02, … are, before the rig of the training.
There is no published data set of this kind: it is rendered (`synthetic.rigs`), or a folder of your own in the same
layout.
"""

from __future__ import annotations

from poseboard.datasets.human36m import LABELS, Human36M

KNOWN, UNSEEN = "K", "R"
"""First letters: K07 is who R07 is, before the rig of the training."""
OBTAIN = (
    "it is rendered where a profile has a world for it; of your own: sequences of any rigs in the layout of human36m, "
    f"with labels at {LABELS}"
)


class Human36MRigs(Human36M):
    """The adapter: `Human36M` whose subjects are rigs, all for testing.

    Example:
        >>> dataset = Human36MRigs(Path("data/human36m-rigs"))  # doctest: +SKIP
        >>> dataset.sample("R01/Walking-1/000032").group.subject  # doctest: +SKIP
        'R01'
    """

    name = "human36m-rigs"
    splits: tuple[str, ...] = ("train", "test", "known")
    obtain = OBTAIN

    def split_of(self, subject: str) -> str:
        """The split of a subject of the labels: "known" for K07 where there is an R07, else "test"."""
        twin = UNSEEN + subject.removeprefix(KNOWN)
        return "known" if subject.startswith(KNOWN) and twin in self._labels.subjects else "test"
