"""A wiring diagram: a table of neurons and the edges between them."""

import difflib
import io
import keyword
import tokenize
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np

from ..connect import FromCSR
from ._edges import SIGNS, Choice, Duplicates, Edges, gather, signs_of
from ._tables import whole

TEXT = ("type", "class", "side", "transmitter")
"""Columns that every table of neurons has; empty where nothing is known."""

_SIDES = {"l": "left", "r": "right", "c": "center", "m": "center", "lhs": "left", "rhs": "right"}


class Connectome:
    """Neurons and the edges between them, as they were measured.

    A neuron is a row, 0 .. n-1, the number of the unit that stands for it. Selections (`cells`, `where`) are arrays of
    rows, and go wherever brainsim takes units: recordings, `synapses_of`, plots, `FromCOO`, arrays of parameters. An
    edge is a pair of neurons with a number of synapses and a sign. What the tables hold is kept as it is; all that is
    left out is by an argument, and `dropped` says how much.

    **Arguments:**

    - `neurons`: table (pandas, or a dict of columns) with `id`, whole numbers below 2^63 or text, never floats. Further
      columns are kept; `type`, `class`, `side`, `transmitter` and the position `x`, `y`, `z` have a meaning.
    - `edges`: columns `pre` and `post` (ids), or `pre_row` and `post_row`; `count`, synapses of the edge (default 1);
      `sign`, where it is known of the edge. A dict, or an iterable of dicts, for tables that should not be in memory
      whole.
    - `signs`: sign by transmitter (any case) where the edges have none: `SIGNS`, after Shiu et al. 2024.
    - `unknown_sign`: of edges from a neuron with another transmitter or none: 1 (as published), -1, `"drop"` or
      `"raise"`.
    - `unknown_neurons`: edges to ids that are not in the table: `"raise"` or `"drop"`.
    - `self_loops`: `"keep"` (as published), `"drop"` or `"raise"`.
    - `duplicates`: pairs listed more than once, as tables by neuropil have them: `"sum"` (as published), `"keep"` or
      `"raise"`.

    **Attributes:** `neurons`, the table (pandas), one row a neuron; `pre`, `post` (n_edges,): rows, sorted; `count`,
    `sign`; `dropped`: edges left out or merged, by cause.

    **Raises:** ValueError or TypeError for missing columns, ids as floats, ids twice, unknown neurons, with the row.

    !!! Example
        ```python
        brain = bs.connectome.read_shiu("Completeness_783.csv", "Connectivity_783.parquet")
        pop = bs.Population(unit, len(brain), {"g": bs.Delta("g")})
        edge = bs.Projection("brain", "brain.g", brain.connect, weight=0.275 * brain.weight, delay=1.8)
        ```
    """

    def __init__(
        self,
        neurons: Any,
        edges: Mapping[str, Any] | Iterable[Mapping[str, Any]],
        *,
        signs: Mapping[str, int] = SIGNS,
        unknown_sign: Literal[1, -1, "drop", "raise"] = 1,
        unknown_neurons: Choice = "raise",
        self_loops: Choice = "keep",
        duplicates: Duplicates = "sum",
    ) -> None:
        for name, value, known in (
            ("unknown_sign", unknown_sign, (1, -1, "drop", "raise")),
            ("unknown_neurons", unknown_neurons, ("drop", "raise")),
            ("self_loops", self_loops, ("keep", "drop", "raise")),
            ("duplicates", duplicates, ("sum", "keep", "raise")),
        ):
            if value not in known:
                raise ValueError(f"Connectome.{name} is {value!r}; expected one of {known}.")
        self.neurons, self._ids = _neurons(neurons)
        sign = signs_of(self.neurons["transmitter"], signs, unknown_sign)
        batches: Any = [edges] if isinstance(edges, Mapping) else edges
        self._edges, self.dropped = gather(
            batches,
            self._ids,
            sign,
            unknown_neurons=unknown_neurons,
            self_loops=self_loops,
            duplicates=duplicates,
        )

    @property
    def pre(self) -> np.ndarray:
        """Row of the pre neuron of every edge."""
        return self._edges.pre

    @property
    def post(self) -> np.ndarray:
        """Row of the post neuron of every edge."""
        return self._edges.post

    @property
    def count(self) -> np.ndarray:
        """Synapses of every edge."""
        return self._edges.count

    @property
    def sign(self) -> np.ndarray:
        """1 or -1 of every edge."""
        return self._edges.sign

    @property
    def weight(self) -> np.ndarray:
        """Signed number of synapses of every edge, float32."""
        return self._edges.count.astype(np.float32) * self._edges.sign

    @property
    def connect(self) -> FromCSR:
        """The edges as the rule of a `Projection`; weights and delays in the order of the edges line up with it."""
        indptr = np.zeros(len(self) + 1, np.int64)
        np.cumsum(np.bincount(self.pre, minlength=len(self)), out=indptr[1:])
        return FromCSR(indptr, self.post)

    @property
    def positions(self) -> np.ndarray:
        """Positions (n, 3), NaN where unknown."""
        return np.stack([_numbers(self.neurons, axis) for axis in "xyz"], axis=1)

    def __len__(self) -> int:
        return len(self.neurons)

    def __repr__(self) -> str:
        lost = "".join(f"; {n:,} edges: {cause}" for cause, n in self.dropped.items())
        return (
            f"Connectome of {len(self):,} neurons, {self.pre.size:,} edges, {self.count.sum(dtype=np.float64):,.0f} "
            f"synapses{lost}"
        )

    def cells(self, **columns: Any) -> np.ndarray:
        """Rows of the neurons whose columns have these values; a list of values means any of them.

        `cells(type="DNp01", side="left")`, `cells(type=["T4a", "T5a"])`. `cells(id=[...])` keeps the order given.
        **Raises:** ValueError for unknown columns, values that no neuron has, ids that are not in the table.
        """
        chosen = np.ones(len(self), bool)
        for name, wanted in columns.items():
            if name not in self.neurons:
                raise ValueError(f"cells: there is no column {name!r}; there are {list(self.neurons)}.")
            wanted = list(wanted) if isinstance(wanted, list | tuple | set | np.ndarray) else [wanted]
            if name == "id":
                rows = self._rows_of(wanted)
                if len(columns) == 1:
                    return rows
                chosen &= np.isin(np.arange(len(self)), rows)
                continue
            values = self.neurons[name]
            for value in wanted:
                self._some(name, values, value)
            chosen &= values.isin(wanted).to_numpy(bool)
        rows = np.flatnonzero(chosen)
        if not rows.size:
            raise ValueError(f"cells: no neuron has {columns}; each value is there, but not together.")
        return rows

    def where(self, expression: str) -> np.ndarray:
        """Rows of the neurons for which an expression in the columns holds: `"class == 'descending' and x < 500"`.

        As `pandas.DataFrame.query` has it, with `and`, `or`, `not`, `in`; columns may have names of Python such as
        `class`.
        """
        names = {name for name in self.neurons if keyword.iskeyword(name)}
        tokens = tokenize.generate_tokens(io.StringIO(expression).readline)
        text = " ".join(f"`{t.string}`" if t.type == tokenize.NAME and t.string in names else t.string for t in tokens)
        try:
            found = self.neurons.eval(text.strip(), engine="python")
        except Exception as e:
            raise ValueError(f"where: {expression!r}: {e}. The columns are {list(self.neurons)}.") from e
        mask = np.asarray(found)
        if mask.dtype != bool or mask.shape != (len(self),):
            raise ValueError(f"where: {expression!r} is no condition; expected one such as \"class == 'descending'\".")
        return np.flatnonzero(mask)

    def groups(self, column: str = "type") -> tuple[np.ndarray, np.ndarray]:
        """The values of a column, sorted, (k,), and which of them every neuron has, (n,).

        For parameters shared by a group: `per_type[of]` has one number a neuron, and the gradient of `per_type` is the
        sum over the neurons of each type.
        """
        if column not in self.neurons:
            raise ValueError(f"groups: there is no column {column!r}; there are {list(self.neurons)}.")
        return np.unique(self.neurons[column].to_numpy(), return_inverse=True)

    def pairs(self, column: str = "type") -> tuple[np.ndarray, np.ndarray]:
        """The pairs of values of a column that edges join, sorted, (k, 2), and which of them each edge has, (n_edges,).

        For weights with one gain a pair: `brain.weight * per_pair[of]` has one number an edge, in the order of
        `weight`.
        """
        names, of = self.groups(column)
        known, pair = np.unique(of[self.pre] * names.size + of[self.post], return_inverse=True)
        return names[np.stack([known // names.size, known % names.size], axis=1)], pair

    def subset(self, cells: Any) -> "Connectome":
        """These neurons (rows or a mask), in their order, and the edges between them."""
        rows = self._rows(cells)
        new = np.full(len(self), -1, np.int32)
        new[rows] = np.arange(rows.size, dtype=np.int32)
        inside = (new[self.pre] >= 0) & (new[self.post] >= 0)
        kept = self._edges.take(inside)
        pre, post = new[kept.pre], new[kept.post]
        order = np.lexsort((post, pre))
        edges = Edges(pre, post, kept.count, kept.sign).take(order)
        return self._with(self.neurons.iloc[rows].reset_index(drop=True), edges)

    def silenced(self, cells: Any) -> "Connectome":
        """All neurons, without the edges that leave these: they still receive and spike.

        To silence other neurons in every run of a screen, give the projection `short_term=bs.Gain(...)` instead.
        """
        mute = np.zeros(len(self), bool)
        mute[self._rows(cells)] = True
        return self._with(self.neurons, self._edges.take(~mute[self.pre]))

    def _with(self, neurons: Any, edges: Edges) -> "Connectome":
        import pandas as pd

        new = object.__new__(Connectome)
        new.neurons, new._ids, new._edges = neurons, pd.Index(neurons["id"]), edges
        new.dropped = {"left out of a larger one": self.pre.size - edges.pre.size}
        return new

    def _rows(self, cells: Any) -> np.ndarray:
        rows = np.asarray(cells)
        if rows.dtype == bool:
            if rows.shape != (len(self),):
                raise ValueError(f"Connectome: a mask of shape {rows.shape}; expected ({len(self)},).")
            return np.flatnonzero(rows)
        if not rows.size:
            return np.zeros(0, np.int64)
        if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer):
            raise TypeError("Connectome: expected rows of neurons, as `cells` and `where` give them, or a mask.")
        if not (rows.min() >= 0 and rows.max() < len(self)):
            raise ValueError(f"Connectome: row {rows.max()} of {len(self)} neurons. Ids go through cells(id=[...]).")
        if np.unique(rows).size != rows.size:
            raise ValueError("Connectome: a row is given twice; expected every neuron once.")
        return rows

    def _rows_of(self, ids: list) -> np.ndarray:
        given = whole("cells", "id", np.asarray(ids) if ids else np.zeros(0, np.int64))
        rows = self._ids.get_indexer(given)
        if (rows < 0).any():
            k = int(np.flatnonzero(rows < 0)[0])
            raise ValueError(
                f"cells: id {given[k]} (number {k} of the list; {int((rows < 0).sum())} of {rows.size} in all) is not "
                "in this connectome. It may be of another version: look up its new id."
            )
        return rows

    def _some(self, name: str, values: Any, value: Any) -> None:
        if (values == value).any():
            return
        near = difflib.get_close_matches(str(value), sorted({str(v) for v in values.unique()}), n=3)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise ValueError(f"cells: no neuron has {name} = {value!r}.{hint}")


def _neurons(given: Any) -> tuple[Any, Any]:
    """The table of neurons and the index of its ids."""
    try:
        import pandas as pd
    except ImportError as e:
        raise ImportError("A connectome needs pandas: pip install 'brainsim[connectome]'.") from e
    table = pd.DataFrame(given).reset_index(drop=True)
    if "id" not in table:
        raise ValueError(f"Connectome.neurons has no column 'id'; it has {list(table)}. Rename the one with the ids.")
    table["id"] = whole("Connectome.neurons", "id", table["id"].to_numpy())
    for name in TEXT:
        table[name] = table[name].astype(object).where(table[name].notna(), "").astype(str) if name in table else ""
    sides: Any = {s: _SIDES.get(s.lower(), s.lower()) for s in table["side"].unique()}
    table["side"] = table["side"].map(sides)
    ids = pd.Index(table["id"])
    if not ids.is_unique:
        row = int(np.flatnonzero(ids.duplicated())[0])
        raise ValueError(f"Connectome.neurons, row {row}: id {ids[row]} is there twice. Keep one row of each neuron.")
    first = ["id", *TEXT]
    return table[[*first, *(name for name in table if name not in first)]], ids


def _numbers(table: Any, name: str) -> np.ndarray:
    return table[name].to_numpy(float) if name in table else np.full(len(table), np.nan)
