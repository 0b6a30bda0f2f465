"""How pages write amounts, times, accounts and states. Pure; what comes from the chain is foreign text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from types import MappingProxyType
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

from agorai_dashboard.views import Curve, Item, Point

_TOKEN: Final = Decimal(10**18)
_MOST_SHOWN: Final = 600
"""Characters of one argument."""
_AMOUNTS: Final = frozenset(
    {
        "amount",
        "back",
        "bonus",
        "burnt",
        "fee",
        "owed",
        "price",
        "shared",
        "toBuyer",
        "toSeller",
        "total",
        "value",
        "wage",
    }
)
_TIMES: Final = frozenset({"blockedUntil", "closesAt", "deadline", "expiresAt"})
"""Arguments that are amounts, and those that are times."""
_LAST_SECOND: Final = 253_402_300_799
"""Of the year 9999, with which `datetime` ends; a contract may name a later one."""
_LIMITLESS: Final = 2**200
"""From here on an amount means "any": what a contract is allowed to take."""
_ENDLESS: Final = 2**39
"""From here on a time means "never": contracts' 40 bits, all or nearly all set."""

_PATHS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "resource": "/market/",
        "trade": "/trades/",
        "case": "/disputes/",
        "pool": "/pools/",
        "task": "/tasks/",
        "actor": "/actors/",
    }
)
"""By kind of item, where its page is."""

_TONES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "good": (
            "completed", "confirmed", "delivered", "settled", "ready", "active", "closed", "final", "claimed",
        ),
        "wait": (
            "disputed", "challenged", "answered", "contested", "proposed", "paid", "finished", "closing", "paused",
            "requested", "undecided", "drawing",
        ),
        "bad": (
            "rejected", "forfeited", "abandoned", "absent", "disabled", "not ready",
        ),
        "now": (
            "open", "offered", "preparing", "keys", "addresses", "inspecting", "matching", "running", "voting",
            "seated", "committing", "revealing", "committed", "approved",
        ),
    }
)  # fmt: skip
_TONE: Final = {state: tone for tone, states in _TONES.items() for state in states}


def tokens(amount: int) -> str:
    """Write an amount of the token's smallest unit in tokens, to four decimals at most."""
    if amount >= _LIMITLESS:
        return "unlimited"
    value = Decimal(amount) / _TOKEN
    if value and abs(value) < Decimal("0.0001"):
        return "< 0.0001" if value > 0 else "> -0.0001"
    return f"{value:,.4f}".rstrip("0").rstrip(".")


def token_value(amount: int) -> str:
    """Write an amount in tokens as charts read it: plain, exact to six decimals."""
    return f"{Decimal(amount) / _TOKEN:.6f}".rstrip("0").rstrip(".")


def grouped(value: int) -> str:
    """Write a whole number with its thousands apart."""
    return f"{value:,}"


def percent(ten_thousandths: float) -> str:
    """Write an accuracy, which the chain keeps in 1/10,000."""
    return f"{ten_thousandths / 100:.2f}\u202f%"


def size(octets: int) -> str:
    """Write a number of bytes."""
    value = float(octets)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"


def moment(seconds: float) -> str:
    """Write a time in full."""
    if seconds >= _ENDLESS:
        return "never"
    return datetime.fromtimestamp(min(seconds, _LAST_SECOND), UTC).strftime("%-d %b %Y, %H:%M:%S UTC")


def machine_time(seconds: float) -> str:
    """Write a time as HTML's `datetime` takes it."""
    return datetime.fromtimestamp(min(seconds, _LAST_SECOND), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def span(seconds: float) -> str:
    """Write how long something takes, by its two largest units."""
    left = max(0, round(seconds))
    if left >= _ENDLESS // 2:
        return "no limit"
    found: list[str] = []
    for unit, worth in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        if left >= worth:
            count, left = divmod(left, worth)
            if count:
                found.append(f"{count} {unit}")
        if len(found) == 2:
            break
    return " ".join(found) or "0 s"


def relative(seconds: float, now: float) -> str:
    """Write how far a time is from now; the pages' script keeps it up to date."""
    distance = seconds - now
    if seconds >= _ENDLESS:
        return "never"
    if abs(distance) < 1:
        return "now"
    worths = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
    worth, unit = next((worth, unit) for worth, unit in worths if abs(distance) >= worth)
    text = f"{int(abs(distance) // worth)} {unit}"
    return f"in {text}" if distance > 0 else f"{text} ago"


def short(value: object) -> str:
    """Shorten an account, a hash or a digest so that both its ends can be compared."""
    text = str(value)
    return text if len(text) <= 13 else f"{text[:6]}…{text[-4:]}"


def tone(state: str) -> str:
    """Give which of the status colours a state has; its word always stands beside."""
    return _TONE.get(state, "idle")


def web_address(text: str) -> str | None:
    """Give a foreign text as something to link to; None unless it is a plain web address."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    return text if parts.scheme in {"http", "https"} and parts.netloc and text.isprintable() else None


def argument(value: object) -> str:
    """Write an event's argument, which may be nested and long."""
    if isinstance(value, Mapping):
        text = ", ".join(f"{name} = {argument(one)}" for name, one in value.items())
    elif isinstance(value, list | tuple):
        text = ", ".join(map(argument, value))
    elif isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, str) and value.startswith("0x"):
        text = short(value)
    else:
        text = str(value)
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "…"


def meaning(value: object, name: str) -> str | None:
    """Say what a number among an event's arguments is, where its name tells; None where it does not."""
    text = str(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdecimal()):
        return None
    if name in _AMOUNTS:
        return f"{tokens(int(text))} tokens"
    return moment(int(text)) if name in _TIMES and int(text) else None


def item_path(item: Item) -> str:
    """Give the page about an item; its events where it has no page of its own."""
    if item.kind in _PATHS:
        return _PATHS[item.kind] + quote(item.key, safe="")
    return "/events?" + urlencode({"about": f"{item.kind}:{item.key}"})


@dataclass(frozen=True, slots=True)
class Mark:
    """A picture of an account: two hues, and where the smaller disc stands in the larger one."""

    ground: str
    disc: str
    x: float
    y: float


def mark(address: str) -> Mark:
    """Draw an account, the same everywhere, so that an eye tells two apart sooner than their digits."""
    seed = sha256(address.lower().encode()).digest()
    hue = int.from_bytes(seed[:2]) % 360
    other = (hue + 90 + seed[2] % 180) % 360
    return Mark(f"hsl({hue} 58% 52%)", f"hsl({other} 70% 72%)", 4 + seed[3] % 9, 4 + seed[4] % 9)


@dataclass(frozen=True, slots=True)
class CurveTable:
    """Several curves as one table: a row for each time at which one of them has a value."""

    names: tuple[str, ...]
    rows: tuple[tuple[int, tuple[int | None, ...]], ...]


def curve_table(curves: Sequence[Curve], most: int = 160) -> CurveTable:
    """Put curves side by side, in the order of time.

    Where a curve has several values at once the last counts. Of more than `most` rows those are put together that
    belong to one of so many equal spans of time, which the eye cannot tell apart.
    """
    times = {point.time for curve in curves for point in curve.points}
    first, last = min(times, default=0), max(times, default=0)
    width = 1 if len(times) <= most else (last - first) / most
    rows: dict[int, tuple[int, list[int | None]]] = {}
    for index, curve in enumerate(curves):
        for point in curve.points:
            place = int((point.time - first) / width)
            time, values = rows.get(place, (point.time, [None] * len(curves)))
            values[index] = point.value
            rows[place] = max(time, point.time), values
    names = tuple(curve.name for curve in curves)
    return CurveTable(names, tuple((time, tuple(values)) for _, (time, values) in sorted(rows.items())))


def begun(points: Sequence[Point]) -> Sequence[Point]:
    """Leave out what comes before the first value that is not zero."""
    first = next((index for index, point in enumerate(points) if point.value), len(points))
    return points[first:]


def spark(points: Sequence[Point]) -> str:
    """Give the points of a polyline in a box of 100 by 30, which begins at zero and ends at the largest value."""
    if not points:
        return ""
    top = max((point.value for point in points), default=0) or 1
    points = [*points, *points] if len(points) == 1 else points
    step = 100 / (len(points) - 1)
    return " ".join(
        f"{index * step:.2f},{29 - 27 * point.value / top:.2f}" for index, point in enumerate(points)
    )


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a bar: where it begins and how wide it is, in percent."""

    begin: float
    width: float


def parts(amounts: Sequence[int]) -> tuple[Part, ...]:
    """Divide a bar among amounts."""
    whole = sum(amounts) or 1
    found, begin = [], 0.0
    for amount in amounts:
        width = round(100 * amount / whole, 3)
        found.append(Part(round(begin, 3), width))
        begin += width
    return tuple(found)
