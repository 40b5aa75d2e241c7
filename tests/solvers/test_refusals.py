"""What is not taken is refused, with the node, the solver and the reason."""

import diffrax
import jax
import jax.numpy as jnp
import pytest

import brainsim as bs
from brainsim.solvers import REFUSED, SOLVERS, Substep

from .units import Geometric, Linear, Ring, network


def run(solver, **kw):
    return bs.simulate(network(Linear(), 2, **kw), t1=0.2, dt=0.1, solver=solver, key=jax.random.key(0))


def make(kind):
    arguments = {
        diffrax.HalfSolver: (diffrax.Euler(),),
        diffrax.ALIGN: (0.1,),
        diffrax.ShOULD: (0.1,),
        diffrax.QUICSORT: (0.1,),
    }
    return kind(*arguments.get(kind, ()))


@pytest.mark.parametrize("kind", REFUSED, ids=lambda k: k.__name__)
def test_refused_with_the_reason(kind):
    with pytest.raises(TypeError) as e:
        run(make(kind))
    message = str(e.value)
    assert f"The solver {kind.__name__} of node 'P' is refused" in message
    assert REFUSED[kind] in message
    assert "Use " in REFUSED[kind]


def test_every_solver_of_diffrax_is_decided_upon():
    kinds = {x for x in vars(diffrax).values() if isinstance(x, type) and issubclass(x, diffrax.AbstractSolver)}
    concrete = {k for k in kinds if not k.__name__.startswith("Abstract")}
    assert concrete - set(SOLVERS) - set(REFUSED) == set()


def test_a_solver_nobody_has_tested_is_refused():
    class Mine(diffrax.Euler):
        pass

    with pytest.raises(TypeError, match="Mine of node 'P' is refused: it is not tested in steps of local time"):
        run(Mine())


@pytest.mark.parametrize("kind", [k for k, r in SOLVERS.items() if r.sense is None], ids=lambda k: k.__name__)
def test_noise_needs_a_solver_that_takes_it(kind):
    with pytest.raises(TypeError, match=r"node 'P' is refused: the node is noisy and it takes no noise.*Euler \(Ito\)"):
        run(kind(), noise=Geometric(jnp.asarray(0.1)))
    with pytest.raises(TypeError, match="the node is noisy"):
        run(Substep(kind(), 2), noise=Geometric(jnp.asarray(0.1)))


@pytest.mark.parametrize("solver", [None, bs.ExponentialEuler(), diffrax.ItoMilstein()])
def test_coupled_nodes_need_a_solver_for_them(solver):
    with pytest.raises(TypeError, match=r"'P' is refused: the units of this node flow together.*Heun\(\)"):
        bs.simulate(network(Ring(), 3), t1=0.2, dt=0.1, solver=solver, key=jax.random.key(0))


@pytest.mark.parametrize("solver", [diffrax.Euler, "Euler", 3])
def test_not_a_solver(solver):
    with pytest.raises(TypeError, match=r"solver of node 'P' is .*expected an instance"):
        run(solver)


def test_substep_checks_its_arguments():
    with pytest.raises(ValueError, match=r"Substep\.m is 0"):
        Substep(diffrax.Euler(), 0)
    with pytest.raises(TypeError, match=r"Substep\.solver is"):
        Substep(diffrax.Euler, 2)
    with pytest.raises(TypeError, match="LeapfrogMidpoint of node 'P' is refused"):
        run(Substep(diffrax.LeapfrogMidpoint(), 2))


def test_root_finder_without_tolerances_takes_the_default_and_others_are_kept():
    assert run(diffrax.Kvaerno3(root_finder=diffrax.VeryChord(rtol=1e-3, atol=1e-3))).flags["P"][0] == 0
