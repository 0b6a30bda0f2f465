"""Transfers of data whose authority is the panel, as their two sides' vaults and the voters' take part in a case."""
