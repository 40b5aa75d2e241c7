"""Results and networks on disk, and export to other formats."""

from ._directory import (
    Directory as Directory,
    StoredRun as StoredRun,
    load as load,
    provenance as provenance,
    save as save,
    write_whole as write_whole,
)
from ._neo import to_neo as to_neo
