"""The equations of one cell type, of one synaptic receptor and of one kind of noise: pure functions with parameters."""

import abc
import dataclasses
import enum
import inspect
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..base import Frozen, FrozenDict, check_parameter, float_dtype, parameter
from ._state import Clock


class Parametrised(Frozen):
    """A module whose non-static fields are parameters (finite floating arrays of shape () or (n,)) or modules.

    Numbers given by the user become JAX arrays, so that they can be differentiated and swept without compiling again.
    """

    def __post_init__(self) -> None:
        for name in self._parameters():
            object.__setattr__(self, name, parameter(getattr(self, name)))

    def __check_init__(self) -> None:
        for name in self._parameters():
            check_parameter(type(self).__name__, name, getattr(self, name))

    def _parameters(self) -> list[str]:
        """Names of the fields that are parameters; a field that is a module has checked its own."""
        fields = [f.name for f in dataclasses.fields(self) if not f.metadata.get("static", False)]
        return [name for name in fields if not isinstance(getattr(self, name), eqx.Module)]


class Structure(enum.Enum):
    """What the flow of a node couples, which decides how a solver inverts it and what may vectorise it.

    - `DIAGONAL`: units are independent, and so are the numbers that a unit has of one variable.
    - `BLOCK`: units are independent; of one variable a unit may have several numbers that flow together.
    - `OPERATOR`: units flow together.
    """

    DIAGONAL = "diagonal"
    BLOCK = "block"
    OPERATOR = "operator"

    @property
    def independent(self) -> bool:
        """Whether no unit flows with another."""
        return self is not Structure.OPERATOR


class AbstractUnit(Parametrised):
    """Equations of one cell type: a hybrid system that flows between spikes and jumps at them.

    `y` (flowing) and `z` (jumping) are dicts of arrays of shape (n,). A spike happens when `guard` is positive at the
    end of a step. A unit driven through conductances or recorded as a voltage calls its membrane potential `"v"`.
    Fields are parameters (numbers or arrays of shape (n,); of any shape where `structure` is `OPERATOR`, and then
    `check` is where to look at them); `static` fields may be anything.

    A unit without a `guard` has no spikes: no firing rate, no `Spikes`, and `reset` sees `s` = 0 in every step. What
    it sends over its edges is what `emit` returns, a graded value; without `emit` it sends nothing.

    A step that is too long for fast equations moves spikes without a flag: `bs.check_dt(net, dt)` runs every cell alone
    at dt and at half of it and says how far apart they are. Do that once for a cell of your own.

    Write `x * (1 / tau)` rather than `x / tau`: it is faster, and a run batched over `tau` then equals the single run
    bit for bit (XLA turns a division by a scalar into a product with its reciprocal in one and not always in the
    other).

    !!! Example
        ```python
        class LIF(bs.AbstractUnit):
            tau: float = 20.0  # ms

            def init(self, n, clock):
                return {"v": jnp.zeros(n)}, {}

            def vector_field(self, y, z, inp):
                return {"v": (inp - y["v"]) / self.tau}

            def guard(self, y, z):
                return y["v"] - 1.0

            def reset(self, y, z, s, inp, clock):
                return {"v": y["v"] * (1 - s)}, z
        ```
    """

    structure: ClassVar[Structure] = Structure.DIAGONAL
    default_solver: ClassVar[Any] = None
    """The solver of a run that names none; None: `ExponentialEuler()`."""
    in_steps: ClassVar[tuple[str, ...]] = ("t_ref",)
    """Parameters, where the unit has them, that are durations counted in steps (`clock.steps`): a run warns of those
    that its step does not divide."""
    rate_slope_off: ClassVar[dict[str, str]] = {}
    """Parameters in which the gradient of a firing rate is known to be off by more than a factor of 2, with the size it
    has ("2 to 3 times"): a run differentiated in them warns."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "elementwise" in cls.__dict__:
            raise TypeError(
                f"{cls.__name__}.elementwise is not read any more; expected a structure. Write structure = "
                "bs.Structure.OPERATOR where units flow together, and nothing where they do not."
            )

    def check(self, where: str, n: int) -> None:
        """Raise on parameters that do not fit `n` units; `where` names the population. For those of other shapes than
        () and (n,)."""
        del where, n

    @abc.abstractmethod
    def init(self, n: int, clock: Clock) -> tuple[dict, dict]:
        """Initial `(y, z)` of `n` units."""

    @abc.abstractmethod
    def vector_field(self, y: dict, z: dict, inp: Float[Array, " n"]) -> dict:
        """`dy/dt` in 1/ms, with `z` and the input current `inp` (pA) held constant during the step."""

    def guard(self, y: dict, z: dict) -> Float[Array, " n"] | None:
        """Positive where the unit spikes. None, the default: it has no spikes."""
        return None

    def emit(self, y: dict, z: dict, s: Float[Array, " n"]) -> Float[Array, " n"]:
        """What the unit sends at the end of a step, before `reset`; `s` is 1 where it spikes, 0 without a guard. The
        default is `s`; any other value is graded: 0 for silence, and no firing rate."""
        return s

    def reset(
        self, y: dict, z: dict, s: Float[Array, " n"], inp: Float[Array, " n"], clock: Clock
    ) -> tuple[dict, dict]:
        """`(y, z)` after the jump; `s` is 1 where the unit spiked. Called every step; the default changes nothing.
        Written with products of `s`, the reset is differentiable."""
        return y, z

    def held(self, z: dict) -> dict[str, Bool[Array, " n"]]:
        """Variables that nothing moves in this step and where: neither the flow, nor noise, nor what a receptor adds on
        arrival.

        For a refractory period in which a variable keeps its value. `vector_field` is that of the free unit: a solver
        may then work out once for a run what it needs of equations that do not change.
        """
        return {}


class AbstractReceptor(Parametrised):
    """Synaptic kinetics on the post side: what arrives at a port, how it decays, and the current it drives.

    `channels` is how many numbers per unit arrive (two for a gap junction). `conductance`: what arrives is added to a
    conductance, so that weights below 0 are refused. `at_end`: what arrives is added after the flow of the step that
    ends at its time, and the guard sees it at once; else at the start of the step that begins then.
    """

    channels: ClassVar[int] = 1
    conductance: ClassVar[bool] = False
    at_end = False
    variable: ClassVar[str] = "v"
    """The name of the unit's variable that the methods are given as `v`."""

    @abc.abstractmethod
    def init(self, n: int) -> dict:
        """Initial kinetic state."""

    @abc.abstractmethod
    def current(self, g: dict, v: Float[Array, " n"]) -> Float[Array, " n"]:
        """The current (pA) into the unit at potential `v` (mV). A receptor whose methods do not read `v` also serves
        units that have no variable of this name."""

    @abc.abstractmethod
    def vector_field(self, g: dict) -> dict:
        """`dg/dt` in 1/ms. A method `vector_field(self, g, v)` is given the potential (mV) too."""

    def flow(self, g: dict, v: Float[Array, " n"]) -> dict:
        """`vector_field` of `g`, or of `g` and `v` where its kinetics depend on the potential."""
        sees: Any = self.vector_field
        return sees(g, v) if len(inspect.signature(sees).parameters) > 1 else sees(g)

    @abc.abstractmethod
    def arrive(self, g: dict, dg: Float[Array, "..."], y_unit: dict) -> tuple[dict, dict]:
        """`(g, y_unit)` after the weighted sum `dg` of the arriving events."""


class AbstractNoise(Frozen):
    """Noise on the flow of a unit: `dy = f dt + diffusion dW`, independent for every variable and unit."""

    additive: ClassVar[bool] = False

    @abc.abstractmethod
    def diffusion(self, y: dict, z: dict) -> dict[str, Any]:
        """The noisy variables by name, each with its amplitude (unit of the variable per sqrt(ms))."""


class WhiteNoise(AbstractNoise):
    """Additive white noise, `dy_k = f_k dt + sigma_k dW_k`.

    **Arguments:** `sigma`: amplitude by variable name, in the variable's unit per sqrt(ms). For a leaky integrator with
    time constant `tau`, the stationary standard deviation is `sigma * sqrt(tau / 2)`.
    """

    additive: ClassVar[bool] = True
    sigma: dict[str, Any]

    def __init__(self, sigma: dict[str, Any]) -> None:
        if not isinstance(sigma, dict) or not sigma:
            raise TypeError(f"WhiteNoise.sigma is {sigma!r}; expected amplitudes by variable, e.g. {{'v': 0.5}}.")
        self.sigma = FrozenDict({name: parameter(value) for name, value in sigma.items()}, "WhiteNoise.sigma")
        for name, value in self.sigma.items():
            check_parameter("WhiteNoise", f"sigma[{name!r}]", value)

    def diffusion(self, y: dict, z: dict) -> dict[str, Any]:
        return {name: jnp.broadcast_to(s, y[name].shape).astype(float_dtype()) for name, s in self.sigma.items()}
