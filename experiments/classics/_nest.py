"""Figures over seeds beside those of NEST."""

import numpy as np


def compared(own: list[float], nest: list[float]) -> dict[str, float]:
    """Means over seeds, and the distance that is allowed: 3 standard errors of the difference and 2 %."""
    error = np.sqrt(sum(np.var(x, ddof=1) / len(x) for x in (own, nest) if len(x) > 1))
    allowed = 3 * error + 0.02 * np.mean(nest)
    means = {"brainsim": np.mean(own), "nest": np.mean(nest), "distance": abs(np.mean(own) - np.mean(nest))}
    return {k: round(float(v), 4) for k, v in (means | {"allowed": allowed}).items()}
