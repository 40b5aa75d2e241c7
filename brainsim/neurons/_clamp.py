"""Voltage clamp of any unit."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ..base import check_parameter, parameter, unknown
from ..core import AbstractInput, AbstractUnit
from ._shared import filled


def _command(x: Any) -> Any:
    return x if isinstance(x, AbstractInput) else parameter(x)


class VoltageClamp(AbstractUnit):
    """Holds the potential of `unit` at a command and measures the current that this takes.

    Without the clamp `dv/dt = f(y, z, I)`; the clamp injects `i_clamp = -f / (df/dI)`, where `1 / (df/dI)` is the
    capacitance of units driven by a current (0 is returned for units whose v no current reaches directly). v jumps to
    the command at the start of a step, so capacitive transients are not part of it; everything else of the unit and its
    receptors flows on. It never spikes. Record it with `Trace("P.i_clamp")` (pA, the value at the end of each step;
    positive depolarises).

    **Arguments:** `unit`: the unit, with a variable `"v"`; `v_command`: mV; number, array (n,) or a waveform.
    """

    unit: AbstractUnit
    v_command: Any = eqx.field(converter=_command)

    def __check_init__(self) -> None:
        if not isinstance(self.unit, AbstractUnit):
            raise TypeError(
                f"VoltageClamp.unit is {self.unit!r}; expected a unit such as bs.LIF(). Pass an instance, not a class."
            )
        if not type(self.unit).structure.independent:
            raise ValueError(
                f"VoltageClamp.unit {type(self.unit).__name__} couples its units; expected independent ones."
            )
        if not isinstance(self.v_command, AbstractInput):
            check_parameter("VoltageClamp", "v_command", self.v_command)

    def init(self, n, clock):
        y, z = self.unit.init(n, clock)
        if "v" not in y:
            raise ValueError(f"VoltageClamp of {type(self.unit).__name__}: {unknown('state variable', 'v', y)}")
        command = self.v_command.init(n, clock) if isinstance(self.v_command, AbstractInput) else {}
        v, command = self._value(command, n, clock)
        return {**y, "v": v}, {**z, "i_clamp": filled(0.0, n), "command": command}

    def _value(self, state, n, clock):
        if isinstance(self.v_command, AbstractInput):
            v, state = self.v_command.value(state, n, clock)
            return filled(v, n), state
        return filled(self.v_command, n), state

    def _inner(self, z):
        return {name: x for name, x in z.items() if name not in ("i_clamp", "command")}

    def vector_field(self, y, z, inp):
        dy = self.unit.vector_field(y, self._inner(z), inp)
        return {**dy, "v": jnp.zeros_like(dy["v"])}

    def reset(self, y, z, s, inp, clock):
        inner = self._inner(z)
        inp = jnp.broadcast_to(inp, y["v"].shape)

        def free(current):
            return self.unit.vector_field(y, inner, current)["v"]

        f, slope = jax.jvp(free, (inp,), (jnp.ones_like(inp),))
        driven = slope != 0
        i_clamp = jnp.where(driven, -f / jnp.where(driven, slope, jnp.ones_like(slope)), jnp.zeros_like(f))
        y, inner = self.unit.reset(y, inner, jnp.zeros_like(s), inp, clock)
        following = dataclasses.replace(clock, n=clock.n + 1, run_key=clock.key, name="")
        v, command = self._value(z["command"], y["v"].shape[0], following)
        return {**y, "v": v}, {**inner, "i_clamp": i_clamp, "command": command}
