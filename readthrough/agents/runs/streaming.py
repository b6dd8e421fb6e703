"""What a run tells while it is at work, in LangGraph's stream modes: progress as `custom`, the answer as `messages`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from readthrough.models.base import Completion, ModelBackend, Request
from readthrough.types import Event

if TYPE_CHECKING:
    from langchain_core.callbacks import CallbackManager
    from langchain_core.messages.ai import UsageMetadata


def tell(event: Event) -> None:
    """Write an event, as a dictionary, to the custom stream of the graph that is at work; nothing where none is."""
    from langgraph.config import get_stream_writer

    try:
        writer = get_stream_writer()
    except (RuntimeError, KeyError):  # no graph is at work here
        return
    writer(asdict(event))


def listeners() -> CallbackManager | None:
    """The callbacks of the graph that is at work, among them its stream of messages; None where there are none."""
    from langchain_core.runnables.config import get_callback_manager_for_config
    from langgraph.config import get_config

    try:
        manager = get_callback_manager_for_config(get_config())
    except RuntimeError:  # no graph is at work here
        return None
    return manager if manager.handlers else None


def spoken(
    model: ModelBackend, request: Request, on_text: Callable[[str], None] | None, manager: CallbackManager | None
) -> Completion:
    """Complete a request piece by piece: to `on_text`, and to callbacks as a chat model's reply."""
    from langchain_core.messages import AIMessage, AIMessageChunk
    from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, LLMResult

    from readthrough.models.langchain import to_messages

    serialized = {"name": model.name}
    runs = manager.on_chat_model_start(serialized, [to_messages(request)]) if manager is not None else []

    def put(piece: str) -> None:
        if on_text is not None:
            on_text(piece)
        for run in runs:
            chunk = AIMessageChunk(content=piece, id=f"run-{run.run_id}")
            run.on_llm_new_token(piece, chunk=ChatGenerationChunk(message=chunk))

    try:
        completion = model.stream(request, put)
    except BaseException as error:
        for run in runs:
            run.on_llm_error(error)
        raise
    for run in runs:
        whole = AIMessage(content=completion.text, id=f"run-{run.run_id}", usage_metadata=usage_metadata(completion))
        run.on_llm_end(LLMResult(generations=[[ChatGeneration(message=whole)]]))
    return completion


def usage_metadata(completion: Completion) -> UsageMetadata:
    """What a completion took, as LangChain counts it."""
    used = completion.usage
    return {
        "input_tokens": used.prompt_tokens,
        "output_tokens": used.completion_tokens,
        "total_tokens": used.prompt_tokens + used.completion_tokens,
        "input_token_details": {"cache_read": used.cached_tokens},
    }
