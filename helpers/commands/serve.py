"""``serve``: a run's classifier as an HTTP endpoint and a page; nothing of a text is logged."""

import asyncio
import json
import re
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd

from helpers import InputError, evaluation, predict, printable, runs, weights

try:
    import uvicorn
    from fastapi import FastAPI, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import HTMLResponse, JSONResponse
    from pydantic import BaseModel, Field, StringConstraints
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect
except ImportError:
    told = "serve needs FastAPI and uvicorn: pip install 'helpers[serve]', or pip install fastapi uvicorn."
    raise InputError(told) from None

MOST_BYTES, MOST_TEXTS, MOST_CHARACTERS = 3_000_000, 256, 10_000  # of a request
SECONDS, WAITING, BATCH = 10.0, 200, 256  # of a request; requests; texts
Text = Annotated[str, StringConstraints(strict=True, max_length=MOST_CHARACTERS)]
KINDS = (RequestValidationError, HTTPException, asyncio.QueueFull, TimeoutError)
LOCAL = {"127.0.0.1", "localhost", "[::1]", "::1"}


class Service:
    """A classifier that answers requests which come together in one batch."""

    def __init__(self, run: str, model: str = "", int8: bool = False) -> None:
        self.folder = runs.find_run(run)
        self.classify, self.labels = predict.load_classifier(run, model, export=True, int8=int8)
        self.name, self.threshold = _threshold(self.folder, model)
        self.classify(["once, so that the first request need not wait"])

    @asynccontextmanager
    async def opened(self, _: Any = None) -> AsyncIterator[None]:
        """Answers as long as it is entered, within the event loop that is running."""
        self.queue: asyncio.Queue = asyncio.Queue(WAITING)
        work = asyncio.create_task(self._answer())
        yield
        work.cancel()

    async def _answer(self) -> None:
        """While one batch is computed, the next one collects."""
        while True:
            waiting = [await self.queue.get()]
            while not self.queue.empty() and sum(len(texts) for texts, _ in waiting) < BATCH:
                waiting.append(self.queue.get_nowait())
            if not (waiting := [(texts, future) for texts, future in waiting if not future.done()]):
                continue  # they have given up
            texts = [text for some, _ in waiting for text in some]
            try:
                p = await asyncio.to_thread(self.classify, texts)
                parts = np.split(p, np.cumsum([len(some) for some, _ in waiting])[:-1])
            except Exception as error:
                parts = [error] * len(waiting)
            for (_, future), part in zip(waiting, parts, strict=True):
                if not future.done():  # it may have given up
                    future.set_exception(part) if isinstance(part, Exception) else future.set_result(part)

    async def predict(self, texts: list[str]) -> np.ndarray:
        """Returns the probabilities (n, classes); raises QueueFull where too many wait, TimeoutError after SECONDS."""
        future = asyncio.get_running_loop().create_future()
        self.queue.put_nowait((texts, future))
        return await asyncio.wait_for(future, SECONDS)

    def told(self, p: np.ndarray) -> dict[str, Any]:
        """Returns one answer as it is sent."""
        shares = dict(zip(self.labels, p.astype(float).round(6).tolist(), strict=True))
        unsure = float(p.max()) < (self.threshold or 0)
        return {"label": self.labels[int(p.argmax())], "probabilities": shares, "unsure": unsure}

    def correct(self, text: str, label: str) -> None:
        """Appends a text with its right label to ``corrections.csv`` of the run, in the form that ``DATA`` reads."""
        row = pd.DataFrame({"text": [re.sub(r"[\0-\b\x0e-\x1f]", " ", re.sub(r"\r\n?", "\n", text))], "label": [label]})
        with (self.folder / "corrections.csv").open("ab", buffering=0) as file:
            line = row.to_csv(index=False, header=not file.tell(), lineterminator="\n").encode("utf-8", "replace")
            if (done := file.write(line)) < len(line):  # one write: servers do not mix lines; a full disk takes a part
                file.truncate(file.tell() - done)
                raise OSError("The disk is full.")


def _threshold(folder: Path, model: str) -> tuple[str, float | None]:
    """The model's name in the run's predictions, and the confidence from which on 95 % of its answers are right."""
    said = weights.read_json(folder / "model" / "classifier.json")
    if not (folder / "predictions.csv").exists():
        return model or said.get("recommended", said["kind"]), None
    table = evaluation.read_predictions(str(folder))
    networks = table[~table["model"].str.contains("tfidf") | (table["model"].nunique() == 1)]  # 03's file has no name
    asked = (model, said.get("recommended"), said.get("name"), "bert", "original", *evaluation.candidates(networks))
    name = next(full for short in asked if short for full in table["model"].unique() if full.split(" (")[0] == short)
    part = table[(table["model"] == name) & (table["split"] == "validation")]
    found = evaluation.reject_threshold(evaluation.targets(part), evaluation.probabilities(part), 0.95)
    return name, 2.0 if found is None else found  # above any confidence: every text is for a human


class Texts(BaseModel, extra="forbid"):
    """One text or many."""

    texts: Text | Annotated[list[Text], Field(min_length=1, max_length=MOST_TEXTS)]


class Correction(BaseModel, extra="forbid"):
    """A text and its right label."""

    text: Text
    label: Text


async def refuse(_: Request, error: Exception) -> JSONResponse:
    """Answers an error with one sentence."""
    match error:
        case RequestValidationError():
            first = [e for e in error.errors() if e["type"] != "list_type"][-1]  # of a union: what is wrong in it
            where = ".".join(str(part) for part in first["loc"] if part != "body" and "-str" not in str(part))
            status, said = 422, f"{where or 'The request'}: {first['msg']}; see /openapi.json."
        case HTTPException():
            status, said = error.status_code, f"{error.detail}: see /openapi.json."
        case _:
            status, said = 503, "Too many texts wait, or these take too long: try fewer, or later."
    return JSONResponse({"error": said}, status, {"Retry-After": "1"} if status == 503 else None)


def app(service: Service, local: bool = False) -> Any:
    """Returns the FastAPI application of a service; ``local`` answers to the names of this machine alone."""
    title = f"{service.name} of {service.folder.parent.name}/{service.folder.name}"
    no_pages = {"docs_url": None, "redoc_url": None}  # FastAPI's own load scripts from a CDN
    api = FastAPI(title=title, lifespan=service.opened, exception_handlers=dict.fromkeys(KINDS, refuse), **no_pages)
    about = {"model": service.name, "labels": service.labels, "threshold": service.threshold}

    @api.middleware("http")
    async def gate(request: Request, answer: Callable) -> Any:
        """Lets requests through that are small, whole in time, JSON, and for this machine's name."""
        headers, post = request.headers, request.method == "POST"
        if local and re.sub(r":\d+$", "", headers.get("host", "")) not in LOCAL:
            status, said = 421, "This address is not served here: use the one that was printed."
        elif post and not headers.get("content-type", "").startswith("application/json"):
            status, said = 415, "Send JSON with the header Content-Type: application/json."
        elif "transfer-encoding" in headers:
            status, said = 411, "Send the request in one piece, with the header Content-Length."
        elif int(headers.get("content-length", 0)) > MOST_BYTES:
            status, said = 413, f"The request is over {MOST_BYTES:,} bytes: send fewer texts."
        else:
            try:
                async with asyncio.timeout(SECONDS):
                    await request.body()
                return await answer(request)
            except (TimeoutError, ClientDisconnect):
                status, said = 408, f"The request was not whole after {SECONDS:g} seconds: send it again."
        return JSONResponse({"error": said}, status, {"Connection": "close"})

    @api.get("/health")
    async def health() -> dict:
        return {"status": "ok", **about}

    @api.post("/predict")
    async def predict_texts(given: Texts) -> dict:
        """Labels and probabilities, in the order of the texts."""
        texts = [given.texts] if isinstance(given.texts, str) else given.texts
        return {"model": service.name, "answers": [service.told(p) for p in await service.predict(texts)]}

    @api.post("/correct", status_code=201)
    async def correct(given: Correction) -> dict:
        """Keeps a text with its right label for the next training."""
        if not re.sub(r"[\0-\x1f]", " ", given.text).strip() or given.label not in service.labels:
            return JSONResponse({"error": "A correction is a text and one of the labels: see /health."}, 422)
        try:
            service.correct(given.text, given.label)
        except OSError:
            return JSONResponse({"error": "The correction could not be written: look at the disk of the server."}, 507)
        return {"kept": f"{service.folder.name}/corrections.csv"}

    @api.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        nonce, card = secrets.token_urlsafe(16), service.folder / "model_card.md"
        said = about | {"card": card.read_text("utf-8") if card.exists() else "This run has no model card."}
        html = (Path(__file__).parent.parent / "report" / "serve.html").read_text("utf-8")
        html = html.replace("NONCE", nonce).replace("ABOUT", json.dumps(said).replace("<", "\\u003c"))
        rules = f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'"
        rules += "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        safe = {"Content-Security-Policy": rules, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
        return HTMLResponse(html, headers=safe)

    return api


def serve(run: str, port: int = 8000, host: str = "127.0.0.1", model: str = "", int8: bool = False) -> int:
    """Serves a run until it is stopped; what is under way is answered first. Returns the exit status."""
    service = Service(run, model, int8)
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        door = socket.create_server((host, port), family=family, backlog=512)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{host}:{port} cannot be opened ({reason}): give another --port or --host.") from None
    told = "only this machine" if (local := host in LOCAL) else "everyone who reaches it; it asks for no password"
    place = f"http://{f'[{host}]' if ':' in host else host}:{door.getsockname()[1]}/"
    print(f"{printable(service.name)} answers at {place} for {told}. Stop it with Ctrl-C.", flush=True)
    settings = {"log_level": "error", "access_log": False, "server_header": False, "timeout_keep_alive": 5}
    server = uvicorn.Server(uvicorn.Config(app(service, local), timeout_graceful_shutdown=15, **settings))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # uvicorn, which ends in order, sends it again
    with suppress(KeyboardInterrupt):
        server.run([door])
    print("Stopped.", flush=True)
    return 0
