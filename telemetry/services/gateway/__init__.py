"""The gateway: a web shell, a dispatcher, an agent kernel and a log of every interaction."""
