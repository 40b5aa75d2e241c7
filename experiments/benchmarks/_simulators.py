"""Where the simulators are and how one of them is driven: a worker process that runs when told to."""

import dataclasses
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

HERE = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Simulator:
    script: str
    module: str  # what its Python must be able to import
    environment: str  # of which of the --...-python options
    precision: str | None = None


SIMULATORS = {
    "brainsim": Simulator("_sim_brainsim.py", "brainsim", "brainsim"),
    "brian2": Simulator("_sim_brian2.py", "brian2", "brian2"),
    "brian2_float32": Simulator("_sim_brian2.py", "brian2", "brian2", "float32"),
    "brainpy": Simulator("_sim_brainpy.py", "brainpy", "brainpy"),
    "nest": Simulator("_sim_nest.py", "nest", "nest"),
}


class WorkerError(RuntimeError):
    pass


def variable(environment):
    return f"BRAINSIM_BENCH_{environment.upper()}_PYTHON"


def find(environment, module, given):
    """(python, environment variables, None) or (None, None, why not)."""
    python = given or os.environ.get(variable(environment)) or sys.executable
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if environment == "brainsim" and python == sys.executable:
        spec = importlib.util.find_spec("brainsim")
        if spec is not None and spec.origin is not None:  # the one this process would import, also from a checkout
            env["PYTHONPATH"] = str(Path(spec.origin).parent.parent)
    test = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    try:
        missing = subprocess.run([python, "-c", test], env=env, capture_output=True).returncode
    except OSError as e:
        return None, None, f"its Python does not start ({e.strerror}); see --{environment}-python"
    if missing:
        option = f"--{environment}-python or {variable(environment)}"
        return None, None, f"{module} is not installed in the Python tried; name one that has it by {option}"
    return python, env, None


class Worker:
    """One simulator with one network and size: prepared on construction, then `run(seed)` and at last `close()`."""

    def __init__(self, name, python, env, *, network, n, threads, t_ms, timeout_s):
        self.timeout_s, self._folder = timeout_s, tempfile.TemporaryDirectory(prefix="brainsim-bench-")
        self._errors = Path(self._folder.name) / "stderr.txt"
        simulator = SIMULATORS[name]
        command = [python, str(HERE / simulator.script), "--network", network, "--n", str(n), "--interactive"]
        command += ["--threads", str(threads), "--t-ms", str(t_ms), "--workdir", str(Path(self._folder.name) / "build")]
        if simulator.precision:
            command += ["--precision", simulator.precision]
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                command, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
            )
        try:
            self._answer()
        except WorkerError:
            self._clean()
            raise

    def run(self, seed):
        """Seconds and rates of one warm run."""
        print(seed, file=self._process.stdin, flush=True)
        return self._answer()

    def close(self):
        """The record of all runs."""
        self._process.stdin.close()
        try:
            return self._answer()
        finally:
            self._clean()

    def abandon(self):
        self._process.kill()
        self._clean()

    def _answer(self):
        timer = threading.Timer(self.timeout_s, self._process.kill)
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            raise WorkerError(self._last_words())
        return json.loads(line)

    def _last_words(self):
        code = self._process.wait()
        lines = self._errors.read_text(errors="replace").strip().splitlines() if self._errors.exists() else []
        killed = f"killed by signal {-code} (time limit {self.timeout_s:g} s, or memory)"
        reason = lines[-1] if code > 0 and lines else killed
        return re.sub(r"(/[\w.+-]+)+/", "", reason)  # no paths of this machine in results.json

    def _clean(self):
        self._process.stdout.close()
        self._process.wait()
        self._folder.cleanup()
