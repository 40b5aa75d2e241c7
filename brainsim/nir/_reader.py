"""Files of unknown origin are read in a process of their own, with a limit of memory and one of time.

HDF5 trusts what a file says of itself: single bytes changed make it take gigabytes, loop or crash. The process knows
h5py and NumPy alone, lives on for the next file, and is replaced when it fails.
"""

import contextlib
import os
import selectors
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from ._graph import Graph, NIRError
from ._wire import HEAD, received, size_of

_SECONDS = 8.0
_MEMORY = 2**30
_PROGRAM = """
import os, resource, sys, types
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HDF5_USE_FILE_LOCKING"] = "FALSE"
home, memory = sys.argv[1], int(sys.argv[2])
reader = types.ModuleType("reader")
reader.__path__ = [home]
sys.modules["reader"] = reader
try:
    import h5py
except ImportError:
    sys.exit(3)
from reader._file import read_here
from reader._graph import NIRError
from reader._wire import send
resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
out, sys.stdout = sys.stdout.buffer, sys.stderr
from pathlib import Path
for line in sys.stdin:
    try:
        answer = read_here(Path(line.rstrip("\\n")))
    except NIRError as e:
        answer = str(e)
    except MemoryError:
        answer = "the file asks for more memory than it may have."
    send(answer, out)
"""


class _Process:
    """The reading process, begun when it is first needed."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.child: subprocess.Popen[bytes] | None = None

    def ask(self, path: Path) -> Any:
        """What the process says of a file: a graph, or why there is none."""
        with self.lock:
            try:
                return self._ask(path)
            except BaseException:
                self._end()
                raise

    def _ask(self, path: Path) -> Any:
        if self.child is None or self.child.poll() is not None:
            arguments = [sys.executable, "-c", _PROGRAM, str(Path(__file__).parent), str(_MEMORY)]
            pipe: Any = subprocess.PIPE
            self.child = subprocess.Popen(
                arguments, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, cwd=Path(__file__).parent
            )
        child = self.child
        assert child.stdin is not None
        deadline = time.monotonic() + _SECONDS
        try:
            child.stdin.write(f"{path}\n".encode())
            child.stdin.flush()
            head = self._read(child, HEAD, deadline, path)
            return received(head, self._read(child, size_of(head), deadline, path))
        except BrokenPipeError:
            raise self._died(child, path) from None

    def _read(self, child: Any, n: int, deadline: float, path: Path) -> bytes:
        file, parts = child.stdout.fileno(), bytearray()
        with selectors.DefaultSelector() as ready:
            ready.register(file, selectors.EVENT_READ)
            while len(parts) < n:
                left = deadline - time.monotonic()
                if left <= 0 or not ready.select(left):
                    raise NIRError(f"{path.name}: reading takes more than {_SECONDS:g} s; the file is damaged.")
                piece = os.read(file, min(n - len(parts), 1 << 20))
                if not piece:
                    raise self._died(child, path)
                parts += piece
        return bytes(parts)

    def _died(self, child: Any, path: Path) -> Exception:
        if child.wait() == 3:
            return ImportError("NIR files need h5py: pip install 'brainsim[nir]'.")
        return NIRError(f"{path.name}: HDF5 fails on it (the reading process ended with {child.returncode}).")

    def _end(self) -> None:
        if self.child is not None:
            self.child.kill()
            self.child.wait()
            for pipe in (self.child.stdin, self.child.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            self.child = None


_PROCESS = _Process()


def read_apart(path: Path) -> Graph:
    """Read a file in the process of limits."""
    answer = _PROCESS.ask(path.resolve())
    if isinstance(answer, str):
        raise NIRError(answer)
    return answer
