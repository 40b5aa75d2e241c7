"""Tables as text."""

from typing import Any


def as_text(self: Any) -> str:
    """What rich prints of `self`, 120 columns wide: the `__str__` and `__repr__` of classes with a `__rich__`."""
    import io

    from rich.console import Console  # loaded where something is shown

    console = Console(file=io.StringIO(), width=120, force_jupyter=False, color_system=None)
    console.print(self)
    return console.file.getvalue().rstrip()  # pyright: ignore[reportAttributeAccessIssue]
