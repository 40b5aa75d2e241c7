"""The report of a lowering: a network on one or several chips."""

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ._facts import facts, installed
from ._report import Act, Figure, Table, write

if TYPE_CHECKING:
    from ..lower import Fidelity, Outcome


def write_lowering(path: Path, name: str, outcomes: "list[Outcome]", events: dict[str, Any], about: str) -> None:
    """Write the report of `outcomes`, of the network called `name`; `events`: of its groups, as it runs in float.

    `about`: what was played, in words.
    """
    acts = [_overview(outcomes), *(_target(outcome, events) for outcome in outcomes)]
    now = datetime.datetime.now().astimezone()
    made = f"Made on {now:%Y-%m-%d %H:%M %Z} by brainsim {installed('brainsim')}."
    summary = (
        f"`{name}` rounded to the registers of {len(outcomes)} chips, packed, and run on {about}. No chip was used: "
    )
    summary += (
        "images run here, word for word as an emulator does; *energies are estimates* from published coefficients."
    )
    environment = Table(("what", "which"), list(facts()), prose=True)
    write(path, acts, environment, title=f"{name}: from a network to a chip", summary=summary, made=made)


def _overview(outcomes: "list[Outcome]") -> Act:
    rows = []
    for o in outcomes:
        if o.refused is not None:
            stage, error = o.refused
            rows.append((o.target.name, f"refused in {stage}: {error.rule}", "", "", "", "", ""))
            continue
        assert o.layout is not None
        assert o.ledger is not None
        rule, share = tightest(o)
        same = ", ".join(f"{name} {f.coincidence:.0%}" for name, f in o.fidelity.items())
        events = f"{o.ledger.synaptic_events.sum():,}"
        rows.append((o.target.name, used(o), f"{rule} {share:.0%}", same, events, *o.costs()))
    columns = ("target", "cores", "tightest resource", "same spikes as in float", "synaptic events")
    columns += ("energy", "latency")
    accepted = sum(o.refused is None for o in outcomes)
    text = (
        "All targets in one table. A spike is the same when chip and network have it in the same cell and step; the "
        "share is that of the spikes of either. Energy and latency are the ledger of the run times a table of "
        "coefficients, with the worst grade of these: estimates, from and to.",
    )
    merits = {"targets that take it": f"{accepted} of {len(outcomes)}"}
    return Act(
        "Targets",
        text,
        merits,
        (),
        (Table(columns, rows, prose=True),),
        {},
        sum(sum(o.seconds.values()) for o in outcomes),
    )


def _target(o: "Outcome", events: dict[str, Any]) -> Act:
    stages = Table(("stage", "seconds"), [(k, f"{s:.2f}") for k, s in o.seconds.items()], "Stages.")
    seconds = sum(o.seconds.values())
    if o.refused is not None:
        stage, error = o.refused
        text = (f"{o.target.about}. Refused in the stage *{stage}*.", f"`{error.rule}` at `{error.where}`: {error}")
        return Act(o.target.name, text, {"refused by": error.rule}, (), (stages,), {}, seconds)
    assert o.layout is not None
    assert o.ledger is not None
    text = (f"{o.target.about}.", difference(o.fidelity))
    rule, share = tightest(o)
    merits = {
        "cores": f"{o.layout.n_cores}",
        f"tightest resource, {rule}": f"{share:.0%}",
        "spikes on the chip": f"{o.ledger.spikes.sum():,}",
        "packets": f"{o.ledger.packets:,}",
    }
    errors = Table(("edge", "error of the weights (rms, %)"), [(k, f"{100 * e:.2f}") for k, e in o.errors.items()])
    columns = ("group", "spikes, float", "spikes, chip", "in both", "same (%)", "first difference (step, cell)")
    rows = [
        (
            name,
            f.float_spikes,
            f.chip_spikes,
            f.both,
            f"{100 * f.coincidence:.1f}",
            "none" if f.first is None else f.first,
        )
        for name, f in o.fidelity.items()
    ]
    usage = [
        (
            rule,
            f"{int(used.max(initial=0)):,}",
            f"{o.target.limits[rule].value:,.0f}",
            o.target.limits[rule].unit,
            o.target.limits[rule].grade.value,
        )
        for rule, used in o.layout.usage.items()
    ]
    limits = Table(("rule", "used at most", "limit", "of what", "grade of the limit"), usage, "Limits of a core.")
    tables = (Table(columns, rows, "Chip beside float."), errors, limits, _energy(o), stages)
    return Act(o.target.name, text, merits, (_cores(o), _spikes(o, events)), tables, {}, seconds)


def used(o: "Outcome") -> str:
    """Cores, and chips where there are several."""
    assert o.layout is not None
    return f"{o.layout.n_cores}" + (f" on {o.layout.n_chips} chips" if o.layout.n_chips > 1 else "")


def difference(fidelity: "dict[str, Fidelity]") -> str:
    """Where chip and network differ first, in words."""
    first = {name: f.first for name, f in fidelity.items() if f.first is not None}
    if not first:
        return "Every spike of the network is a spike of the chip, in the same step."
    name = min(first, key=lambda k: first[k])
    step, cell = first[name]
    return f"The first difference to the float network is in step {step}, cell {cell} of `{name}`."


def _energy(o: "Outcome") -> Table:
    assert o.ledger is not None
    rows = [
        (
            f"{name}: {event}",
            f"{float(e) * 1e-6:.4g}",
            f"{table[event].value:g} {table[event].unit}",
            table[event].grade.value,
        )
        for name, table in o.target.energy.items()
        for event, e in o.ledger.energy(table).items()
    ]
    caption = (
        "Energy of the run, an estimate." if rows else "Energy: no coefficient of this chip is published within reach."
    )
    return Table(("table: event", "energy (uJ)", "each", "grade"), rows, caption)


def tightest(o: "Outcome") -> tuple[str, float]:
    """The rule whose limit a core comes nearest to, and how near."""
    assert o.layout is not None
    shares = {rule: float(used.max(initial=0)) / o.target.limits[rule].value for rule, used in o.layout.usage.items()}
    return max(shares.items(), key=lambda x: x[1], default=("no limit", 0.0))


def _cores(o: "Outcome") -> Figure:
    """Left: cores by the resource that they use most of; right: packets between cores."""
    from matplotlib.figure import Figure as Canvas
    from matplotlib.ticker import MaxNLocator

    from ._style import tidy

    assert o.layout is not None
    assert o.ledger is not None
    rules = list(o.layout.usage)
    shares = [o.layout.usage[rule] / o.target.limits[rule].value for rule in rules]
    share = np.stack(shares or [np.zeros(o.layout.n_cores)])
    n, across = o.layout.n_cores, int(np.ceil(np.sqrt(max(o.layout.n_cores, 1))))
    canvas = Canvas(figsize=(7.4, 3.4), layout="constrained")
    left, right = canvas.subplots(1, 2)
    grid = np.full(across * -(-n // across), np.nan)
    grid[:n] = share.max(0)
    picture = left.imshow(grid.reshape(-1, across), cmap="YlOrRd", vmin=0, vmax=1)
    if rules and n <= 64:
        for k in range(n):
            rule = rules[int(np.argmax(share[:, k]))].partition("-")[2]
            dark = share[:, k].max() > 0.6
            left.text(
                k % across, k // across, rule, ha="center", va="center", fontsize=7, color="white" if dark else "black"
            )
    left.set(title="tightest resource of every core", xticks=[], yticks=[])
    canvas.colorbar(picture, ax=left, label="share of the limit", shrink=0.8)
    traffic = right.imshow(o.ledger.traffic, cmap="Blues", vmin=0)
    right.set(title="packets", xlabel="to core", ylabel="from core")
    canvas.colorbar(traffic, ax=right, shrink=0.8)
    for axis in (right.xaxis, right.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    tidy(canvas)
    caption = (
        "Left: every core, coloured by the largest share that it uses of any limit, with the end of the rule's id. "
        f"Right: packets between cores in the run: {o.ledger.packets:,}, and {o.ledger.hops_east_west:,} + "
        f"{o.ledger.hops_north_south:,} hops east-west and north-south; {o.ledger.input_packets:,} came from outside."
    )
    return Figure.of(canvas, caption, _cores)


def _spikes(o: "Outcome", events: dict[str, Any]) -> Figure:
    """Spikes of every group by step, in float and on the chip."""
    from matplotlib.figure import Figure as Canvas

    from ..plot import COLOURS
    from ._style import tidy

    names = list(o.events)
    canvas = Canvas(figsize=(7.4, 0.8 + 1.5 * len(names)), layout="constrained")
    for ax, name in zip(canvas.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0], names):
        for shift, spikes, colour, label in (
            (-0.2, events[name], "#1d2429", "float"),
            (0.2, o.events[name], COLOURS[1], o.target.name),
        ):
            step, cell = np.nonzero(np.asarray(spikes)[:, :60])
            ax.plot(step, cell + shift, "|", markersize=3, color=colour, label=label)
        ax.set(ylabel=name)
    ax.set(xlabel="step")
    canvas.axes[0].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    tidy(canvas)
    return Figure.of(canvas, "Spikes in float and on the chip, of the first 60 cells of every group.", _spikes)
