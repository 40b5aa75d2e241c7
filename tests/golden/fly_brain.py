"""Makes `fly_brain.npz`: 2,000 neurons of a wiring with the fly's statistics, their stimulus, and Brian2's spikes.

`python -m tests.golden.fly_brain PYTHON`, with the interpreter of an environment that has Brian2 (2.9.0 made it).
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from experiments.classics.fly_brain.synthetic import synthetic

HERE = Path(__file__).parent
T1 = 100.0  # ms


def main(python: str) -> None:
    brain, rng = synthetic(2000, 40_000, seed=3), np.random.default_rng(4)
    stimulated = np.sort(rng.choice(2000, 30, replace=False))
    steps, ids = np.nonzero(rng.random((round(T1 * 10), 30)) < 0.02)
    problem = {"n": len(brain), "pre": brain.pre, "post": brain.post, "weight": brain.weight * 4}
    problem |= {"stimulated": stimulated, "ids": ids, "steps": steps, "t1": T1}
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / name) for name in ("problem.npz", "result.npz")]
        np.savez(files[0], **problem)
        subprocess.run([python, str(HERE.parents[1] / "experiments/classics/fly_brain/brian.py"), *files], check=True)
        with np.load(files[1]) as z:
            spikes = {"spike_ids": z["ids"].astype(np.uint16), "spike_steps": z["steps"].astype(np.uint16)}
    small = {
        "pre": np.uint16,
        "post": np.uint16,
        "weight": np.int16,
        "stimulated": np.uint16,
        "ids": np.uint8,
        "steps": np.uint16,
    }
    np.savez_compressed(
        HERE / "fly_brain.npz", **{k: np.asarray(v).astype(small.get(k, float)) for k, v in problem.items()}, **spikes
    )
    print(spikes["spike_ids"].size, "spikes of", np.unique(spikes["spike_ids"]).size, "neurons")


if __name__ == "__main__":
    main(sys.argv[1])
