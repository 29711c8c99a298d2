"""`ganzoo vocode`."""

from __future__ import annotations

from pathlib import Path

import click

from ganzoo.errors import UserError


@click.command(name="vocode")
@click.argument("recording", type=click.Path(path_type=Path))
@click.option("--model", default="hifigan-digits", show_default=True, help="Folder, name, or org/name[@revision].")
@click.option("--revision", default=None, help="Branch, tag or commit on the Hub.")
@click.option("--device", default=None, help="cpu, cuda or cuda:N.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16", "auto"]),
    default="fp32",
    show_default=True,
    help="bf16 is faster where the processor multiplies it; auto asks it.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=None,
    help="A .wav file; by default RECORDING-vocoded.wav here.",
)
def command(
    recording: Path, model: str, revision: str | None, device: str | None, precision: str, output: Path | None
) -> None:
    """Copy RECORDING through a vocoder: its mel spectrogram, and sound again.

    Any sampling rate, length and number of channels; the copy is mono, at the model's rate. Printed are the copy's path and
    how far its spectrogram is from the recording's.

    \b
    ganzoo vocode speech.wav
    ganzoo vocode speech.flac --model runs/mine/pipeline --output copy.wav
    """
    output = output if output is not None else Path(f"{recording.stem}-vocoded.wav")
    if output.suffix.lower() != ".wav":
        raise UserError(f"--output {output}: sound is written as .wav; give a name that ends so")
    if output.exists() and recording.exists() and output.samefile(recording):
        raise UserError(f"--output {output} is the recording itself; give the copy another name")

    from ganzoo.pipelines import VocoderPipeline
    from ganzoo.sound.drawing import wav_bytes
    from ganzoo.sound.recording import read_recording, to_int16
    from ganzoo.utils.files import write_bytes

    # First what is quick to fail.
    sound = read_recording(recording)
    pipeline = VocoderPipeline.from_pretrained(model, revision=revision, device=device)
    original = pipeline.read(sound)
    copy = pipeline.resynthesise(original[None], precision=precision)[0]
    mel = pipeline.mel_config
    write_bytes(output, wav_bytes(to_int16(copy.numpy()), mel.sampling_rate))
    click.echo(str(output))
    distance = pipeline.mel_distance(original, copy)
    click.echo(f"log-mel L1 {distance:.4f} ({mel.n_mels} bands up to {mel.sampling_rate / 2:g} Hz)")
