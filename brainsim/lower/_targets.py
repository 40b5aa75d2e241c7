"""Chips as data: limits, widths, grid and energy coefficients, each with its unit, source and grade."""

import dataclasses
import enum
from collections.abc import Mapping

from ._dialects import LOIHI, Dialect, Rounding


class Grade(enum.Enum):
    """How far a figure can be trusted."""

    VERIFIED = "verified"
    """Checked against recordings of the chip, or by running the vendor's code."""
    READ = "read in code"
    """Read in a public source file, which the vendor or a peer maintains."""
    SECOND_HAND = "second-hand"
    """Quoted from a paper or a page by another source."""
    UNVERIFIED = "unverified"
    """Sources disagree, or say themselves that the figure is to be checked; the safe value stands."""


@dataclasses.dataclass(frozen=True)
class Fact:
    """One figure of a chip."""

    value: float
    unit: str
    source: str
    grade: Grade

    def __str__(self) -> str:
        return f"{self.value:g} {self.unit} ({self.grade.value}: {self.source})"


@dataclasses.dataclass(frozen=True, eq=False)
class Target:
    """A chip.

    `limits` are by the id of the rule that a network must keep, `widths` by register, `grid` by what there is how many
    of, `energy` and `latency` by table and event: tables of different origin count different events, so none are mixed.
    """

    name: str
    about: str
    dialect: Dialect | None
    """Integer rules of its CUBA LIF cells; None where it computes in floating point."""
    limits: Mapping[str, Fact]
    widths: Mapping[str, Fact]
    grid: Mapping[str, Fact]
    energy: Mapping[str, Mapping[str, Fact]]
    latency: Mapping[str, Mapping[str, Fact]] = dataclasses.field(default_factory=dict)
    rounding: Rounding = Rounding.NEAREST
    """How weights become whole numbers where cells are in floating point."""

    @property
    def cores(self) -> int:
        """Cores of a chip; 1 where no limit says how many."""
        return next((int(x.value) for rule, x in self.limits.items() if rule.endswith(("-CORES", "-PE"))), 1)


_BLOCK = "nengo-loihi 1.1.0, block.py"
_CONFIG = "nengo-loihi 1.1.0, block.py, SynapseConfig"
_REGISTERS = "nengo-loihi 1.1.0, hardware/nxsdk_objects.py"
_VALIDATE = "nengo-loihi 1.1.0, hardware/validate.py, which says 'check these numbers'"
_DAVIES = "Davies et al. 2018, doi:10.1109/MM.2018.112130359, table 2: minima before silicon, as quoted elsewhere"
_SANA = "SANA-FE 2.2.9, arch/loihi.yaml: a fit to power measurements, not of the vendor"
_LAVA = "lava-nc 0.10.0, magma/compiler/subcompilers/constants.py"
_PAGE = "open-neuromorphic.org, page on Loihi 2"
_S2 = "SpiNNMachine, version 2 of the chip"


def _read(value: float, unit: str, source: str) -> Fact:
    return Fact(value, unit, source, Grade.READ)


def _heard(value: float, unit: str, source: str) -> Fact:
    return Fact(value, unit, source, Grade.SECOND_HAND)


def _unsure(value: float, unit: str, source: str) -> Fact:
    return Fact(value, unit, source, Grade.UNVERIFIED)


_CUBA_WIDTHS = {
    "u, v": _read(24, "bits, sign included", "lava-nc 0.10.0, proc/lif/models.py; nengo-loihi 1.1.0, discretize.py"),
    "decay_u, decay_v": Fact(12, "bits", "lava-nc 0.10.0 and nengo-loihi 1.1.0, words compared", Grade.VERIFIED),
    "threshold": _read(17, "bits, times 2^6", "lava-nc 0.10.0, proc/lif/models.py"),
    "bias mantissa": _read(13, "bits, sign included", "lava-nc 0.10.0, proc/lif/models.py"),
    "bias exponent": _read(3, "bits", "lava-nc 0.10.0, proc/lif/models.py"),
    "weight mantissa": _read(8, "bits, 9 with both signs on an even grid", _CONFIG),
    "weight exponent": _read(4, "bits, sign included", "brian2-loihi 0.5.2, loihi_synapses.py"),
    "delay": _read(6, "bits", "lava-nc 0.10.0, proc/dense/models.py"),
    "refractory": _read(6, "bits, 1 to 64 steps", _REGISTERS),
}

LOIHI1 = Target(
    "loihi1",
    "Intel Loihi (2018): 14 nm, asynchronous, fixed CUBA LIF cells",
    LOIHI,
    limits={
        "L1-COMP": _read(1024, "compartments a core", _BLOCK),
        "L1-IN": _read(4096, "input axons a core", _BLOCK),
        "L1-OUT": _read(4096, "output axons a core", _BLOCK),
        "L1-SYN": _read(16_384, "words of 64 bits of synapses a core", _BLOCK),
        "L1-CFG": _read(32, "tuples (decay_u, decay_v, refractory) a core", f"{_VALIDATE}; {_REGISTERS}"),
        "L1-VTH": _unsure(8, "thresholds a core", f"8 in {_REGISTERS}, 16 in {_VALIDATE}"),
        "L1-FMT": _unsure(8, "synapse formats a core", f"8 in {_REGISTERS}, 16 in {_VALIDATE}"),
        "L1-DELAY": _heard(62, "steps, with fewer compartments above 8", "Davies et al. 2018, p. 92, as quoted"),
        "L1-CORES": _read(128, "cores a chip", _SANA),
    },
    widths=_CUBA_WIDTHS,
    grid={
        "tiles, x": _read(8, "", _SANA),
        "tiles, y": _read(4, "", _SANA),
        "cores a tile": _read(4, "", _SANA),
    },
    energy={
        "davies": {
            "synaptic event": _heard(23.6, "pJ", _DAVIES),
            "neuron, active": _heard(81.0, "pJ", _DAVIES),
            "neuron, inactive": _heard(52.0, "pJ", _DAVIES),
            "spike within a tile": _heard(1.7, "pJ", _DAVIES),
            "hop east-west": _heard(3.0, "pJ", _DAVIES),
            "hop north-south": _heard(4.0, "pJ", _DAVIES),
        },
        "sana-fe": {
            "synaptic event": _read(35.5, "pJ", _SANA),
            "neuron, accessed": _read(51.2, "pJ", _SANA),
            "neuron, updated": _read(21.6, "pJ", _SANA),
            "neuron, spiked": _read(69.3, "pJ", _SANA),
            "packet": _read(111.0, "pJ", _SANA),
            "hop east-west": _read(3.0, "pJ", _SANA),
            "hop north-south": _read(4.2, "pJ", _SANA),
        },
    },
    latency={
        "sana-fe": {
            "synaptic event": _read(3.8, "ns", _SANA),
            "neuron, accessed": _read(6.0, "ns", _SANA),
            "neuron, updated": _read(3.7, "ns", _SANA),
            "neuron, spiked": _read(30.0, "ns", _SANA),
            "packet, sent": _read(5.1, "ns", _SANA),
            "packet, received": _read(16.0, "ns", _SANA),
            "hop east-west": _read(4.1, "ns", _SANA),
            "hop north-south": _read(6.5, "ns", _SANA),
            "barrier of 1 tile": _read(600.0, "ns", _SANA),
            "barrier of 2 tiles": _read(1000.0, "ns", _SANA),
            "barrier of 4 tiles": _read(1400.0, "ns", _SANA),
            "barrier of 29 tiles": _read(1800.0, "ns", _SANA),
        },
    },
)
"""Loihi 1."""

LOIHI2 = Target(
    "loihi2",
    "Intel Loihi 2 (2021): programmable cells, here its CUBA LIF",
    LOIHI,
    limits={
        "L2-COMP": _unsure(8192, "neurons a core", "secondary pages say about 8,000"),
        "L2-MEM": _unsure(192_000, "bytes a core", "secondary pages"),
        "L2-DELAY": _read(62, "steps", "lava-nc 0.10.0, proc/dense/models.py (63); one less, as on Loihi 1"),
        "L2-CORES": _read(120, "cores a chip, 128 on the page", f"{_LAVA}; {_PAGE}"),
        "L2-CHIP-COMP": _heard(1_000_000, "neurons a chip", _PAGE),
        "L2-CHIP-SYN": _heard(120_000_000, "synapses a chip", _PAGE),
    },
    widths=_CUBA_WIDTHS,
    grid={},
    energy={},
)
"""Loihi 2. No coefficient of its energy is published within reach."""

SPINNAKER2 = Target(
    "spinnaker2",
    "SpiNNaker 2 (2021): 152 ARM cores a chip; cells in float32, weights in int8",
    None,
    limits={
        "S2-PE": _read(152, "processing elements a chip", _S2),
        "S2-SRAM": _read(131_072, "bytes a processing element", _S2),
        "S2-ROUTES": _read(16_384, "router entries", _S2),
        "S2-REFRACTORY": _read(1, "step from a spike to the next", "py-spinnaker2: its LIF has no refractory period"),
    },
    widths={
        "weight": Fact(8, "bits, sign included, truncated at 127 / max |w|", "recorded rasters of NIR", Grade.VERIFIED),
        "u, v": _read(32, "bits, floating point", "py-spinnaker2, s2_nir.py"),
    },
    grid={},
    energy={
        "28 nm prototype": {
            "synaptic event": _read(450.0, "pJ", "keras-spiking, model_energy.py, citing arXiv 1903.08941"),
            "neuron": _read(2190.0, "pJ", "keras-spiking, model_energy.py, citing arXiv 1903.08941"),
        }
    },
    rounding=Rounding.TOWARD_ZERO,
)
"""SpiNNaker 2. The coefficients are those of a prototype; of the chip in production none is published within reach."""

IDEAL = Target(
    "ideal",
    "no chip: cells in floating point on one core without limits, weights as wide as asked for, up to float32",
    None,
    limits={},
    widths={"weight": Fact(24, "bits, sign included, to the nearest", "IEEE 754: float32", Grade.VERIFIED)},
    grid={},
    energy={},
)
"""What remains when nothing but the width of the weights is limited: to tell that from what a chip adds."""

TARGETS = {t.name: t for t in (LOIHI1, LOIHI2, SPINNAKER2, IDEAL)}
"""Targets by name."""
