"""Designs beyond the papers as data: wrappers of a metric of this package, and other filters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from torch import nn

from robust_lpips.comparison.jittered import Jittered
from robust_lpips.comparison.registry import entry, load_metric
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
        name: suffix of the metric's name.
        title: name in tables and figures.
        meaning: explanation in one line.
        factory: makes the metric from the network's own, which it leaves unchanged.
        evaluations: images that go through the network for one pair.
    """

    name: str
    title: str
    meaning: str
    factory: Callable[[RobustLPIPS], nn.Module] = field(repr=False, compare=False)
    evaluations: int = 2


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


@dataclass(frozen=True)
class Variant:
    """A design of one network.

    Attributes:
        base: the unchanged network: a name that :func:`robust_lpips.comparison.load_metric` takes.
        design: change of the network.
    """

    base: str
    design: Design

    @property
    def name(self) -> str:
        """Name, as :func:`load_variant` takes it."""
        return self.base if self.is_base else f"{self.base}-{self.design.name}"

    @property
    def title(self) -> str:
        """The network's name in tables."""
        return entry(self.base).title

    @property
    def is_base(self) -> bool:
        """True for an unchanged network."""
        return self.design is UNCHANGED


VARIANTS = {
    variant.name: variant
    for network, designs in NETWORKS.items()
    for variant in (Variant(network, design) for design in designs)
}


def chosen_variants(names: Sequence[str] = ()) -> list[Variant]:
    """Variants of those names and the networks that they start from, in the order of tables.

    Args:
        names: keys of :data:`VARIANTS`; empty: every variant.
    """
    wanted = {base for name in names or VARIANTS for base in (name, VARIANTS[name].base)}
    return [variant for name, variant in VARIANTS.items() if name in wanted]


def load_variant(name: str, device: str, seed: int) -> nn.Module:
    """The metric of a variant: its design, applied to its network.

    Args:
        name: a key of :data:`VARIANTS`.
        device: device of the weights.
        seed: seed of random weights.

    Raises:
        MetricUnavailable: if the network lacks a package or weights.
    """
    variant = VARIANTS[name]
    return variant.design.factory(load_metric(variant.base, device, seed)).to(device)
