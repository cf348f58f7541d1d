import os

import pytest

from serving import logs


@pytest.mark.parametrize(
    "line",
    [
        "2026-11-23T06:00:00,123 [ERROR] W-9000-cnn_1 org.pytorch.serve.wlm.WorkerThread - Backend worker error",
        "2026-11-23 06:00:00.123: E tfserving-embedded: cannot listen on 127.0.0.1:1",
        "2026-11-23 06:00:00.123456: F external/org_tensorflow/x.cc:12] Check failed",
        "ModuleNotFoundError: No module named 'ts'",
        'Exception in thread "main" java.lang.OutOfMemoryError',
    ],
)
def test_the_last_fault_is_found_among_other_lines(tmp_path, line):
    log = tmp_path / "server.log"
    log.write_text(f"an earlier [ERROR] fault\n{line}\n2026-11-23 06:00:01.000: I tfserving-embedded: Error rate 0\n\n")
    assert logs.last_fault([tmp_path / "none", log]) == line


def test_a_log_without_a_fault_has_none(tmp_path):
    (tmp_path / "server.log").write_text("2026-11-23 06:00:00.123: I x: started\n2026-11-23T06:00:00 [WARN ] y - z\n")
    assert logs.last_fault([tmp_path / "server.log"]) is None
    assert logs.last_words(tmp_path / "server.log").endswith("[WARN ] y - z")
    assert logs.last_words(tmp_path / "none") == "(no log)"


def test_the_newest_log_with_a_fault_counts_and_only_its_end_is_read(tmp_path):
    old, new = tmp_path / "old.log", tmp_path / "new.log"
    old.write_text("OldError: x\n")
    os.utime(old, (1, 1))
    new.write_text("NewError: y\n" + "2026-11-23 06:00:00.1: I z: quiet\n" * 20_000)
    assert logs.last_fault([new, old]) == "OldError: x"
    new.write_text("NewError: y\n")
    assert logs.last_fault([new, old]) == "NewError: y"
