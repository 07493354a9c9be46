"""Inputs that are computed from signals: spectrograms, states, embeddings."""

import random

import numpy as np
import scipy.signal

import sources

Arrays = dict[str, np.ndarray]


def _mel_filters(rate: int, fft: int, bands: int) -> np.ndarray:
    """Triangles evenly spread on the mel scale, [band, frequency]."""
    mel = np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), bands + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    frequencies = np.linspace(0, rate / 2, fft // 2 + 1)
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(rising, falling))


def _frames(signal: np.ndarray, frame: int, hop: int) -> np.ndarray:
    """Magnitudes of windowed frames, [frame, frequency]."""
    views = np.lib.stride_tricks.sliding_window_view(signal, frame)[::hop]
    return np.abs(np.fft.rfft(views * np.hanning(frame), axis=1))


def mel(signal: np.ndarray, bands: int, frames: int, frame: int = 320) -> np.ndarray:
    """Log-mel spectrogram as speechmos scales it, about -1..1, [frame, band]."""
    padded = np.pad(signal, (0, frames * frame // 2 + frame))
    power = _frames(padded, frame, frame // 2)[:frames] ** 2
    energy = power @ _mel_filters(sources.SPEECH_RATE, frame, bands).T
    decibels = 10 * np.log10(np.maximum(energy, 1e-10) / max(energy.max(), 1e-10))
    return ((np.maximum(decibels, -80) + 40) / 40).astype(np.float32)


def _state(rng: random.Random, shape: tuple[int, ...]) -> np.ndarray:
    """A recurrent state as it is on the way: within the range of tanh."""
    draws = np.random.default_rng(rng.getrandbits(32)).normal(0, 0.3, shape)
    return np.tanh(draws).astype(np.float32)


def silero_without_rate(rng: random.Random) -> Arrays:
    """32 ms of speech behind 4 ms of context, and a state."""
    return {"input": sources.speech(rng, 576)[None], "state": _state(rng, (2, 1, 128))}


def silero(rng: random.Random) -> Arrays:
    """As `silero_without_rate`, with the sampling rate as an integer scalar."""
    return {**silero_without_rate(rng), "sr": np.array(sources.SPEECH_RATE, np.int64)}


def silero_sequence(rng: random.Random) -> Arrays:
    """Sixteen windows in turn."""
    signal = sources.speech(rng, 64 + 16 * 512)
    windows = np.stack([signal[at * 512 : at * 512 + 576] for at in range(16)])
    return {"input": windows, "h": _state(rng, (1, 1, 128)), "c": _state(rng, (1, 1, 128))}


def aecmos(rng: random.Random, state: int) -> Arrays:
    """Far end, microphone and near end of a call, as mel spectrograms of 4 s."""
    calls = [mel(sources.speech(rng, 64000), 160, 250, 512) for _ in range(3)]
    return {"input": np.stack(calls)[None], "h0": np.zeros((4, 1, state), np.float32)}


def plcmos(rng: random.Random) -> Arrays:
    """Log power spectrum of 4 s of speech, and the embedding of a listener."""
    power = _frames(sources.speech(rng, 64000), 512, 256) ** 2
    features = np.log10(np.maximum(power, 1e-12)) / 20
    return {"degraded_audio": features[None, None].astype(np.float32), "rater_embed": 3 * _state(rng, (1, 64))}


def eeg_spectrogram(rng: random.Random) -> Arrays:
    """Five minutes at 200 Hz: 1 Hz by half a second, each bin of unit deviation."""
    signal = sources.eeg(rng, 60000, 200)
    _, _, power = scipy.signal.spectrogram(signal, 200, nperseg=200, noverlap=100)
    logs = np.log10(power[:100] + 1e-9)
    logs = (logs - logs.mean(1, keepdims=True)) / logs.std(1, keepdims=True)
    return {"x": logs[None].astype(np.float32)}


def eeg_spindles(rng: random.Random) -> Arrays:
    """Thirty seconds at 250 Hz and the envelopes of 15 bands, of unit deviation."""
    signal = sources.eeg(rng, 7500, 250)
    bands = []
    for middle in np.linspace(9, 16, 15):
        sos = scipy.signal.butter(2, (middle - 0.5, middle + 0.5), "bandpass", fs=250, output="sos")
        envelope = np.abs(scipy.signal.hilbert(scipy.signal.sosfiltfilt(sos, signal)))
        bands.append((envelope - envelope.mean()) / envelope.std())
    return {"raw_signal": signal[None, None], "spectrogram": np.stack(bands)[None].astype(np.float32)}
