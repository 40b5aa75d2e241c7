"""Tables as text."""

from typing import Any


def as_text(table: Any) -> str:
    """What rich would print of `table`, at a fixed width: the `__str__` and `__repr__` of what has a `__rich__`."""
    import io

    from rich.console import Console  # loaded where something is shown

    console = Console(file=io.StringIO(), width=120, force_jupyter=False)
    console.print(table)
    return console.file.getvalue().rstrip()  # pyright: ignore[reportAttributeAccessIssue]
