"""The engines and services on one machine: found, built, started, watched, stopped."""
