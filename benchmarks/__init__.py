"""What is measured, and against what; each prints one JSON object as its last line."""
