"""The main job, `brainsim demo`: acts that show what the simulator does, and the report they end in."""

from ._bench import timed_coba as timed_coba
from ._chips import write_lowering as write_lowering
from ._facts import facts as facts, kernels as kernels
from ._progress import AbstractProgress as AbstractProgress, Silent as Silent
from ._report import Act as Act, Figure as Figure, Table as Table
from ._run import ACTS as ACTS, Result as Result, run as run, writable as writable
from ._sweep import write_sweep as write_sweep
