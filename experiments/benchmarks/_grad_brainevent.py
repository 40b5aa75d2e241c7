"""The gradient of gradient.py with brainevent's operators, in a hand-written scan: told a folder, steps and repeats, it
prints one line of JSON. Needs jax and brainevent. Steps are linked by the same rules: arrive, forward Euler, reset
(detached), send; the surrogate is the same triangle, damped alike.
"""

import argparse
import json
import sys
import time

import numpy as np


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    for name in ("--steps", "--repeats"):
        parser.add_argument(name, type=int)
    for name in ("--width", "--damping"):
        parser.add_argument(name, type=float)
    args = parser.parse_args()

    import brainevent
    import jax
    import jax.numpy as jnp
    import networks

    p, dt = networks.NETWORKS["coba_lif"], networks.DT_MS
    given = {k: jnp.asarray(x) for k, x in np.load(f"{args.folder}/network.npz").items()}
    n, split = given["v"].size, given["exc_indptr"].size - 1

    @jax.custom_jvp
    def spike(x):
        return (x > 0).astype(x.dtype)

    @spike.defjvp
    def _(primals, tangents):
        slope = jnp.maximum(0.0, 1.0 - jnp.abs(primals[0]) / args.width) / args.width
        return spike(*primals), args.damping * slope * tangents[0]

    def send(name, weight, s):
        matrix = brainevent.CSR((weight, given[f"{name}_indices"], given[f"{name}_indptr"]), shape=(s.size, n))
        return brainevent.BinaryArray(s) @ matrix

    def loss(weights, state):
        def step(state, _):
            v, g_e, g_i, in_e, in_i, wait = state
            g_e, g_i = g_e + in_e, g_i + in_i
            current = (g_e * (p.e_e - v) + g_i * (p.e_i - v)) / p.g_l
            flown = v + dt / p.tau_m * (p.e_l - v + p.drive + current)
            v = jnp.where(wait > 0, v, flown)
            g_e, g_i = g_e * (1 - dt / p.tau_e), g_i * (1 - dt / p.tau_i)
            s = spike(jnp.where(wait > 0, -1e9, v - p.v_th))
            fired = jax.lax.stop_gradient(s)
            v = v * (1 - fired) + p.v_reset * fired
            wait = jnp.where(fired > 0, round(p.t_ref / dt), jnp.maximum(wait - 1, 0))
            sent = send("exc", weights[0], s[:split]), send("inh", weights[1], s[split:])
            return (v, g_e, g_i, *sent, wait), s.mean()

        return jnp.mean(jax.lax.scan(step, state, length=args.steps)[1])

    weights = given["exc_weight"], given["inh_weight"]
    state = *(given[k] for k in ("v", "g_e", "g_i", "in_e", "in_i")), given["wait"]
    compiled = jax.jit(jax.value_and_grad(loss)).lower(weights, state).compile()
    activity, gradient = jax.block_until_ready(compiled(weights, state))
    times = []
    for _ in range(args.repeats):
        begin, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(compiled(weights, state))
        times.append((time.perf_counter() - begin, time.process_time() - cpu))
    result = {
        "version": brainevent.__version__,
        "jax": jax.__version__,
        "steps": args.steps,
        "run_s": [wall for wall, _ in times],
        "cpu_s": [cpu for _, cpu in times],
        "rate_hz": float(activity) / dt * 1e3,
        "largest_gradient": float(max(jnp.abs(g).max() for g in gradient)),
    }
    print(json.dumps(result), file=sys.stdout, flush=True)


if __name__ == "__main__":
    main()
