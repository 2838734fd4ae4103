"""``python -m telemetry.simulated --port N``: serve the simulated model on loopback."""

from __future__ import annotations

import argparse

import uvicorn

from telemetry.simulated.app import create_app


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m telemetry.simulated",
        description="Serve a simulated model for tests and demonstrations; no answer is real.",
    )
    parser.add_argument("--port", type=int, default=8090, help="port on 127.0.0.1 (default: 8090)")
    args = parser.parse_args()
    print(f"simulated model on http://127.0.0.1:{args.port}", flush=True)
    uvicorn.run(create_app(), host="127.0.0.1", port=args.port, log_level="error", access_log=False)


if __name__ == "__main__":
    main()
