"""Thousands of networks in batches: spaces of parameters, a resumable store, work shared by processes and machines."""

from ._evaluate import Evaluator as Evaluator, as_simulator as as_simulator
from ._model import Segments as Segments
from ._result import Sweep as Sweep
from ._run import run as run
from ._space import (
    AbstractSpace as AbstractSpace,
    Grid as Grid,
    LatinHypercube as LatinHypercube,
    Members as Members,
    Random as Random,
)
from ._store import StoreError as StoreError
