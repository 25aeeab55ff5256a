"""A bucket of S3, or of a server that speaks its protocol: put, size, list, delete.

    bucket = Bucket("s3://snapshots/etcd", os.environ)      # AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, ...
    bucket.put("/var/backups/etcd/kube-node1-20260102T030405Z.db", "kube-node1-20260102T030405Z.db")

Files are sent in parts of 16 MiB, each with its SHA-256, so that memory is bounded and a part is sent again after a failure; a
file appears in the bucket when it is complete.
Source: AWS Signature Version 4; Amazon S3 API: PutObject, CreateMultipartUpload, UploadPart, CompleteMultipartUpload,
ListObjectsV2, DeleteObject.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import os
import ssl
import time
import urllib.parse
import xml.etree.ElementTree
from collections.abc import Mapping
from typing import BinaryIO

_PART_BYTES = 16 << 20
_TRIES = 5
_PAUSE_SECONDS = 1.0
_CALL_SECONDS = 120.0
_RETRIED = (429, 500, 502, 503, 504)


class BucketError(Exception):
    """The bucket refuses, or cannot be reached; the text has neither keys nor signatures."""


class Bucket:
    """url: s3://BUCKET/PREFIX. settings: the AWS_... variables. Raises BucketError if one is missing."""

    def __init__(self, url: str, settings: Mapping[str, str]) -> None:
        where = urllib.parse.urlsplit(url)
        self.url = url.rstrip("/")
        self._prefix = where.path.strip("/") + "/" if where.path.strip("/") else ""
        absent = [name for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION") if not settings.get(name)]
        if absent:
            raise BucketError(f"{url}: {', '.join(absent)} missing in the file of backups.credentials")
        self._signer = Signer(settings)
        region = settings["AWS_REGION"]
        endpoint = urllib.parse.urlsplit(settings.get("AWS_ENDPOINT_URL") or f"https://s3.{region}.amazonaws.com")
        self._is_secure, self._host = endpoint.scheme != "http", endpoint.netloc
        self._root = f"{endpoint.path.rstrip('/')}/{where.netloc}"
        self._ca_file = settings.get("AWS_CA_BUNDLE") or None

    def put(self, path: str, name: str) -> None:
        """Raises BucketError, OSError."""
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            if size <= _PART_BYTES:
                self._call("PUT", name, body=file.read())
            else:
                self._put_parts(file, name)
        stored = self._size(name)
        if stored != size:
            raise BucketError(f"{self.url}/{name}: stored {stored} of {size} bytes")

    def names(self) -> list[str]:
        """Of the files directly under the prefix."""
        found: list[str] = []
        token = ""
        while True:
            query = {"list-type": "2", "prefix": self._prefix, **({"continuation-token": token} if token else {})}
            answer = _parsed(self._call("GET", None, query=query)[1])
            found += [text[len(self._prefix) :] for text, tag in answer if tag == "Key"]
            token = next((text for text, tag in answer if tag == "NextContinuationToken"), "")
            if not token:
                return sorted(name for name in found if name and "/" not in name)

    def delete(self, name: str) -> None:
        self._call("DELETE", name)

    def _put_parts(self, file: BinaryIO, name: str) -> None:
        started = _parsed(self._call("POST", name, query={"uploads": ""})[1])
        upload = next(text for text, tag in started if tag == "UploadId")
        try:
            marks: list[str] = []
            while True:
                part = file.read(_PART_BYTES)
                if not part:
                    break
                query = {"partNumber": str(len(marks) + 1), "uploadId": upload}
                marks.append(self._call("PUT", name, query=query, body=part)[0].get("etag", ""))
            parts = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{mark}</ETag></Part>" for n, mark in enumerate(marks, 1))
            body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
            answer = self._call("POST", name, query={"uploadId": upload}, body=body)[1]
            if b"<Error>" in answer:  # this call may fail after its status 200
                raise BucketError(f"{self.url}/{name}: {_message(answer)}")
        except BaseException:
            self._call("DELETE", name, query={"uploadId": upload})
            raise

    def _size(self, name: str) -> int:
        return int(self._call("HEAD", name)[0].get("content-length", "-1"))

    def _call(
        self, method: str, name: str | None, *, query: Mapping[str, str] | None = None, body: bytes = b""
    ) -> tuple[dict[str, str], bytes]:
        """name: of a file; None for the bucket. Each request may be repeated. Raises BucketError."""
        path = urllib.parse.quote(self._root + (f"/{self._prefix}{name}" if name is not None else ""), safe="/~")
        place = f"{self.url}/{name}" if name is not None else self.url
        problem = ""
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(_PAUSE_SECONDS * 2 ** (attempt - 1))
            try:
                status, headers, answer = self._send(method, path, query or {}, body)
            except (OSError, http.client.HTTPException) as error:
                problem = str(error) or type(error).__name__
                continue
            if status < 300:
                return headers, answer
            problem = f"HTTP {status} {_message(answer)}".strip()
            if status not in _RETRIED:
                break
        raise BucketError(f"{place}: {problem}")

    def _send(self, method: str, path: str, query: Mapping[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self._host, timeout=_CALL_SECONDS)
        if self._is_secure:
            context = ssl.create_default_context(cafile=self._ca_file)
            connection = http.client.HTTPSConnection(self._host, timeout=_CALL_SECONDS, context=context)
        try:
            text = "&".join(f"{_quoted(key)}={_quoted(query[key])}" for key in sorted(query))
            headers = self._signer.headers(method, self._host, path, text, body, time.gmtime())
            connection.request(method, path + ("?" + text if text else ""), body=body, headers=headers)
            answer = connection.getresponse()
            found = {key.lower(): value for key, value in answer.getheaders()}
            return answer.status, found, answer.read()
        finally:
            connection.close()


class Signer:
    """AWS Signature Version 4 of a request to S3."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._id, self._secret = settings["AWS_ACCESS_KEY_ID"], settings["AWS_SECRET_ACCESS_KEY"]
        self._region, self._token = settings["AWS_REGION"], settings.get("AWS_SESSION_TOKEN", "")

    def headers(self, method: str, host: str, path: str, query: str, body: bytes, now: time.struct_time) -> dict[str, str]:
        """path and query: encoded, the query's parameters sorted by name."""
        stamp, digest = time.strftime("%Y%m%dT%H%M%SZ", now), hashlib.sha256(body).hexdigest()
        signed = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": stamp}
        if self._token:
            signed["x-amz-security-token"] = self._token
        names = ";".join(sorted(signed))
        lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
        request = "\n".join([method, path, query, lines, names, digest])
        scope = f"{stamp[:8]}/{self._region}/s3/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(request.encode()).hexdigest()])
        key = f"AWS4{self._secret}".encode()
        for part in scope.split("/"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        value = f"AWS4-HMAC-SHA256 Credential={self._id}/{scope}, SignedHeaders={names}, Signature={signature}"
        return {**signed, "Authorization": value}


def _quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="~")


def _parsed(document: bytes) -> list[tuple[str, str]]:
    """Text and name of every element, in order. Raises BucketError."""
    try:
        root = xml.etree.ElementTree.fromstring(document)
    except xml.etree.ElementTree.ParseError as error:
        raise BucketError(f"unexpected answer: {error}") from error
    return [(element.text or "", element.tag.rpartition("}")[2]) for element in root.iter()]


def _message(document: bytes) -> str:
    """Code and text of an error, if the answer has them."""
    try:
        found = {name: text for text, name in _parsed(document)}
    except BucketError:
        return ""
    return " ".join(found[name] for name in ("Code", "Message") if name in found)
