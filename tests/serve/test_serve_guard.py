"""Who is let in: hosts, origins, tokens, cookies, headers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from serving import BASE, browser, picture, sent, serving

from lexiseg.serve.guard import _check_length
from lexiseg.serve.problems import Refused

TOKEN = "a-token-of-this-launch"


@pytest.fixture
def client(tmp_path: Path) -> Any:
    with serving(tmp_path / "state") as (_, found):
        yield found


class TestHosts:
    @pytest.mark.parametrize("host", ["evil.example", "evil.example:7860", "", "127.0.0.1.evil.example", "["])
    def test_a_name_that_points_here_is_refused(self, client: Any, host: str) -> None:
        reply = client.get("/api/v1/about", headers={"host": host})
        assert reply.status_code == 421 and "name is not known" in reply.json()["error"]

    @pytest.mark.parametrize("host", ["localhost:7860", "127.0.0.1:7860", "[::1]:7860", "192.168.0.7:7860"])
    def test_addresses_and_localhost_pass(self, client: Any, host: str) -> None:
        assert client.get("/api/v1/about", headers={"host": host}).status_code == 200

    def test_a_name_that_was_allowed_passes(self, tmp_path: Path) -> None:
        with serving(tmp_path / "state", names=("scans.clinic.example",)) as (_, client):
            assert client.get("/healthz", headers={"host": "Scans.clinic.example:7860"}).status_code == 200


class TestOrigins:
    @pytest.mark.parametrize(
        "headers",
        [
            {"origin": "http://evil.example"},
            {"origin": "null"},
            {"origin": "http://["},
            {"origin": "http://127.0.0.1:9999"},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
        ],
    )
    def test_other_sites_pages_change_nothing(self, client: Any, headers: dict[str, str]) -> None:
        reply = client.post("/api/v1/scans", json={"phantom": "chest-xray"}, headers=headers)
        assert reply.status_code == 403 and "another site's page" in reply.json()["error"]
        assert client.get("/api/v1/scans").json() == []

    @pytest.mark.parametrize("headers", [{"origin": BASE}, {"sec-fetch-site": "same-origin"}, {}])
    def test_the_page_and_programs_do(self, client: Any, headers: dict[str, str]) -> None:
        reply = client.post("/api/v1/scans", files=[("files", ("a.png", picture()))], headers=headers)
        assert reply.status_code == 201


class TestTokens:
    def test_the_address_with_the_token_lets_in_and_hides_it(self, tmp_path: Path) -> None:
        with serving(tmp_path / "state", token=TOKEN) as (_, client):
            refused = client.get("/api/v1/about")
            assert refused.status_code == 401 and "token is missing" in refused.json()["error"]
            entered = client.get(f"/?token={TOKEN}", follow_redirects=False)
            assert entered.status_code == 303 and entered.headers["location"] == "/"
            assert TOKEN not in str(entered.headers)
            assert all("HttpOnly; SameSite=Strict" in each for each in entered.headers.get_list("set-cookie"))
            assert client.get("/api/v1/about").status_code == 200
            assert browser(client).get("/api/v1/about").status_code == 401

    def test_a_stale_token_says_what_to_do(self, tmp_path: Path) -> None:
        with serving(tmp_path / "state", token=TOKEN) as (_, client):
            reply = client.get("/?token=of-yesterday")
            assert reply.status_code == 401 and "not valid any more" in reply.text and "started last" in reply.text
            client.cookies.set("lexiseg_access_7860", "0" * 64)
            assert "not valid any more" in client.get("/api/v1/about").json()["error"]

    def test_a_program_brings_it_in_a_header(self, tmp_path: Path) -> None:
        with serving(tmp_path / "state", token=TOKEN) as (_, client):
            assert client.get("/api/v1/about", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
            assert client.get("/api/v1/about", headers={"authorization": "Bearer no"}).status_code == 401
            assert client.get(f"/api/v1/about?token={TOKEN}").status_code == 401
            assert client.get("/healthz").status_code == 200


class TestCookies:
    def test_a_visitor_keeps_its_cookie(self, client: Any) -> None:
        sent(client)
        before = dict(client.cookies)
        assert client.get("/api/v1/scans").headers.get("set-cookie") is None
        assert dict(client.cookies) == before and list(before) == ["lexiseg_7860"]

    @pytest.mark.parametrize("value", ["0" * 64, "../../etc", "x", ""])
    def test_a_cookie_that_was_never_given_is_replaced(self, client: Any, value: str) -> None:
        client.cookies.set("lexiseg_7860", value)
        reply = client.get("/api/v1/scans")
        assert reply.json() == [] and "lexiseg_7860=" in reply.headers["set-cookie"]

    def test_the_disk_does_not_hold_it(self, tmp_path: Path) -> None:
        with serving(tmp_path / "state") as (_, client):
            sent(client)
            secret = client.cookies["lexiseg_7860"]
            paths = list(tmp_path.rglob("*"))
            assert secret and any(path.is_file() for path in paths)
            for path in paths:
                assert secret not in str(path)
                assert path.is_dir() or secret.encode() not in path.read_bytes()


@pytest.mark.parametrize("length", ["\u00b2", "-1", "x", "11"])
def test_a_length_that_is_none_or_too_large_is_refused(length: str) -> None:
    with pytest.raises(Refused, match="too much was sent"):
        _check_length({"content-length": length}, 10)


class TestHeaders:
    @pytest.mark.parametrize("path", ["/", "/api/v1/about", "/api/v1/scans/none", "/nothing", "/healthz"])
    def test_every_reply_has_them(self, client: Any, path: str) -> None:
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"

    @pytest.mark.parametrize("path", ["/../pyproject.toml", "/%2e%2e/%2e%2e/app.py", "/..%2fapp.py", "//etc/passwd"])
    def test_files_outside_the_page_are_not_served(self, client: Any, path: str) -> None:
        reply = client.get(path)
        assert reply.status_code in (404, 405) and "import" not in reply.text

    def test_what_is_no_path_is_one_line(self, client: Any) -> None:
        assert set(client.get("/api/v1/nothing").json()) == {"error"}
        assert set(client.post("/api/v1/scans", content=b"{", headers={"content-type": "application/json"}).json()) == {
            "error"}  # fmt: skip
