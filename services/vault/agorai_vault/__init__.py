"""The crypto-vault: keys, sealing, grants, signing, and sending transactions."""
