"""The figures to print beside any speed."""

from typing import Any

from ..base import as_text


class Stats(dict[str, Any]):
    """Firing rates (Hz), numbers of events, compile and run time (s) of a run: a dict that prints as a table.

    Keys: `rate_hz` and `n_events`, each by node; `flags`, what went wrong, by node or list of spikes; `compile_s` and
    `run_s`, -1 where they were not measured.
    """

    def __rich__(self) -> Any:
        from rich.console import Group  # loaded where something is shown
        from rich.table import Table

        timed = f"compiled in {self['compile_s']:.3g} s, ran in {self['run_s']:.3g} s"
        table = Table()
        for column in ("node", "rate (Hz)", "events"):
            table.add_column(column, justify="left" if column == "node" else "right")
        for node, rate in self["rate_hz"].items():
            rates, events = _all(rate), _all(self["n_events"][node])
            table.add_row(node, _span(rates, "{:.2f}").replace("nan", "graded"), _span(events, "{:,}"))
        wrong = [f"[red]{name} {what}[/]" for name, what in self["flags"].items()]
        return Group(table, *wrong, *([timed] if self["run_s"] >= 0 else []))

    __str__ = as_text
    __repr__ = as_text


def _all(x: Any) -> list[Any]:
    return [y for each in x for y in _all(each)] if isinstance(x, list) else [x]


def _span(values: list[Any], form: str) -> str:
    """One number, or the range of a batch."""
    ends = form.format(min(values, default=0)), form.format(max(values, default=0))
    return ends[0] if len(values) == 1 else " .. ".join(ends)
