"""A large object sent to S3 in parts, several at once; cut short, it goes on where it was, and sends no part twice.

Which upload is ours is written down in this clone: two who send the same object never mix their parts, and a part
counts only where the server's checksum of it is ours. A file is read in parts too, so its size is no matter.

    Upload(files, "s3://models/smol/objects/ab/cd", path, note).send()
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from souq.errors import Corrupt
from souq.records import Record
from souq.weights.arriving import held

PART = 8 << 20  # bytes; S3 takes none below 5 MiB but the last, and 10,000 of them
AT_ONCE = 4


class Note(Record, frozen=True):
    """An upload that was begun."""

    path: str
    upload: str


@dataclass(frozen=True)
class Upload:
    """One object on its way from a file to `path`; `note` is where this clone remembers it."""

    files: Any
    path: str
    file: Path
    note: Path

    def send(self, sums: list[bytes]) -> int:
        """Send what is not there yet, and have the object named; how many bytes were sent.

        `sums` are the parts' checksums as they were when the file was looked at.

        Raises:
            Corrupt: the file is not what it was then.
        """
        with held(self.note) as note, self.file.open("rb") as file, ThreadPoolExecutor(AT_ONCE) as hands:
            upload, there = self._resumed(note)
            missing = [number for number, md5 in enumerate(sums, 1) if there.get(number) != md5.hex()]
            jobs = [hands.submit(self._put, file, upload, number, sums[number - 1]) for number in missing]
            try:
                there |= {number: job.result() for number, job in zip(missing, jobs, strict=True)}
            finally:
                for job in jobs:
                    job.cancel()
            parts = [{"PartNumber": number, "ETag": f'"{there[number]}"'} for number in range(1, len(sums) + 1)]
            self._call("complete_multipart_upload", UploadId=upload, MultipartUpload={"Parts": parts})
            note.unlink()
            return sum(len(_read(file, number)) for number in missing)

    def _resumed(self, note: Path) -> tuple[str, dict[int, str]]:
        """An upload of ours, and what the server has of it: checksums by number."""
        try:
            begun = msgspec.json.decode(note.read_bytes(), type=Note)
            if begun.path == self.path:
                return begun.upload, dict(self._parts(begun.upload))
        except (OSError, msgspec.MsgspecError):  # none was begun, or it was given up there
            pass
        upload = self._call("create_multipart_upload")["UploadId"]
        note.write_bytes(msgspec.json.encode(Note(path=self.path, upload=upload)))
        return upload, {}

    def _parts(self, upload: str) -> Iterator[tuple[int, str]]:
        marker = 0
        while True:
            page = self._call("list_parts", UploadId=upload, PartNumberMarker=marker)
            for part in page.get("Parts", []):
                marker = part["PartNumber"]
                yield marker, part["ETag"].strip('"')
            if not page.get("IsTruncated"):
                return

    def _put(self, file: BinaryIO, upload: str, number: int, md5: bytes) -> str:
        data = _read(file, number)
        if hashlib.md5(data, usedforsecurity=False).digest() != md5:
            raise Corrupt(f"{self.file} is not what it was when it was checked", hint="run `souq fsck`")
        sent = {"UploadId": upload, "PartNumber": number, "ContentMD5": base64.b64encode(md5).decode()}
        return str(self._call("upload_part", Body=data, **sent)["ETag"]).strip('"')

    def _call(self, method: str, **words: Any) -> Any:
        bucket, _, key = self.path.removeprefix("s3://").partition("/")
        return self.files.call_s3(method, Bucket=bucket, Key=key, **words)


def checksums(file: Path) -> list[bytes]:
    """Of each part of a file; S3 asks for MD5."""
    with file.open("rb") as opened:
        count = -(-os.fstat(opened.fileno()).st_size // PART)
        return [hashlib.md5(_read(opened, number), usedforsecurity=False).digest() for number in range(1, count + 1)]


def _read(file: BinaryIO, number: int) -> bytes:
    return os.pread(file.fileno(), PART, (number - 1) * PART)
