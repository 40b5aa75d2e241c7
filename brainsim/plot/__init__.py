"""Pictures of runs, networks and units on matplotlib: each function draws into `ax` (None: a new figure), returns it.

matplotlib comes with `pip install 'brainsim[plot]'`; `import brainsim` does not import this package.
"""

from ._axes import COLOURS as COLOURS
from ._connectivity import connectivity as connectivity, degrees as degrees
from ._phase_plane import phase_plane as phase_plane
from ._runs import raster as raster, rates as rates, traces as traces
