"""Human-readable sizes."""


def byte_size(nbytes: float) -> str:
    """Bytes with three digits in a suitable unit: `3.11 GB`, `65.2 MB`, `82 kB` (1 kB is 1000 bytes)."""
    unit, size = ("GB", 1e9) if nbytes >= 1e8 else ("MB", 1e6) if nbytes >= 1e6 else ("kB", 1e3)
    return f"{nbytes / size:,.0f} {unit}" if nbytes >= 1000 * size else f"{nbytes / size:.3g} {unit}"
