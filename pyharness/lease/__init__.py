"""Take the nodes of a run before anything is done to them, keep them, and say who has them otherwise.

A lease is a file on the node (module_utils/lease.py of the collection, sent there as the probes are). What is taken by
several machines is taken in one order by everybody, so of two runs that want the same nodes one gets all of them.
"""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from pyharness.errors import UsageError
from pyharness.from_collection import lease
from pyharness.lease import holder, scripts
from pyharness.lease.wanted import Inventory, Lease
from pyharness.verification.node_probe import NodeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pyharness.verification.node_probe import Nodes

# A lease outlives this many renewals that do not come through.
_RENEWALS_PER_TTL = 6
_POLL_SECONDS = 1.0
_TELL_SECONDS = 30.0
# How long the end of a run waits for a renewal that is under way.
_LAST_RENEWAL_SECONDS = 2.0


class LeaseHeld(UsageError):  # noqa: N818 (nobody has made a mistake)
    """A node is another run's, and stays so for as long as this one would wait.

    Args:
        node: which, as the inventory calls it.
        entry: the lease as its holder wrote it.
        advice: what to do.
    """

    def __init__(self, node: str, entry: Mapping[str, Any], advice: str) -> None:
        super().__init__(f"{node} is held by {lease.told(dict(entry))}; {advice}")
        self.node, self.entry = node, dict(entry)


class Leases:
    """The leases of one run.

    Args:
        nodes: whom to ask; its inventory has been read.
        run: the run id.
        test_case: what it runs, for whoever has to wait for it.
        expected_seconds: how long it took the last time; None where nobody knows.
        tell: told what is waited for, for a person.
        extra_vars: variables that win over the inventory's.

    Attributes:
        numbers: by node the fencing number that its lease was given with.
        lost: a sentence as soon as a lease cannot be kept; None as long as all is well.
        silent: the node whose lease was lost because it does not answer.
        on_lost: called once, with that sentence, from the thread that keeps the leases alive.
        returning: set before the run's own teardown, which gives the leases back: that they go then is no loss.
        leftovers: by dead run, and by node of this run, the names by which the dead run knew that node.
        shared_memory: by node the files below /dev/shm before the run.
    """

    def __init__(
        self,
        nodes: Nodes,
        run: str,
        test_case: str,
        expected_seconds: float | None,
        tell: Callable[[str], None],
        *,
        extra_vars: Mapping[str, Any] | None = None,
    ) -> None:
        self._nodes, self._run, self._test_case = nodes, run, test_case
        self._expected, self._tell = expected_seconds, tell
        self._inventory = Inventory(nodes, dict(extra_vars or {}))
        self._held: dict[str, list[Lease]] = {}
        self._ttl = lease.DEFAULT_TTL
        self._lock = threading.Lock()
        self.numbers: dict[str, int] = {}
        self.lost: str | None = None
        self.silent: str | None = None
        self.on_lost: Callable[[str], None] = lambda _told: None
        self.returning = False
        self.leftovers: dict[str, dict[str, list[str]]] = {}
        self.shared_memory: dict[str, list[str]] = {}

    # -- taking

    def take(self, names: Sequence[str], wait: float, cancelled: Callable[[], bool]) -> list[str]:
        """Take the leases of all nodes, or none of them.

        Args:
            names: the nodes.
            wait: seconds to wait for a node that another run has.
            cancelled: asked while it waits; true ends the waiting, and nothing is taken.

        Returns:
            the runs that are dead and have left something on these nodes, the oldest first; empty where none has, and
            where it was cancelled. `variables_for` has what their teardown needs to know.

        Raises:
            LeaseHeld: another run has one of the nodes, and still has it when the time is over.
            UsageError: the inventory does not say what the lease is called, or a lease cannot be used.
            NodeError: a node could not be asked.
        """
        wanted, self._ttl = self._inventory.wanted(names), self._inventory.ttl(names)
        begun, told_at, dead = time.monotonic(), -math.inf, set[str]()
        while not cancelled():
            held = self._take_all(wanted, dead)
            if held is None:
                return sorted(self.leftovers)
            node, entry = held
            if holder.is_dead(entry) and entry["process"] not in dead:
                dead.add(entry["process"])
                continue
            waited = time.monotonic() - begun
            if waited >= wait or entry["kept"]:
                raise LeaseHeld(node, entry, self._advice(entry, waited if wait else 0.0))
            if time.monotonic() - told_at >= _TELL_SECONDS:
                self._tell(f"{node} is held by {lease.told(entry)}; waiting")
                told_at = time.monotonic()
            time.sleep(min(_POLL_SECONDS, wait - waited))  # the poll interval; the conditions above decide
        return []

    def _advice(self, entry: Mapping[str, Any], waited: float) -> str:
        if entry["kept"]:
            return f"end it with: python -m pyharness teardown -i INVENTORY --run {entry['run']}"
        return f"waited {waited:.0f} s, give it longer: --wait SECONDS" if waited else "wait for it with --wait SECONDS"

    def _take_all(self, wanted: Mapping[str, list[Lease]], dead: set[str]) -> tuple[str, dict[str, Any]] | None:
        """Try once. Returns None when all are taken; else a node that is held, and its lease."""
        self.leftovers, self.shared_memory, self.returning = {}, {}, False
        try:
            for machine, leases in wanted.items():
                # Before the question: an answer that is lost on its way leaves nothing taken.
                self._held[machine] = leases
                held = self._take_machine(leases, dead)
                if held is not None:
                    del self._held[machine]  # given back there and then
                    self.release()
                    return held
        except BaseException:
            self.release()
            raise
        return None

    def _take_machine(self, leases: list[Lease], dead: set[str]) -> tuple[str, dict[str, Any]] | None:
        claim = {
            "run": self._run,
            "test_case": self._test_case,
            "holder": f"{holder.user()}@{socket.gethostname()}, pid {os.getpid()},",
            "process": holder.identity(os.getpid()),
            "ttl_seconds": self._ttl,
            "expected_seconds": self._expected,
            "dead": sorted(dead),
        }
        questions = [{"file": one.file, "claim": {**claim, "name": one.name, "nodes": one.nodes}} for one in leases]
        answer = scripts.ask(self._nodes, leases[0].nodes[0], scripts.TAKE, {"leases": questions}, marked=True)
        one, got = leases[len(answer["leases"]) - 1], answer["leases"][-1]
        if not got["taken"]:
            return one.nodes[0], got["entry"]
        for one, got in zip(leases, answer["leases"], strict=True):
            for node in one.nodes:
                self.numbers[node] = got["entry"]["number"]
                self.shared_memory[node] = answer["shared_memory"]
            marked = [entry for entry in answer["marked"] if entry["lease"] == one.file]
            left = [(entry["run"], name) for entry in got["entry"]["leftovers"] for name in entry["nodes"]]
            for run, name in left + [(entry["run"], entry["node"]) for entry in marked]:
                # What was brought up by hand is for hands to take down.
                if run not in (self._run, f"{self._run}-single", "manual", None):
                    for node in one.nodes:
                        known = self.leftovers.setdefault(run, {}).setdefault(node, [])
                        known.extend({name} - {node, None} - set(known))
        return None

    # -- keeping

    @contextmanager
    def kept_alive(self) -> Iterator[None]:
        """Renew the leases as long as the block lasts. What becomes of them is in `lost`."""
        over = threading.Event()
        # By machine since when it has been asked in vain, on the monotonic clock.
        unanswered: dict[str, float] = {}
        # One for each machine: one that does not answer must not keep the others waiting.
        threads = [
            threading.Thread(target=self._keep_alive, args=(machine, over, unanswered), daemon=True)
            for machine in self._held
        ]
        threads.append(threading.Thread(target=self._watch, args=(over, unanswered), daemon=True))
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            deadline = time.monotonic() + _LAST_RENEWAL_SECONDS
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))

    def _keep_alive(self, machine: str, over: threading.Event, unanswered: dict[str, float]) -> None:
        while not over.wait(self._ttl / _RENEWALS_PER_TTL):
            unanswered.setdefault(machine, time.monotonic())
            reason = self._renew_machine(machine)
            if reason != "":
                unanswered.pop(machine, None)
            if reason and not over.is_set():
                self._lose(reason)
                return

    def _watch(self, over: threading.Event, unanswered: dict[str, float]) -> None:
        # By their names from here on: meanwhile leases may have been given back.
        nodes = {machine: leases[0].nodes[0] for machine, leases in self._held.items()}
        every, looked = self._ttl / _RENEWALS_PER_TTL, time.monotonic()
        while not over.wait(every):
            asleep = time.monotonic() - looked - every
            looked = time.monotonic()
            for machine, since in list(unanswered.items()):
                if asleep > every:
                    # This process itself was stopped: whether anything is lost, the next answer tells.
                    unanswered[machine] = looked
                elif looked - since > self._ttl:
                    told = f"the lease of {nodes[machine]} was not renewed for {self._ttl:g} s: it does not answer"
                    self._lose(told, silent=nodes[machine])

    def _lose(self, reason: str, silent: str | None = None) -> None:
        with self._lock:
            if self.lost is not None or self.returning:
                return
            self.lost, self.silent = f"lease lost: {reason}", silent
        self.on_lost(self.lost)

    def _renew_machine(self, machine: str, *, kept: bool = False, over: bool = False) -> str | None:
        """Renew the leases of a machine. Returns None if that went well, why one is lost, or "" for no answer."""
        leases = self._held.get(machine, [])
        if not leases:
            return None  # given back meanwhile
        questions = [{"file": one.file, "number": self.numbers[one.nodes[0]]} for one in leases]
        try:
            how = {"run": self._run, "kept": kept, "over": over}
            answer = scripts.ask(self._nodes, leases[0].nodes[0], scripts.RENEW, {"leases": questions, **how})
        except (NodeError, ValueError):  # no answer, or no whole one
            return ""
        except UsageError as error:
            return str(error)
        for one, got in zip(leases, answer["leases"], strict=True):
            if not got["renewed"]:
                entry = got["entry"]
                now = "nobody's" if entry is None or entry["run"] is None else f"held by {lease.told(entry)}"
                return f"{', '.join(one.nodes)} is {now}, and was this run's"
        return None

    def hold(self) -> None:
        """Leave the nodes to this run until somebody tears it down: the leases do not expire any more.

        Raises:
            NodeError: a node could not be asked.
            UsageError: a lease was lost, or cannot be used.
        """
        for machine in self._held:
            reason = self._renew_machine(machine, kept=True)
            if reason is not None:
                node = self._held[machine][0].nodes[0]
                raise UsageError(reason) if reason else NodeError(node, "no answer")

    def end(self) -> None:
        """Let the leases expire that teardown has not given back, so that the next run need not wait to clean up."""
        self.returning = True
        for machine in self._held:
            self._renew_machine(machine, over=True)
        self._held.clear()

    def release(self) -> None:
        """Give back what is held, where nothing of the run is left.

        Teardown does that node by node; this is for a run that has not got so far. A machine that does not answer keeps
        its leases until they expire.
        """
        self.returning = True
        for leases in self._held.values():
            questions = [{"file": one.file, "nodes": one.nodes} for one in leases]
            with suppress(NodeError, UsageError):
                scripts.ask(self._nodes, leases[0].nodes[0], scripts.RELEASE, {"leases": questions, "run": self._run})
        self._held.clear()
        self.numbers.clear()

    # -- for playbooks

    def variables(self) -> dict[str, Any]:
        """Return the variables by which playbooks start things under these leases, and nothing without."""
        return {
            "disagg_leases": {
                node: {"file": one.file, "number": self.numbers[node]}
                for leases in self._held.values()
                for one in leases
                for node in one.nodes
            }
        }

    def variables_for(self, run: str) -> dict[str, Any]:
        """Return the variables for the teardown of a dead run: by what further names it knew these nodes.

        Args:
            run: one that `take` has returned.
        """
        return {"disagg_run_names": self.leftovers.get(run, {})}
