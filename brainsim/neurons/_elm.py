"""The Expressive Leaky Memory neuron: a trainable stand-in for a whole biophysical cell.

No `AbstractUnit`: it has synapses of its own and no solver moves it. It keeps the pattern of a pure `init` and `step`.
"""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..base import Key, float_dtype

_SLOPE, _HEIGHT = 2.0 / 3.0, 1.7159


class ELM(eqx.Module):
    """A neuron whose branches sum filtered synapses, and whose memory units of many time constants are updated by one
    small network:

    `s = exp(-dt / tau_s) s + max(w_s, 0) x`, `b = sum of s over each branch`, `k = exp(-dt / tau_m)`,
    `d = 1.7159 tanh(2/3 (w_2 max(w_1 [b, k m] + b_1, 0) + b_2))`, `m = k m + lam (1 - k) d`, `y = w_y m + b_y`.

    Source: Spieler et al. 2024, arXiv:2306.16922 (Branch-ELM), with `lam (1 - k)` as in the authors' second version.

    **Arguments:**

    - `inputs`: number of inputs; inhibitory ones are given as negative events.
    - `branches`, `memory`, `outputs`: how many there are.
    - `synapses`: (branches, n), the input of every synapse, -1 for none; default: the inputs in order, each once.
    - `tau_m`: time constants of the memory units (ms), (memory,); default: logarithmically from 1 to 150.
    - `tau_s`: of the synapses (ms), number or (branches, n).
    - `hidden`: units of the hidden layer; default `2 memory`.

    !!! Example

            >>> import brainsim as bs, jax, jax.numpy as jnp
            >>> cell = bs.ELM(12, branches=3, memory=5, outputs=2, key=jax.random.key(0))
            >>> cell(jnp.ones((100, 12))).shape  # one row of outputs a step
            (100, 2)
    """

    w_s: Float[Array, "branches n"]
    tau_s: Float[Array, "branches n"]
    tau_m: Float[Array, " memory"]
    w_1: Float[Array, "hidden branches+memory"]
    b_1: Float[Array, " hidden"]
    w_2: Float[Array, "memory hidden"]
    b_2: Float[Array, " memory"]
    w_y: Float[Array, "outputs memory"]
    b_y: Float[Array, " outputs"]
    synapses: Int[Array, "branches n"]
    lam: float = eqx.field(static=True, default=5.0)
    dt: float = eqx.field(static=True, default=1.0)

    def __init__(
        self,
        inputs: int,
        *,
        branches: int,
        memory: int,
        outputs: int,
        key: Key,
        synapses: Any = None,
        tau_m: Any = None,
        tau_s: Any = 5.0,
        hidden: int | None = None,
        lam: float = 5.0,
        dt: float = 1.0,
    ) -> None:
        for name, number in (("inputs", inputs), ("branches", branches), ("memory", memory), ("outputs", outputs)):
            if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 1:
                raise ValueError(f"ELM.{name} is {number!r}; expected a whole number >= 1.")
        if synapses is None:
            per = -(-inputs // branches)
            synapses = np.where(np.arange(branches * per) < inputs, np.arange(branches * per), -1).reshape(
                branches, per
            )
        table = np.asarray(synapses)
        if table.ndim != 2 or table.shape[0] != branches or not np.issubdtype(table.dtype, np.integer):
            raise ValueError(f"ELM.synapses has shape {table.shape}; expected ({branches}, n) numbers of inputs.")
        if table.size and (table.min() < -1 or table.max() >= inputs):
            raise ValueError(f"ELM.synapses names inputs {table.min()} to {table.max()}; expected -1 to {inputs - 1}.")
        tau_m = np.geomspace(1.0, 150.0, memory) if tau_m is None else np.asarray(tau_m)
        if tau_m.shape != (memory,):
            raise ValueError(f"ELM.tau_m has shape {tau_m.shape}; expected ({memory},), one per memory unit.")
        for name, tau in (("tau_m", tau_m), ("tau_s", np.asarray(tau_s)), ("dt", np.asarray(dt))):
            if not np.all(tau > 0):
                raise ValueError(f"ELM.{name} is {tau}; expected numbers > 0 (ms).")
        hidden = 2 * memory if hidden is None else hidden
        kind, keys = float_dtype(), jax.random.split(key, 6)

        def uniform(key: Key, *shape: int, fan: int) -> Array:
            return jax.random.uniform(key, shape, kind, -1.0, 1.0) / np.asarray(np.sqrt(fan), kind)

        self.synapses = jnp.asarray(table, jnp.int32)
        self.w_s = jnp.full(table.shape, 0.5, kind)
        self.tau_s = jnp.broadcast_to(jnp.asarray(tau_s, kind), table.shape)
        self.tau_m = jnp.asarray(tau_m, kind)
        self.w_1 = uniform(keys[0], hidden, branches + memory, fan=branches + memory)
        self.b_1 = uniform(keys[1], hidden, fan=branches + memory)
        self.w_2 = uniform(keys[2], memory, hidden, fan=hidden)
        self.b_2 = uniform(keys[3], memory, fan=hidden)
        self.w_y = uniform(keys[4], outputs, memory, fan=memory)
        self.b_y = uniform(keys[5], outputs, fan=memory)
        self.lam, self.dt = float(lam), float(dt)

    @staticmethod
    def of_weights(
        weights: Mapping[str, np.ndarray], *, inputs: int, branches: int, tau_range: tuple[float, float] = (1.0, 150.0)
    ) -> "ELM":
        """The neuron with weights as the authors release them, under their names (`_proto_w_s`, `mlp.network.0.weight`,
        ...); `tau_range`: the bounds (ms) between which a sigmoid of `_proto_tau_m` lies. Made for a step of 1 ms."""
        proto = np.asarray(weights["_proto_tau_m"], np.float64)
        low, high = tau_range
        shape = branches, -1
        table = np.where(weights["valid_indices_mask"], weights["input_to_synapse_indices"], -1).reshape(shape)
        w_y = weights["w_y.weight"]
        bare = ELM(
            inputs,
            branches=branches,
            memory=proto.size,
            outputs=w_y.shape[0],
            key=jax.random.key(0),
            synapses=table,
            tau_m=low + (high - low) / (1.0 + np.exp(-proto)),
            tau_s=weights["tau_s"].reshape(shape),
            hidden=weights["mlp.network.0.bias"].size,
        )
        names = {"w_1": "mlp.network.0.weight", "b_1": "mlp.network.0.bias", "w_2": "mlp.network.2.weight"}
        names |= {"b_2": "mlp.network.2.bias", "w_y": "w_y.weight", "b_y": "w_y.bias"}
        given = [weights["_proto_w_s"].reshape(shape), *(weights[name] for name in names.values())]
        given = [jnp.asarray(x, float_dtype()) for x in given]
        return eqx.tree_at(lambda cell: [cell.w_s, *(getattr(cell, name) for name in names)], bare, given)

    def init(self) -> tuple[Float[Array, "branches n"], Float[Array, " memory"]]:
        """The state `(s, m)` without any input so far."""
        return jnp.zeros_like(self.w_s), jnp.zeros_like(self.tau_m)

    def step(self, state: Any, x: Float[Array, " inputs"]) -> tuple[Any, Float[Array, " outputs"]]:
        """`(state, y)` after a step of `dt` with the events `x`: +1 excitatory, -1 inhibitory."""
        s, m = state
        routed = jnp.where(self.synapses >= 0, x[self.synapses], jnp.zeros((), x.dtype))
        s = jnp.exp(-self.dt / self.tau_s) * s + jax.nn.relu(self.w_s) * routed
        k = jnp.exp(-self.dt / self.tau_m)
        hidden = jax.nn.relu(self.w_1 @ jnp.concatenate([jnp.sum(s, 1), k * m]) + self.b_1)
        d = _HEIGHT * jnp.tanh(_SLOPE * (self.w_2 @ hidden + self.b_2))
        m = k * m + self.lam * (1.0 - k) * d
        return (s, m), self.w_y @ m + self.b_y

    def __call__(self, x: Float[Array, "steps inputs"], state: Any = None) -> Float[Array, "steps outputs"]:
        """The outputs of every step, from rest or from `state`."""
        return jax.lax.scan(lambda state, x: self.step(state, x), self.init() if state is None else state, x)[1]
