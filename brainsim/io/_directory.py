"""A folder as the sink of a long run: one file per chunk, written whole or not at all."""

import fcntl
import json
import os
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ..core import Network
from ..simulate import AbstractSink, describe, difference, digest, from_arrays, structure, to_arrays
from ._files import FORMAT, FileError, read_about, read_arrays, write_arrays, write_whole
from ._older import upgraded
from ._provenance import provenance

_KEPT = 2  # checkpoints kept: the last one and the one before
_AGAIN = "It is computed again."


def numbered(folder: Path, kind: str) -> dict[int, Path]:
    """The files `kind-000000.npz`, ... of a folder by their numbers, in order."""
    names = {path: re.fullmatch(rf"{kind}-(\d{{6,}})\.npz", path.name) for path in folder.glob(f"{kind}-*.npz")}
    return dict(sorted((int(match[1]), path) for path, match in names.items() if match))


def read_run(path: Path) -> dict[str, Any]:
    """What `run.json` says. **Raises:** FileError if it is damaged or another program's."""
    try:
        about = json.loads(path.read_bytes())
        said = about.pop("checksum", None)
        if not {"dt", "t0", "t1", "chunk", "key"} <= about.keys():
            raise KeyError("dt")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise FileError(f"{path} is damaged, or no file of brainsim ({type(e).__name__}).") from e
    if (about.get("format", 1) != 1 or said is not None) and said != digest(json.dumps(about).encode()):
        raise FileError(f"{path} is damaged: its checksum differs.")
    return about


def _write_run(path: Path, about: dict[str, Any]) -> None:
    checksum = digest(json.dumps(about).encode())
    write_whole(path, json.dumps({**about, "checksum": checksum}, indent=1).encode())


class Directory(AbstractSink):
    """Keeps a stream in a folder: `run.json`, `chunk-000000.npz`, ..., and the last checkpoints.

    Every file is written whole or not at all, so a run killed at any moment can be resumed and read. Chunks and
    checkpoints that are missing or damaged are computed again by `resume`, with a warning that names the file. The file
    `lock` keeps other processes from writing to the folder meanwhile.

    **Arguments:** `path`: a folder, made if need be.

    **Raises:** FileExistsError if the folder holds a run and `resume` is False; BlockingIOError if another process
    writes to it; OSError if it cannot be written; ValueError if `resume` is given other arguments than the stored run
    had; `bs.io.FileError` for files of another run or of an earlier format.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self._lock: int | None = None
        self._run = ""
        self._saved_net: Network | None = None
        self._net: dict[str, Any] = {}

    def open(self, net, state, *, resume, about):
        self._take()
        chunks, states = numbered(self.path, "chunk"), numbered(self.path, "state")
        info = self.path / "run.json"
        about = _completed({**about, "net": describe(net), "net_from": 0, "state": describe(state)})
        self._run = about["run"]
        if not chunks and not states:
            if info.exists():
                read_run(info)  # what it does not know, it does not overwrite
            _write_run(info, about)
            return 0, net, state
        if not resume:
            raise FileExistsError(
                f"{self.path} already holds a run. Pass resume=True to go on with it, or choose another folder."
            )
        before, written = self._before(info, about)
        self._compare(before, about)
        self._run = before["run"]
        done, arrays, said = self._checkpoint(states, self._complete(chunks), about)
        if done < max(chunks, default=0):
            _warn(f"{self.path}: computed again from chunk {done} on.")
        self._compare_values(before, about, done, resume)
        now = before
        if about["t1"] > before["t1"]:
            now = now | {"t1": about["t1"], "rows": about["rows"]}
        if done and done == before["net_from"]:  # the checkpoint before it has still the parameters before
            said = said | {"net_of": done, "net": _digest(before["net"])}
        given = {"net_of": done, "net": _digest(about["net"])}
        replaced = resume == "given" and done > 0 and said["net"] != given["net"]
        if replaced:
            self._no_later_than(done, chunks, states)
            now, said = now | {"net": about["net"], "net_from": done, "state": about["state"]}, given
            self._write_net(net, given)
        if now is not before or not written:
            _write_run(info, now)
        if replaced and done in chunks:
            chunks[done].unlink()  # its checkpoint was not reached
        if not done:
            return 0, net, state
        if said["net"] == given["net"]:
            self._saved_net, self._net = net, said
        else:
            net = self._stored_net(net, said)
        return done, net, from_arrays(state, arrays, str(states[done]))

    def write(self, k, solution, net):
        arrays = {f"n_events/{name}": np.asarray(x) for name, x in solution.n_events.items()}
        for name, value in solution.recordings.items():
            if name.endswith(".spikes"):
                counts = np.asarray(value.counts)
                arrays |= {f"{name}/ids": np.asarray(value.ids)[: int(counts.sum())], f"{name}/counts": counts}
            else:
                arrays[name] = np.asarray(value)
        about = {
            "n0": int(solution.n0),
            "n_steps": solution.n_steps,
            "dt": solution.dt,
            "every": solution.every,
            "sizes": solution.sizes,
            "graded": [name for name, x in solution.graded.items() if x],
            "origins": {
                key: o if o.units is None else o._replace(units=list(o.units)) for key, o in solution.origins.items()
            },
        }
        write_arrays(self.path / f"chunk-{k:06d}.npz", arrays, {"run": self._run, "k": k, **about})
        if net is not self._saved_net:
            self._write_net(net, {"net_of": k, "net": _digest(describe(net))})
        about = {"run": self._run, "k": k + 1, "n": int(solution.state.n)}
        about |= {name: self._net[name] for name in ("net_of", "net")}
        write_arrays(self.path / f"state-{k + 1:06d}.npz", to_arrays(solution.state), about)
        (self.path / f"state-{k + 1 - _KEPT:06d}.npz").unlink(missing_ok=True)

    def close(self):
        if self._lock is not None:
            os.close(self._lock)  # and with it goes the lock, as it does when the process is killed
            self._lock = None

    def _take(self) -> None:
        """Make the folder, and lock it."""
        self.close()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as e:
            what = "write to" if self.path.is_dir() else "make"
            raise OSError(
                e.errno,
                f"Directory({str(self.path)!r}): cannot {what} this folder: {e.strerror}. Choose another path; "
                "bs.StoredRun reads what a folder holds",
            ) from e
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            self.close()
            raise BlockingIOError(
                e.errno, f"{self.path}: another process writes its run here. Wait for its end, or choose another folder"
            ) from e
        except OSError as e:
            _warn(f"{self.path} cannot be locked ({e.strerror}). Let no other process write to it.")
        for partial in self.path.glob("*.partial"):
            partial.unlink(missing_ok=True)

    def _before(self, info: Path, about: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """What run.json says of the stored run; where it cannot be read, what the arguments say, and False. That they
        are those of the run is then known from its chunks, which name the run they belong to."""
        try:
            before = read_run(info)
        except (FileError, FileNotFoundError) as e:
            _warn(f"{e} It is written again, if the arguments are those of the stored run.")
            return about, False
        if before.get("format", 1) != FORMAT:
            version = before.get("versions", {}).get("brainsim", "unknown")
            raise FileError(
                f"{self.path} holds a run of format {before.get('format', 1)}, of brainsim {version}; this one goes on "
                f"with format {FORMAT}. Read it with bs.StoredRun, and run on with that version or in another folder."
            )
        here = provenance()
        if any(before[name] != here[name] for name in here):
            name = next(name for name in here if before[name] != here[name])
            _warn(f"{self.path} was begun with {name} = {before[name]}, not {here[name]}: rounding may differ.")
        return before, True

    def _compare(self, before: dict[str, Any], about: dict[str, Any]) -> None:
        """Raise if the stored run had other arguments, but for the values of parameters."""
        for name in ("dt", "chunk", "t0", "key"):
            if before[name] != about[name]:
                raise ValueError(
                    f"{self.path} holds a run with {name} = {before[name]}, not {about[name]}. Resume with the same "
                    "arguments."
                )
        rows = before["rows"].keys() & about["rows"].keys()
        for name, was, now in (
            ("solver", before["solver"], about["solver"]),
            ("saveat", before["saveat"], about["saveat"]),
            ("inputs", before["inputs"], about["inputs"]),
            ("inputs", {x: before["rows"][x] for x in sorted(rows)}, {x: about["rows"][x] for x in sorted(rows)}),
            ("net", structure(upgraded(before["net"])), structure(about["net"])),
            ("state", structure(before["state"]), structure(about["state"])),
        ):
            first = difference(was, now)
            if first is not None:
                raise ValueError(f"{self.path} holds a run with {name}: {first}. Resume with the same arguments.")

    def _compare_values(self, before: dict[str, Any], about: dict[str, Any], done: int, resume: Any) -> None:
        """Raise if the parameters or the first state are others, and cannot be taken from where `resume` says."""
        if done < before["net_from"]:
            raise FileError(
                f"{self.path} can go on from chunk {done} only, but has used other parameters since chunk "
                f"{before['net_from']}. Read the rest with StoredRun(path, strict=False), and begin another folder."
            )
        other = difference(upgraded(before["net"]), about["net"]) or difference(before["state"], about["state"])
        if other and resume is True:
            raise ValueError(
                f"{self.path} holds a run that began with {other}. Give the same network and state, or go on with the "
                "stored parameters by resume='stored', or with those of this network from here on by resume='given'."
            )
        if other and not done:
            raise ValueError(
                f"{self.path} holds a run that began with {other}, and no checkpoint to go on from. Give the same "
                "network and state, or choose another folder."
            )

    def _complete(self, chunks: dict[int, Path]) -> int:
        """The number of chunks from the first on that are there."""
        usable = set()
        for k, path in chunks.items():
            try:
                said = read_about(path, _AGAIN)
                self._belongs(path, said)
                if said["k"] != k:
                    raise FileError(f"{path} is a copy of chunk {said['k']}. {_AGAIN}")
                usable.add(k)
            except _ForeignError:
                raise
            except FileError as e:
                _warn(str(e))
        complete = next(k for k in range(len(chunks) + 1) if k not in usable)
        if complete not in chunks and any(k > complete for k in chunks):
            _warn(f"{self.path / f'chunk-{complete:06d}.npz'} is missing. {_AGAIN}")
        return complete

    def _checkpoint(self, states: dict[int, Path], complete: int, about: dict[str, Any]):
        """The last checkpoint that can be gone on from: its number, arrays and what it says; 0 if there is none."""
        dt, t0, t1 = about["dt"], about["t0"], about["t1"]
        for k, path in reversed(states.items()):
            if k > complete:
                continue
            try:
                arrays, said = read_arrays(path, "The run goes on from an earlier checkpoint.")
                self._belongs(path, said)
                if said["k"] != k:
                    raise FileError(f"{path} is a copy of checkpoint {said['k']}. The run goes on from an earlier one.")
            except _ForeignError:
                raise
            except FileError as e:
                _warn(str(e))
                continue
            if said["n"] > round(t1 / dt):
                raise ValueError(
                    f"{self.path} holds a run to {said['n'] * dt:g} ms already, beyond t1 = {t1:g} ms. Read it with "
                    "bs.StoredRun, or give a larger t1."
                )
            # A chunk that was the last, and short, is computed again as a whole one when the run is to be longer.
            if said["n"] == round(min(t0 + k * about["chunk"], t1) / dt):
                return k, arrays, said
        return 0, {}, {}

    def _belongs(self, path: Path, said: dict[str, Any]) -> None:
        if said.get("run") != self._run:
            raise _ForeignError(
                f"{path} belongs to another run. Move it to a folder of its own, or resume with the arguments it had."
            )

    def _no_later_than(self, done: int, chunks: dict[int, Path], states: dict[int, Path]) -> None:
        later = [path for k, path in (*chunks.items(), *states.items()) if k > done]
        if later:
            raise ValueError(
                f"{self.path}: with other parameters from chunk {done} on, {later[0].name} would be lost. Go on with "
                "resume=True first, or begin another folder with state= the state that stream returned."
            )

    def _stored_net(self, net: Network, said: dict[str, Any]) -> Network:
        """The network of a checkpoint."""
        path = self.path / f"net-{said['net_of']:06d}.npz"
        remedy = "resume='given' goes on with the parameters of the network that is given."
        if not path.exists():
            raise FileError(f"{path} is missing, the parameters of the last chunk. {remedy}")
        arrays, of = read_arrays(path, remedy)
        self._belongs(path, of)
        net = from_arrays(net, arrays, str(path))
        self._saved_net, self._net = net, said
        return net

    def _write_net(self, net: Network, said: dict[str, Any]) -> None:
        """The parameters from a chunk on, to which the checkpoints that follow refer by `said`."""
        write_arrays(self.path / f"net-{said['net_of']:06d}.npz", to_arrays(net), {"run": self._run, **said})
        self._saved_net, self._net = net, said


class _ForeignError(FileError):
    """A file of another run: not to be written over."""


def _completed(about: dict[str, Any]) -> dict[str, Any]:
    """What run.json says: format, arguments, environment, and the name of the run, by which its files know it."""
    begun = {name: x for name, x in about.items() if name not in ("t1", "rows")}
    return {"format": FORMAT, "run": digest(json.dumps(begun).encode()), **about, **provenance()}


def _digest(described: dict[str, str]) -> str:
    return digest(json.dumps(described).encode())


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=5)
