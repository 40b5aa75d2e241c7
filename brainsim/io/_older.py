"""What files of older versions say of a network, in the words of now: an edge was one class, `variable` was `sees`."""

import re

_EDGE = re.compile(r"^(.*\.edges\['\w+'\])(.*)$")
_ROUTE = re.compile(r"^\.route\[(\d)\](.*)$")
_CLASSES = (
    "Projection",
    "GapJunctions",
    "PoissonInput",
    "PlasticProjection",
    "Coupling",
    "PairCoupling",
    "IP3Coupling",
)
_GONE = re.compile(r"^\.(parts|steps|ready|targets)(\W.*)?$")


def upgraded(described: dict[str, str]) -> dict[str, str]:
    """A description (`describe`) of a network with its edges as `Wired...`; those of now stay as they are."""
    kinds = {path: kind for path, kind in described.items() if kind in _CLASSES and _EDGE.fullmatch(path)}
    found = {}
    for path, entry in described.items():
        match = _EDGE.match(path)
        if match is None or match[1] not in kinds:
            found[re.sub(r"\.sees$", ".variable", path)] = entry
            continue
        edge, field = match.groups()
        kind = kinds[edge]
        if not field:
            found[edge] = f"Wired{kind}"
        elif (route := _ROUTE.match(field)) is None:
            found |= {f"{edge}{_field(kind, field)}": entry} if _kept(kind, field) else {}
        elif kind == "PoissonInput":
            found[f"{edge}.target[{route[1]}]{route[2]}"] = entry
        else:
            node = re.sub(r"\W.*", "", described[f"{edge}.pre"].strip("'"))
            found |= {f"{edge}.route[0]": repr(node), f"{edge}.route[{int(route[1]) + 1}]{route[2]}": entry}
            found[f"{edge}.route[6]"] = "False"
    # all of them added what arrived at the start of a step
    return {f"{path}.at": "'start'" for path, kind in found.items() if kind == "Delta"} | found


def _kept(kind: str, field: str) -> bool:
    """Whether a wired edge has the field."""
    gone = {"PoissonInput": (".post",), "PlasticProjection": (".order",), "IP3Coupling": (".pre", ".post")}
    return _GONE.match(field) is None and field not in gone.get(kind, ())


def _field(kind: str, field: str) -> str:
    return ".variable_post" if (kind, field) == ("PairCoupling", ".seen") else field
