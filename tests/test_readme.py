"""The README's programs run as printed, and the first is as short as promised."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp

README = Path(__file__).parents[1] / "README.md"


def test_programs_of_the_readme_run_as_printed(tmp_path, monkeypatch):
    import matplotlib

    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    first, second, third = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert len(first.strip().splitlines()) <= 25
    space: dict = {}
    exec(compile(first, "README", "exec"), space)
    rate = space["sol"].stats["rate_hz"]["P"]
    assert 15 < rate < 30  # Brian2: 21.6 +- 1.4 Hz, peers' seeds
    assert "compiled in" in str(space["sol"].stats)
    assert (tmp_path / "raster.png").stat().st_size > 10_000
    exec(compile(second, "README", "exec"), space)
    slope = jax.grad(space["rate"])(space["net"].edges["SP"].weight)
    assert 0 < slope < jnp.inf  # stronger synapses, more spikes
    exec(compile(third, "README", "exec"), space := {})
    assert space["fitted"].loss < 0.5  # mV^2; a straight line is not quite what a membrane does
