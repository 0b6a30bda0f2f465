"""The contracts as typed Python, generated from their ABIs by contracts/tools/bindings.py."""
