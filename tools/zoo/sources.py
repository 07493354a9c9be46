"""Raw material of inputs: pictures, rendered text, speech, EEG and bytes.

Everything is drawn from a `random.Random`, so a seed gives the same material
again on the same machine.
"""

import functools
import pathlib
import random
import shutil
import subprocess
import tempfile
import wave

import numpy as np
import skimage
from PIL import Image, ImageDraw, ImageFilter, ImageFont

SPEECH_RATE = 16000
PHOTOGRAPHS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "retina.jpg",
    "rocket.jpg",
)
WORDS = (
    "the quick brown fox jumps over a lazy dog while seven large wizards box in "
    "Invoice 2024 Total 1,348.50 EUR Date 17/03 Ticket 0923 Platform 4 OPEN EXIT "
    "Street Museum coffee Price 12.99 Room 305 Phone 030-882714 please keep left"
).split()


@functools.cache
def _photographs() -> list[Image.Image]:
    folder = pathlib.Path(skimage.__file__).parent / "data"
    found = [folder / name for name in PHOTOGRAPHS if (folder / name).is_file()]
    if not found:
        raise SystemExit(f"no photographs in {folder}; install scikit-image's package whole")
    return [Image.open(path).convert("RGB") for path in found]


def photograph(rng: random.Random) -> Image.Image:
    """A random cut of a photograph, sometimes mirrored or darkened."""
    picture = rng.choice(_photographs())
    side = int(min(picture.size) * rng.uniform(0.4, 1.0))
    left, top = (rng.randint(0, length - side) for length in picture.size)
    cut = picture.crop((left, top, left + side, top + side))
    if rng.random() < 0.5:
        cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    gain = rng.uniform(0.6, 1.2)
    return cut.point(lambda value: min(255, int(value * gain)))


def _paper(rng: random.Random, size: tuple[int, int]) -> Image.Image:
    shade = rng.randint(180, 255)
    grain = np.random.default_rng(rng.getrandbits(32)).normal(shade, 6, (size[1], size[0], 3))
    return Image.fromarray(np.clip(grain, 0, 255).astype(np.uint8))


def _write(rng: random.Random, picture: Image.Image, at: tuple[int, int], text: str, height: int) -> None:
    ink = tuple(rng.randint(0, 90) for _ in range(3))
    ImageDraw.Draw(picture).text(at, text, fill=ink, font=ImageFont.load_default(size=height))


def text_line(rng: random.Random, size: tuple[int, int] = (320, 48)) -> Image.Image:
    """One line of words as a reader of lines gets it; size is (width, height)."""
    picture = _paper(rng, size)
    letters = max(1, size[0] // (size[1] // 2))
    text = " ".join(rng.choices(WORDS, k=12))[:letters]
    _write(rng, picture, (4, size[1] // 8), text, int(size[1] * 0.65))
    return picture.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.8)))


def text_page(rng: random.Random, size: tuple[int, int] = (640, 640)) -> Image.Image:
    """A page or sign: lines of several heights on paper or on a photograph."""
    picture = photograph(rng).resize(size) if rng.random() < 0.4 else _paper(rng, size)
    top = rng.randint(5, 40)
    while top < size[1] - 40:
        height = rng.randint(14, 36)
        text = " ".join(rng.choices(WORDS, k=rng.randint(1, 6)))
        _write(rng, picture, (rng.randint(5, size[0] // 3), top), text, height)
        top += int(height * rng.uniform(1.4, 3))
    return picture


def captcha(rng: random.Random, size: tuple[int, int] = (160, 60)) -> Image.Image:
    """Four to six characters, strewn, crossed by lines."""
    picture = _paper(rng, size)
    count = rng.randint(4, 6)
    for at in range(count):
        place = (5 + at * (size[0] - 10) // count, rng.randint(0, size[1] // 4))
        _write(rng, picture, place, rng.choice("ABCDEFGHKLMNPRSTUVWXYZ23456789"), int(size[1] * 0.6))
    draw = ImageDraw.Draw(picture)
    for _ in range(3):
        ends = [rng.randint(0, size[0] - 1), rng.randint(0, size[1] - 1)] * 2
        ends[2:] = [rng.randint(0, size[0] - 1), rng.randint(0, size[1] - 1)]
        draw.line(ends, fill=tuple(rng.randint(0, 200) for _ in range(3)))
    return picture


@functools.cache
def _spoken(sentence: str, pitch: int) -> np.ndarray:
    """What espeak-ng says, at 16 kHz in -1..1."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/speech.wav"
        subprocess.run(["espeak-ng", "-p", str(pitch), "-w", path, sentence], check=True, capture_output=True)
        with wave.open(path) as file:
            rate = file.getframerate()
            samples = np.frombuffer(file.readframes(file.getnframes()), np.int16) / 32768
    times = np.arange(0, len(samples) / rate, 1 / SPEECH_RATE)
    return np.interp(times, np.arange(len(samples)) / rate, samples).astype(np.float32)


def _tones(rng: random.Random, count: int) -> np.ndarray:
    """Harmonics of a gliding voice in syllables, where no synthesizer is installed."""
    times = np.arange(count) / SPEECH_RATE
    pitch = rng.uniform(90, 220) * (1 + 0.1 * np.sin(2 * np.pi * rng.uniform(0.3, 1) * times))
    phase = 2 * np.pi * np.cumsum(pitch) / SPEECH_RATE
    voice = sum(np.sin(k * phase) / k for k in range(1, 12))
    syllables = np.clip(np.sin(2 * np.pi * rng.uniform(2, 4) * times + rng.uniform(0, 6)), 0, 1)
    return (0.1 * voice * syllables).astype(np.float32)


def speech(rng: random.Random, count: int) -> np.ndarray:
    """`count` samples of speech at 16 kHz in -1..1, with a little noise."""
    noise = np.random.default_rng(rng.getrandbits(32)).normal(0, 0.003, count).astype(np.float32)
    if not shutil.which("espeak-ng"):
        return _tones(rng, count) + noise
    pieces, have = [], 0
    while have < count + SPEECH_RATE:
        at = 8 * rng.randrange(len(WORDS) // 8)
        sentence = " ".join(WORDS[at : at + 8])
        pieces.append(_spoken(sentence, rng.choice((20, 50, 80))))
        have += len(pieces[-1])
    start = rng.randint(0, SPEECH_RATE)
    return np.concatenate(pieces)[start : start + count] * rng.uniform(0.4, 1.0) + noise


def eeg(rng: random.Random, count: int, rate: int) -> np.ndarray:
    """Noise that falls with frequency, with bursts of 10 to 14 Hz: unit deviation."""
    draws = np.random.default_rng(rng.getrandbits(32))
    spectrum = np.fft.rfft(draws.normal(size=count))
    spectrum[1:] /= np.arange(1, len(spectrum)) ** 0.5
    signal = np.fft.irfft(spectrum, count)
    signal = (signal - signal.mean()) / signal.std()
    times = np.arange(count) / rate
    for _ in range(6):
        middle = rng.uniform(0, count / rate)
        envelope = np.exp(-(((times - middle) / 0.4) ** 2))
        signal += 1.5 * envelope * np.sin(2 * np.pi * rng.uniform(10, 14) * times)
    return (signal / signal.std()).astype(np.float32)


def text_bytes(rng: random.Random, count: int) -> np.ndarray:
    """Bytes of source code or prose, 256 past the end, as int32."""
    source = pathlib.Path(__file__).read_bytes() if rng.random() < 0.5 else " ".join(rng.choices(WORDS, k=900)).encode()
    start = rng.randint(0, max(0, len(source) - count // 2))
    taken = np.frombuffer(source[start : start + count], np.uint8).astype(np.int32)
    return np.pad(taken, (0, count - len(taken)), constant_values=256)
