"""Properties that are computed when they are first asked for."""

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

Value = TypeVar("Value")


class lazy_property(Generic[Value]):
    """Computes a property once for each object, which must have a ``__dict__``.

    What ``functools.cached_property`` is since Python 3.12. Before, all objects of a class share
    one lock while it computes, so that threads wait for each other's stores and sums.
    """

    def __init__(self, function: Callable[[Any], Value]) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        """Takes the name under which values are kept."""
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> Value: ...
    def __get__(self, instance: object | None, owner: type | None = None) -> Self | Value:
        """Computes the value and leaves it where it is found before this is asked again."""
        if instance is None:
            return self
        value = self._function(instance)
        # Past a frozen dataclass's guard, as it stays what it was made of.
        instance.__dict__[self._name] = value
        return value
