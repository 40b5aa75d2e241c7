"""The act on chips: a trained network, rounded for two of them, reads letters it was not shown."""

import time
from importlib import resources, util
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from ..core import Network, Source
from ..simulate import Events, simulate
from ._chips import difference, tightest, used
from ._data import load
from ._progress import AbstractProgress
from ._report import Act, Figure, Table

if TYPE_CHECKING:
    from ..lower import Outcome

DT, LAG = 0.1, 2
"""Step that the network was trained with (ms), and steps from an event to its first effect on the output of a chip."""
OUTPUT = "lif2"
"""The group of seven cells, one a letter."""
NAMES = ("loihi2", "spinnaker2")


def available() -> bool:
    """Whether NIR files can be read: `pip install 'brainsim[nir]'`."""
    return util.find_spec("h5py") is not None


def path() -> Any:
    """Where the bundled network is: that of the NIR paper, Pedersen et al. 2024, doi:10.1038/s41467-024-52259-9."""
    return resources.files("brainsim._demo") / "braille.nir"


def act(quick: bool, progress: AbstractProgress) -> Act:
    """Read the held-out letters in float and on every chip."""
    import diffrax

    from ..lower import TARGETS, Lowered, lower, of_nir, run_of

    began = time.perf_counter()
    (_, held_out, letters), solver = load(), diffrax.Euler()
    n = 40 if quick else len(held_out.y)
    x, y = np.pad((held_out.x[:n] > 0).astype(np.float32), ((0, 0), (0, LAG), (0, 0))), held_out.y[:n]
    with resources.as_file(path()) as file:
        net = of_nir(file, dt=DT)
    in_float = _spikes(net, jnp.asarray(x), DT)
    accuracy, outcomes = {"float": float(np.mean(_read(in_float) == y))}, []
    for k, name in enumerate(NAMES):
        outcome = lower(net, TARGETS[name], dt=DT, solver=solver, inputs={"input": x[0]})
        chip = outcome.lowered
        assert chip is not None
        outcomes.append(outcome)
        image = chip.image.net if isinstance(chip, Lowered) else chip.net
        accuracy[name] = float(np.mean(_read(_spikes(image, jnp.asarray(x), 1.0)) == y))
        progress.advance(k + 1, len(NAMES), f"{name}: {accuracy[name]:.1%}, in float {accuracy['float']:.1%}")
    events = run_of(net, dt=DT, solver=solver, inputs={"input": x[0]})
    return Act(
        title="The same letters on chips",
        text=(
            "A network that others trained (the Braille network of the NIR paper: 12 sensors, 38 recurrent cells, 7 "
            "letters) is rounded to the registers of two neuromorphic chips: weights to 8 bits, on Loihi its states "
            "to 24. No chip was used: what runs here are images, which compute as emulators of the chips do.",
            f"All read the same {n} held-out recordings. Costs are of the first one: counted events times published "
            "coefficients, estimates. For Loihi 2 none is published.",
        ),
        figures_of_merit={name: f"{share:.1%}" for name, share in accuracy.items()},
        figures=(_letters(outcomes, events, letters),),
        tables=(_table(accuracy, outcomes),),
        numbers={"accuracy": accuracy, "letters": n},
        seconds=time.perf_counter() - began,
    )


@eqx.filter_jit
def _spikes(net: Network, x: jax.Array, dt: float) -> Float[jax.Array, "n letters"]:
    """Spikes of every output cell in the recordings (n, steps, 12)."""
    import diffrax

    (source,) = (name for name, node in net.nodes.items() if isinstance(node, Source))

    def one(x: jax.Array) -> jax.Array:
        how: dict[str, Any] = dict(dt=dt, solver=diffrax.Euler(), key=jax.random.key(0), inputs={source: x})
        return simulate(net, t1=len(x) * dt, saveat=[Events(node=OUTPUT)], **how)[f"{OUTPUT}.events"].sum(0)

    return jax.vmap(one)(x)


def _read(spikes: Any) -> Int[np.ndarray, " n"]:
    """The letter with the most spikes."""
    return np.argmax(np.asarray(spikes), axis=1)


def _table(accuracy: dict[str, float], outcomes: "list[Outcome]") -> Table:
    rows = [("float", f"{accuracy['float']:.1%}", "", "", "", "", "")]
    for o in outcomes:
        rule, share = tightest(o)
        same = ", ".join(f"{name} {f.coincidence:.0%}" for name, f in o.fidelity.items())
        rows.append((o.target.name, f"{accuracy[o.target.name]:.1%}", same, used(o), f"{rule} {share:.0%}", *o.costs()))
    columns = ("", "letters read", "same spikes as in float", "cores", "tightest resource", "energy", "latency")
    return Table(columns, rows, f"On {outcomes[0].target.name}: " + difference(outcomes[0].fidelity), prose=True)


def _letters(outcomes: "list[Outcome]", events: dict[str, Any], letters: tuple[str, ...]) -> Figure:
    """Output spikes of the first recording over time, in float and on every chip."""
    from matplotlib.figure import Figure as Canvas

    from ..plot import COLOURS
    from ._style import tidy

    canvas = Canvas(figsize=(7.4, 2.8), layout="constrained")
    ax = canvas.subplots()
    rows = {"float": events[OUTPUT]} | {o.target.name: o.events[OUTPUT] for o in outcomes}
    for k, (name, spikes) in enumerate(rows.items()):
        step, cell = np.nonzero(np.asarray(spikes))
        colour = "#1d2429" if k == 0 else COLOURS[k - 1]
        at = cell + 0.3 - 0.2 * k
        ax.plot(step * 5e-3, at, "|", color=colour, markersize=4, markeredgewidth=0.8, label=name)
    ax.set(xlabel="time (s)", ylabel="letter", yticks=range(len(letters)), yticklabels=letters, xlim=(0, 1.29))
    ax.legend(frameon=False, ncols=len(rows), loc="upper center", bbox_to_anchor=(0.5, 1.16), fontsize=8)
    tidy(canvas)
    caption = "Spikes of the seven output cells while one letter is read, in float and on the chips; each has its line."
    return Figure.of(canvas, caption, _letters)
