"""Numbers with their nouns."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 episode`, `1,200 episodes`; `plural` if it is not the noun with an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
