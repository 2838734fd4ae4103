"""The web shell in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, WebSocketRoute, expect

from tests.fixtures.stack import until
from tests.gateway.conftest import Gateway, Process
from tests.gateway.test_alerts import ALERTMANAGER, GRAFANA, notify, resolved
from tests.proxy.conftest import Running

pytestmark = pytest.mark.browser


def ask(page: Page, message: str) -> Locator:
    """Type a message and send it; returns its turn."""
    before = page.locator(".turn").count()
    page.get_by_label("Message").fill(message)
    page.get_by_label("Message").press("Enter")
    return page.locator(".turn").nth(before)


def test_typed_message_gets_a_streamed_answer(
    proxy: Running, start_gateway: Callable[..., Gateway], enter: Callable[[Gateway], Page]
) -> None:
    page = enter(start_gateway(proxy.url, TELEMETRY_MODEL="simulated-slow"))
    question = "one two three four five, as slowly as you can, six seven eight"
    turn = ask(page, question)
    expect(turn.locator(".text")).to_contain_text("Simulated answer")
    seen = turn.locator(".text").inner_text()
    assert "eight" not in seen, "the rest is still being written"
    expect(turn.locator(".running")).to_be_visible()
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    expect(turn.locator(".text")).to_have_text(f"Simulated answer to: {question}")
    expect(turn.locator(".running")).to_have_count(0)
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()


def test_answer_shows_cost_tokens_and_tools(
    gateway: Gateway, proxy: Running, enter: Callable[[Gateway], Page]
) -> None:
    page = enter(gateway)
    page.get_by_role("button", name="How is container demo-1 doing?").click()
    figures = page.locator(".figures")
    expect(figures).to_be_visible()
    (line,) = gateway.lines()
    assert figures.inner_text().startswith(
        f"${line['costUsd']} · {line['tokensIn']} tokens in, {line['tokensOut']} out · "
    )
    tools = ["container_status", "query_metrics", "search_logs", "costs"]
    expect(page.locator(".tools span")).to_have_text(tools)
    assert line["traceId"] in str(page.locator(".facts").get_attribute("title"))
    assert {call.trace_id for call in proxy.calls()} == {line["traceId"]}


MARKDOWN = """see
## A heading
- one `code` and **strong**
- two with *stress*
  1. nested
  2. more

| name | share |
| --- | ---: |
| ann | 12 % |

```python
print("<b>")
**not strong**
```
> quoted
[a page](https://example.org/x?a=1&b=2) or https://example.org/y. [bad](javascript:alert(1))
<script>document.title = "run"</script><img src=x onerror="document.title='run'">"""


def test_markdown_is_rendered_and_scripts_in_it_do_not_run(
    gateway: Gateway, enter: Callable[[Gateway], Page]
) -> None:
    page = enter(gateway)
    text = ask(page, MARKDOWN).locator(".text")
    expect(text.locator("h4")).to_have_text("A heading")
    expect(text.locator("ul > li")).to_have_count(2)
    expect(text.locator("ul > li code").first).to_have_text("code")
    expect(text.locator("strong")).to_have_text("strong")
    expect(text.locator("em")).to_have_text("stress")
    expect(text.locator("li ol > li")).to_have_text(["nested", "more"])
    expect(text.locator("td")).to_have_text(["ann", "12 %"])
    expect(text.locator("pre")).to_have_text('print("<b>")\n**not strong**')
    expect(text.locator("blockquote")).to_have_text("quoted")
    expect(text.locator("a")).to_have_count(2)
    links = [link.get_attribute("href") for link in text.locator("a").all()]
    assert links == ["https://example.org/x?a=1&b=2", "https://example.org/y"]
    expect(text).to_contain_text("[bad](javascript:alert(1))")
    expect(text).to_contain_text('<script>document.title = "run"</script><img src=x')
    assert text.locator("script, img").count() == 0
    assert page.title() == "telemetry"


@pytest.mark.parametrize(
    ("written", "shown", "address"),
    [
        ("[the docs](https://evil.example/a)", "the docs (evil.example)", "https://evil.example/a"),
        ("[v1.2](https://evil.example/a)", "v1.2 (evil.example)", "https://evil.example/a"),
        (
            "[https://good.example](https://evil.example/a)",
            "https://evil.example/a",
            "https://evil.example/a",
        ),
        ("[good.example](https://evil.example/)", "https://evil.example", "https://evil.example/"),
        ("[good\u3002example](http://evil.example)", "http://evil.example", "http://evil.example/"),
        ("[192.0.2.1](http://evil.example)", "http://evil.example", "http://evil.example/"),
        ("https://good.example@evil.example/x", "https://evil.example/x", "https://evil.example/x"),
        (
            "https://g\u043e\u043ed.example/x",  # with two Cyrillic letters
            "https://xn--gd-fmca.example/x",
            "https://xn--gd-fmca.example/x",
        ),
        ("https://good.example/x", "https://good.example/x", "https://good.example/x"),
    ],
)
def test_link_in_an_answer_shows_its_real_host(
    gateway: Gateway, enter: Callable[[Gateway], Page], written: str, shown: str, address: str
) -> None:
    text = ask(enter(gateway), f"see\n\n{written}").locator(".text p").last
    expect(text).to_have_text(shown)
    expect(text.locator("a")).to_have_attribute("href", address)


@pytest.mark.parametrize("answer", [">" * 12_000, "- * " * 3_000])
def test_deeply_nested_markdown_is_rendered(
    gateway: Gateway, enter: Callable[[Gateway], Page], answer: str
) -> None:
    page = enter(gateway)
    expect(ask(page, f"\n\n{answer}").locator(".figures")).to_be_visible()
    page.reload()
    expect(page.locator(".text")).to_contain_text(answer[:80])
    expect(page.locator(".figures")).to_be_visible()


def test_chats_are_stored_and_separate(gateway: Gateway, enter: Callable[[Gateway], Page]) -> None:
    page = enter(gateway)
    expect(ask(page, "Hello first").locator(".figures")).to_be_visible()
    page.get_by_role("button", name="New chat").click()
    expect(page.locator(".turn")).to_have_count(0)
    expect(ask(page, "Hello second").locator(".figures")).to_be_visible()
    expect(page.locator("#sessions .title")).to_have_text(["Hello second", "Hello first"])
    page.locator("#sessions button", has_text="Hello first").click()
    expect(page.locator(".text")).to_have_text("Simulated answer to: Hello first")
    expect(page.locator("#sessions [aria-current]")).to_contain_text("Hello first")
    page.reload()
    expect(page.locator(".text")).to_have_text("Simulated answer to: Hello first")
    other = page.context.new_page()
    other.goto(gateway.url)
    expect(other.locator(".text")).to_have_count(1)
    ask(page, "Hello third")
    expect(other.locator(".text").nth(1)).to_have_text("Simulated answer to: Hello third")


def test_shell_can_be_used_by_keyboard(
    proxy: Running, start_gateway: Callable[..., Gateway], enter: Callable[[Gateway], Page]
) -> None:
    gateway = start_gateway(proxy.url, TELEMETRY_MODEL="simulated-slow")
    page = enter(gateway)
    message = page.get_by_label("Message")
    expect(message).to_be_focused()
    page.keyboard.type("one two three")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("four five six, and so on and on and on and on")
    page.keyboard.press("Enter")
    asked = "one two three\nfour five six, and so on and on and on and on"
    expect(page.locator(".prompt")).to_have_text(asked)
    expect(page.locator(".text")).to_contain_text("Simulated")
    page.keyboard.press("Escape")
    expect(page.locator(".note")).to_have_text("Stopped.")
    page.keyboard.press("ArrowUp")
    expect(message).to_have_value(asked)
    (line,) = gateway.wait_lines()
    assert line["status"] == "cancelled"


def test_shell_reconnects_and_sends_messages_typed_meanwhile(
    proxy: Running, start_process: Callable[..., Process], enter: Callable[[Gateway], Page]
) -> None:
    first = start_process(proxy.url)
    page = enter(first.gateway)
    expect(ask(page, "Hello before").locator(".figures")).to_be_visible()
    first.stop()
    expect(page.locator("#state")).to_have_text("reconnecting")
    turn = ask(page, "Hello meanwhile")
    expect(turn.locator(".facts")).to_have_text("sent as soon as the gateway is back")
    second = start_process(proxy.url, first.port)
    expect(page.locator("#state")).to_have_text("connected")
    expect(page.locator(".text")).to_have_text(
        ["Simulated answer to: Hello before", "Simulated answer to: Hello meanwhile"]
    )
    prompts = [line["prompt"] for line in second.gateway.wait_lines(2)]
    assert prompts == ["Hello before", "Hello meanwhile"], "once each"


def test_message_between_history_and_ready_is_sent(
    gateway: Gateway, enter: Callable[[Gateway], Page]
) -> None:
    page = enter(gateway)
    held: list[Callable[[], None]] = []

    def hold(shell: WebSocketRoute) -> None:
        server = shell.connect_to_server()

        def pass_on(message: str | bytes) -> None:
            if json.loads(message)["type"] == "ready":
                held.append(lambda: shell.send(message))
            else:
                shell.send(message)

        server.on_message(pass_on)

    page.route_web_socket(re.compile("/ws"), hold)
    page.reload()
    until(lambda: page.wait_for_timeout(20) or held)
    turn = ask(page, "Hello there")
    expect(turn).to_contain_text("sent as soon as the gateway is back")
    held[0]()
    expect(turn.locator(".text")).to_have_text("Simulated answer to: Hello there")
    assert [line["prompt"] for line in gateway.wait_lines()] == ["Hello there"]


def test_answer_of_a_killed_gateway_is_shown_as_lost(
    proxy: Running, start_process: Callable[..., Process], enter: Callable[[Gateway], Page]
) -> None:
    first = start_process(proxy.url, TELEMETRY_MODEL="simulated-slow")
    page = enter(first.gateway)
    question = "Hello out there" + ", again" * 10  # seconds' worth of answer
    turn = ask(page, question)
    expect(turn.locator(".text")).to_contain_text("Simulated")
    first.stop(9)
    second = start_process(proxy.url, first.port)
    expect(page.locator(".error")).to_contain_text("restarted before this was answered")
    page.get_by_role("button", name="Ask again").click()
    expect(page.locator(".text").last).to_have_text(f"Simulated answer to: {question}")
    until(lambda: len(second.gateway.lines()) == 1)


def test_error_is_shown_as_a_sentence(
    start_gateway: Callable[..., Gateway], enter: Callable[[Gateway], Page]
) -> None:
    page = enter(start_gateway())
    turn = ask(page, "Hello")
    expect(turn.locator(".error")).to_have_text(
        "The proxy at http://127.0.0.1:1 does not answer: is it running?"
    )
    expect(turn.get_by_role("button", name="Ask again")).to_be_visible()


def test_alerts_appear_when_they_fire_and_when_they_are_resolved(
    gateway: Gateway, enter: Callable[[Gateway], Page]
) -> None:
    page = enter(gateway)
    assert notify(gateway, GRAFANA).status_code == 200
    notice = page.locator(".alert")
    expect(notice).to_have_count(1)
    expect(notice.locator(".severity")).to_have_text("warning")
    expect(notice.locator(".summary")).to_have_text("ann spends $14.20 a day")
    notify(gateway, ALERTMANAGER)
    expect(page.locator(".alert .summary")).to_have_text(
        ["Container demo-1 is down", "ann spends $14.20 a day"], use_inner_text=True
    )
    down = page.locator(".alert[data-name=ContainerDown]")
    expect(down.locator(".severity")).to_have_text("critical")
    links = {a.inner_text(): a.get_attribute("href") for a in down.locator("a").all()}
    assert links == {
        "Dashboard": "http://127.0.0.1:3200/d/container?var-handle=demo-1",
        "Runbook": "http://127.0.0.1:4000/runbooks#containerdown",
        "Source": "http://127.0.0.1:9090/graph?g0.expr=platform_container_up",
    }
    assert page.title() == "(2) telemetry"
    page.reload()
    expect(notice).to_have_count(2)
    notify(gateway, resolved(ALERTMANAGER))
    expect(down).to_have_class(re.compile("resolved"))
    expect(down.locator(".severity")).to_have_text("resolved")
    until(lambda: page.title() == "(1) telemetry")
    down.get_by_role("button", name="Hide").click()
    expect(notice).to_have_count(1)


def test_html_in_alerts_is_shown_as_text(
    gateway: Gateway, enter: Callable[[Gateway], Page]
) -> None:
    page = enter(gateway)
    alert: dict[str, Any] = json.loads(json.dumps(ALERTMANAGER))
    notes = alert["alerts"][0]["annotations"]
    notes["summary"] = "<img src=x onerror=\"document.title='run'\">"
    notes["runbook_url"] = "javascript:document.title='run'"
    notify(gateway, alert)
    expect(page.locator(".alert .summary")).to_have_text(notes["summary"])
    assert page.locator(".alert img").count() == 0
    expect(page.locator(".alert a")).to_have_count(2)


def test_notices_link_to_runbooks(gateway: Gateway, page: Page, complaints: list[str]) -> None:
    page.goto(f"{gateway.url}/runbooks#containerdown")
    heading = page.locator("#containerdown")
    expect(heading).to_be_in_viewport()
    assert heading.evaluate("e => getComputedStyle(e).borderTopColor") == "rgb(198, 40, 40)"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_shell_fits_a_phone_screen(gateway: Gateway, browser: Browser, scheme: Any) -> None:
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, color_scheme=scheme, has_touch=True
    )
    page = context.new_page()
    page.goto(gateway.url)
    page.get_by_label("Token").fill("gateway-secret")
    page.get_by_role("button", name="Log in").tap()
    expect(page.locator("#state")).to_have_text("connected")
    notify(gateway, ALERTMANAGER)
    long = "x" * 300
    turn = ask(page, f"Hello {long}\n```\n{long}\n```\n| a | b |\n|-|-|\n| {long} | c |")
    expect(turn.locator(".figures")).to_be_visible()
    expect(page.locator(".alert")).to_be_visible()
    width = page.evaluate("() => document.documentElement.scrollWidth")
    assert width == 390, "nothing makes the page wider than the screen"
    expect(page.get_by_role("button", name="Send")).to_be_in_viewport()
    expect(page.get_by_role("button", name="New chat")).not_to_be_in_viewport()
    page.get_by_role("button", name="Chats").tap()
    expect(page.get_by_role("button", name="New chat")).to_be_in_viewport()
    page.get_by_role("button", name="New chat").tap()
    expect(page.get_by_role("button", name="New chat")).not_to_be_in_viewport()
    expect(page.locator(".turn")).to_have_count(0)
    background = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background))) < 200) == (scheme == "dark")
    context.close()
