"""The ledger: accounts, reservations, charges."""
