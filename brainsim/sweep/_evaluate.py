"""A model as a function of a table of members, for methods that choose the next members from the results."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ..base import Key
from ._lanes import Lanes
from ._model import FLAG, Model, segments
from ._space import Members

CHUNK = 64
"""Members in a batch: on a processor more bring nothing, and few members are padded to it."""


class Evaluator:
    """`evaluate(table) -> dict of arrays`: the results of `model` for a table of members, in batches of one size.

    What an optimiser with `ask` and `tell` needs in between, whatever library it is from:

    ```python
    evaluate = bs.sweep.Evaluator(model, key=jax.random.key(0))
    for _ in range(30):
        points = strategy.ask()
        strategy.tell(points, evaluate({"i_e": [p[0] for p in points]})["loss"])
    ```

    **Arguments:**

    - `model`: as in `sweep.run`; compiled once.
    - `key`: member k of all that were ever asked for gets `fold_in(key, k)`.
    - `common`: True gives member k of every call the key of member k of the first: common random numbers, with which
      the difference of two points is less noisy.
    - `chunk`: members in a batch; a call with fewer is padded.
    - `devices`: as in `sweep.run`.

    The results hold a `flag` for each member, 0 where all is finite. **Raises** TypeError or ValueError for a table
    without members, of columns of different lengths, or with other names than the call before.
    """

    def __init__(
        self,
        model: Model,
        *,
        key: Key,
        common: bool = False,
        chunk: int = CHUNK,
        devices: Sequence[Any] | None = None,
    ) -> None:
        if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
            raise ValueError(f"Evaluator.chunk is {chunk!r}; expected a whole number of members >= 1.")
        self.common, self.done = common, 0
        self._names: tuple[str, ...] | None = None
        self._lanes = Lanes(segments(model), {}, key, chunk, None, jax.local_devices() if devices is None else devices)

    def __call__(self, table: Mapping[str, Any]) -> dict[str, np.ndarray]:
        members = Members(table).members
        names = tuple(sorted(members))
        if self._names not in (None, names):
            raise ValueError(f"Evaluator: the table has the columns {names}; expected those before, {self._names}.")
        self._names = names
        n = len(members[names[0]])
        first = 0 if self.common else self.done
        lanes, parts = self._lanes, []
        for start in range(0, n, lanes.size):
            rows = np.minimum(np.arange(start, start + lanes.size), n - 1)
            out = jax.device_get(lanes.whole((first + rows).astype(np.int32), {k: x[rows] for k, x in members.items()}))
            parts.append({k: x[: n - start] for k, x in out.items()})
        self.done += n
        return {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}


def as_simulator(
    model: Model, names: Sequence[str], *, key: Key, chunk: int = CHUNK, devices: Sequence[Any] | None = None
) -> Callable[[Any], np.ndarray]:
    """`model` as `f(theta (B, d)) -> x (B, k)`, what libraries of simulation-based inference ask for.

    **Arguments:** `names`: the parameters, one for every column of theta; `model`, `key`, `chunk`, `devices`: as in
    `Evaluator`. Every call draws new keys.

    **Returns** a function whose rows hold all results of a member, flattened, in the order of their names; NaN for a
    member that is flagged. **Raises** ValueError for a theta of another shape.
    """
    names = tuple(names)
    evaluate = Evaluator(model, key=key, chunk=chunk, devices=devices)

    def simulator(theta: Any) -> np.ndarray:
        theta = np.asarray(theta)
        if theta.ndim != 2 or theta.shape[1] != len(names):
            raise ValueError(f"simulator: theta has shape {theta.shape}; expected (B, {len(names)}), one row a member.")
        out = evaluate({name: theta[:, i] for i, name in enumerate(names)})
        flag = out.pop(FLAG)
        x = np.concatenate([out[k].reshape(len(theta), -1).astype(float) for k in sorted(out)], axis=1)
        return np.where(flag[:, None] != 0, np.nan, x)

    return simulator
