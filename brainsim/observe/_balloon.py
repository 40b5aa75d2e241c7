"""From activity to the BOLD signal: the balloon of Buxton with the vasodilatory signal of Friston."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..base import Param, float_dtype
from ..core import AbstractUnit


class Balloon(AbstractUnit):
    r"""Blood flow, volume and deoxyhaemoglobin of a region that its activity z drives:

    $$\dot s = z - \kappa s - \gamma (f - 1), \quad \dot f = s, \quad \tau \dot v = f - v^{1/\alpha}, \quad
    \tau \dot q = f\, \frac{1 - (1 - \rho)^{1/f}}{\rho} - v^{1/\alpha} \frac q v$$
    $$y = V_0 \left(k_1 (1 - q) + k_2 (1 - q / v) + k_3 (1 - v)\right)$$

    from rest (s = 0, f = v = q = 1). The variables are `s` and the logarithms `lf`, `lv`, `lq`, so that none gets
    below 0. Parameters are in seconds, as published; the equations in ms, as everywhere. Four sets that do not agree
    are in use: name the one you mean, `Balloon.friston_2003()`, `Balloon.stephan_2007()` or `Balloon.spm_2010()`.

    As a unit it is a node that an edge drives; `BOLD` records it and `bold` applies it to what was recorded. Its
    input z has no unit: z = 1 is a strong drive, and every model states its own scaling.

    Source: Buxton et al. 1998, doi:10.1002/mrm.1910390602; Friston et al. 2003, doi:10.1016/S1053-8119(03)00202-7.

    **Arguments:** `kappa`, `gamma`: decay of the signal and feedback of the flow (1/s); `tau`: transit time (s);
    `alpha`: stiffness; `rho`: resting oxygen extraction; `k1`, `k2`, `k3`, `V0`: of the output.
    """

    kappa: Param
    gamma: Param
    tau: Param
    alpha: Param
    rho: Param
    k1: Param
    k2: Param
    k3: Param
    V0: Param

    @classmethod
    def friston_2003(cls) -> "Balloon":
        """Prior means and output of Friston, Harrison & Penny 2003, doi:10.1016/S1053-8119(03)00202-7."""
        rho = 0.34
        return cls(0.65, 0.41, 0.98, 0.32, rho, k1=7 * rho, k2=2.0, k3=2 * rho - 0.2, V0=0.02)

    @classmethod
    def stephan_2007(cls, eps: float = 1.0) -> "Balloon":
        """The revised output of Stephan et al. 2007, doi:10.1016/j.neuroimage.2007.07.040, at 1.5 T (echo time 40 ms),
        on the dynamics of 2003; `eps`: ratio of intra- to extravascular signal."""
        return cls(0.65, 0.41, 0.98, 0.32, 0.34, V0=0.04, **_stephan(0.34, eps))

    @classmethod
    def spm_2010(cls) -> "Balloon":
        """The constants of SPM (revision 3705): transit time 2 s, an oxygen extraction of 0.34 in the dynamics and of
        0.4 in the output, which is in percent."""
        return cls(0.65, 0.41, 2.0, 0.32, 0.34, V0=8.0, **_stephan(0.4, 1.0))

    def init(self, n, clock):
        return self.rest((n,)), {}

    def rest(self, shape: tuple[int, ...]) -> dict:
        """The variables of as many regions at rest."""
        return {name: jnp.zeros(shape, float_dtype()) for name in ("s", "lf", "lv", "lq")}

    def vector_field(self, y, z, inp):
        s, f, v, q = y["s"], jnp.exp(y["lf"]), jnp.exp(y["lv"]), jnp.exp(y["lq"])
        out = jnp.exp(y["lv"] * (1.0 / self.alpha))
        extracted = (1.0 - jnp.exp(jnp.log1p(-self.rho) / f)) * (1.0 / self.rho)
        rate = 1.0 / self.tau
        field = {
            "s": inp - self.kappa * s - self.gamma * (f - 1.0),
            "lf": s / f,
            "lv": rate * (f - out) / v,
            "lq": rate * (f * extracted / q - out / v),
        }
        return {name: 1e-3 * x for name, x in field.items()}

    def step(self, y: dict, z: Float[Array, "..."], dt: float) -> dict:
        """The variables `dt` (ms) later, for an activity that is constant until then, by Heun's method of order 2."""
        k1 = self.vector_field(y, {}, z)
        k2 = self.vector_field(jax.tree.map(lambda a, b: a + dt * b, y, k1), {}, z)
        return jax.tree.map(lambda a, b, c: a + 0.5 * dt * (b + c), y, k1, k2)

    def signal(self, y: dict) -> Float[Array, "..."]:
        """The BOLD signal of the variables, a fraction (percent where `V0` is)."""
        v, q = jnp.exp(y["lv"]), jnp.exp(y["lq"])
        return self.V0 * (self.k1 * (1.0 - q) + self.k2 * (1.0 - q / v) + self.k3 * (1.0 - v))


def _stephan(rho: float, eps: float) -> dict[str, float]:
    """The factors of the output of Stephan et al. 2007: frequency offset 40.3 /s, slope 25 /s, echo time 0.04 s."""
    return {"k1": 4.3 * 40.3 * rho * 0.04, "k2": eps * 25.0 * rho * 0.04, "k3": 1.0 - eps}


def bold(z: Float[Array, "steps n"], *, dt: float, tr: float, balloon: Balloon | None = None) -> Array:
    """The BOLD signal of activity that is constant over each of its samples, by Heun's method of order 2.

    **Arguments:** `z`: activity, one row every `dt` (ms), (steps, n); 1 to 20 ms resolve the balloon, and activity that
    is faster is filtered first (`downsample`); `tr`: repetition time (ms), a multiple of `dt`; `balloon`: default
    `Balloon.friston_2003()`.

    **Returns:** the signal at the times tr, 2 tr, ..., shape (steps dt / tr, n). Differentiable, at a memory that grows
    with the number of volumes.

    **Raises:** ValueError where `dt` does not divide `tr`, or the samples do not fill one volume.

    !!! Example
        `sol = bs.simulate(net, ..., dt=0.1, saveat=[bs.Trace("R.S", every=100)])`, then
        `bs.observe.bold(sol["R.S"], dt=10.0, tr=720.0)`.
    """
    balloon = Balloon.friston_2003() if balloon is None else balloon
    z = jnp.asarray(z, float_dtype())
    if z.ndim != 2:
        raise ValueError(f"bold: z has shape {z.shape}; expected (steps, n), one row every dt.")
    per = round(tr / dt)
    if per < 1 or abs(per * dt - tr) > 1e-6 * tr:
        raise ValueError(f"bold: tr is {tr} ms and dt {dt} ms; expected a multiple of dt. Take tr={max(per, 1) * dt}.")
    volumes = z.shape[0] // per
    if not volumes:
        raise ValueError(f"bold: {z.shape[0]} samples of {dt} ms do not fill a volume of {tr} ms. Run for longer.")

    @jax.checkpoint
    def volume(y: Any, rows: Array) -> tuple[Any, Array]:
        y, _ = jax.lax.scan(lambda y, z: (balloon.step(y, z, dt), None), y, rows)
        return y, balloon.signal(y)

    return jax.lax.scan(volume, balloon.rest(z.shape[1:]), z[: volumes * per].reshape(volumes, per, -1))[1]
