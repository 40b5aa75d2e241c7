"""Astrocytes and modulators: slow units that listen to synapses and answer."""

from ._coupling import IP3Coupling as IP3Coupling
from ._exocytosis import Exocytosis as Exocytosis
from ._gchi import GChI as GChI
from ._global import AMSU as AMSU, GlobalAstrocyte as GlobalAstrocyte
from ._li_rinzel import LiRinzel as LiRinzel
from ._modulator import Neuromodulator as Neuromodulator
from ._release import GliaModulated as GliaModulated, ModulatedGain as ModulatedGain
