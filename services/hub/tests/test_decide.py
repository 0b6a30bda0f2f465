"""Decisions against a simulated chain: random growth, reorgs, lag and old news."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from agorai_hub import decide as do
from agorai_shared.chain import Block
from agorai_shared.types import Hash


def child(parent: Block, name: int) -> Block:
    return Block(parent.number + 1, Hash(f"0x{parent.number + 1}.{name}"), parent.hash, 0)


GENESIS = Block(0, Hash("0x0"), Hash("0x"), 0)


@dataclass
class Node:
    """A node: its branch, and how many blocks it hides for being behind."""

    confirmations: int | None
    branch: list[Block] = field(default_factory=lambda: [GENESIS])
    final: int = 0
    lag: int = 0
    born: int = 0

    def mine(self, count: int) -> list[Block]:
        mined = []
        for _ in range(count):
            self.born += 1
            mined.append(child(self.branch[-1], self.born))
            self.branch.append(mined[-1])
        depth = 3 if self.confirmations is None else self.confirmations
        self.final = max(self.final, len(self.branch) - 1 - depth)
        return mined

    @property
    def seen(self) -> list[Block]:
        return self.branch[: max(self.final + 1, len(self.branch) - self.lag)]

    def view(self, head: Block | None = None) -> do.View:
        top = self.seen[-1]
        if self.confirmations is None:
            final = self.branch[min(self.final, top.number)]
            return do.View(head or top, final.number, final.hash, fresh=head is None)
        head_number = (head or top).number
        return do.View(head or top, max(0, head_number - self.confirmations), fresh=head is None)

    def look(self, view: do.View, first: int, last: int) -> do.View:
        known = {block.number: block for block in self.seen}
        return replace(view, at={**view.at, **{n: known.get(n) for n in range(first, last + 1)}})


@dataclass
class Hub:
    """Carries decisions out on a model of the streams, where every block has one event: itself."""

    node: Node
    policy: do.Policy
    window: do.Window = field(default_factory=lambda: do.Window(GENESIS))
    pushed: deque[Block] = field(default_factory=deque)
    view: do.View | None = None
    headed: list[Hash] = field(default_factory=list)
    retracted: list[Hash] = field(default_factory=list)
    final: list[Block] = field(default_factory=list)

    def step(self) -> do.Action:
        view = self.view or self.node.view()
        action = do.decide(self.window, view, self.policy)
        self.view = view
        match action:
            case do.Look(first, last):
                assert first <= last <= first + do.LOOK_AHEAD
                self.view = self.node.look(view, first, last)
            case do.Refresh():
                assert view.at or not view.fresh
                self.view = self.node.view()
            case do.Extend(block):
                self.extend(block)
            case do.Retract():
                assert view.fresh, "retracted on the word of a push"
                self.retracted.append(self.window.tip.hash)
                self.window = replace(self.window, blocks=self.window.blocks[:-1])
            case do.Finalize(count):
                self.finalize(count)
            case do.Backfill(first, last):
                assert first == self.window.anchor.number + 1
                self.backfill(last)
            case do.Wait():
                self.view = self.node.view(self.pushed.popleft()) if self.pushed else None
            case do.Stop():
                raise AssertionError("stopped without a reorg past finality")
        return action

    def extend(self, block: Block) -> None:
        assert block.parent_hash == self.window.tip.hash
        assert block.number == self.window.tip.number + 1
        self.headed.append(block.hash)
        self.window = replace(self.window, blocks=(*self.window.blocks, block))

    def finalize(self, count: int) -> None:
        for block in self.window.blocks[:count]:
            assert block.parent_hash == self.window.anchor.hash
            assert self.node.branch[: self.node.final + 1].count(block) == 1, "called final too early"
            self.final.append(block)
            self.window = do.Window(block, self.window.blocks[1:])

    def backfill(self, last: int) -> None:
        for block in self.node.branch[self.window.anchor.number + 1 : last + 1]:
            assert block.number <= self.node.final
            self.final.append(block)
        self.window = replace(self.window, anchor=self.final[-1])
        self.view = None

    def settle(self) -> None:
        for _ in range(20 * self.node.born + 100):
            done = self.view is None and not self.pushed
            if isinstance(self.step(), do.Wait) and done:
                return
        raise AssertionError("it never comes to rest")


class Following(RuleBasedStateMachine):
    @initialize(
        confirmations=st.one_of(st.none(), st.integers(0, 4)),
        catch_up=st.integers(1, 12),
        blocks=st.integers(0, 9),
    )
    def begin(self, confirmations: int | None, catch_up: int, blocks: int) -> None:
        self.node = Node(confirmations)
        self.node.mine(blocks)
        self.hub = Hub(self.node, do.Policy(confirmations, catch_up))

    @rule(count=st.integers(1, 15))
    def grow(self, count: int) -> None:
        self.hub.pushed.extend(self.node.mine(count))

    @rule(depth=st.integers(1, 4), more=st.integers(0, 3))
    def reorg(self, depth: int, more: int) -> None:
        keep = max(self.node.final + 1, len(self.node.branch) - depth)
        lost = len(self.node.branch) - keep
        del self.node.branch[keep:]
        self.hub.pushed.extend(self.node.mine(lost + more if lost else 0))

    @rule(depth=st.integers(1, 4))
    def roll_back(self, depth: int) -> None:
        del self.node.branch[max(self.node.final + 1, len(self.node.branch) - depth) :]

    @rule(lag=st.integers(0, 6))
    def fall_behind(self, lag: int) -> None:
        self.node.lag = lag

    @rule(count=st.integers(1, 12))
    def run_for(self, count: int) -> None:
        for _ in range(count):
            self.hub.step()

    @rule()
    def restart(self) -> None:
        self.hub.view = None
        self.hub.pushed.clear()

    def teardown(self) -> None:
        if not hasattr(self, "hub"):
            return
        self.node.lag = 0
        self.node.mine(1)  # a rolled back chain is told from a lagging node by its next block only
        self.node.mine(6)
        self.hub.settle()
        hub = self.hub
        branch = self.node.branch
        assert hub.window.tip == branch[-1]
        assert hub.final == branch[1 : hub.window.anchor.number + 1]
        ends = [*hub.retracted, *(block.hash for block in hub.final), *(b.hash for b in hub.window.blocks)]
        for hash_ in set(hub.headed):
            assert ends.count(hash_) == hub.headed.count(hash_), "not exactly one end for each head event"
        assert self.node.final - hub.window.anchor.number <= hub.policy.catch_up


TestFollowing = Following.TestCase
TestFollowing.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)


def test_a_branch_that_changes_between_two_answers_is_not_chased_in_circles() -> None:
    state = Following()
    state.begin(confirmations=None, catch_up=1, blocks=1)
    state.run_for(count=1)
    state.roll_back(depth=1)
    state.grow(count=2)
    state.run_for(count=2)
    state.roll_back(depth=2)
    state.teardown()


POLICY = do.Policy(2)
A1, A2, A3 = (Block(n, Hash(f"0xa{n}"), Hash(f"0xa{n - 1}" if n > 1 else "0x0"), 0) for n in (1, 2, 3))
B2 = Block(2, Hash("0xb2"), A1.hash, 0)
C1 = Block(1, Hash("0xc1"), GENESIS.hash, 0)
C2 = Block(2, Hash("0xc2"), C1.hash, 0)


@pytest.mark.parametrize(
    ("window", "view", "action"),
    [
        (do.Window(GENESIS), do.View(GENESIS, 0), do.Wait()),
        (do.Window(GENESIS), do.View(A1, 0), do.Extend(A1)),
        (do.Window(GENESIS), do.View(A2, 0), do.Look(1, 1)),
        (
            do.Window(GENESIS),
            do.View(A2, 0, at={1: None}),
            do.Wait("the node has no block 1, below its own head 2"),
        ),
        (do.Window(GENESIS, (A1, A2)), do.View(B2, 0), do.Retract()),
        (do.Window(GENESIS, (A1, A2)), do.View(B2, 0, fresh=False), do.Refresh()),
        (do.Window(GENESIS, (A1,)), do.View(C2, 0, at={1: A1}), do.Refresh()),
        (do.Window(GENESIS, (A1, A2)), do.View(A1, 0), do.Wait("the node's head fell back to 1")),
        (do.Window(GENESIS, (A1, A2)), do.View(C1, 0), do.Retract()),
        (do.Window(GENESIS, (A1, A2, A3)), do.View(A3, 1), do.Finalize(1)),
        (do.Window(A1), do.View(GENESIS, 0), do.Wait("the node's head is 0, below the final block 1")),
        (do.Window(A1), do.View(C2, 0), do.Stop(A1, C2)),
        (do.Window(A1), do.View(C2, 0, fresh=False), do.Refresh()),
        (do.Window(GENESIS, (A2,)), do.View(A3, 1, at={0: GENESIS}), do.Backfill(1, 1)),
        (do.Window(A2, (A1,)), do.View(A2, 0), do.Retract()),
        (do.Window(A1, (C2,)), do.View(A2, 0), do.Retract()),
        (do.Window(GENESIS), do.View(replace(A3, number=90), 88), do.Look(0, 0)),
        (do.Window(GENESIS), do.View(replace(A3, number=90), 88, at={0: GENESIS}), do.Backfill(1, 88)),
        (do.Window(GENESIS), do.View(replace(A3, number=90), 88, at={0: C1}), do.Stop(GENESIS, C1)),
    ],
)
def test_one_situation_one_action(window: do.Window, view: do.View, action: do.Action) -> None:
    assert do.decide(window, view, POLICY) == action
