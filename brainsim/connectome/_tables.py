"""Columns of CSV, Parquet and Feather files, in batches, with whole numbers that stay whole."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_BATCH = 1 << 18


def _library(name: str) -> Any:
    """A part of pyarrow, or an error that says how to get it."""
    try:
        return __import__(f"pyarrow.{name}", fromlist=["_"])
    except ImportError as e:
        raise ImportError("Reading a connectome needs pyarrow and pandas: pip install 'brainsim[connectome]'.") from e


def batches(path: str | os.PathLike, columns: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
    """The named columns of a file (`.csv`, `.csv.gz`, `.parquet`, `.feather`, `.arrow`), 250,000 rows at a time."""
    path, first = Path(path), 0
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; expected a table of a connectome.")
    for batch in _open(path, columns):
        known = set(batch.schema.names)
        _all_there(path, columns, known)
        yield {name: _array(path, name, batch.column(batch.schema.get_field_index(name)), first) for name in columns}
        first += batch.num_rows


def _open(path: Path, columns: Sequence[str]) -> Iterator[Any]:
    if path.suffix == ".parquet":
        file = _library("parquet").ParquetFile(path, pre_buffer=False)
        _all_there(path, columns, set(file.schema_arrow.names))
        return file.iter_batches(_BATCH, columns=list(columns))
    if path.suffix in (".feather", ".arrow"):
        dataset = _library("dataset").dataset(path, format="feather")
        _all_there(path, columns, set(dataset.schema.names))
        return iter(dataset.to_batches(columns=list(columns), batch_size=_BATCH))
    if path.name.endswith((".csv", ".csv.gz")):
        return iter(_library("csv").open_csv(path))
    raise ValueError(f"{path} has the suffix {path.suffix!r}; expected .csv, .csv.gz, .parquet, .feather or .arrow.")


def _all_there(path: Path, wanted: Sequence[str], known: set[str]) -> None:
    missing = [name for name in wanted if name not in known]
    if missing:
        raise ValueError(
            f"{path.name} has no column {missing[0]!r}; it has {sorted(known)}. Name its columns, or give the table "
            "that the reader was written for."
        )


def _array(path: Path, name: str, column: Any, first: int) -> np.ndarray:
    """A column as an array; a whole number that is missing would make floats of all, and is an error."""
    types = _library("types")
    if column.null_count and types.is_integer(column.type):
        row = first + int(np.flatnonzero(np.asarray(column.is_null()))[0])
        raise ValueError(f"{path.name}, row {row}: {name!r} is missing. Remove the row or give the number.")
    return column.to_numpy(zero_copy_only=False)


def frame(path: str | os.PathLike, columns: Sequence[str] = ()) -> Any:
    """A whole file as a table of pandas; whole numbers with missing values stay whole (`Int64`)."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; expected a table of a connectome.")
    if path.suffix == ".parquet":
        table = _library("parquet").read_table(path)
    elif path.suffix in (".feather", ".arrow"):
        table = _library("feather").read_table(path)
    elif path.name.endswith((".csv", ".csv.gz")):
        table = _library("csv").read_csv(path)
    else:
        raise ValueError(f"{path} has the suffix {path.suffix!r}; expected .csv, .csv.gz, .parquet or .feather.")
    _all_there(path, columns, set(table.column_names))
    import pandas as pd

    whole = {name: pd.Int64Dtype() for name in table.column_names if _gaps(table.column(name))}
    out = table.drop_columns(list(whole)).to_pandas()
    for name in whole:
        column = table.column(name)
        out[name] = pd.array(column.to_pylist(), dtype=pd.Int64Dtype())
    return out[table.column_names]


def _gaps(column: Any) -> bool:
    return bool(column.null_count) and _library("types").is_integer(column.type)


def whole(where: str, name: str, x: Any) -> np.ndarray:
    """Ids as int64. Floats are refused: they hold no id beyond 2^53."""
    a = np.asarray(x)
    if np.issubdtype(a.dtype, np.integer):
        return a.astype(np.int64, copy=False)
    if a.dtype == object or a.dtype.kind in "UT":
        for row, value in enumerate(a.reshape(-1)):
            if not (isinstance(value, int | np.integer) or (isinstance(value, str) and value.strip().isdigit())):
                raise TypeError(
                    f"{where}, row {row}: {name} is {value!r}; expected a whole number. Mend or remove the row."
                )
        return np.array([int(value) for value in a.reshape(-1)], np.int64).reshape(a.shape)
    raise TypeError(
        f"{where}: {name} is of type {a.dtype}; expected int64. Floats hold no whole number beyond 2^53, so ids have "
        "already lost digits: read the table again with that column as integers or text."
    )
