"""Log records: captured, converted, exported."""
