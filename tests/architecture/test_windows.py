"""What Windows has not is imported by no module when it is imported."""

from __future__ import annotations

from tests.helpers.processes import Server


def test_every_module_imports_without_what_only_posix_has(server: Server) -> None:
    ended = server.run("-m", "tests.helpers.import_all")
    assert ended.code == 0, ended.out
