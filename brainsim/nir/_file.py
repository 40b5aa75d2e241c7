"""NIR files (HDF5), read as what they are: files of unknown origin."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from ._graph import Graph, NIRError, Node

_LARGEST_FILE = 2**30
_MOST_NUMBERS = 2**26
"""Entries of all attributes together: 512 MB in double precision."""
_MOST_NODES = 100_000
_LONGEST_TEXT = 4096
_DEEPEST = 16


class _Reader:
    """One file being read, and what of its allowance is used."""

    def __init__(self, h5py: Any, path: Path) -> None:
        self.h5py, self.path, self.objects, self.numbers = h5py, path, 0, 0

    def fail(self, where: str, why: str) -> NIRError:
        return NIRError(f"{self.path.name}: {where}: {why}")

    def children(self, group: Any) -> dict[str, Any]:
        """The members of a group by name; raises on links that leave the group."""
        h5py, found = self.h5py, {}
        for name in group:
            self.objects += 1
            if self.objects > _MOST_NODES:
                raise self.fail(group.name, f"more than {_MOST_NODES:,} objects.")
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise self.fail(
                    f"{group.name}/{name}", f"{type(link).__name__} to elsewhere; a NIR file holds all of its data."
                )
            found[name] = group[name]
        return found

    def value(self, data: Any) -> Any:
        """A dataset as a NumPy array or scalar, or as text; sizes are looked at before memory is taken."""
        h5py, where = self.h5py, data.name
        plist, kind = data.id.get_create_plist(), data.id.get_type().get_class()
        if plist.get_layout() == h5py.h5d.VIRTUAL or plist.get_external_count():
            raise self.fail(where, "the data lie in another file; a NIR file holds all of its data.")
        n = int(np.prod([int(s) for s in data.shape or ()], dtype=object))
        self.numbers += n
        if self.numbers > _MOST_NUMBERS or n * data.id.get_type().get_size() > 16 * _MOST_NUMBERS:
            raise self.fail(where, f"shape {data.shape}: more than {_MOST_NUMBERS:,} numbers in the file.")
        if kind == h5py.h5t.STRING:
            return self.text(data, n)
        if kind not in (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.ENUM):
            raise self.fail(where, f"entries of type {data.dtype}; expected numbers or text.")
        return data[()]

    def text(self, data: Any, n: int) -> Any:
        """Text, or an array of text as nested lists."""
        held = data.id.get_type()
        if n > 2 * _MOST_NODES or (not held.is_variable_str() and held.get_size() > _LONGEST_TEXT):
            raise self.fail(data.name, f"text of shape {data.shape}, {held.get_size()} bytes each.")
        x = data[()]
        try:
            out = np.vectorize(lambda b: b.decode() if isinstance(b, bytes) else str(b), otypes=[object])(x)
        except UnicodeDecodeError:
            raise self.fail(data.name, "text that is not UTF-8.") from None
        longest = max((len(s) for s in np.ravel(out)), default=0)
        if longest > _LONGEST_TEXT:
            raise self.fail(data.name, f"text of {longest:,} characters; expected at most {_LONGEST_TEXT:,}.")
        return out.item() if not np.ndim(x) else out

    def tree(self, group: Any, depth: int = 0) -> dict[str, Any]:
        """A group as a dict of values."""
        if depth > _DEEPEST:
            raise self.fail(group.name, f"nested deeper than {_DEEPEST} levels.")
        out = {}
        for name, child in self.children(group).items():
            out[name] = self.tree(child, depth + 1) if isinstance(child, self.h5py.Group) else self.value(child)
        return out


def _built(reader: _Reader, where: str, tree: dict[str, Any], version: str) -> Node | Graph:
    kind, metadata = tree.pop("type", None), tree.pop("metadata", {})
    if not isinstance(kind, str):
        raise reader.fail(where, f"`type` is {kind!r}; expected the name of a primitive.")
    if kind != "NIRGraph":
        return Node(kind, tree, metadata)
    nodes, edges = tree.pop("nodes", None), tree.pop("edges", None)
    if not isinstance(nodes, dict):
        raise reader.fail(where, "a NIRGraph without `nodes`.")
    pairs = np.asarray([] if edges is None else edges, object).reshape(-1, 2) if np.size(edges) % 2 == 0 else None
    if pairs is None or (edges is not None and np.size(edges) and np.ndim(edges) != 2):
        raise reader.fail(where, "`edges` is not a list of pairs of names.")
    built = {}
    for name, child in nodes.items():
        if not isinstance(child, dict):
            raise reader.fail(f"{where}.{name}", "a node that is no group.")
        built[name] = _built(reader, f"{where}.{name}", child, version)
    return Graph(built, [(str(a), str(b)) for a, b in pairs], version, metadata, tree)


def read_here(path: Path) -> Graph:
    """Read in this process; for files that are trusted, or inside a process with limits."""
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            reader = _Reader(h5py, path)
            root = reader.children(file)
            if "node" not in root:
                raise reader.fail("/", f"no group 'node'; it has {sorted(root)[:5]}. Expected a NIR file.")
            version = reader.value(root["version"]) if isinstance(root.get("version"), h5py.Dataset) else ""
            if not isinstance(root["node"], h5py.Group):
                raise reader.fail("/node", "no group; expected a NIRGraph.")
            graph = _built(reader, "node", reader.tree(root["node"]), version if isinstance(version, str) else "")
    except NIRError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError, AttributeError) as e:
        raise NIRError(f"{path.name}: cannot be read as HDF5: {type(e).__name__}: {str(e)[:200]}") from None
    if not isinstance(graph, Graph):
        graph = Graph({"input": Node("Input", {}), "node": graph}, [("input", "node")], version)
    return graph


def file_of(path: Any) -> Path:
    """The path of an existing file of bearable size."""
    path = Path(path)
    if not path.is_file():
        raise NIRError(f"{path} is no file; expected a NIR file (HDF5).")
    if (size := os.path.getsize(path)) > _LARGEST_FILE:
        raise NIRError(f"{path.name} has {size:,} bytes; expected at most {_LARGEST_FILE:,}.")
    return path


def write(graph: Graph, path: Any) -> None:
    """Write a graph as a NIR file, every attribute with its type and shape.

    Needs h5py: `pip install 'brainsim[nir]'`.
    """
    import h5py

    def put(group: Any, name: str, x: Any) -> None:
        if isinstance(x, dict):
            inner = group.create_group(name)
            for key, value in x.items():
                put(inner, key, value)
        elif isinstance(x, str) or (isinstance(x, np.ndarray) and x.dtype == object):
            group.create_dataset(name, data=x, dtype=h5py.string_dtype())
        else:
            group.create_dataset(name, data=x)

    def fill(group: Any, node: Node | Graph) -> None:
        put(group, "type", node.type if isinstance(node, Node) else "NIRGraph")
        if node.metadata:
            put(group, "metadata", node.metadata)
        for name, x in (node.fields if isinstance(node, Node) else node.others).items():
            put(group, name, x)
        if isinstance(node, Graph):
            put(group, "edges", np.array(node.edges, object).reshape(-1, 2))
            inner = group.create_group("nodes")
            for name, child in node.nodes.items():
                fill(inner.create_group(name), child)

    with h5py.File(path, "w") as file:
        put(file, "version", graph.version)
        fill(file.create_group("node"), graph)
