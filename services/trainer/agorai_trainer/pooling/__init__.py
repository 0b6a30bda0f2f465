"""What everybody computes of a data pool: is a sample wrong, is a challenge right, which model comes out.

Pure functions of documents and samples, so that whoever checks, answers, votes and trains comes to the same result
from the same bytes. They run in the sandbox, or alone in a script.
"""
