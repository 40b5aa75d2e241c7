"""Random graphs that are drawn whenever they are needed instead of stored."""

import numpy as np

from ..base import Key
from ..events import DrawnRows
from ._random import FixedOutDegree, FixedProbability
from ._rule import AbstractRule, Built, Same, twins


class Procedural(AbstractRule):
    """The same law of connections as `rule`, never stored: each row is drawn again whenever its unit sends.

    Memory does not depend on the number of synapses, which may exceed 2^31. Weights are one number, `bs.Uniform` or
    `bs.Normal` (drawn again likewise, differentiable in their parameters), and there is one delay. The key of the
    network draws another graph than for the stored rule, from the same law.

    **Arguments:** `rule`: `bs.FixedProbability` or `bs.FixedOutDegree`.
    **Builds** `bs.DrawnRows`; `.to_csr()` gives the very graph, stored. **Raises** TypeError for other rules: a row
    must be drawn without looking at other rows.

    **Example**

    >>> import jax
    >>> rule, key = Procedural(FixedProbability(1e-3)), jax.random.key(0)
    >>> rule.build(1_000_000, 1_000_000, same=True, key=key).topology.n_syn  # expected
    1000000000
    """

    rule: FixedProbability | FixedOutDegree

    def __check_init__(self) -> None:
        if not isinstance(self.rule, FixedProbability | FixedOutDegree):
            raise TypeError(
                f"Procedural.rule is {self.rule!r}; expected bs.FixedProbability or bs.FixedOutDegree: a row must be "
                f"drawn without looking at other rows. Use that rule without Procedural."
            )

    def build(self, n_pre: int, n_post: int, *, same: Same, key: Key | None) -> Built:
        if key is None:
            raise ValueError(
                f"{self} draws at random and got key=None; expected a JAX key. Pass key=jax.random.key(seed)."
            )
        rule = self.rule
        twin = None if rule.autapses else self._twin(n_pre, n_post, same)
        if isinstance(rule, FixedProbability):
            return Built(DrawnRows.fixed_probability(key, n_pre, n_post, rule.p, twin=twin))
        return Built(DrawnRows.fixed_out_degree(key, n_pre, n_post, rule.k, multapses=rule.multapses, twin=twin))

    def _twin(self, n_pre: int, n_post: int, same: Same) -> int | None:
        """What to add to a pre unit's number to get its own as a post unit."""
        if isinstance(same, bool | np.bool_):
            return 0 if same else None
        twin = twins(self, n_pre, n_post, same)
        if twin is None:
            return None
        rows = np.arange(n_pre)
        shift = int((twin - rows)[twin >= 0][0])
        expected = np.where((rows + shift >= 0) & (rows + shift < n_post), rows + shift, -1)
        if not np.array_equal(twin, expected):
            raise ValueError(
                f"{self} without autapses between views with different strides; expected views of equal strides, as "
                f"'P[:100]' and 'P[50:]'. Mend the views, or use the rule without Procedural."
            )
        return shift
