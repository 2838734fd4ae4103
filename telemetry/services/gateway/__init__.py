"""The gateway: web shell, dispatcher, assistant and interaction log."""
