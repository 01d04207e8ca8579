"""Each failure gets its rule, its class and its line; first causes stand first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pyharness.classification import explain, logs
from tests.unit.builders import make_failure, make_report
from tests.unit.explained_runs import CASE, FULL, TRIAL, died, explained, http, told

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.pre_merge, pytest.mark.unit, pytest.mark.gpu_0, pytest.mark.harness]


def test_a_full_disk_explains_a_dead_service(tmp_path: Path) -> None:
    report = explained(tmp_path, died(), decode=f"up\n{FULL}\nbye\n")
    (failure,) = report.failures
    assert told(report) == [("services_ready", "infra.disk_full", "infrastructure", False)]
    assert failure.line is not None
    assert failure.line.model_dump() == {"file": f"logs/{TRIAL}/decode.log", "line": 2, "host": "two", "text": FULL}
    assert "df -h" in failure.hint
    assert report.judge() == "error"


def test_what_no_rule_knows_is_the_products_with_its_last_line(tmp_path: Path) -> None:
    report = explained(tmp_path, died(), deployed=False, decode="up\nI am bored\nbye\n\n")
    assert told(report) == [("services_ready", "service.died", "product", False)]
    assert report.failures[0].line is not None
    assert report.failures[0].line.model_dump() == {
        "file": f"logs/{TRIAL}/decode.log", "line": 3, "host": "two", "text": "bye",
    }  # fmt: skip


def test_another_services_log_does_not_explain_why_one_died(tmp_path: Path) -> None:
    report = explained(tmp_path, died(), decode="bye\n", prefill=f"{FULL}\n")
    assert told(report) == [("services_ready", "service.died", "product", False)]


def test_the_more_telling_line_is_taken_and_of_these_the_first(tmp_path: Path) -> None:
    content = "Traceback (most recent call last):\n  File\nKeyError: 1\nBus error\n" + FULL + "\n"
    report = explained(tmp_path, died(), decode=content)
    assert report.failures[0].rule == "infra.shared_memory"


def test_a_failed_request_is_explained_by_any_service_of_its_trial(tmp_path: Path) -> None:
    report = explained(tmp_path, http(), prefill="CUDA error: an illegal memory access was encountered\n")
    assert told(report) == [("router_ready", "product.illegal_gpu_access", "product", False)]
    assert report.failures[0].line is not None
    assert report.failures[0].line.host == "one"


@pytest.mark.parametrize("status", [500, 502, 503, 504, 422])
def test_an_answer_that_nothing_explains_is_named_by_its_status(status: int, tmp_path: Path) -> None:
    report = explained(tmp_path, http(status), requests=f"> POST\n< HTTP {status}\n")
    failure = report.failures[0]
    assert failure.rule == (f"http.{status}" if status >= 500 else "http.other")
    assert status < 500 or (failure.line is not None and failure.line.line == 2)


def test_the_kernels_log_explains_too(tmp_path: Path) -> None:
    moment = "[Thu Jan  1 00:00:00 2099] "
    report = explained(tmp_path, died(), decode="bye\n", kernel=f"{moment}NVRM: Xid (PCI:0000:3b:00): 48, DBE\n")
    assert told(report) == [("services_ready", "infra.gpu_xid", "infrastructure", False)]
    assert report.failures[0].line is not None
    assert report.failures[0].line.host == "two"


def test_a_failed_task_has_its_line_of_ansibles_output(tmp_path: Path) -> None:
    failure = make_failure(
        check="provision",
        trial=None,
        evidence="two: no RDMA device",
        rule="ansible.role.erdma",
        **{"class": "infrastructure"},
    )
    report = explained(
        tmp_path, failure, ansible="TASK\nfatal: [one]: FAILED\nfatal: [two]: FAILED! => no RDMA device\n"
    )
    assert told(report) == [("provision", "infra.rdma_device_missing", "infrastructure", False)]
    line = report.failures[0].line
    assert line is not None
    assert (line.file, line.line, line.host) == ("logs/ansible/provision.log", 3, "two")


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"check": "interrupted", "class": "test"}, "run.interrupted"),
        ({"check": "usage", "class": "configuration"}, "run.usage"),
        ({"check": "run", "class": "test", "evidence": "KeyError: 1"}, "run.defect"),
        ({"check": "run", "class": "infrastructure", "evidence": "two cannot be asked: ssh"}, "node.unreachable"),
        ({"check": "run", "class": "infrastructure", "evidence": FULL}, "infra.disk_full"),
        (
            {"check": "answer_correct", "class": "test", "evidence": "the check itself broke: KeyError"},
            "test.check_broke",
        ),
        ({"check": "answer_correct", "evidence": "http://x: no answer within 30 s"}, "request.no_answer"),
        ({"check": "answer_correct", "evidence": "the text differs"}, "check.answer_correct"),
        ({"check": "deploy", "class": "unknown", "evidence": "what?"}, "unknown"),
        ({"check": "unsupported", "class": "test", "evidence": "it ran and passed"}, "declared.outdated"),
    ],
)
def test_what_no_log_explains_has_a_rule_too(changes: dict[str, Any], rule: str, tmp_path: Path) -> None:
    assert explained(tmp_path, make_failure(**changes)).failures[0].rule == rule


def test_a_dead_service_explains_what_failed_before_it_was_noticed(tmp_path: Path) -> None:
    report = explained(tmp_path, http(503), died(evidence="service decode on two has ended; its last lines in x:\nbye"))
    assert [(entry.check, entry.consequence) for entry in report.failures] == [
        ("services_ready", False), ("router_ready", True),
    ]  # fmt: skip


def test_a_consequence_is_blamed_on_whom_its_cause_is(tmp_path: Path) -> None:
    late = make_failure(check="kv_cache_moved", evidence="no byte")
    report = explained(tmp_path, http(503), late, died(), decode=FULL + "\n")
    assert told(report)[0] == ("services_ready", "infra.disk_full", "infrastructure", False)
    assert {(entry.class_, entry.consequence) for entry in report.failures[1:]} == {("infrastructure", True)}
    assert report.judge() == "error"


def test_of_two_dead_services_the_one_that_only_lost_the_other_is_the_consequence(tmp_path: Path) -> None:
    gone = "Traceback (most recent call last):\n  File\nConnectionResetError: [Errno 104] Connection reset by peer\n"
    report = explained(tmp_path, died("decode", "two"), died("prefill", "one"), decode=gone, prefill="Bus error\n")
    assert [(entry.rule, entry.consequence) for entry in report.failures] == [
        ("infra.shared_memory", False), ("product.peer_gone", True),
    ]  # fmt: skip


def test_two_services_that_died_by_themselves_on_two_hosts_are_two_causes(tmp_path: Path) -> None:
    report = explained(
        tmp_path, died("decode", "two"), died("prefill", "one"), decode="Segmentation fault\n", prefill=FULL + "\n"
    )
    assert [entry.consequence for entry in report.failures] == [False, False]


def test_no_transfer_explains_transport_and_text(tmp_path: Path) -> None:
    checks = ("answer_correct", "kv_cache_moved", "transport_used")
    report = explained(tmp_path, *(make_failure(check=check, evidence="it is wrong") for check in checks))
    assert [(entry.check, entry.consequence) for entry in report.failures] == [
        ("kv_cache_moved", False), ("answer_correct", True), ("transport_used", True),
    ]  # fmt: skip


def test_what_ended_the_run_stays_first_and_explains_what_was_given_up(tmp_path: Path) -> None:
    report = explained(
        tmp_path,
        make_failure(check="interrupted", trial=None, evidence="SIGINT ended the run", **{"class": "test"}),
        make_failure(check="answer_correct", evidence="http://x: given up: SIGINT"),
        make_failure(check="kv_cache_moved", evidence="no byte"),
    )
    assert [(entry.check, entry.consequence) for entry in report.failures] == [
        ("interrupted", False), ("answer_correct", True), ("kv_cache_moved", True),
    ]  # fmt: skip


def test_a_node_that_is_gone_explains_its_teardown_and_another_nodes_does_not(tmp_path: Path) -> None:
    gone = {"class": "infrastructure", "unfit_node": "two", "evidence": "two cannot be asked: ssh", "trial": None}
    left = {"class": "infrastructure", "check": "nodes_clean", "trial": None, "evidence": "1 process(es) are left"}
    report = explained(
        tmp_path,
        make_failure(**{**left, "unfit_node": "one"}),
        make_failure(**{**left, "unfit_node": "two"}),
        make_failure(check="run", **gone),
    )
    assert [(entry.check, entry.unfit_node, entry.consequence) for entry in report.failures] == [
        ("nodes_clean", "one", False), ("run", "two", False), ("nodes_clean", "two", True),
    ]  # fmt: skip


def test_a_note_explains_the_check_that_it_is_for(tmp_path: Path) -> None:
    words = "Topology discovery complete. Found 0 HCAs."
    report = explained(tmp_path, make_failure(check="transport_used", evidence="went by tcp"), decode=words + "\n")
    assert told(report) == [("transport_used", "mooncake.rdma_fallback_tcp", "infrastructure", False)]


def test_what_the_case_expects_keeps_its_class(tmp_path: Path) -> None:
    report = make_report(failures=[died(**{"class": "unsupported"}).model_dump(by_alias=True)])
    expected = {"kind": "unsupported", "reason": "no kernel", "check": "services_ready", "evidence": "bye"}
    report.models[0].expected = report.models[0].model_validate({"name": "x", "expected": expected}).expected
    explain(report, tmp_path, CASE)
    assert told(report) == [("services_ready", "declared.unsupported", "unsupported", False)]


def test_a_deployment_that_cannot_be_read_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "deployment.json").write_text("{")
    report = explained(tmp_path, http(), deployed=False, decode=FULL + "\n")
    assert told(report) == [("router_ready", "infra.disk_full", "infrastructure", False)]
    assert report.failures[0].line is not None
    assert report.failures[0].line.host is None


def test_what_cannot_be_explained_is_no_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_what: object) -> None:
        raise KeyError("it")

    monkeypatch.setattr(logs, "read", broken)
    report = explained(tmp_path)
    assert told(report) == [("run", "run.defect", "test", False)]
    assert report.judge() == "error"


@pytest.mark.parametrize(
    ("trial", "folder"),
    [
        ("org/model", "org__model"),
        ("org/model [arena]", "org__model.arena"),
        ("[process_group]", "process_group"),
        ("services", "services"),
        (None, None),
    ],
)
def test_a_trial_has_its_folder(trial: str | None, folder: str | None) -> None:
    assert logs.slug(trial) == folder
