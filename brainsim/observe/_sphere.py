"""Lead fields of a spherical head: what electrodes and magnetometers see of current dipoles."""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def _places(what: str, x: Any) -> np.ndarray:
    x = np.asarray(x, np.float64)
    if x.ndim != 2 or x.shape[1] != 3 or not np.all(np.isfinite(x)):
        raise ValueError(f"{what} has shape {x.shape}; expected finite (n, 3) coordinates in mm.")
    return x


def _along(lead: np.ndarray, orientations: Any) -> Array:
    """The lead field of dipoles of given directions; of all three axes where there are none."""
    if orientations is None:
        return jnp.asarray(lead)
    q = _places("orientations", orientations)
    if q.shape[0] != lead.shape[1]:
        raise ValueError(f"orientations has {q.shape[0]} rows; expected {lead.shape[1]}, one for each dipole.")
    return jnp.asarray(np.einsum("sdk,dk->sd", lead, q))


def eeg_lead_field(
    dipoles: Any,
    electrodes: Any,
    *,
    orientations: Any = None,
    radii: Sequence[float] = (90.0,),
    conductivity: Sequence[float] = (0.33,),
    terms: int = 100,
) -> Float[Array, "electrodes dipoles ..."]:
    r"""Potential on a sphere of concentric shells for dipoles inside the innermost, one product away from an EEG.

    In a homogeneous sphere of radius R, with $b = |r_0| / R$, x the cosine of the angle and $D = \sqrt{1 - 2bx + b^2}$,

    $$V = \frac{1}{4 \pi \sigma R^2} \left\{ q_r \left[\frac{2 (x - b)}{D^3} + \frac{2x - b}{D (1 + D)}\right] + q_t
    \cdot e \left[\frac 2 {D^3} + \frac{2 + b^2 / (D + 1 - bx)}{D (1 + D)}\right] \right\}$$

    with the radial part $q_r$ and the tangential $q_t$ of the dipole and the direction e of the electrode; of several
    shells the Legendre series, `terms` terms (40 give 1e-4 at 0.95 of the brain's radius, 60 at 0.98).

    **Arguments:** `dipoles`, `electrodes`: coordinates (mm) from the centre of the sphere; an electrode counts as on
    the surface in its direction. `orientations`: (dipoles, 3), a unit vector each; None: all three axes. `radii` (mm)
    and `conductivity` (S/m) of the shells, the innermost first; three shells are e.g. (80, 85, 90) and
    (0.33, 0.0042, 0.33).

    **Returns:** uV per nA m, (electrodes, dipoles), or (electrodes, dipoles, 3) without orientations. The mean over
    electrodes is not removed: EEG is known up to a reference.

    **Raises:** ValueError on dipoles outside the innermost shell, electrodes more than 10 % inside the head, and radii
    or conductivities that do not fit.

    Source: Brody et al. 1973, doi:10.1109/TBME.1973.324169; Zhang 1995, doi:10.1088/0031-9155/40/3/001.
    """
    r0, e = _places("dipoles", dipoles), _places("electrodes", electrodes)
    shells, sigma = np.asarray(radii, np.float64), np.asarray(conductivity, np.float64)
    if shells.shape != sigma.shape or shells.ndim != 1 or np.any(np.diff(shells) <= 0) or np.any(sigma <= 0):
        raise ValueError(
            f"eeg_lead_field: radii {shells.tolist()} and conductivity {sigma.tolist()}; expected ascending radii (mm) "
            "and as many conductivities > 0 (S/m)."
        )
    distance = np.linalg.norm(r0, axis=1)
    if np.any(distance >= shells[0]):
        k = int(np.argmax(distance))
        raise ValueError(
            f"eeg_lead_field: dipole {k} lies {distance[k]:.4g} mm from the centre; expected less than the brain's "
            f"radius, {shells[0]:g} mm. Move or scale the coordinates, or take larger radii."
        )
    reach = np.linalg.norm(e, axis=1)
    if np.any(reach < 0.9 * shells[-1]):
        k = int(np.argmin(reach))
        raise ValueError(
            f"eeg_lead_field: electrode {k} lies {reach[k]:.4g} mm from the centre, inside the head of radius "
            f"{shells[-1]:g} mm; expected electrodes on it. Move or scale the coordinates."
        )
    e = e / reach[:, None]
    R, b = shells[-1], distance / shells[-1]
    radial = np.where(distance[:, None] > 0, r0 / np.maximum(distance, 1e-300)[:, None], [0.0, 0.0, 1.0])
    x = np.clip(e @ radial.T, -1.0, 1.0)
    along, across = _homogeneous(b, x) if shells.size == 1 else _series(b, x, shells / R, sigma, terms)
    # q = q_r radial + q_t, and q_t . e = q . (e - x radial)
    lead = along[..., None] * radial + across[..., None] * (e[:, None, :] - x[..., None] * radial)
    return _along(1e3 / (4 * math.pi * sigma[0] * R**2) * lead, orientations)


def _homogeneous(b: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The factors of the radial and the tangential part; finite above the dipole and at the centre."""
    D = np.sqrt(1 - 2 * b * x + b * b)
    along = 2 * (x - b) / D**3 + (2 * x - b) / (D * (1 + D))
    across = 2 / D**3 + (2 + b * b / (D + 1 - b * x)) / (D * (1 + D))
    return along, across


def _series(
    b: np.ndarray, x: np.ndarray, radii: np.ndarray, sigma: np.ndarray, terms: int
) -> tuple[np.ndarray, np.ndarray]:
    """The same two factors of a sphere of shells: `sum_k b^(k-1) F_k [k P_k, P_k']`."""
    along, across = np.zeros_like(x), np.zeros_like(x)
    before, now = np.ones_like(x), x  # P_0, P_1
    slope_before, slope = np.zeros_like(x), np.ones_like(x)  # their derivatives
    for k in range(1, terms + 1):
        # potential A r^k + B r^-(k+1) of the outermost shell with no current through the surface, carried inwards
        A, B = k + 1.0, float(k)
        for radius, outer, inner in zip(radii[-2::-1], sigma[:0:-1], sigma[-2::-1], strict=True):
            p, n = radius**k, radius ** -(k + 1.0)
            value, current = A * p + B * n, outer / inner * (k * A * p - (k + 1) * B * n)
            A, B = ((k + 1) * value + current) / ((2 * k + 1) * p), (k * value - current) / ((2 * k + 1) * n)
        factor = (2 * k + 1) / B * b ** (k - 1)
        along += factor * k * now
        across += factor * slope
        slope_before, slope = slope, slope_before + (2 * k + 1) * now
        before, now = now, ((2 * k + 1) * x * now - k * before) / (k + 1)
    return along, across


def meg_lead_field(dipoles: Any, sensors: Any, *, orientations: Any = None, normals: Any = None) -> Array:
    r"""Magnetic field outside a sphere of any radial conductivity; radial dipoles are silent.

    $$B = \frac{\mu_0}{4 \pi F^2} \left(F\, q \times r_0 - (q \times r_0 \cdot r) \nabla F\right)$$
    $$F = a (r a + r^2 - r_0 \cdot r), \quad a = |r - r_0|$$

    **Arguments:** `dipoles`, `sensors`: coordinates (mm) from the centre of the sphere, sensors outside; `orientations`
    as in `eeg_lead_field`; `normals`: (sensors, 3), the direction a sensor measures; None: all three.

    **Returns:** fT per nA m, (sensors, dipoles), with one more axis for orientations and one before it for normals
    that are not given. **Raises:** ValueError where a sensor is not outside all dipoles.

    Source: Sarvas 1987, doi:10.1088/0031-9155/32/1/004, eq. 25.
    """
    r0, r = _places("dipoles", dipoles) * 1e-3, _places("sensors", sensors) * 1e-3
    if np.min(np.linalg.norm(r, axis=1)) <= np.max(np.linalg.norm(r0, axis=1)):
        raise ValueError("meg_lead_field: a sensor lies inside the head; expected all sensors outside all dipoles.")
    r, r0 = r[:, None], r0[None]
    dist = np.linalg.norm(r, axis=-1, keepdims=True)
    away = r - r0
    a = np.linalg.norm(away, axis=-1, keepdims=True)
    dot = np.sum(away * r, axis=-1, keepdims=True)
    F = a * (dist * a + dist**2 - np.sum(r0 * r, axis=-1, keepdims=True))
    slope = (a * a / dist + dot / a + 2 * a + 2 * dist) * r - (a + 2 * dist + dot / a) * r0
    cross = np.stack([np.cross(axis, r0) for axis in np.eye(3)], axis=-1)  # (1, dipoles, 3 of B, 3 of q)
    seen = np.sum(cross * r[..., None], axis=-2, keepdims=True)
    lead = 1e-7 / F[..., None] ** 2 * (F[..., None] * cross - seen * slope[..., None]) * 1e6  # fT per nA m
    if normals is not None:
        lead = np.einsum("sdbk,sb->sdk", lead, _places("normals", normals))
        return _along(lead, orientations)
    if orientations is None:
        return jnp.asarray(lead)
    return jnp.asarray(np.einsum("sdbk,dk->sdb", lead, _places("orientations", orientations)))
