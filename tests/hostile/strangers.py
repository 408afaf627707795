"""Files that are no picture, or a picture that is not decoded, or one under an odd name."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile

import numpy as np
from PIL import Image

from tests.pipelines.images.image_files import (
    encode,
    insert_jpeg_segment,
    make_exif,
    make_picture,
)

HTML = b"<!DOCTYPE html>\n<html><head><title>404</title></head><body>Not Found</body></html>\n"
XML = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>no</Message></Error>'
SVG = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"><rect width="9"/></svg>'
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
ENTITIES = b'<!DOCTYPE svg [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><svg>&b;</svg>'


def make_zip():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("photo.jpg", encode(make_picture()))
    return buffer.getvalue()


def make_tar():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("photo.jpg"))
    return buffer.getvalue()


def list_no_images():
    """Name what is no picture at all, whatever it is called."""
    noise = np.random.default_rng(7).bytes(4096)
    return {
        "empty.jpg": b"",
        "one-byte.png": b"\xff",
        "newline.jpg": b"\n",
        "zeros.jpg": bytes(100_000),
        "ones.jpg": b"\xff" * 100_000,
        "noise.webp": noise,
        "html.jpg": HTML,
        "xml.png": XML,
        "json.jpg": b'{"error": "throttled"}',
        "lfs-pointer.jpg": LFS,
        "gzip.jpg": gzip.compress(encode(make_picture())),
        "zip.jpg": make_zip(),
        "tar.jpg": make_tar(),
        "program.jpg": b"\x7fELF\2\1\1" + bytes(200),
        "sound.webp": b"RIFF\x24\0\0\0WAVEfmt " + bytes(30),
        "video.jpg": b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + noise,
        "text.bmp": b"BM is how many a text begins",
        "appledouble.jpg": b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(100),
        "resized-by-nobody.jpg": b"\xff\xd8",
        "utf16.svg": SVG.decode().encode("utf-16"),
    }


def list_undecoded():
    """Name pictures of formats that are known and not decoded."""
    image = Image.fromarray(make_picture())
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500)
    psd = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 48, 72, 8, 3) + bytes(5000)
    files = {
        "photo.heic": heic,
        "heic.jpg": heic,
        "drawing.psd": psd,
        "drawing.svg": SVG,
        "svg.png": SVG,
        "entities.svg": ENTITIES,
        "page.pdf": b"%PDF-1.7\n" + bytes(300),
        "page.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n",
        "raw.cr3": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(300),
        "scene.exr": b"\x76\x2f\x31\x01\2\0\0\0" + bytes(300),
        "scene.hdr": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 4 +X 4\n" + bytes(64),
        "photo.jxl": b"\xff\x0a" + bytes(50),
    }
    for image_format, suffix in (
        ("JPEG2000", "jp2"),
        ("AVIF", "avif"),
        ("ICO", "ico"),
        ("PPM", "ppm"),
        ("DDS", "dds"),
        ("ICNS", "icns"),
    ):
        files[f"picture.{suffix}"] = encode(image.resize((64, 64)), image_format)
    files["avif.jpg"] = files["picture.avif"]
    return files


def list_odd_pictures():
    """Name pictures that are whole, however strange they look."""
    image = Image.fromarray(make_picture())
    jpeg, png = encode(image), encode(image, "PNG")
    files = {
        "png.jpg": png,
        "jpeg.png": jpeg,
        "webp.jpg": encode(image, "WEBP"),
        "no-suffix": jpeg,
        "jpeg-and-zip.jpg": jpeg + make_zip(),
        "jpeg-and-video.jpg": jpeg + b"\0\0\0\x20ftypisom" + np.random.default_rng(3).bytes(70_000),
        "jpeg-and-program.jpg": insert_jpeg_segment(jpeg, 0xFE, b"<?php system($_GET[0]); ?>"),
        "gif-and-script.gif": encode(image.quantize(8), "GIF") + b"/*;alert(1)//*/",
        "png-and-html.png": png + HTML,
        "one-pixel.png": encode(Image.new("RGB", (1, 1)), "PNG"),
        "one-pixel.jpg": encode(Image.new("RGB", (1, 1)), "JPEG"),
        "one-pixel.gif": encode(Image.new("P", (1, 1)), "GIF"),
        "one-pixel.webp": encode(Image.new("RGB", (1, 1)), "WEBP"),
        "wide.jpg": encode(Image.new("RGB", (30_000, 1)), "JPEG"),
        "tall.jpg": encode(Image.new("L", (1, 30_000)), "JPEG"),
        "all-clear.png": encode(Image.new("RGBA", (9, 9)), "PNG"),
        "profile-of-noise.jpg": encode(image, icc_profile=np.random.default_rng(5).bytes(300_000)),
        "profile-of-noise.png": encode(image, "PNG", icc_profile=b"\xff" * 3000),
        "profile-of-noise.webp": encode(image, "WEBP", icc_profile=b"acsp" * 900),
        "profile-of-noise.tiff": encode(image, "TIFF", icc_profile=b"acsp" * 900),
    }
    for orientation in (*range(9), 9, 65535):
        for image_format in ("JPEG", "PNG", "WEBP"):
            name = f"orientation-{orientation}.{image_format.lower()}"
            files[name] = encode(image, image_format, exif=make_exif(orientation))
    for position in (2**31, 2**63, 2**64 - 1):
        # BigTIFF, whose positions are more than Python takes for one.
        exif = b"Exif\0\0" + b"II+\0" + struct.pack("<HHQ", 8, 0, position)
        for image_format in ("JPEG", "PNG", "WEBP"):
            name = f"exif-at-{position}.{image_format.lower()}"
            files[name] = encode(image, image_format, exif=exif)
    return files
