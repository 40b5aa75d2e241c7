"""The command line `brainsim`: demo, info, bench, targets, lower, nir, sweep."""

import os
import platform
import runpy
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from . import _demo
from .base import unknown

app = typer.Typer(
    name="brainsim",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A differentiable brain simulator on JAX: networks of hybrid dynamical systems, simulated and trained.",
    epilog="Start with [bold]brainsim demo[/bold]. Set JAX_PLATFORMS=cpu to stay off an accelerator, "
    "BRAINSIM_KERNELS=off for the pure-JAX event operators, BRAINSIM_FUSION=off for units without machine code of "
    "their own, JAX_ENABLE_X64=1 for double precision.",
)


_WIDE = 110
"""Columns of the tables of `targets`."""


class _Bars(_demo.AbstractProgress):
    """One bar per act, with what came out last beside it."""

    def __init__(self, progress: Progress, acts: int):
        self.progress, self.acts, self.number, self.task = progress, acts, 0, TaskID(0)

    def begin(self, title: str) -> None:
        self.number += 1
        label = f"[bold]{self.number}/{self.acts}[/bold] {title}"
        self.task = self.progress.add_task(label, total=None, text="compiling, and then the first results")

    def advance(self, done: int, total: int, text: str) -> None:
        self.progress.update(self.task, completed=done, total=total, text=text)


def _need_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        typer.echo("The report needs matplotlib for its figures: pip install 'brainsim[plot]'", err=True)
        raise typer.Exit(1) from None


def _bars(console: Console) -> Progress:
    fixed: dict[str, Any] = {"no_wrap": True}
    columns = (
        SpinnerColumn(finished_text="[green]✓[/green]"),
        TextColumn("{task.description}", table_column=Column(**fixed)),
        BarColumn(bar_width=16),
        TimeElapsedColumn(table_column=Column(min_width=7, **fixed)),
        TextColumn("[dim]{task.fields[text]}[/dim]", table_column=Column(ratio=1, overflow="ellipsis", **fixed)),
    )
    return Progress(*columns, console=console, expand=True)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write the report.")] = Path("brainsim-report.html"),
    quick: Annotated[
        bool, typer.Option("--quick", help="Shorter runs and three epochs: see that all works, in a minute.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seeds connections, initial values and training.")] = 0,
    digits: Annotated[
        Path | None, typer.Option("--digits", help="mnist.npz, for a third act: x_train, y_train, x_test, y_test.")
    ] = None,
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Show the report in the browser afterwards.")] = False,
) -> None:
    """Run the main job and write a report: one HTML file that needs nothing else.

    [bold]1.[/bold] Simulates the COBA network of 4,000 neurons over five seeds and puts firing rate and irregularity
    beside those of Brian2 and NEST.

    [bold]2.[/bold] Trains a recurrent spiking network to read Braille letters from real recordings of a tactile sensor,
    and puts its held-out accuracy beside that of a ridge classifier on event counts.

    [bold]3.[/bold] With `--digits`, a network learns handwritten digits by itself, by plastic synapses and homeostasis.

    Takes less than four minutes on two cores.
    """
    _need_matplotlib()
    console = Console()
    with _bars(console) as progress:
        try:
            acts = len(_demo.ACTS) + (digits is not None)
            result = _demo.run(out, quick=quick, seed=seed, progress=_Bars(progress, acts), digits=digits)
        except OSError as e:
            progress.stop()
            typer.echo(f"brainsim demo: {e}", err=True)
            raise typer.Exit(1) from None
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", style="bold")
    for act in result.acts:
        table.add_row(f"[underline]{act.title}[/underline]", "")
        for label, value in act.figures_of_merit.items():
            table.add_row(f"  {label}", value)
    console.print(table)
    console.print(f"Report, after {result.seconds:.0f} s:", style="dim")
    typer.echo(str(result.path))
    if open_:
        webbrowser.open(result.path.as_uri())


@app.command()
def info() -> None:
    """Tell what is in use: versions, devices, event kernels (and why not), data.

    The event operators run as C++ kernels on a CPU. Without a compiler at installation, with BRAINSIM_KERNELS=off, or
    on another device, they run as pure JAX: the same results, slower.
    """
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, value in _demo.facts():
        table.add_row(name, str(value))
    Console(soft_wrap=True).print(table)


@app.command()
def bench(
    seconds: Annotated[float, typer.Option(min=0.1, help="Model time of a run (s).")] = 1.0,
    repeats: Annotated[int, typer.Option(min=1, help="Runs after the first, which compiles.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Seeds connections and initial values.")] = 0,
) -> None:
    """Time the COBA network of 4,000 neurons, its firing rate beside each time.

    dt is 0.1 ms, the integrator forward Euler, and every spike is recorded. A time means nothing without its rate: a
    silent network is a fast one. For Brian2, BrainPy and NEST on the same networks, each in its own process, run
    [bold]python -m experiments.benchmarks[/bold] in a checkout of the repository.
    """
    console = Console()
    console.print(f"event operators: {_demo.kernels()}; {os.cpu_count()} cores, {platform.machine()}", style="dim")
    table = Table(box=None, padding=(0, 3, 0, 0))
    for name in ("run", "compilation (s)", "run (s)", "s per model second", "rate (Hz)"):
        table.add_column(name, justify="left" if name == "run" else "right")
    for k, sol in enumerate(_demo.timed_coba(seed, round(seconds * 1e4) * 0.1, repeats)):
        stats = sol.stats
        name = "first" if k == 0 else f"warm {k}"
        cells = (
            f"{stats['compile_s']:.2f}",
            f"{stats['run_s']:.3f}",
            f"{stats['run_s'] / seconds:.3f}",
            f"{stats['rate_hz']['P']:.2f}",
        )
        table.add_row(name, *cells)
    console.print(table)


@app.command()
def targets(
    name: Annotated[str | None, typer.Argument(help="One of them: loihi1, loihi2, spinnaker2, ideal.")] = None,
) -> None:
    """Print what is known of the chips that networks are lowered to.

    Every figure has its unit, its source and a grade: verified, read in code, second-hand or unverified.
    """
    from .lower import TARGETS  # loaded where it is needed

    if name is not None and name not in TARGETS:
        typer.echo(f"brainsim targets: {unknown('target', name, TARGETS)}", err=True)
        raise typer.Exit(1)
    console = Console(width=max(Console().width, _WIDE), highlight=False)
    sources: dict[str, int] = {}
    for target in [TARGETS[name]] if name else TARGETS.values():
        console.print(f"[bold]{target.name}[/bold]  {target.about}")
        table = Table(box=None, padding=(0, 2, 0, 0))
        for column in ("", "value", "unit", "grade", "source"):
            table.add_column(column, justify="right" if column == "value" else "left", no_wrap=True)
        groups = {"limits": target.limits, "widths": target.widths, "grid": target.grid}
        groups |= {f"energy, {table}": facts for table, facts in target.energy.items()}
        groups |= {f"latency, {table}": facts for table, facts in target.latency.items()}
        for group, facts in groups.items():
            for k, (what, fact) in enumerate(facts.items()):
                if k == 0:
                    table.add_row(f"[underline]{group}[/underline]")
                value = f"{fact.value:,.10g}"
                number = sources.setdefault(fact.source, len(sources) + 1)
                table.add_row(f"  {what}", value, fact.unit, fact.grade.value, str(number))
        console.print(table)
        console.print()
    for source, number in sources.items():
        typer.echo(f"{number:2} {source}")


@app.command()
def lower(
    model: Annotated[
        Path, typer.Argument(help="A NIR file, or a Python file that defines `net` and `dt`, and perhaps `solver`.")
    ],
    dt: Annotated[float | None, typer.Option(help="Of a NIR file the step (ms) that it was written for.")] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="loihi1, loihi2, spinnaker2, ideal; several times for all in one report."),
    ] = None,
    bits: Annotated[int | None, typer.Option(min=2, max=24, help="Bits of the weights; else all there are.")] = None,
    chips: Annotated[int, typer.Option(min=1, help="How many chips, in a row.")] = 1,
    events: Annotated[
        Path | None, typer.Option(help="A .npz file: by source, events of 0 and 1, (steps, n). Else random ones.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the random events.")] = 200,
    rate: Annotated[float, typer.Option(min=0, max=1, help="Random events of a unit in a step.")] = 0.05,
    seed: Annotated[int, typer.Option(min=0, help="Seeds the random events.")] = 0,
    by_output: Annotated[bool, typer.Option("--tuned", help="Scales on Loihi chosen by what comes out.")] = False,
    near: Annotated[bool, typer.Option("--place", help="Cells placed for few hops where the mesh is known.")] = False,
    out: Annotated[Path | None, typer.Option("--report", "-o", help="Where to write the report (HTML).")] = None,
) -> None:
    """Lower a network to chips and say what comes out: what is refused, cores, errors, spikes beside float, energy.

    Ends with 1 where a target refuses the network.
    """
    import numpy as np

    from .lower import TARGETS, lower as lowered, run_of

    chosen = target or ["loihi2"]
    for name in chosen:
        if name not in TARGETS:
            typer.echo(f"brainsim lower: {unknown('target', name, TARGETS)}", err=True)
            raise typer.Exit(1)
    defined = _of_nir(model, dt) if model.suffix == ".nir" else _defined(model, ("net", "dt"), "lower")
    net, how = defined["net"], {"dt": float(defined["dt"])} | {k: defined[k] for k in ("solver",) if k in defined}
    try:
        sources = {k: node.size for k, node in net.nodes.items() if type(node).__name__ == "Source"}
        if events is None:
            rng = np.random.default_rng(seed)
            inputs = {k: (rng.random((steps, n)) < rate).astype(np.float32) for k, n in sources.items()}
            about = f"{steps} steps of random input, {rate:g} events a unit and step, seed {seed}"
        else:
            with np.load(events) as file:
                inputs = {k: np.asarray(file[k], np.float32) for k in sources}
            about = f"the events of {events.name}"
        outcomes = []
        for name in chosen:
            more: dict[str, Any] = {} if bits is None else {"bits": bits}
            more |= {"by_output": by_output, "near": near, "chips": chips}
            outcomes.append(lowered(net, TARGETS[name], inputs=inputs, **how, **more))
            typer.echo(str(outcomes[-1]) + "\n")
        if out is not None:
            _need_matplotlib()
            path = out.expanduser().resolve()
            _demo.writable(path)
            _demo.write_lowering(path, model.name, outcomes, run_of(net, inputs=inputs, **how), about)
            typer.echo(str(path))
    except (KeyError, OSError, TypeError, ValueError) as e:
        typer.echo(f"brainsim lower: {e}", err=True)
        raise typer.Exit(1) from None
    if any(o.refused is not None for o in outcomes):
        raise typer.Exit(1)


nir = typer.Typer(no_args_is_help=True, help="Look at a NIR file, check it, or run it.")
app.add_typer(nir, name="nir")


def _graph(path: Path) -> Any:
    from .nir import NIRError, read

    try:
        return read(path)
    except (ImportError, NIRError) as e:
        typer.echo(f"brainsim nir: {e}", err=True)
        raise typer.Exit(1) from None


@nir.command("show")
def nir_show(path: Annotated[Path, typer.Argument(help="The file.")]) -> None:
    """Print the nodes of a file with the shapes of their attributes, and its edges."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("node", "type", "attributes"):
        table.add_column(column)
    graph = _graph(path)
    for name, node in graph.walk():
        fields = getattr(node, "fields", {})
        said = (k if isinstance(x, str | dict) else f"{k} {list(getattr(x, 'shape', ()))}" for k, x in fields.items())
        table.add_row(Text(name), getattr(node, "type", "NIRGraph"), Text(", ".join(said)))
    Console(soft_wrap=True).print(table)
    for a, b in graph.edges:
        typer.echo(f"{a} -> {b}")


@nir.command("check")
def nir_check(path: Annotated[Path, typer.Argument(help="The file.")]) -> None:
    """Print every fault of a file; the exit status is 1 where there is one."""
    from .nir import check

    problems = check(_graph(path))
    for problem in problems:
        typer.echo(str(problem))
    if problems:
        raise typer.Exit(1)


@nir.command("run")
def nir_run(
    path: Annotated[Path, typer.Argument(help="The file.")],
    events: Annotated[
        Path,
        typer.Option(
            "--input", help="What is sent in: .npz with an array (steps, *shape), or one for each Input by name."
        ),
    ],
    dialect: Annotated[str, typer.Option(help="The library that the file is run as: Norse, snnTorch, ...")],
    dt: Annotated[float, typer.Option(help="The step (ms).")],
    record: Annotated[
        list[str] | None, typer.Option(help="Names of nodes to record; else what reaches Outputs.")
    ] = None,
    repair: Annotated[bool, typer.Option(help="Mend what can be mended of the graph.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write what was sent, (steps, *shape) by node, as .npz.")] = None,
) -> None:
    """Run a file on recorded events, as a library would, and count what its nodes send."""
    import numpy as np

    from .nir import DIALECTS, NIRError
    from .nir._import import from_nir

    graph, known = _graph(path), {name.lower().replace(" ", ""): d for name, d in DIALECTS.items()}
    try:
        if (own := dialect.lower().replace(" ", "")) not in known:
            raise ValueError(unknown("dialect", dialect, DIALECTS))
        model = from_nir(graph, known[own].at(dt), repair=repair)
        with np.load(events) as data:
            given = {k: data[k] for k in data.files}
        if set(given) != set(model.inputs) and not len(given) == len(model.inputs) == 1:
            raise ValueError(f"{events} holds {sorted(given)}; expected the Inputs {sorted(model.inputs)}.")
        for name in record or ():
            if name not in model.names:
                raise ValueError(unknown("node", name, model.names))
        found = model.run(given if len(given) > 1 else next(iter(given.values())), record or None)
    except (NIRError, OSError, ValueError) as e:
        typer.echo(f"brainsim nir: {e}", err=True)
        raise typer.Exit(1) from None
    for note in model.notes:
        typer.echo(note, err=True)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("node", "shape", "steps", "sent", "a step and neuron"):
        table.add_column(column)
    for name, x in found.items():
        table.add_row(Text(name), str(list(x.shape[1:])), str(len(x)), f"{x.sum():g}", f"{x.mean():.4f}")
    Console(soft_wrap=True).print(table)
    if out is not None:
        np.savez_compressed(out, allow_pickle=False, **found)


sweep = typer.Typer(no_args_is_help=True, help="Run a study of many networks, or look at one.")
app.add_typer(sweep, name="sweep")


@sweep.command("run")
def sweep_run(
    study: Annotated[Path, typer.Argument(help="A Python file that defines `model`, `space` and `key`.")],
    store: Annotated[Path, typer.Option(help="The folder of the results; started again, the study goes on.")],
    chunk: Annotated[int, typer.Option(min=0, help="Members in a batch; 0: found out.")] = 0,
) -> None:
    """Run every member of a study, as `bs.sweep.run` does. Started several times on one store, the runs share it."""
    from .sweep import StoreError, run

    defined = _defined(study, ("model", "space", "key"), "sweep")
    stop: Any = defined.get("stop")
    try:
        result = run(
            defined["model"], defined["space"], key=defined["key"], store=store, chunk=chunk or "auto", stop=stop
        )
    except (StoreError, TypeError, ValueError) as e:
        typer.echo(f"brainsim sweep: {e}", err=True)
        raise typer.Exit(1) from None
    Console().print(result)


@sweep.command("status")
def sweep_status(
    store: Annotated[Path, typer.Argument(help="The folder of the results.")],
    out: Annotated[Path | None, typer.Option("--report", "-o", help="Where to write a page of figures (HTML).")] = None,
) -> None:
    """Show how many members are finished, how many of them are flagged, and the range of every result.

    The page has slices of every result over pairs of axes, and its median and quartiles along each.
    """
    from .sweep import StoreError, Sweep

    try:
        result = Sweep.open(store)
        Console().print(result)
        if out is not None:
            _need_matplotlib()
            path = out.expanduser().resolve()
            _demo.writable(path)
            _demo.write_sweep(path, store.resolve().name, result)
            typer.echo(str(path))
    except (OSError, StoreError) as e:
        typer.echo(f"brainsim sweep: {e}", err=True)
        raise typer.Exit(1) from None


def _of_nir(path: Path, dt: float | None) -> dict[str, Any]:
    """Network, step and solver of a NIR file."""
    import diffrax

    from .lower import of_nir

    if dt is None:
        typer.echo(f"brainsim lower: {path} is a NIR file, which has no step; expected --dt, in ms.", err=True)
        raise typer.Exit(1)
    try:
        return {"net": of_nir(path, dt=dt), "dt": dt, "solver": diffrax.Euler()}
    except (OSError, ValueError) as e:
        typer.echo(f"brainsim lower: {e}", err=True)
        raise typer.Exit(1) from None


def _defined(path: Path, names: tuple[str, ...], command: str) -> dict[str, Any]:
    """What a Python file defines."""
    if not path.is_file():
        typer.echo(
            f"brainsim {command}: {path} is no file; expected a Python file that defines {', '.join(names)}.", err=True
        )
        raise typer.Exit(1)
    defined = runpy.run_path(str(path), run_name="study")
    missing = [name for name in names if name not in defined]
    if missing:
        typer.echo(f"brainsim {command}: {path} does not define {', '.join(missing)}.", err=True)
        raise typer.Exit(1)
    return defined


if __name__ == "__main__":
    app()
