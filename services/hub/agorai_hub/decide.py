"""What the hub does next: a pure function of what it has published and what the node says.

    Look, Refresh     ask the node more before judging
    Extend            publish a block on top
    Retract           take the newest published block back
    Finalize          say that the oldest published blocks are here to stay
    Backfill          publish a range that was final when first seen, on the final stream only
    Wait              nothing to do, or the node is behind
    Stop              the chain contradicts what was already called final

Nothing is retracted, and the hub never stops, on the word of a pushed head alone: that may be old news by the
time it is read. Nor on a view that contradicts itself, because the node changed its branch between two answers.
Such a view is refreshed first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from agorai_shared.chain import Block
from agorai_shared.types import Hash

LOOK_AHEAD: Final = 64
"""Blocks asked for in one request while catching up one by one."""


@dataclass(frozen=True, slots=True)
class Window:
    """The published branch: the newest final block, and the blocks above it, oldest first."""

    anchor: Block
    blocks: tuple[Block, ...] = ()

    @property
    def tip(self) -> Block:
        """The newest published block."""
        return self.blocks[-1] if self.blocks else self.anchor

    def at(self, number: int) -> Block | None:
        """Give the published block of that height, as far as it is remembered."""
        if not self.blocks or number < self.blocks[0].number:
            return self.anchor if number == self.anchor.number else None
        place = number - self.blocks[0].number
        return self.blocks[place] if place < len(self.blocks) else None


@dataclass(frozen=True, slots=True)
class View:
    """What the node says.

    `final_number` is the newest height it calls final and `final_hash` the block there, where the policy is
    the node's own `finalized` tag. `at` holds blocks of its branch that were asked for since `head`; None for
    a height that it could not answer. `fresh` tells that head and final were asked for, not pushed.
    """

    head: Block
    final_number: int
    final_hash: Hash | None = None
    at: Mapping[int, Block | None] = field(default_factory=dict)
    fresh: bool = True


@dataclass(frozen=True, slots=True)
class Policy:
    """How deep is final (None: as deep as the node says), and from what distance ranges are fetched."""

    confirmations: int | None
    catch_up: int = 32


@dataclass(frozen=True, slots=True)
class Look:
    """Ask the node for its blocks from `first` to `last`."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Refresh:
    """Ask the node for its head and finality before believing in a reorg."""


@dataclass(frozen=True, slots=True)
class Extend:
    """Publish the block on top of the tip."""

    block: Block


@dataclass(frozen=True, slots=True)
class Retract:
    """Retract the tip."""


@dataclass(frozen=True, slots=True)
class Finalize:
    """Publish the oldest `count` blocks of the window as final."""

    count: int


@dataclass(frozen=True, slots=True)
class Backfill:
    """Publish the events of `first` to `last` as final at once."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing until the node has something new; `lagging` says what it lacks, empty when nothing."""

    lagging: str = ""


@dataclass(frozen=True, slots=True)
class Stop:
    """Give up: the node's branch does not hold the block that was called final."""

    anchor: Block
    found: Block


Action: TypeAlias = Look | Refresh | Extend | Retract | Finalize | Backfill | Wait | Stop


def decide(window: Window, view: View, policy: Policy) -> Action:
    """Give the next action; carrying actions out one after another ends in `Wait` (or `Stop`).

    A block is called final only while the published tip is, as far as the node was asked, on its branch.
    """
    blocks, tip = window.blocks, window.tip
    mended = _mend(window, view) if blocks else None
    if mended is not None:
        return mended
    if view.final_number - tip.number >= policy.catch_up:
        rest = Finalize(len(blocks)) if blocks else Backfill(tip.number + 1, view.final_number)
        return _confirm(tip, window, view) or rest
    count = _final_count(window, view, policy)
    if count:
        return Finalize(count)
    if view.final_hash is not None and blocks:
        ours = window.at(view.final_number)
        if ours is not None and ours.hash != view.final_hash:
            return _leave(window, view, ours)
    return _follow(window, view)


def _mend(window: Window, view: View) -> Action | None:
    """See to it that the blocks held stand right on the final one; None when they do."""
    anchor, bottom = window.anchor, window.blocks[0]
    if bottom.number > anchor.number + 1:  # the final stream was lost or fell behind: close the gap first
        last = min(bottom.number - 1, view.final_number)
        if last <= anchor.number:
            return Wait(f"blocks up to {bottom.number - 1} are not final for the node")
        return _confirm(anchor, window, view) or Backfill(anchor.number + 1, last)
    if bottom.number <= anchor.number or bottom.parent_hash != anchor.hash:
        return _leave(window, view, view.head)  # a branch beside what is final
    return None


def _confirm(block: Block, window: Window, view: View) -> Action | None:
    """See to it that a published block is on the node's branch; None when it is."""
    if block.number not in view.at:
        return Look(block.number, block.number)
    theirs = view.at[block.number]
    if theirs is None:
        return Wait(f"the node has no block {block.number}")
    if theirs.hash == block.hash:
        return None
    if block == window.anchor:
        return Stop(block, theirs) if view.fresh else Refresh()
    return _leave(window, view, theirs)


def _final_count(window: Window, view: View, policy: Policy) -> int:
    """Count the oldest blocks held that are final by the policy."""
    if not window.blocks:
        return 0
    if policy.confirmations is not None:  # as deep in our own branch, which the node had as deep
        final_number = window.tip.number - policy.confirmations
    else:
        ours = window.at(view.final_number)
        if ours is None or ours.hash != view.final_hash:
            return 0
        final_number = view.final_number
    return max(0, min(len(window.blocks), final_number - window.blocks[0].number + 1))


def _follow(window: Window, view: View) -> Action:
    """Near the head: block by block, along parent hashes."""
    tip, head = window.tip, view.head
    if head.number <= tip.number:
        return _below(window, view)
    following = tip.number + 1
    if following != head.number and following not in view.at:
        return Look(following, min(head.number - 1, tip.number + LOOK_AHEAD))
    above = head if following == head.number else view.at[following]
    if above is None:
        return Wait(f"the node has no block {following}, below its own head {head.number}")
    return Extend(above) if above.parent_hash == tip.hash else _leave(window, view, above)


def _below(window: Window, view: View) -> Action:
    """At or below the tip: it is the tip, a node that lags behind its own earlier head, or another branch."""
    head = view.head
    ours = window.at(head.number)
    if ours is None:
        return Wait(f"the node's head is {head.number}, below the final block {window.anchor.number}")
    if ours.hash != head.hash:
        return _leave(window, view, head)
    return Wait("" if head.number == window.tip.number else f"the node's head fell back to {head.number}")


def _leave(window: Window, view: View, found: Block) -> Action:
    """Take the tip back, which is not on the node's branch."""
    there = view.at.get(window.tip.number)
    contradictory = there is not None and there.hash == window.tip.hash
    if contradictory or not view.fresh:
        return Refresh()
    return Retract() if window.blocks else Stop(window.anchor, found)
