"""The process that one network runs in: `python -m benchmarks.models_worker BACKEND/VARIANT THREADS`.

VARIANT is "stock" or "accelerated". Requests and answers are JSON, one a line, as those of `benchmarks.worker`:

    {"do": "hello"}                                          -> {"versions": {...}}
    {"do": "load", "network": [...], "seed": 1}              -> {"inference": [...], "loss": 2.4, "update": [...]}
    {"do": "time", "what": "training", "seconds": 1.0}       -> {"ms": 61.3, "calls": 17}

What `load` answers is what the network computes: class probabilities of the batch; the loss of the first training step
and what it did to each trainable variable, a number each.
"""

from __future__ import annotations

import gc
import importlib
import os
from collections.abc import Callable
from typing import Any

from benchmarks.frameworks import Application
from benchmarks.worker import median_ms, serve


class Worker:
    """One backend of Keras, one variant, and the network that is loaded."""

    def __init__(self, name: str, threads: int) -> None:
        del threads  # the libraries see as many CPUs as they may use, and no more
        backend, self.variant = name.split("/")
        os.environ["KERAS_BACKEND"] = backend
        importlib.import_module(backend)  # one that is not installed is missing, whatever Keras makes of it
        self.keras: Any = importlib.import_module("benchmarks.frameworks.keras")
        self.programs: dict[str, Callable[[], Any]] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Does what a request asks for, and returns what is to be sent back."""
        match request["do"]:
            case "hello":
                return {"versions": self.keras.versions()}
            case "load":
                return self.load(request["network"], request["seed"])
            case "time":
                milliseconds, calls = median_ms(self.programs[request["what"]], request["seconds"])
                return {"ms": milliseconds, "calls": calls}
            case unknown:
                raise ValueError(f"do: unknown request {unknown!r}")

    def load(self, network: list[Any], seed: int) -> dict[str, Any]:
        """Builds a network in place of the one before, compiles and runs it; returns what it computed."""
        self.programs.clear()
        gc.collect()
        application = Application(*network)
        loaded = self.keras.Network(application, accelerated=self.variant == "accelerated", seed=seed)
        self.programs = {"inference": loaded.inference, "training": loaded.training}
        inference = loaded.inference().ravel().tolist()
        loss, update = loaded.first_step()
        return {"inference": inference, "loss": loss, "update": update}


if __name__ == "__main__":
    serve(Worker)
