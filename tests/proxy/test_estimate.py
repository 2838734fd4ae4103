"""The estimate of a request's input tokens."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from telemetry.services.proxy.pricing.estimate import (
    BYTES_PER_TOKEN,
    IMAGE_TOKENS,
    WINDOW_TOKENS,
    Input,
    input_estimate,
)

SONNET = "claude-sonnet-4-5"  # whose window holds 200,000 tokens, as the price table says
DATA = base64.b64encode(random.Random(1).randbytes(90_000)).decode()
IMAGE_URL = "data:image/png;base64," + DATA
ROWS = [(i, i * 7919 % 99991, i * 37 % 1009) for i in range(8000)]
CSV = "\n".join(",".join(map(str, row)) for row in ROWS)


def estimate(request: dict[str, Any], model: str = SONNET) -> Input:
    """The estimate of a request as it would be sent."""
    return input_estimate(json.dumps(request, ensure_ascii=False).encode(), request, "", model)


def by_size(request: dict[str, Any]) -> int:
    return len(json.dumps(request, ensure_ascii=False).encode()) // BYTES_PER_TOKEN


def said(*content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(content)}]}


@pytest.mark.parametrize(
    "text",
    [
        CSV,
        json.dumps(ROWS, separators=(",", ":")),
        "这是一个没有空格的中文文件内容描述机器学习系统的实现细节" * 1000,
        DATA,  # as text it costs what text does
    ],
    ids=["csv", "json", "chinese", "base64"],
)
@pytest.mark.parametrize("key", ["text", "data", "url", "content"])
def test_text_counts_by_its_size_whatever_is_beside_it(text: str, key: str) -> None:
    here = {"type": "text", "text": "Here is my file, an image in base64."}
    if key == "data":
        block: Any = {"type": "document", "source": {"type": "text", "data": text}}
    elif key == "url":
        block = {"type": "tool_use", "input": {"type": "image", "url": text, "data": text}}
    else:
        block = {"type": "text" if key == "text" else "tool_result", key: text}
    request = said(here, block)
    assert estimate(request).shown == pytest.approx(by_size(request), rel=0.001)
    assert estimate(request).hidden == 0


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DATA}},
        {"type": "image_url", "image_url": {"url": IMAGE_URL}},
        {"type": "input_image", "image_url": IMAGE_URL},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/cat.png"}},
        {"type": "input_image", "file_id": "file_1"},
        {
            "type": "tool_result",
            "content": [{"type": "image", "source": {"type": "base64", "data": DATA}}],
        },
    ],
)
def test_a_picture_counts_as_a_picture(block: Any) -> None:
    found = estimate(said(block))
    assert IMAGE_TOKENS <= found.shown < IMAGE_TOKENS + 100
    assert found.hidden == 0
    twice = estimate({"input": [{"role": "user", "content": [block, block]}]})
    assert 2 * IMAGE_TOKENS <= twice.shown < 2 * IMAGE_TOKENS + 200


def test_a_recording_counts_by_its_length() -> None:
    block = {"type": "input_audio", "input_audio": {"format": "mp3", "data": DATA}}
    # 90 kB are 90 s at the least a second can have.
    assert 900 <= estimate(said(block)).shown < 1300


@pytest.mark.parametrize(
    "document",
    [
        lambda data: {"type": "document", "source": {"type": "base64", "data": data}},
        lambda data: {"type": "file", "file": {"file_data": "data:application/pdf;base64," + data}},
        lambda data: {"type": "input_file", "filename": "a.pdf", "file_data": data},
    ],
)
def test_a_document_counts_by_its_size_up_to_what_the_model_reads(
    document: Callable[[str], Any],
) -> None:
    for times in (1, 4):
        request = said(document(DATA * times))
        assert estimate(request).shown == pytest.approx(by_size(request), rel=0.001)
    assert 200_000 < estimate(said(document(DATA * 40))).shown < 200_100
    assert estimate(said(document(DATA * 40))).hidden == 0


@pytest.mark.parametrize(
    "request_",
    [
        {"input": "go on", "previous_response_id": "resp_1"},
        {"input": "go on", "conversation": "conv_1"},
        {"input": "go on", "conversation": {"id": "conv_1"}},
        {"prompt": {"id": "pmpt_1"}},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
        {"input": [{"id": "msg_1"}]},
        said({"type": "document", "source": {"type": "file", "file_id": "file_1"}}),
        said({"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}}),
        said({"type": "file", "file": {"file_id": "file_1"}}),
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]}]},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "https://x"}]}]},
    ],
)
def test_referenced_input_may_fill_the_context_window(request_: Any) -> None:
    for model, window in (
        (SONNET, 200_000),
        ("gpt-5", 400_000),
        ("nobodys-model", WINDOW_TOKENS),
    ):
        found = estimate(request_, model)
        assert found.shown < 100
        assert found.shown + found.hidden == window


@pytest.mark.parametrize(
    "request_",
    [
        {"input": "previous_response_id file_id", "previous_response_id": None},
        {"prompt": "a text"},
        {"input": [{"type": "message", "id": "msg_1", "role": "assistant", "content": []}]},
        {
            "input": [
                {
                    "type": "message",
                    "role": "assistant",
                    "content": [
                        {
                            "type": "output_text",
                            "text": "as said",
                            "annotations": [{"type": "file_citation", "file_id": "file_1"}],
                        }
                    ],
                }
            ]
        },
        said({"type": "text", "text": "see https://example.com/a.pdf"}),
    ],
)
def test_lookalikes_of_references_hide_no_input(request_: Any) -> None:
    assert estimate(request_).hidden == 0


@pytest.mark.parametrize("kind", [None, 1, [], {}, "image", "input_audio", "document"])
def test_malformed_blocks_can_be_estimated(kind: Any) -> None:
    odd: list[Any] = [None, 1, [], {}, [DATA], {"url": 1, "data": [DATA]}]
    for value in odd:
        for name in ("source", "data", "image_url", "file", "input_audio", "file_id"):
            estimate(said({"type": kind, name: value}, value))
        for name in ("messages", "input", "prompt", "conversation"):
            estimate({name: value})


def test_nested_base64_is_subtracted_once() -> None:
    held = {"type": "document", "data": DATA, "source": {"type": "document", "data": DATA}}
    for kind in ("document", "file", "image"):
        request = said({"type": "document", "source": {"type": kind, "data": DATA}}, held)
        assert estimate(request).shown == pytest.approx(by_size(request), rel=0.001)


def test_request_nested_as_deep_as_possible_is_estimated() -> None:
    deep: Any = {"type": "image_url", "image_url": IMAGE_URL}
    for _ in range(100_000):
        deep = {"content": [deep]}
    raw = b"x" * (len(IMAGE_URL) + 1)
    assert input_estimate(raw, {"messages": deep}, "", SONNET).shown == IMAGE_TOKENS + 1
