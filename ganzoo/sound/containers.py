"""What libsndfile overlooks in sound files: it plays on where data is missing, and says nothing."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from ganzoo.errors import UnusableSample

_STREAMED = 0x7FFFF000  # writers to a pipe do not know a WAV's length, and state about 2 or 4 GiB
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_EIGHT_BIT = (6, 7)  # A-law and mu-law

_OGG_LAST = 4  # flag of a stream's last page
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))

# Layer III: kbit/s by index, for MPEG 1, and for MPEG 2 and 2.5; Hz by version bits and index.
_MP3_BITRATES = {
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MP3_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_MP3_TAGS = (b"TAG", b"APE", b"LYR", b"ID3")  # may follow the sound
_MP3_LONGEST = 1441  # bytes of a frame
_MP3_SLACK = 4  # frames that hold the index, or what an encoder adds at both ends


def check_wav(name: str, content: bytes) -> None:
    """Refuses a WAV file that contradicts itself or ends before its data does.

    Raises:
        UnusableSample: `name` is such a file.
    """
    for tag, size, start in _riff_chunks(content):
        if tag == b"fmt " and size >= 16 and len(content) >= start + 16:
            kind, channels, rate, byte_rate, frame, bits = struct.unpack_from("<HHIIHH", content, start)
            plain = kind in (_PCM, _FLOAT, _EXTENSIBLE, *_EIGHT_BIT)
            wrong_bits = kind in _EIGHT_BIT and bits != 8
            if plain and (wrong_bits or frame != channels * -(-bits // 8) or byte_rate != rate * frame):
                raise UnusableSample(f"{name} is damaged: its header contradicts itself on rate, channels and bits")
        if tag == b"data" and start + size > len(content) and size < _STREAMED:
            raise UnusableSample(
                f"{name} is cut off: it states {size:,} bytes of sound and has {len(content) - start:,}"
            )


def with_length(content: bytes) -> bytes:
    """A WAV file of a pipe that states no sound, with the length that it has: its writer could not go back and fill in the
    sizes. Anything else as it is; lengths of 2 or 4 GiB, which other writers state, are read by libsndfile."""
    for tag, size, start in _riff_chunks(content):
        if tag == b"data" and size == 0 and not _are_chunks(content, start):
            sizes = (struct.pack("<I", length) for length in (len(content) - 8, len(content) - start))
            return content[:4] + next(sizes) + content[8 : start - 4] + next(sizes) + content[start:]
    return content


def _are_chunks(content: bytes, position: int) -> bool:
    """Whether nothing but chunks of a RIFF file follows: of one without sound, its notes and tags."""
    while position + 8 <= len(content):
        tag, size = struct.unpack_from("<4sI", content, position)
        if not all(0x20 <= byte < 0x7F for byte in tag):
            return False
        position += 8 + size + size % 2
    # The last one's padding is often forgotten.
    return position in (len(content), len(content) + 1)


def _riff_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Tag, stated size and start of the chunks of a WAV file, up to the sound."""
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        return
    position = 12
    while position + 8 <= len(content):
        tag, size = struct.unpack_from("<4sI", content, position)
        yield tag, size, position + 8
        if tag == b"data":
            return
        position += 8 + size + size % 2


def check_ogg(name: str, content: bytes) -> None:
    """Refuses an Ogg file whose pages (RFC 3533, section 6) are damaged, missing, or end before the last one.

    Raises:
        UnusableSample: `name` is such a file.
    """
    if content[:4] != b"OggS":
        return
    position, flags, expected = 0, 0, 0
    while content[position : position + 4] == b"OggS" and position + 27 <= len(content):
        flags, number = content[position + 5], int.from_bytes(content[position + 18 : position + 22], "little")
        segments = content[position + 26]
        end = position + 27 + segments + sum(content[position + 27 : position + 27 + segments])
        page = content[position:end]
        stated = int.from_bytes(page[22:26], "little")
        if end > len(content) or number != expected or _ogg_checksum(page[:22] + bytes(4) + page[26:]) != stated:
            raise UnusableSample(f"{name} is damaged or cut off after {position:,} bytes")
        position, expected = end, 0 if flags & _OGG_LAST else expected + 1  # another stream may follow
    if position < len(content) or not flags & _OGG_LAST:
        raise UnusableSample(f"{name} is damaged or cut off after {position:,} bytes")


def _ogg_checksum(page: bytes) -> int:
    """zlib's CRC has the same polynomial, but begins at the lowest bit of each byte, at -1, and inverts its result."""
    reflected = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reflected:032b}"[::-1], 2)


def check_mp3(name: str, content: bytes, decoded: int) -> None:
    """Refuses an MP3 file with a gap between its frames, or of which much less was decoded than it holds: without an index
    (or with a damaged one) libsndfile guesses the length from the first frame's bit rate, and stops there.

    Args:
        decoded: Samples in each channel.

    Raises:
        UnusableSample: `name` is such a file.
    """
    position, frames, samples = 0, 0, 0
    if content[:3] == b"ID3" and len(content) >= 10:
        position = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(content[6:10], (21, 14, 7, 0), strict=True))
    while (size := _mp3_frame(content[position : position + 4])) is not None:
        length, samples = size
        position, frames = position + length, frames + 1
    rest = content[position:]
    if frames and len(rest) > _MP3_LONGEST and rest[:3] not in _MP3_TAGS and any(rest):
        raise UnusableSample(f"{name} is damaged after {position:,} bytes: no frame of sound begins there")
    if (frames - _MP3_SLACK) * samples > decoded:
        raise UnusableSample(
            f"{name} holds about {frames * samples:,} samples of which {decoded:,} can be decoded: its index is missing or "
            "damaged; convert it to WAV or FLAC"
        )


def _mp3_frame(header: bytes) -> tuple[int, int] | None:
    """Bytes and samples of the layer III frame that begins with these four bytes; None if none does."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    bitrate, rate, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version not in _MP3_RATES or layer != 1 or bitrate in (0, 15) or rate == 3:
        return None
    kilobits = _MP3_BITRATES[1 if version == 3 else 2][bitrate]
    samples = 1152 if version == 3 else 576
    return samples // 8 * 1000 * kilobits // _MP3_RATES[version][rate] + padding, samples
