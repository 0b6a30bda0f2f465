"""Data pools: is a sample wrong, is a challenge right, which model comes out; and the owner's part of a pool.

What everybody has to compute alike are pure functions of documents and samples (`checking`, `judging`, `learning`,
`staking`). They run in the sandbox by `jobs`, or alone in a script. Around them `answering` serves the node's
commands, and `handlers` takes the steps of `decide`: versions are published and test sets revealed.
"""
