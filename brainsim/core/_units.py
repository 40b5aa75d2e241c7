"""Which units are meant: numbers, slices and masks, read in one way wherever units are chosen."""

import dataclasses
import operator
from typing import Any

import numpy as np

from ..base import is_traced


@dataclasses.dataclass(frozen=True)
class Units:
    """Units as they were chosen: by number, by a slice, or by a mask over all `size` units; hashable."""

    numbers: tuple[int, ...] = ()
    span: tuple[int | None, int | None, int | None] | None = None
    size: int | None = None

    @staticmethod
    def of(where: str, given: Any) -> "Units | None":
        """Read a number, a sequence or array of numbers, a slice (`slice(0, 10)`, `range(10)` or `":10"`), or a boolean
        mask; None, for all units, stays None. Errors name `where`."""
        if given is None or isinstance(given, Units):
            return given
        if isinstance(given, str):
            return Units(span=_read(where, given))
        if isinstance(given, slice):
            try:
                ends = [None if b is None else operator.index(b) for b in (given.start, given.stop, given.step)]
            except TypeError:
                raise TypeError(f"{where} is {given}; expected a slice of whole numbers.") from None
            return Units(span=(ends[0], ends[1], ends[2]))
        if is_traced(given):
            raise TypeError(f"{where} is traced; units are fixed before a run. Give numbers.")
        x = np.asarray(given)
        wanted = "expected unit numbers, a slice, text such as ':10', or a mask with one value per unit"
        if x.dtype == bool:
            if x.ndim != 1:
                raise TypeError(f"{where} is {given!r}; {wanted}.")
            return Units(tuple(np.flatnonzero(x).tolist()), size=x.size)
        if x.ndim > 1 or not (np.issubdtype(x.dtype, np.integer) or x.size == 0):
            raise TypeError(f"{where} is {given!r}; {wanted}.")
        return Units(tuple(int(i) for i in np.atleast_1d(x)))

    def within(self, where: str, name: str, size: int) -> range | tuple[int, ...]:
        """The numbers of the chosen units of `name`, which has `size`; errors name `where`."""
        if self.size not in (None, size):
            raise ValueError(
                f"{where} is a mask of {self.size} values; expected one for each of the {size} of {name!r}."
            )
        if self.span is not None:
            found: Any = range(size)[slice(*self.span)]
            beyond = [b for b in self.span[:2] if b is not None and abs(b) > size]
            if beyond or (size and not len(found)):
                start, stop = ("" if b is None else b for b in self.span[:2])
                wrong = "reaches beyond" if beyond else "names no unit of"
                raise ValueError(
                    f"{where}: {name}[{start}:{stop}] {wrong} node {name!r}; expected a range within its {size} units. "
                    "Mend the range or the size."
                )
            return found
        wrong = [i for i in self.numbers if not -size <= i < size]
        if wrong:
            raise ValueError(f"{where} contains {wrong[0]}; {name!r} has {size} values. Give numbers below {size}.")
        if not self.numbers:
            raise ValueError(f"{where} names no unit of {name!r}; expected at least one of its {size}.")
        found = tuple(i % size for i in self.numbers)
        run = range(found[0], found[-1] + 1)  # consecutive numbers are a slice, which costs less
        return run if tuple(run) == found else found


def _read(where: str, text: str) -> tuple[int | None, int | None, int | None]:
    """A slice in text, `"5"`, `"5:8"` or `":100:2"`, with or without brackets."""
    fields = text.strip().removeprefix("[").removesuffix("]").split(":")
    try:
        numbers = [int(x) if x.strip() else None for x in fields]
    except ValueError:
        numbers = []
    if len(numbers) == 1 and numbers[0] is not None:
        return numbers[0], numbers[0] + 1 or None, None
    if len(numbers) not in (2, 3) or (len(numbers) == 3 and numbers[2] is not None and numbers[2] < 1):
        raise ValueError(
            f"{where}: {text!r} has a bad range; expected [start:stop] or [start:stop:step] in unit numbers."
        )
    return numbers[0], numbers[1], numbers[2] if len(numbers) == 3 else None


def columns(numbers: range | tuple[int, ...] | None) -> Any:
    """What takes these units from an array whose axis 0 is the unit: a slice where they are evenly spaced."""
    if isinstance(numbers, range):
        stop = numbers.stop if numbers.step > 0 or numbers.stop >= 0 else None
        return slice(numbers.start, stop, numbers.step)
    return slice(None) if numbers is None else np.asarray(numbers, np.int32)
