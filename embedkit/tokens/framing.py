"""What the model sees of a text's tokens: cut to its maximum, with special tokens around."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Frame:
    """How the ids of a text become a row of the model.

    Attributes:
        prefix: Ids of the special tokens before every text.
        suffix: Those behind it.
        room: Most tokens of a text beside these.
        truncate_left: Whether the first tokens of a text that is too long are cut, not the last.
    """

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    room: int
    truncate_left: bool

    @property
    def special(self) -> int:
        """Special tokens of a row."""
        return len(self.prefix) + len(self.suffix)

    def rows(self, contents: NDArray[np.int32], ends: NDArray[np.int64]) -> NDArray[np.int32]:
        """Cuts the ids of each text to what the model sees, and puts the special ones around.

        Args:
            contents: The ids of all texts one after the other.
            ends: The ends of the texts' ids among them, beginning with 0.

        Returns:
            The ids of all rows one after the other.
        """
        counts = np.diff(ends)
        offsets = np.append(0, np.cumsum(np.minimum(counts, self.room) + self.special))
        ids = np.empty(offsets[-1], dtype=np.int32)
        content = np.ones(len(ids), dtype=np.bool_)
        after = offsets[1:] - len(self.suffix)
        for first, specials in ((offsets[:-1], self.prefix), (after, self.suffix)):
            for place, special in enumerate(specials):
                ids[first + place] = special
                content[first + place] = False
        ids[content] = self.seen(contents, ends)
        return ids

    def first_seen(self, ends: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns how many tokens of each text are cut before the first that the model sees."""
        surplus = np.maximum(np.diff(ends) - self.room, 0)
        return surplus if self.truncate_left else np.zeros_like(surplus)

    def cut(self, content: list[int]) -> list[int]:
        """Returns the tokens of one text that the model sees."""
        if len(content) > self.room:
            return content[-self.room :] if self.truncate_left else content[: self.room]
        return content

    def seen(self, contents: NDArray[np.int32], ends: NDArray[np.int64]) -> NDArray[np.int32]:
        """Returns the ids without those of each text that are too many for the model.

        Args:
            contents: See ``rows``.
            ends: See ``rows``.
        """
        counts = np.diff(ends)
        too_long = np.flatnonzero(counts > self.room)
        if not len(too_long):
            return contents
        seen = np.ones(len(contents), dtype=np.bool_)
        for start, end in zip(ends[too_long].tolist(), ends[too_long + 1].tolist(), strict=True):
            if self.truncate_left:
                seen[start : end - self.room] = False
            else:
                seen[start + self.room : end] = False
        return contents[seen]
