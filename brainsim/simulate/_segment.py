"""A stretch of steps as one differentiable operation, whose weights are constants of its backward pass.

Transposing a scan adds the cotangent of everything the body closes over in every step. For weights that is a dense,
synapse-sized addition a step, however few events there were. So weights are left out of the linearised scan: with
$s_t$ what an edge sends in step t and $k$ its delays, a change $\\dot w$ of its weights changes what arrives,

$$\\dot x_{t + k_j,\\ \\mathrm{post}_j} \\mathrel{+}= s_{t,\\ \\mathrm{pre}_j} \\dot w_j,$$

and only through that the rest of the run. The derivative of a segment is that of the scan with $\\dot x$ added to the
arrivals (a probe, which has no primal value); transposed, it is one backward scan that yields the cotangents of all
arrivals, and one outer product over the rows that sent something.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from .. import fusion
from ..base import vary_with
from ..base.jax_internals import SymbolicZero, zero_from_primal
from ..core import ScheduledNetwork, ring_slot
from ..solvers import every

Step = Callable[..., tuple[Any, tuple[Any, Any]]]
"""`step((net, others), carry, row, probes) -> (carry, ((samples, counts), sent))` with `carry[0]` the `State`, as
`step_core` has it, to which a keyword `update` is handed on."""


def segment(
    step: Step, params: tuple[ScheduledNetwork, Any], carry: Any, xs: Any, length: int, undo: bool = True
) -> tuple[Any, Any]:
    """`(carry, ys)` of `length` times `step`, as `jax.lax.scan` would have it.

    Every array the step uses is in `params`, `carry` or `xs`. `undo`: in its backward pass what row programs have
    changed is brought back step by step (`fusion._undo`), not kept.
    """
    arrays, static = eqx.partition((params, carry, xs), eqx.is_array)
    leaves, tree = jax.tree.flatten(arrays)
    numbered: ScheduledNetwork = jax.tree.unflatten(tree, range(len(leaves)))[0][0]
    weights = {name: edge.weights for name, edge in numbered.edges.items() if edge.deferred}
    undo = undo and any(edge.learns for edge in numbered.edges.values())

    def body(*args):
        carry, (ys, sent) = step(*args)
        return carry, (ys, {name: sent[name] for name in weights})

    def whole(leaves):
        return eqx.combine(jax.tree.unflatten(tree, leaves), static)

    def scan(leaves, probes):
        params, carry, xs = whole(leaves)
        if undo:
            one = lambda params, c, x: body(params, c, *x)  # noqa: E731
            carry, (ys, sent) = fusion.undoing_scan(one, params, carry, (xs, probes), length)
        else:
            carry, (ys, sent) = jax.lax.scan(lambda c, x: body(params, c, *x), carry, (xs, probes), length=length)
        return (carry, ys), sent

    def arrivals(leaves, held, sent):
        """What arrives within the segment, and what is under way at its end, of `sent` over the weights `held`."""
        (net, (_, solvers, *_)), (state, *_), _ = whole(leaves)
        total = {}
        for name, numbers in weights.items():
            for k, d in zip(numbers, net.edges[name].deposits(sent[name]), strict=True):
                if k in held:
                    depth, width = state.inbox[d.node][d.port].shape
                    before = total.get((d.node, d.port), jnp.zeros((length + depth, width), d.value.dtype))
                    total[d.node, d.port] = d.add_all(before)
        # split, whose transpose is one copy: that of two slices is a sum of padded arrays
        halves = {to: jax.lax.split(x, (length, x.shape[0] - length)) for to, x in total.items()}
        within = {to: x for to, (x, _) in halves.items()}
        after = {to: in_ring(x, state.n + length, every(solvers[to[0]])) for to, (_, x) in halves.items()}
        return within, after

    played: list[bool] = []

    @jax.custom_jvp
    def run(*leaves):
        params, carry, xs = whole(leaves)

        def steps(carry, x):
            carry, (ys, _) = body(params, carry, x, {})
            return carry, ys

        return fusion.scan(steps, carry, xs, length, played.append)

    def rule(leaves, tangents):
        live = {k for k, t in enumerate(tangents) if type(t) is not SymbolicZero and eqx.is_inexact_array(leaves[k])}
        held = {k for numbers in weights.values() for k in numbers} & live
        moved = sorted(live - held)
        ports = sorted({numbered.edges[name].writes for name, numbers in weights.items() if held.intersection(numbers)})
        state = whole(leaves)[1][0]
        rings = [state.inbox[node][port] for node, port in ports]
        within = {to: jnp.zeros((length, ring.shape[1]), ring.dtype) for to, ring in zip(ports, rings, strict=True)}
        after = {to: jnp.zeros_like(ring) for to, ring in zip(ports, rings, strict=True)}
        within, after = vary_with((within, after), leaves)
        depends: list[bool] = []

        def moving(xs, within, after):
            # the weights are closed over: constants here, yet not for a derivative of this derivative
            ((state, *others), ys), sent = scan(_replaced(leaves, moved, xs), within)
            rings = [state.inbox[node][port] + x for (node, port), x in after.items()]
            state = eqx.tree_at(lambda s: [s.inbox[node][port] for node, port in after], state, rings)
            smooth, rest = eqx.partition(((state, *others), ys), eqx.is_inexact_array)
            return _noting(smooth, depends), (rest, sent)

        values, changes = [leaves[k] for k in moved], [tangents[k] for k in moved]
        if held:
            smooth, linear, (rest, sent) = jax.linearize(moving, values, within, after, has_aux=True)
            change = linear(changes, *arrivals(_replaced(leaves, sorted(held), tangents), held, sent))
        else:
            primals, zero = (values, within, after), (changes, within, after)
            smooth, change, (rest, _) = jax.jvp(moving, primals, zero, has_aux=True)
        flat, out = jax.tree.flatten(change)
        zeros = jax.tree.map(_no_change, smooth)
        flat = [t if d else z for t, d, z in zip(flat, depends, jax.tree.leaves(zeros), strict=True)]
        change = eqx.combine(jax.tree.unflatten(out, flat), jax.tree.map(_no_change, rest))
        # where vmap has asked `run` on which axis of what comes out the batch is, the value is that of `run`; its one
        # call is cheap, and what is left to XLA has the batch where the scan above has it; `call` keeps its derivative
        return fusion.call(run, *leaves) if any(played) else eqx.combine(smooth, rest), change

    run.defjvp(rule, symbolic_zeros=True)
    return run(*leaves)


def in_ring(rows: Any, n: Any, m: int) -> Any:
    """A ring of as many rows, with row j of `rows` where what arrives at step `n + j` is, of a node that runs once in
    `m` steps."""
    depth = rows.shape[0]
    if m == 1:
        return jnp.roll(rows, n % depth, 0)
    slots = jnp.broadcast_to(ring_slot(n + jnp.arange(depth, dtype=jnp.int32), depth, m), (depth,))
    return jnp.zeros_like(rows).at[slots].add(rows)


def _replaced(leaves, places, values):
    """`leaves` with those at `places` taken from `values`, which are as many, or in the same places."""
    full = list(leaves)
    for i, k in enumerate(places):
        full[k] = values[i] if len(values) == len(places) else values[k]
    return full


def _no_change(x):
    return zero_from_primal(x, symbolic_zeros=True)


def _noting(tree: Any, depends: list[bool]) -> Any:
    """`tree`, and in `depends`, once it has been differentiated, which of its leaves depend on what is perturbed.

    A scan without this knowledge would differentiate its whole carry.
    """
    flat, out = jax.tree.flatten(tree)
    depends[:] = [False] * len(flat)

    @jax.custom_jvp
    def same(*flat):
        return flat

    def rule(flat, tangents):
        depends[:] = [type(t) is not SymbolicZero for t in tangents]
        return flat, tangents

    same.defjvp(rule, symbolic_zeros=True)
    return jax.tree.unflatten(out, same(*flat))
