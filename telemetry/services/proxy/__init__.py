"""A metering gateway for model APIs: keys, budgets, exact cost, one ledger."""
