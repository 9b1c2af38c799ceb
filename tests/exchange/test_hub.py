"""Push to the hub and pull from it, over a small stand-in of the hub that speaks its protocol."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

import kronlit

SHA = "0123456789012345678901234567890123456789"


class Hub(BaseHTTPRequestHandler):
    """Keeps in the server's `files` what is committed, and in `made` the repositories with who may see them."""

    def answer(self, content, status=200, **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(body), "X-Repo-Commit": SHA, **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        files, path = self.server.files, self.path.split("?")[0]
        if path == "/api/whoami-v2":
            self.answer({"name": "me", "type": "user"} if self.headers["Authorization"] else b"", 200)
        elif found := re.fullmatch(r"/me/adapter/resolve/\w+/(.+)", path):
            content = files[found[1]]
            self.answer(content, ETag=f'"{hashlib.sha1(content).hexdigest()}"')
        elif path == f"/api/models/me/adapter/tree/{SHA}":
            self.answer([{"type": "file", "path": n, "size": len(c), "oid": SHA} for n, c in files.items()])
        elif path.startswith("/api/models/me/adapter") and "me/adapter" in self.server.made:
            self.answer({"id": "me/adapter", "sha": SHA, "siblings": [{"rfilename": name} for name in files]})
        else:
            self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization', 'me')}/{asked['name']}"
            self.server.made[name] = asked.get("private", asked.get("visibility") == "private")
            self.answer({"url": f"{self.server.address}/{name}"})
        elif self.path.endswith("/preupload/main"):
            files = json.loads(body)["files"]
            self.answer({"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]})
        elif self.path.endswith("/commit/main"):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = f"{self.server.address}/me/adapter/commit/{SHA}"
            self.answer({"commitOid": SHA, "commitUrl": url, "hookOutput": ""})
        else:  # a look at the card's front matter
            self.answer({"errors": [], "warnings": []})

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files, server.made, server.address = {}, {}, f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.address)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        server.address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def exported(kronlit, run_of, tiny_bert, tmp_path):
    """Exports a run, uploading it, and gives the exit code, what was printed, and the folder."""
    run, _ = run_of(tiny_bert, "KronA")

    def export(repo_id, *words):
        folder = tmp_path / "adapter"
        words = ["--format", "kronlit", "--push_to_hub", repo_id, *words]
        return *kronlit("export", "--ckpt_path", run, "--output", folder, *words), folder

    return export


@torch.no_grad()
def logits(model):
    return model(input_ids=torch.arange(4, 16).view(2, 6)).logits


def test_what_is_pushed_is_pulled_as_it_was(exported, hub):
    code, out, _, folder = exported("me/adapter")
    assert code == 0
    assert f"uploaded to {hub.address}/me/adapter" in out
    assert hub.made == {"me/adapter": False}
    assert hub.files == {path.name: path.read_bytes() for path in folder.iterdir()}
    tokenizer = {"tokenizer.json", "tokenizer_config.json"}
    assert set(hub.files) == {"adapter.safetensors", "adapter_config.json", "README.md"} | tokenizer
    torch.testing.assert_close(logits(kronlit.load("me/adapter")), logits(kronlit.load(folder)), rtol=0, atol=0)


def test_a_repository_can_be_private(exported, hub):
    assert exported("me/adapter", "--private", "true")[0] == 0
    assert hub.made == {"me/adapter": True}


@pytest.mark.parametrize(
    ("repo_id", "token", "message"),
    [
        ("me/a/b", "hf_mine", "`push_to_hub`='me/a/b' is no name of a repository"),
        ("me/adapter", "", "needs a login"),
    ],
)
def test_a_slip_is_told_before_anything_is_written(exported, hub, monkeypatch, tmp_path, repo_id, token, message):
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    code, _, err, folder = exported(repo_id)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert not folder.exists()
    assert hub.made == {}


def test_where_there_is_no_network_it_is_told_before_anything_is_written(exported, hub):
    hub.shutdown()
    hub.server_close()
    code, _, err, folder = exported("me/adapter")
    assert code == 2
    assert "`push_to_hub`='me/adapter': the hub does not take it" in err
    assert not folder.exists()
