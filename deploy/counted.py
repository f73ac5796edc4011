"""How a number of things is written."""


def counted(number: int, noun: str) -> str:
    """`1 episode`, `1,200 episodes`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
