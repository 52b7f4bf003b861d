"""Commands that write how a face moves: track, align."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..head.motion import Motion

if TYPE_CHECKING:
    pass

from .options import Detector, End, Liveliness, PhoneTimes, Said, Seed, Start, app
from .shared import check_no_voice, checked_text, load_pipeline, printed_notes, progress_bars


@app.command()
def align(
    voice: Annotated[Path, typer.Argument(help="A sound file, or a clip with sound.", show_default=False)],
    output: Annotated[Path, typer.Option(help="The csv to write: start, end (seconds), phone (ARPAbet).")],
    text: Said = None,
) -> None:
    """A voice -> its phones and their times, to be corrected and given to ``animate --voice --phones``."""
    from ..files import check_writable
    from ..voice.phones import write_phones
    from ..voice.sound import listen

    check_writable(output, (".csv",))
    with printed_notes(), progress_bars() as show:
        write_phones(listen(voice, checked_text(text), on_progress=show).phones, output)
    typer.echo(output)


@app.command()
def track(
    clip: Annotated[Path, typer.Argument(help="A clip of a face, or the sound of a voice.", show_default=False)],
    output: Annotated[Path, typer.Option(help="The csv to write, with the columns of Live Link Face.")],
    start: Start = None,
    end: End = None,
    text: Said = None,
    phones: PhoneTimes = None,
    liveliness: Liveliness = 1.0,
    seed: Seed = 0,
    detector: Detector = "mediapipe",
) -> None:
    """A clip -> how the face in it moves, or a voice -> how one does that says it; for other programs, and
    ``animate --motion-file``."""
    from ..files import check_writable
    from ..media.reading import has_pictures, probe

    check_writable(output, (".csv",))
    if not has_pictures(clip):
        if start is not None or end is not None:
            raise typer.BadParameter("they are for clips.", param_hint="--start / --end")
        with printed_notes(), progress_bars() as show:
            Motion.from_voice(
                clip, checked_text(text, phones), phones, liveliness=liveliness, seed=seed, on_progress=show
            ).save(output)
        typer.echo(output)
        return
    check_no_voice(text, phones)
    probe(clip)
    from ..tracking.tracks import held_gaps

    pipe = load_pipeline(None, detector, None)
    with printed_notes() as notes, progress_bars() as show:
        motion = pipe.track(clip, start=start, end=end, on_progress=show)
        motion.save(output)
        notes.extend(gap.sentence(motion.fps) for gap in held_gaps(motion.seen, motion.fps))
    typer.echo(output)
