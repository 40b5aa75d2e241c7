"""Annotations, shapes among them, checked at every call: what BRAINSIM_SHAPES=1 switches on in `conftest.py`."""

from beartype import BeartypeConf, beartype

_check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int will do for a float


def checked(f):
    """`f`, which checks what it is called with; fields of modules are left to their converters and checks."""
    return f if f.__name__ in ("__init__", "check_single_arg", "check_params") else _check(f)
