"""Units, inputs and resets made at random from a seed.

`python -m tests.fusion.fuzz FIRST COUNT FILE` runs them, twenty to a network, and writes states and gradients.
With BRAINSIM_FUSION=off it must write the same, to rounding; see `test_fuzz`.
"""

import math
import random
import sys
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import brainsim as bs
from brainsim.base import Param, parameter
from brainsim.core import AbstractInput, AbstractUnit

N, STEPS, TOGETHER = 33, 12, 20
LARGE, WIDE = 97, 41  # one unit in so many has 2,000 operations, or 100 variables


class Expression:
    """Draws expressions of values of order 1: numbers of steps, counters, parameters, constants, states."""

    def __init__(self, seed: int, part: str, floats: list[Any], integers: list[Any]) -> None:
        self.rng, self.dtype = random.Random(f"{seed} {part}"), floats[0].dtype
        self.floats, self.integers = list(floats), list(integers)

    def constant(self) -> Any:
        return self.rng.choice([0.0, 0.25, 0.5, 1.0, -1.0, 1e-3, 3.0, self.rng.uniform(-2, 2), math.pi])

    def number(self) -> Any:
        x = self.rng.choice(self.floats) if self.rng.random() < 0.8 else jnp.asarray(self.constant(), self.dtype)
        return x

    def integer(self) -> Any:
        r, i, j = self.rng, self.rng.choice(self.integers), self.rng.choice(self.integers)
        k = r.choice([1, 2, 3, 7, 64])
        made = [
            lambda: i % k,
            lambda: i // k,
            lambda: i + j.astype(i.dtype),
            lambda: (i & 3) | k,
            lambda: i >> r.choice([0, 1, 2]),
            lambda: jnp.maximum(i, j),
            lambda: jnp.where(i < k * 2, i, j),
            lambda: jnp.abs(i - k),
        ]
        return r.choice(made)()

    def truth(self) -> Any:
        r = self.rng
        i, j, x, y = r.choice(self.integers), self.integer(), self.number(), self.number()
        k = r.choice([0, 3, 5])
        made = [
            lambda: i < k,
            lambda: i == j,
            lambda: j % 3 != 0,
            lambda: x > y + self.constant(),
            lambda: (i > k) & (x < 0.3),
            lambda: ~(i >= k) | (y > 0),
        ]
        return r.choice(made)()

    def step(self) -> Any:
        """One operation more."""
        r, x, y, z, c = self.rng, self.number(), self.number(), self.number(), self.constant()
        made = [
            lambda: x + y,
            lambda: x - y * z,
            lambda: x * y + z,
            lambda: c * x - y,
            lambda: x / (1.0 + y * y),
            lambda: jnp.exp(-jnp.abs(x)),
            lambda: jnp.tanh(x * c),
            lambda: jnp.log1p(jnp.abs(x)),
            lambda: jnp.sqrt(jnp.abs(x) + 0.1),
            lambda: (jnp.abs(x) + 0.2) ** y,
            lambda: (jnp.abs(x) + 0.2) ** c,
            lambda: x**2 - c,
            lambda: jnp.maximum(x, c),
            lambda: jnp.minimum(x, y),
            lambda: jnp.clip(x, -0.5, jnp.abs(y)),
            lambda: jnp.sin(x * 3.0),
            lambda: jnp.cos(x - c),
            lambda: jax.nn.sigmoid(x),
            lambda: jnp.floor(x * 2.0 + 0.123),
            lambda: jnp.sign(x + 0.0123),
            lambda: jnp.expm1(jnp.clip(x, -1.0, 1.0)),
            lambda: jnp.where(self.truth(), x, y),
            lambda: jnp.where(self.truth(), jnp.asarray(c, self.dtype), jnp.asarray(self.constant(), self.dtype)),
            lambda: self.integer().astype(self.dtype) * 0.1,
            lambda: self.truth().astype(self.dtype) - x,
        ]
        out = r.choice(made)()
        if r.random() < 0.5:
            out = out / (1.0 + jnp.abs(out))
        self.floats.append(out)
        if r.random() < 0.2:
            self.integers.append(self.integer().astype(jnp.int32))
        return out

    def of(self, operations: int, shape: tuple[int, ...]) -> Any:
        total = self.number()
        for k in range(operations):
            x = self.step()
            total = x if k == 0 else total + 0.1 * x
        return jnp.broadcast_to(jnp.tanh(total), shape)


class Generated(AbstractUnit):
    """A unit made from a seed."""

    shared: Param = eqx.field(converter=parameter)
    each: Param = eqx.field(converter=parameter)
    seed: int = eqx.field(static=True)
    variables: int = eqx.field(static=True)
    operations: int = eqx.field(static=True)

    def _drawn(self, part: str, y: Any, z: Any, inp: Any, *more: Any) -> Expression:
        integers = [z["k"], *(x for x in more if jnp.issubdtype(x.dtype, jnp.integer))]
        floats = [self.shared, self.each, inp, *y.values(), *(x for x in more if jnp.issubdtype(x.dtype, jnp.floating))]
        return Expression(self.seed, part, floats, integers)

    def init(self, n, clock):
        y = {
            f"v{k or ''}": jnp.sin(jnp.arange(n) * 0.7 + k).astype(clock.dt.dtype) * 0.3 for k in range(self.variables)
        }
        return y, {"k": jnp.arange(n, dtype=jnp.int32) % 5}

    def vector_field(self, y, z, inp):
        drawn = self._drawn("flow", y, z, inp)
        flow = {name: drawn.of(max(self.operations // self.variables, 1), v.shape) - v for name, v in y.items()}
        return flow | {"v": flow["v"] + 0.01 * inp}  # an input that is not read is refused

    def guard(self, y, z):
        return y["v"] - 0.1 - 0.2 * self._drawn("guard", y, z, self.shared).of(2, y["v"].shape)

    def reset(self, y, z, s, inp, clock):
        drawn = self._drawn("reset", y, z, inp, s, clock.n, clock.dt)
        new = {name: v * (1 - s) + s * drawn.of(1, v.shape) + 0.01 * drawn.of(2, v.shape) for name, v in y.items()}
        hit = s > 0.5
        return new, {"k": jnp.where(hit, z["k"] + 1, (z["k"] + drawn.integer()) % 97).astype(jnp.int32)}


class GeneratedInput(AbstractInput):
    """A waveform made from a seed: one for all units, or one for each."""

    size: Param = eqx.field(converter=parameter)
    seed: int = eqx.field(static=True)

    def check(self, name, n):
        pass

    def init(self, n, clock):
        return {"x": jnp.zeros_like(self.size)}

    def value(self, z, n, clock):
        t = clock.n.astype(clock.dt.dtype) * 0.1
        drawn = Expression(self.seed, "input", [self.size, t, clock.dt, z["x"]], [clock.n])
        x = drawn.of(drawn.rng.choice([1, 3, 9]), self.size.shape)
        return x, {"x": 0.5 * x + 0.1 * z["x"]}


def network(seeds: range) -> tuple[bs.Network, dict[str, Any]]:
    nodes, edges = {}, {}
    for seed in seeds:
        rng = random.Random(seed)
        large, wide = seed % LARGE == LARGE - 1, seed % WIDE == WIDE - 1
        variables = 100 if wide else rng.choice([1, 1, 2, 3])
        operations = 2000 if large else rng.choice([1, 2, 5, 15]) * variables
        each = np.random.default_rng(seed).uniform(0.1, 1.0, N)
        unit = Generated(rng.uniform(0.1, 1.0), each, seed, 1 if large else variables, operations)
        nodes[f"P{seed}"] = bs.Population(unit, N, {"in": bs.Delta()})
        edges[f"E{seed}"] = bs.Projection(f"P{seed}", f"P{seed}.in", bs.FixedOutDegree(3), weight=0.05)
    inputs = {f"P{seed}": GeneratedInput(np.full(N, 0.7) if seed % 2 else 0.7, seed) for seed in seeds if seed % 3}
    return bs.Network(nodes, edges, key=jax.random.key(seeds[0])), inputs


def outcome(seeds: range) -> dict[str, np.ndarray]:
    """The states at the end, and of every fifth network the gradient of a sum of them by parameters, weights and
    inputs."""
    net, inputs = network(seeds)
    kw = dict(t1=STEPS * 0.1, dt=0.1, key=jax.random.key(1))

    def loss(changed):
        net, inputs = changed
        sol = bs.simulate(net, inputs=inputs, saveat=[bs.Trace(f"P{seeds[0]}.v", units=[1, 4])], **kw)
        ys = {name: node.y for name, node in sol.state.nodes.items()}
        return sum(jnp.sum(jnp.tanh(x)) for x in jax.tree.leaves(ys)), (ys, sol.recordings)

    if seeds[0] % (5 * TOGETHER):
        seen, slopes = loss((net, inputs))[1], None
    else:
        (_, seen), slopes = eqx.filter_jit(eqx.filter_value_and_grad(loss, has_aux=True))((net, inputs))
    leaves = jax.tree_util.tree_leaves_with_path((seen, slopes))
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in leaves}


if __name__ == "__main__":
    first, count, file = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    found: dict[str, np.ndarray] = {}
    for begin in range(first, first + count, TOGETHER):
        seeds = range(begin, min(begin + TOGETHER, first + count))
        print(seeds, flush=True)
        found |= {f"{begin}{path}": x for path, x in outcome(seeds).items()}
    np.savez(file, **found)
