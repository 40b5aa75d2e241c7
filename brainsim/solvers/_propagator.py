"""A step that is exact where unit and receptors flow linearly, of second order where synapses meet what does not."""

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from diffrax import RESULTS
from jaxtyping import Array, Bool

from ..base.jax_internals import Jaxpr, partial_eval as pe
from ..core import AbstractNode
from ._exponential_euler import phi1
from ._phi import Matrix, phis, product


class Field(eqx.Module):
    """The vector field of a node in one step, as a term of a solver has it; `z` and `inp` are constant."""

    node: AbstractNode
    z: Any
    inp: Array

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return self.node.vector_field(y, self.z, self.inp)

    def free(self, y: Any, z: Any, inp: Any) -> Any:
        """The field without its clamps, of any discrete state and input."""
        return self.node.free_field(y, z, inp)

    def held(self, y: Any) -> dict[int, Bool[Array, " n"]]:
        """By number of a leaf of `y`: where it is clamped."""
        masks = jax.tree.leaves(self.node.held(y, self.z), is_leaf=lambda x: x is None)
        return {k: mask for k, mask in enumerate(masks) if mask is not None}


class Layout(NamedTuple):
    """How the flowing variables of a node depend on one another; they go by their numbers among the leaves of `y`.

    `linear`: those that are stepped by the matrix exponential. `others`: the others, in the order in which they are
    stepped. `rates`: of the linear ones, which depends on which. `alike`: those of `rates` that are one number.
    """

    linear: tuple[int, ...]
    others: tuple[int, ...]
    rates: tuple[tuple[int, int], ...]
    alike: frozenset[tuple[int, int]]


class Propagated(eqx.Module):
    """What a run with steps of `dt` knows of a node from its start on.

    `rates`: the matrix A of the linear variables. `move`: `dt phi1(A dt)`. `mean`: `dt phi2(A dt)`.
    """

    layout: Layout = eqx.field(static=True)
    rates: Matrix
    move: Matrix
    mean: Matrix


def _depends(jaxpr: Jaxpr, output: int) -> tuple[list[bool], Jaxpr]:
    """Which operands an output is computed from, and its program."""
    cut, used = pe.dce_jaxpr(jaxpr, [k == output for k in range(len(jaxpr.outvars))])
    return list(used), cut


def _aval(v: Any) -> Any:
    return v.aval


_ROUNDS = ("sign", "floor", "ceil", "round")


def _chooses(jaxpr: Jaxpr, moved: set[Any]) -> bool:
    """Whether a program compares or rounds what depends on `moved`: its derivative does not show that."""
    moved = set(moved)
    for eqn in jaxpr.eqns:
        hit = [not hasattr(v, "val") and v in moved for v in eqn.invars]
        if not any(hit):
            continue
        if eqn.primitive.name in _ROUNDS or any(not jnp.issubdtype(_aval(v).dtype, jnp.inexact) for v in eqn.outvars):
            return True
        for inner in (x for x in eqn.params.values() if hasattr(x, "eqns") or hasattr(x, "jaxpr")):
            inner = getattr(inner, "jaxpr", inner)
            alike = len(inner.invars) == len(hit)
            if _chooses(inner, {v for k, v in enumerate(inner.invars) if not alike or hit[k]}):
                return True
        moved |= set(eqn.outvars)
    return False


def _one_number(cut: Jaxpr) -> bool:
    """Whether an elementwise program whose operands are not read has the same result for all units."""
    read = {v for eqn in cut.eqns for v in eqn.invars if not hasattr(v, "val")} | set(cut.outvars)
    return all(not _aval(v).shape for v in cut.constvars if v in read) and "iota" not in str(cut)


def layout_of(field: Field, y: Any) -> Layout:
    """The layout of `field`, read from its program and not from its values."""
    leaves, tree = jax.tree.flatten(y)
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(y)]
    m, (z, inp) = len(leaves), (field.z, field.inp)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), x.dtype), (leaves, z, inp))

    def whole(leaves, z, inp):
        return jax.tree.leaves(field.free(jax.tree.unflatten(tree, leaves), z, inp))

    program = jax.make_jaxpr(whole)(*shapes).jaxpr
    reads = [{l for l, used in enumerate(_depends(program, k)[0][:m]) if used} for k in range(m)]
    steady, alike = [len(x.shape) == 1 for x in leaves], set()
    for k in range(m):
        used, cut = _depends(program, k)
        at = [i for i, use in enumerate(used) if use]
        steady[k] &= not _chooses(cut, {v for v, i in zip(cut.invars, at, strict=True) if i < m})
    for l in range(m):

        def along(leaves, z, inp, tangent, l=l):
            part = lambda x: whole([*leaves[:l], x, *leaves[l + 1 :]], z, inp)  # noqa: E731
            return jax.jvp(part, (leaves[l],), (tangent,))[1]

        program = jax.make_jaxpr(along)(*shapes, shapes[0][l]).jaxpr
        for k in range(m):
            if l not in reads[k]:
                continue
            used, cut = _depends(program, k)
            steady[k] &= used[-1] and not any(used[:-1])
            if _one_number(cut):
                alike.add((k, l))
    clamped = field.held(y)
    for k in clamped:  # what a clamped variable moves would need the matrix of its clamped unit
        steady[k] &= not any(k in reads[i] for i in range(m) if i != k)
    linear = {k for k in range(m) if steady[k]}
    while bad := {k for k in linear if not reads[k] <= linear}:
        linear -= bad
    # ports before the unit, whose potential comes last
    last = lambda k: (paths[k][0] == jax.tree_util.DictKey("unit"), paths[k][-1] == jax.tree_util.DictKey("v"))  # noqa: E731
    others = sorted((k for k in range(m) if k not in linear), key=last)
    rates = sorted((k, l) for k in linear for l in reads[k] | {k})
    alike |= {(k, k) for k in linear if k not in reads[k]}
    return Layout(tuple(sorted(linear)), tuple(others), tuple(rates), frozenset(alike & set(rates)))


def propagated(field: Field, y: Any, dt: Any) -> Propagated:
    """What steps of `dt` need to know of `field`."""
    layout = layout_of(field, y)
    leaves, tree = jax.tree.flatten(y)
    rates: Matrix = {}
    for k, l in layout.rates:

        def part(x, k=k, l=l):
            moved = jax.tree.unflatten(tree, [*leaves[:l], x, *leaves[l + 1 :]])
            return jax.tree.leaves(field.free(moved, field.z, field.inp))[k]

        rate = jax.jvp(part, (leaves[l],), (jnp.ones_like(leaves[l]),))[1]
        rates[k, l] = rate[0] if (k, l) in layout.alike and rate.shape[0] else rate
    if not rates:
        return Propagated(layout, {}, {}, {})
    first, second = phis({kl: dt * x for kl, x in rates.items()})
    move, mean = ({kl: dt * x for kl, x in m.items()} for m in (first, second))
    return Propagated(layout, rates, move, mean if layout.others else {})


@jax.custom_jvp
def _along(dt: Array, rates: Matrix, move: Matrix, mean: Matrix) -> tuple[Matrix, Matrix]:
    """`(move, mean)`, with their derivatives by the length of the step."""
    return move, mean


@_along.defjvp
def _along_jvp(primals: Any, tangents: Any) -> Any:
    dt, rates, move, mean = primals
    ddt, _, *moves = tangents
    grown = product(rates, move)
    slope = {(k, l): grown.get((k, l), 0.0) + (1.0 if k == l else 0.0) for k, l in move}
    drift = {kl: (move[kl] - x) * (1.0 / dt) for kl, x in mean.items()}
    new = [
        {kl: t + (jnp.asarray(s[kl], t.dtype) * ddt).astype(t.dtype) for kl, t in m.items()}
        for m, s in zip(moves, (slope, drift), strict=True)
    ]
    return (move, mean), tuple(new)


def _summed(matrix: Matrix, k: int, field: dict[int, Array]) -> Array:
    """Row `k` of `matrix field`."""
    terms = [matrix[k, l] * f for l, f in field.items() if (k, l) in matrix]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


class Propagator(diffrax.AbstractItoSolver):
    """Exact for what flows linearly, second order where it drives what does not.

    Of a unit with its receptors, the variables whose field is linear with constant rates and depends on such variables
    only take the exact step of `y' = A y + b` (Rotter & Diesmann 1999),

    `y <- y + dt phi1(A dt) f(y)`, `phi1(Z) = (exp(Z) - 1) / Z`,

    with A found from the equations, one matrix per unit where parameters differ, made once at the start of a run:
    `LIF`, `CubaLIF`, `AdaptiveLIF` and `LeakyIntegrator` with `Delta` and receptors of currents, and the kinetics of
    all receptors. The others follow one after another, receptors first and v last, each by the exponential Euler step
    `y <- y + dt phi1(a dt) f`, a the derivative of its own field, with f taken at the step means
    `y + dt phi2(A dt) f(y)`, `phi2(Z) = (phi1(Z) - 1) / Z`, of the linear variables and the new values of those before
    it: one evaluation of the equations. A synaptic potential is then of order 2, and so is a firing rate; the values at
    a given time where gates and v drive one another are of order 1, as each is half a step ahead of the next.

    Noise is Ito, of strong order 0.5: each variable gets `sqrt(phi1(2 a dt)) g(y) dW`, exact in law where it is
    additive. What `held` of the unit clamps keeps its value. Source: Rotter & Diesmann 1999,
    doi:10.1007/s004220050570; Hochbruck & Ostermann 2010, doi:10.1017/S0962492910000048, eq. 1.5.
    """

    known: Propagated | None = None
    """What a run works out at its start; None: worked out in every step."""

    term_structure: ClassVar = diffrax.AbstractTerm
    interpolation_cls: ClassVar[Callable] = diffrax.LocalLinearInterpolation

    def order(self, terms):
        return 1

    def strong_order(self, terms):
        return 0.5

    def init(self, terms, t0, t1, y0, args):
        return None

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        del solver_state, made_jump
        drift, noise = terms.terms if isinstance(terms, diffrax.MultiTerm) else (terms, None)
        field, dt = drift.vector_field, t1 - t0
        known = self.known if self.known is not None else propagated(field, y0, dt)
        leaves, tree = jax.tree.flatten(y0)
        clamped = field.held(y0)
        after, mid, own = dict(enumerate(leaves)), dict(enumerate(leaves)), {}

        def free(values: dict[int, Array], only: Iterable[int]) -> dict[int, Array]:
            f = jax.tree.leaves(field.free(jax.tree.unflatten(tree, [values[k] for k in range(len(leaves))]), *fixed))
            return {k: f[k] for k in only}

        fixed = field.z, field.inp
        move, mean = _along(dt, known.rates, known.move, known.mean)
        f = free(mid, known.layout.linear)
        for k in known.layout.linear:
            own[k] = known.rates[k, k]
            after[k] = leaves[k] + _summed(move, k, f)
            if mean:
                mid[k] = leaves[k] + _summed(mean, k, f)
        for k in known.layout.others:
            part = lambda x, k=k: free(mid | {k: x}, [k])[k]  # noqa: E731
            f_k, own[k] = jax.jvp(part, (leaves[k],), (jnp.ones_like(leaves[k]),))
            after[k] = leaves[k] + dt * phi1(own[k] * dt) * f_k
            if k in clamped:
                after[k] = jnp.where(clamped[k], leaves[k], after[k])
            mid[k] = after[k]
        for k in known.layout.linear:
            if k in clamped:
                after[k] = jnp.where(clamped[k], leaves[k], after[k])
        y1 = jax.tree.unflatten(tree, [after[k] for k in range(len(leaves))])
        if noise is not None:
            # the integral of exp(a (dt - s)) dW(s) has the variance dt phi1(2 a dt)
            scale = jax.tree.unflatten(tree, [jnp.sqrt(phi1(2 * own[k] * dt)) for k in range(len(leaves))])
            kick = noise.vf_prod(t0, y0, args, noise.contr(t0, t1))
            y1 = jax.tree.map(lambda y, c, k: y + c * k, y1, scale, kick)
        return y1, None, {"y0": y0, "y1": y1}, None, RESULTS.successful

    def func(self, terms, t0, y0, args):
        return terms.vf(t0, y0, args)
