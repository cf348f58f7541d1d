"""What status says of a server that does not tell everything."""

import os

from faceoff import processes
from faceoff.endpoints import nowhere, write
from faceoff.errors import FaceoffError
from faceoff.store import Store
from serving import state, status
from serving.owned import Owned
from serving.servers.embedded import Embedded


def test_what_another_users_process_does_not_tell_is_a_question_mark(tmp_path, monkeypatch, capsys):
    def denied(endpoint):
        raise FaceoffError("process 7 is another user's")

    store = Store(artifacts=tmp_path)
    me = Owned(server="tfserving-embedded", pid=os.getpid(), started=processes.started(os.getpid()), log=str(tmp_path / "x"))
    state.write(store, [me])
    write(store.endpoints, [nowhere("tfserving-embedded", "cnn", 1)])
    for name in ("running", "metrics"):
        monkeypatch.setattr(Embedded, name, denied)
    for name, answer in (("is_ready", True), ("reported", {})):
        monkeypatch.setattr(Embedded, name, lambda endpoint, answer=answer: answer)
    assert status.main(["--artifacts", str(tmp_path)]) == 0
    said = capsys.readouterr().err
    assert "status: process 7 is another user's" in said
    assert "cnn/1 runs: ?" in said
