"""Neural masses: units of a few equations for a whole population or region, with continuous values instead of
spikes."""

from ._epileptor import Epileptor as Epileptor
from ._jansen_rit import JansenRit as JansenRit
from ._montbrio_pazo_roxin import MontbrioPazoRoxin as MontbrioPazoRoxin
from ._oscillators import FitzHughNagumo as FitzHughNagumo, Kuramoto as Kuramoto, StuartLandau as StuartLandau
from ._wilson_cowan import WilsonCowan as WilsonCowan
from ._wong_wang import ExcInhWongWang as ExcInhWongWang, ReducedWongWang as ReducedWongWang
