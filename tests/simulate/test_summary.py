"""`summary` speaks of the run that is made, with its inputs and recordings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import brainsim as bs
from brainsim.fusion import unavailable
from brainsim.neurons import AbstractWaveform

kernels = pytest.mark.skipif(bool(unavailable()), reason=f"no kernels: {unavailable()}")


class Median(AbstractWaveform):
    """What is not played: a sort."""

    values: tuple[float, ...] = (3.0, 1.0, 2.0)

    def init(self, n, clock):
        return {}

    def check(self, name, n):
        pass

    def value(self, z, n, clock):
        return jnp.sort(jnp.stack([clock.dt * x for x in self.values]))[1], z


def steps(**kw):
    net = bs.Network({"P": bs.Population(bs.LIF(), 40)}, {}, key=jax.random.key(0))
    return bs.summary(net, **kw).steps


@kernels
@pytest.mark.core
def test_the_steps_are_those_of_the_run():
    assert steps() == "one call"
    sampled = [bs.Trace("P.v", units=[1, 2], every=5), bs.Spikes("P"), bs.Rate("P", every=10)]
    assert steps(saveat=sampled, inputs={"P": np.zeros((20, 40))}) == "one call"
    for wave in (bs.StepCurrent([1.0], [2.0]), bs.Sine(1.0, 5.0), bs.Sampled(np.ones(9), 1.0)):
        assert steps(saveat=sampled, inputs={"P": wave}) == "one call"
    assert steps(inputs={"P": Median()}) == "XLA (the operation 'sort' on arrays)"
    assert steps() == "one call"


@kernels
def test_what_has_been_run_is_looked_at_again():
    net = bs.Network({"P": bs.Population(bs.LIF(), 40)}, {}, key=jax.random.key(0))
    kw = dict(inputs={"P": Median()}, saveat=[bs.Trace("P.v")])
    bs.simulate(net, t1=0.2, key=jax.random.key(0), **kw)
    assert "sort" in bs.summary(net, **kw).steps


def test_what_does_not_fit_is_said_as_in_a_run():
    with pytest.raises(ValueError, match="'Q'"):
        steps(saveat=[bs.Spikes("Q")])
