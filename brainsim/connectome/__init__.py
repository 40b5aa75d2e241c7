"""Connectomes: tables of neurons and of the edges between them, and readers of those that are published."""

from ._columns import read_optic_lobe as read_optic_lobe
from ._connectome import Connectome as Connectome
from ._edges import SIGNS as SIGNS
from ._page import write_page as write_page
from ._readers import (
    read_celegans as read_celegans,
    read_codex as read_codex,
    read_larva as read_larva,
    read_malecns as read_malecns,
    read_shiu as read_shiu,
    read_tables as read_tables,
)
