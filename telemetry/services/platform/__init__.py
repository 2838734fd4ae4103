"""The platform: one container per handle, provisioned, sampled and watched."""
