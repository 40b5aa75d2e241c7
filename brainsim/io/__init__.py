"""Results and networks on disk, and export to other formats."""

from ._directory import Directory as Directory
from ._files import (
    FileError as FileError,
    read_arrays as read_arrays,
    write_arrays as write_arrays,
    write_whole as write_whole,
)
from ._neo import to_neo as to_neo
from ._network import load as load, save as save
from ._provenance import provenance as provenance
from ._stored import StoredRun as StoredRun
