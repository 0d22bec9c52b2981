"""The worker processes as their parent sees them: started, asked, put to sleep while another one is timed."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


class MissingError(Exception):
    """The library is not installed; the message says what could not be imported."""


class LostError(Exception):
    """The process died or did not answer in time; the message says which, and its last words."""


class Runtime:
    """One library in a process of its own. It sleeps (SIGSTOP) except inside `awake()`.

    Sleeping is what makes it harmless to the others: the threads of several of these libraries spin for a while after
    each call, on the cores that the next library is timed on.

    Args:
        name: of the library.
        threads: how many CPUs the process may run on.
        module: what it runs.
        environment: variables that it has beside this process's own, or in place of them.
    """

    def __init__(
        self,
        name: str,
        threads: int,
        module: str = "benchmarks.worker",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.threads = threads
        self.module = module
        self.environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 -- closed in __exit__
        self._pending = b""

    def __enter__(self) -> Runtime:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._errors.close()

    @property
    def pid(self) -> int:
        """The process's number.

        Raises:
            RuntimeError: it has not been started, or has ended.
        """
        if self._process is None:
            raise RuntimeError(f"{self.name} has no process")
        return self._process.pid

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        """While the block runs, so does the process; it is started if need be."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.module, self.name, str(self.threads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                cwd=ROOT,
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **self.environment},
            )
        else:
            self._process.send_signal(signal.SIGCONT)
        try:
            yield
        finally:
            if self._process is not None:
                self._process.send_signal(signal.SIGSTOP)

    def ask(self, timeout: float, **request: Any) -> dict[str, Any]:
        """Sends a request and returns the answer.

        Args:
            timeout: seconds to wait.
            request: what the module that the process runs documents.

        Raises:
            MissingError: the library is not installed.
            LostError: no answer; the process is gone by then, and the next `awake` starts another.
        """
        process = self._process
        if process is None or process.stdin is None:
            raise RuntimeError(f"{self.name} was asked while asleep")
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # its last words are still to be read
        line = self._read_line(process, timeout)
        if line is None:
            raise LostError(f"no answer within {timeout:.0f} s")
        if not line:
            raise LostError(self._last_words(process))
        answer: dict[str, Any] = json.loads(line)
        if "missing" in answer:
            self.stop()
            raise MissingError(answer["missing"])
        return answer

    def _read_line(self, process: subprocess.Popen[bytes], timeout: float) -> bytes | None:
        """The next line; b"" at the end of output, None when the time is up, and the process is stopped in both."""
        if process.stdout is None:
            raise RuntimeError("the worker has no standard output")
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._pending:
                if not selector.select(timeout):
                    self.stop()
                    return None
                piece = os.read(process.stdout.fileno(), 65536)
                if not piece:
                    process.wait()
                    self.stop()
                    return b""
                self._pending += piece
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _last_words(self, process: subprocess.Popen[bytes]) -> str:
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - 2000))
        lines = self._errors.read().decode(errors="replace").strip().splitlines() or ["no message"]
        return f"exit status {process.returncode}: {lines[-1]}"

    def stop(self) -> None:
        """Ends the process, if there is one."""
        process, self._process, self._pending = self._process, None, b""
        if process is None:
            return
        process.kill()  # works on a sleeping process, too
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
