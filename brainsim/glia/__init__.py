"""Astrocytes: slow units that listen to synapses and answer with graded currents."""

from ._gchi import GChI as GChI
from ._li_rinzel import LiRinzel as LiRinzel
