"""Receivers of notices: an SMTP server, and HTTP servers that answer as the gateway, Slack and
Telegram do. The last two are simulated, since tests have no account there.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

SLACK_PATH = "/services/T0/B0/simulated-secret"
TELEGRAM_TOKEN = "123456:simulated-secret"
TELEGRAM_CHAT = -1001234567890


@dataclass
class Request:
    """One received request."""

    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class HttpReceiver:
    """An HTTP server that records requests and answers with ``status`` and ``answer``."""

    answer: bytes
    content_type: str = "application/json"
    status: int = 200
    requests: list[Request] = field(default_factory=list)
    url: str = ""

    def alerts(self) -> list[dict[str, Any]]:
        """Return all alerts of all webhook requests so far."""
        return [alert for request in list(self.requests) for alert in request.body["alerts"]]


@contextmanager
def http_receiver(
    answer: bytes = b"{}", port: int = 0, content_type: str = "application/json"
) -> Iterator[HttpReceiver]:
    receiver = HttpReceiver(answer, content_type)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length) or "null")
            receiver.requests.append(Request(self.path, dict(self.headers), body))
            self.send_response(receiver.status)
            self.send_header("Content-Type", receiver.content_type)
            self.send_header("Content-Length", str(len(receiver.answer)))
            self.end_headers()
            self.wfile.write(receiver.answer)

        do_GET = do_POST

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def simulated_slack() -> Any:
    """Make a receiver that answers as Slack's webhook: "ok" as HTML, which Grafana 9.4 checks."""
    return http_receiver(b"ok", content_type="text/html")


def simulated_telegram() -> Any:
    """Make a receiver that answers as Telegram's Bot API: with the sent message."""
    message = {"message_id": 7, "date": 0, "chat": {"id": TELEGRAM_CHAT, "type": "supergroup"}}
    return http_receiver(json.dumps({"ok": True, "result": message}).encode())


class MailServer(Controller):
    """An SMTP server that records messages."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        super().__init__(self, hostname="127.0.0.1", port=0)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.recipients.append(envelope.rcpt_tos)
        self.messages.append(message)
        return "250 accepted"

    def _trigger_server(self) -> None:
        # Controller connects to the port it was given, which is 0; replace it by the real one.
        assert self.server is not None
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@contextmanager
def mail_server() -> Iterator[MailServer]:
    server = MailServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()


@dataclass
class Receivers:
    """One receiver per channel, and the environment that configures them."""

    webhook: HttpReceiver
    mail: MailServer
    slack: HttpReceiver
    telegram: HttpReceiver

    @property
    def environ(self) -> dict[str, str]:
        return {
            "TELEMETRY_GATEWAY_URL": self.webhook.url,
            "TELEMETRY_WEBHOOK_TOKEN": "webhook-secret",
            "TELEMETRY_ALERT_EMAIL_TO": "ops@example.org, night@example.org",
            "TELEMETRY_SMTP_HOST": "127.0.0.1",
            "TELEMETRY_SMTP_PORT": str(self.mail.port),
            "TELEMETRY_SMTP_FROM": "telemetry@example.org",
            "TELEMETRY_SMTP_TLS": "off",
            "TELEMETRY_SLACK_WEBHOOK_URL": self.slack.url + SLACK_PATH,
            "TELEMETRY_TELEGRAM_BOT_TOKEN": TELEGRAM_TOKEN,
            "TELEMETRY_TELEGRAM_CHAT_ID": str(TELEGRAM_CHAT),
            "TELEMETRY_TELEGRAM_API_URL": self.telegram.url,
        }


@contextmanager
def receivers() -> Iterator[Receivers]:
    with (
        http_receiver() as webhook,
        mail_server() as mail,
        simulated_slack() as slack,
        simulated_telegram() as telegram,
    ):
        yield Receivers(webhook, mail, slack, telegram)
