"""How many tokens a stream may have on a device."""

from embedkit.encoders.transformer.stream.layout import stream_lengths


class Budget:
    """The most tokens of a stream: what was asked for, halved as often as a device needs.

    Halved, and not cut to what would just fit, so that equal devices get equal streams.

    Args:
        asked: What the job asks for.
        longest: Tokens of the longest row, which is never cut; no budget is below it.
    """

    def __init__(self, asked: int, longest: int) -> None:
        self._longest = longest
        self.tokens = max(asked, longest)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Lengths of streams, falling."""
        return stream_lengths(self.tokens, self._longest)

    def halve(self, below: int | None = None) -> bool:
        """Halves it once, or until all streams are shorter than one that did not fit.

        Returns:
            Whether it is smaller now; it is not where a long row would have no place any more.
        """
        before = self.tokens
        while self.tokens // 2 >= self._longest and (
            self.tokens == before if below is None else self.tokens >= below
        ):
            self.tokens //= 2
        return self.tokens < before
