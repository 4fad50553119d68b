"""The rows of the table ``beyond`` as data: networks, and designs that start from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from torch import nn

from robust_lpips.comparison import entry
from robust_lpips.comparison.jittered import Jittered
from robust_lpips.comparison.tolerant import TolerantLPIPS
from robust_lpips.metric import RobustLPIPS
from robust_lpips.registered import Registered

RADIUS = 3
# The same design with less and more forgiven, since accuracy is the price of stability.
OTHER_RADII = (1, 6)
SAMPLES = 4


@dataclass(frozen=True)
class Design:
    """What is done to a network, or around it.

    Attributes:
        name: in names of rows.
        title: as tables and plots print it.
        meaning: a sentence for the page.
        factory: makes the metric from the network's own, which it leaves as it is.
        evaluations: images that go through the network for one pair.
    """

    name: str
    title: str
    meaning: str
    factory: Callable[[RobustLPIPS], nn.Module] = field(repr=False, compare=False)
    evaluations: int = 2


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        name: what ``--rows`` takes.
        title: the network, as tables print it.
        base: the unchanged row that it is compared with, which is also the name that
            :func:`robust_lpips.comparison.load_metric` takes.
        design: what is measured of it.
    """

    name: str
    title: str
    base: str
    design: Design

    @property
    def is_base(self) -> bool:
        """Whether it is what others are compared with."""
        return self.name == self.base


def reconfigured(metric: RobustLPIPS, **changes: object) -> RobustLPIPS:
    """The weights of ``metric`` in another network, of whose layers none has other shapes."""
    made = RobustLPIPS(replace(metric.config, **changes), weights=None, linear=metric.linear)
    made.load_state_dict(metric.state_dict())
    return made


def _unchanged(metric: RobustLPIPS) -> RobustLPIPS:
    return metric


UNCHANGED = Design("unchanged", "unchanged", "the network as it is", _unchanged)
REGISTERED = Design(
    "registered",
    "registered",
    f"both images are aligned first; shifts within {RADIUS} px are free (`Registered`)",
    partial(Registered, radius=RADIUS),
)
WRAPPED = (
    UNCHANGED,
    REGISTERED,
    *(
        Design(
            f"registered-{radius}",
            f"registered, {radius} px",
            f"shifts within {radius} px are free",
            partial(Registered, radius=radius),
        )
        for radius in OTHER_RADII
    ),
    Design(
        "registered-human",
        "registered, people's penalty",
        "aligned likewise, but a shift costs by how many people notice it (`penalty='human'`)",
        partial(Registered, radius=RADIUS, penalty="human"),
    ),
    Design(
        "tolerant",
        "tolerant features",
        f"each feature is compared with its best match within {RADIUS} px (`TolerantLPIPS`)",
        partial(TolerantLPIPS, radius=RADIUS),
    ),
    Design(
        "jittered",
        "jittered",
        f"the mean over {SAMPLES} sub-pixel translations of both images (`Jittered`)",
        partial(Jittered, samples=SAMPLES),
        evaluations=2 * SAMPLES,
    ),
)
# With the convolutions as they were released, not trained for it.
REBUILT = (
    Design(
        "polyphase",
        "polyphase sampling",
        "of the grids that subsampling could keep the one of the largest norm "
        "(Chaman and Dokmanic, CVPR 2021), with the same weights",
        partial(reconfigured, anti_alias="polyphase"),
    ),
    *(
        Design(
            f"blur-{size}",
            f"blur of size {size}",
            f"a low-pass filter of size {size} in place of 3, with the same weights",
            partial(reconfigured, blur_size=size),
        )
        for size in (5, 7)
    ),
)

# Plain networks retrained by the authors are a download, and left out where they cannot be had.
NETWORKS = {
    "alexnet-shift-tolerant": (*WRAPPED, *REBUILT),
    "vgg16-shift-tolerant": WRAPPED,
    "alexnet-vanilla": WRAPPED,
    "vgg16-vanilla": WRAPPED,
    "alexnet-untrained": (UNCHANGED, REGISTERED),
}
ROWS = {
    row.name: row
    for network, designs in NETWORKS.items()
    for row in (
        Row(
            network if design is UNCHANGED else f"{network}-{design.name}",
            entry(network).title,
            network,
            design,
        )
        for design in designs
    )
}


def chosen(names: Sequence[str] | None = None) -> list[Row]:
    """The rows of those names and the bases that they are compared with, in the table's order.

    Args:
        names: None: every row.

    Raises:
        ValueError: no names, or unknown ones.
    """
    names = list(ROWS) if names is None else names
    if not names or set(names) - set(ROWS):
        raise ValueError(
            f"rows must be some of {', '.join(ROWS)}; got {', '.join(names) or 'none'}"
        )
    wanted = {*names, *(ROWS[name].base for name in names)}
    return [row for name, row in ROWS.items() if name in wanted]
