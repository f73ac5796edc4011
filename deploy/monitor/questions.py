"""What is wrong with a question of the page. Only these are answered as its fault; any other error is the server's."""

from collections.abc import Iterator
from contextlib import contextmanager


class QuestionError(ValueError):
    """It makes no sense; the text says why."""


class MissingError(LookupError):
    """What it names does not exist."""


@contextmanager
def asked() -> Iterator[None]:
    """A ValueError inside is due to what the page has sent."""
    try:
        yield
    except QuestionError:
        raise
    except ValueError as error:
        raise QuestionError(str(error)) from error
