"""Money as integers of picodollars (10^-12 USD), so that sums are exact to the last digit.

Prices are quoted in USD per million tokens. A picodollar a token is $0.000001 a million
tokens, finer than any published price, and 64 bits of them reach 9.2 million USD.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal, InvalidOperation

PICO = 10**12
_SCALE = Decimal(PICO)
MAX_USD = Decimal(1_000_000)


def usd(pico: int) -> str:
    """Picodollars as an exact decimal string in USD, e.g. ``0.00123``; never an exponent."""
    sign = "-" if pico < 0 else ""
    whole, rest = divmod(abs(pico), PICO)
    text = f"{rest:012d}".rstrip("0")
    return f"{sign}{whole}.{text}" if text else f"{sign}{whole}"


def pico(value: object) -> int:
    """USD (a number or its text) as picodollars.

    Raises:
        ValueError: it is not a number, negative, or more than a million USD.
    """
    try:
        # By its text, so that 0.1 is a tenth and not the nearest binary fraction.
        amount = Decimal(str(value))
    except InvalidOperation:
        raise ValueError(f"{value!r} is not an amount in USD") from None
    if isinstance(value, bool) or not amount.is_finite() or not 0 <= amount <= MAX_USD:
        raise ValueError(f"{value!r} is not an amount from 0 to {MAX_USD} USD")
    return int((amount * _SCALE).to_integral_value(ROUND_CEILING))
