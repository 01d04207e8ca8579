"""SGLang's endpoints, apart from HTTP itself: what each answers, well or as misbehaving demands."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Final

from pyharness.simulator import VERSION, protocol, rooms, text
from pyharness.simulator.engines import Answer, BadRequestError, Engine
from pyharness.simulator.metrics import Metrics
from pyharness.simulator.misbehaviour import SINGLE, Misbehaving
from pyharness.simulator.model import CONTEXT_LENGTH, Model
from pyharness.simulator.replies import (
    METRICS,
    Reply,
    error_reply,
    json_reply,
    simulated_failure,
    spoiled,
    text_reply,
)

_LOG: Final = logging.getLogger("simulator")
OTHER_MODEL: Final = "some-other-model"
"""What ``wrong-model`` reports."""
_OTHER_WORDS: Final = b"not the KV cache of this prompt"


@dataclass(frozen=True)
class Identity:
    """What a server says about itself.

    Attributes:
        model: The model it serves.
        model_name: The name it serves it under.
        role: One of `misbehaviour.ROLES`.
        arguments: Its command-line options, for ``/server_info``.
    """

    model: Model
    model_name: str
    role: str
    arguments: Mapping[str, Any]


@dataclass
class Service:
    """What the endpoints do, apart from HTTP itself.

    Attributes:
        identity: What it says about itself.
        engine: What answers.
        metrics: Its counters.
        misbehaving: What to do wrong.
    """

    identity: Identity
    engine: Engine
    metrics: Metrics
    misbehaving: Misbehaving
    _answered: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, path: str) -> Reply:
        """Answer a GET (and the POSTs that carry nothing)."""
        endpoints: dict[str, Callable[[], Reply]] = {
            "/health": self._health,
            "/health_generate": self._health,
            "/v1/models": self._models,
            "/model_info": self._model_info,
            "/get_model_info": self._model_info,
            "/server_info": self._server_info,
            "/get_server_info": self._server_info,
            "/flush_cache": self._flush_cache,
            "/metrics": self._metrics_text,
        }
        if path not in endpoints:
            return json_reply({"detail": "Not Found"}, HTTPStatus.NOT_FOUND)
        return endpoints[path]()

    def infer(self, path: str, raw: bytes) -> Reply:
        """Answer an inference request, well or as misbehaving demands."""
        started = time.perf_counter()
        if "die-on-request" in self.misbehaving:
            _LOG.info("POST %s: killing myself (die-on-request)", path)
            os.kill(os.getpid(), signal.SIGKILL)
        if "hang-on-request" in self.misbehaving:
            _LOG.info("POST %s: never answering (hang-on-request)", path)
            hang()
        threading.Event().wait(self.misbehaving.seconds("slow"))
        try:
            request = protocol.parse_request(path, raw)
            answer = self.engine.answer(request.prompt)
        except BadRequestError as error:
            return error_reply(str(error), HTTPStatus.BAD_REQUEST, "BadRequestError")
        except rooms.TransferError as error:
            return error_reply(str(error), HTTPStatus.INTERNAL_SERVER_ERROR, "InternalServerError")
        seconds = time.perf_counter() - started
        self.metrics.finished(
            prompt=len(request.prompt.tokens),
            generated=len(answer.ids),
            cached=answer.cached_tokens,
            streaming=request.stream,
        )
        _LOG.info(
            "POST %s: %d prompt tokens, %d cached, %d words, %s, %.1f ms",
            path,
            len(request.prompt.tokens),
            answer.cached_tokens,
            len(answer.ids),
            answer.note,
            seconds * 1000,
        )
        name = OTHER_MODEL if "wrong-model" in self.misbehaving else request.model or self.identity.model_name
        good = self.misbehaving.count("error-after")
        if good is not None and self._answered >= good:
            # Only now, with the KV cache handed over: a P/D router would otherwise wait for prefill first.
            return simulated_failure()
        reply = protocol.render(request, self._distorted(answer), name, seconds)
        return replace(spoiled(reply, self.misbehaving), pause=self.misbehaving.seconds("paced"))

    def sent(self) -> None:
        """Take note that an inference request was answered."""
        with self._lock:
            self._answered += 1
        if self._answered == self.misbehaving.count("die-after-ready"):
            _LOG.info("killing myself after %d requests (die-after-ready)", self._answered)
            os.kill(os.getpid(), signal.SIGKILL)

    def _distorted(self, answer: Answer) -> Answer:
        if "empty-text" in self.misbehaving:
            return replace(answer, ids=[])
        if "wrong-text" in self.misbehaving:
            return replace(answer, ids=text.answer_ids(_OTHER_WORDS, len(answer.ids), ignore_end=True))
        return answer

    def _health(self) -> Reply:
        if "health-hangs" in self.misbehaving:
            hang()
        if "never-ready" in self.misbehaving:
            return text_reply("", HTTPStatus.SERVICE_UNAVAILABLE)
        self.engine.check_health()
        return text_reply("")

    def _name(self) -> str:
        return OTHER_MODEL if "wrong-model" in self.misbehaving else self.identity.model_name

    def _mode(self) -> str:
        return "null" if self.identity.role == SINGLE else self.identity.role

    def _models(self) -> Reply:
        card = {
            "id": self._name(),
            "object": "model",
            "created": int(time.time()),
            "owned_by": "sglang",
            "root": self._name(),
            "parent": None,
            "max_model_len": CONTEXT_LENGTH,
        }
        return json_reply({"object": "list", "data": [card]})

    def _model_info(self) -> Reply:
        model = self.identity.model
        info = {
            "model_path": self._name() if "wrong-model" in self.misbehaving else model.path,
            "served_model_name": self._name(),
            "tokenizer_path": model.path,
            "is_generation": True,
            "preferred_sampling_params": None,
            "weight_version": "default",
            "load_format": "auto",
            "reasoning_parser": None,
            "tool_call_parser": None,
            "disaggregation_mode": self._mode(),
            "has_image_understanding": False,
            "has_audio_understanding": False,
            "model_type": model.config.get("model_type"),
            "architectures": model.config.get("architectures"),
            "simulator": True,
        }
        return json_reply(info)

    def _server_info(self) -> Reply:
        info = {
            **self.identity.arguments,
            "model_path": self._name() if "wrong-model" in self.misbehaving else self.identity.model.path,
            "served_model_name": self._name(),
            "disaggregation_mode": self._mode(),
            "version": VERSION,
            "simulator": True,
            "misbehaving": str(self.misbehaving),
        }
        return json_reply(info)

    def _flush_cache(self) -> Reply:
        self.engine.flush_cache()
        return text_reply("Cache flushed.\nPlease check backend logs for more details.\n")

    def _metrics_text(self) -> Reply:
        return text_reply(self.metrics.render(), content_type=METRICS)


def hang() -> None:
    """Block the calling thread until the process ends."""
    threading.Event().wait()
