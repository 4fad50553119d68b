"""Rows of the table ``beyond`` as data: networks, and designs that start from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from torch import nn

from robust_lpips.comparison import entry, load_metric
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
    """A change of a network, or a wrapper around it.

    Attributes:
        name: in names of rows.
        title: as tables and figures print it.
        meaning: explanation for the page.
        factory: makes the metric from the network's own, which it leaves unchanged.
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
        name: name on the command line.
        title: the network, as tables print it.
        base: row of the unchanged network, which this row is compared with; also a name that
            :func:`robust_lpips.comparison.load_metric` takes.
        design: design that is measured.
    """

    name: str
    title: str
    base: str
    design: Design

    @property
    def is_base(self) -> bool:
        """True for an unchanged network."""
        return self.name == self.base


def reconfigured(metric: RobustLPIPS, **changes: object) -> RobustLPIPS:
    """The weights of ``metric`` in another network, all of whose layers have the same shapes."""
    made = RobustLPIPS(replace(metric.config, **changes), weights=None, linear=metric.linear)
    made.load_state_dict(metric.state_dict())
    return made


def _unchanged(metric: RobustLPIPS) -> RobustLPIPS:
    return metric


def _registered(suffix: str, title: str, meaning: str, **options: object) -> Design:
    name = f"registered{suffix}"
    return Design(name, f"registered{title}", meaning, partial(Registered, **options))


UNCHANGED = Design("unchanged", "unchanged", "the network as it is", _unchanged)
REGISTERED = _registered(
    "",
    "",
    f"both images are aligned first; shifts within {RADIUS} px are free (`Registered`)",
    radius=RADIUS,
)
WRAPPED = (
    UNCHANGED,
    REGISTERED,
    *(
        _registered(f"-{r}", f", {r} px", f"shifts within {r} px are free", radius=r)
        for r in OTHER_RADII
    ),
    _registered(
        "-human",
        ", people's penalty",
        "aligned likewise, but a shift costs by how many people notice it (`penalty='human'`)",
        radius=RADIUS,
        penalty="human",
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
        "of the grids that subsampling could keep, the one of the largest norm "
        "(Chaman and Dokmanic, CVPR 2021), with the same weights",
        partial(reconfigured, anti_alias="polyphase"),
    ),
    *(
        Design(
            f"blur-{size}",
            f"blur of size {size}",
            f"a low-pass filter of size {size} instead of 3, with the same weights",
            partial(reconfigured, blur_size=size),
        )
        for size in (5, 7)
    ),
)

# Plain networks retrained by the authors are a download, and left out where it is unavailable.
NETWORKS = {
    "alexnet-shift-tolerant": (*WRAPPED, *REBUILT),
    "vgg16-shift-tolerant": WRAPPED,
    "alexnet-vanilla": WRAPPED,
    "vgg16-vanilla": WRAPPED,
    "alexnet-untrained": (UNCHANGED, REGISTERED),
}


def _row(network: str, design: Design) -> Row:
    name = network if design is UNCHANGED else f"{network}-{design.name}"
    return Row(name, entry(network).title, network, design)


ROWS = {
    row.name: row
    for network, designs in NETWORKS.items()
    for row in (_row(network, design) for design in designs)
}


def chosen(names: Sequence[str] = ()) -> list[Row]:
    """Rows of those names and the bases that they are compared with, in the table's order.

    Args:
        names: keys of :data:`ROWS`; empty: every row.
    """
    wanted = {base for name in names or ROWS for base in (name, ROWS[name].base)}
    return [row for name, row in ROWS.items() if name in wanted]


def load_row(name: str, device: str, seed: int) -> nn.Module:
    """The metric of a row: its design, applied to its network.

    Args:
        name: a key of :data:`ROWS`.
        device: device of the weights.
        seed: seed of random weights.

    Raises:
        MetricUnavailable: if the network lacks a package or weights.
    """
    row = ROWS[name]
    return row.design.factory(load_metric(row.base, device, seed)).to(device)
